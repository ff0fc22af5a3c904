"""State dicts to and from PyTorch: training goes on as if nothing had happened."""

import re

import numpy as np
import pytest

import gradstep as gs

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CASES = [
    (gs.SGD, torch.optim.SGD, {"lr": 0.1}, {"lr": 0.1}),
    (gs.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (gs.SGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}, {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}),
    (gs.Adagrad, torch.optim.Adagrad, {"lr": 0.1, "eps": 1e-10}, {"lr": 0.1}),
    (gs.Adam, torch.optim.Adam, {"betas": (0.8, 0.9)}, {"betas": (0.8, 0.9)}),
    (gs.AdamW, torch.optim.AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
]  # fmt: skip
IDS = [f"{mine.__name__}{i}" for i, (mine, *_) in enumerate(CASES)]
SHAPES = [(3, 4), (7,), (2,)]


def pairs(dtype, rng):
    arrays = [rng.normal(size=s).astype(dtype) for s in SHAPES]
    return arrays, [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]


def both(opt, theirs, arrays, tensors, rng, steps, skip_last=False):
    for _ in range(steps):
        grads = [rng.normal(size=a.shape).astype(a.dtype) for a in arrays]
        if skip_last:
            grads[-1] = None
        for t, g in zip(tensors, grads, strict=True):
            t.grad = None if g is None else torch.from_numpy(g.copy())
        opt.step(grads)
        theirs.step()


def close(arrays, tensors, dtype):
    for a, t in zip(arrays, tensors, strict=True):
        assert np.allclose(a, t.detach().numpy(), rtol=0, atol=32 * np.finfo(dtype).eps * max(1, np.abs(a).max()))


@pytest.mark.parametrize("skip_last", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("mine", "theirs", "hypers", "their_hypers"), CASES, ids=IDS)
class TestGoesOn:
    def test_from_torch(self, rng, mine, theirs, hypers, their_hypers, dtype, skip_last):
        arrays, tensors = pairs(dtype, rng)
        scratch, other = mine([a.copy() for a in arrays], **hypers), theirs(tensors, **their_hypers)
        both(scratch, other, scratch._arrays, tensors, rng, 5, skip_last)
        for a, t in zip(arrays, tensors, strict=True):
            a[...] = t.detach().numpy()
        more = {"momentum": 0.5} if hypers.get("momentum") else {}
        opt = mine(arrays, **more)
        opt.load_state_dict(gs.convert.from_torch(other.state_dict()))
        assert opt.lr == other.param_groups[0]["lr"]
        both(opt, other, arrays, tensors, rng, 5)
        close(arrays, tensors, dtype)

    def test_to_torch(self, rng, mine, theirs, hypers, their_hypers, dtype, skip_last):
        arrays, tensors = pairs(dtype, rng)
        opt, scratch = mine(arrays, **hypers), theirs(tensors, **their_hypers)
        both(opt, scratch, arrays, tensors, rng, 5, skip_last)
        fresh = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
        other = theirs(fresh, **({"lr": 1.0, "momentum": 0.5} if hypers.get("momentum") else {"lr": 1.0}))
        other.load_state_dict(gs.convert.to_torch(opt.state_dict()))
        both(opt, other, arrays, fresh, rng, 5)
        close(arrays, fresh, dtype)


def test_names_and_groups(rng):
    arrays, tensors = pairs("f4", rng)
    other = torch.optim.AdamW([{"params": tensors[:2], "lr": 0.5}, {"params": tensors[2:]}])
    both(gs.AdamW([a.copy() for a in arrays]), other, arrays, tensors, rng, 2)
    saved = gs.convert.from_torch(other.state_dict(), names=["W", "b", "c"])
    opt = gs.AdamW([{"params": {"W": arrays[0], "b": arrays[1]}}, {"params": {"c": arrays[2]}}])
    opt.load_state_dict(saved)
    assert [group["lr"] for group in opt.groups] == [0.5, 1e-3]
    assert np.array_equal(opt.state["exp_avg"][1]["c"], other.state[tensors[2]]["exp_avg"].numpy())
    back = gs.convert.to_torch(opt.state_dict())
    assert [group["params"] for group in back["param_groups"]] == [[0, 1], [2]]
    assert torch.equal(back["state"][2]["exp_avg"], other.state[tensors[2]]["exp_avg"])
    with pytest.raises(ValueError, match="names: expected 3, got 1"):
        gs.convert.from_torch(other.state_dict(), names=["W"])
    with pytest.raises(ValueError, match="expected 3 arrays, got 2"):
        gs.AdamW(arrays).load_state_dict(saved)


def test_bfloat16_states_become_float32(rng):
    t = torch.ones(5, dtype=torch.bfloat16, requires_grad=True)
    t.grad = torch.full((5,), 0.3, dtype=torch.bfloat16)
    other = torch.optim.Adam([t])
    other.step()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    opt = gs.Adam([np.ones(5, ml_dtypes.bfloat16)])
    opt.load_state_dict(gs.convert.from_torch(other.state_dict()))
    assert opt.state["exp_avg"][0].dtype == np.float32
    assert opt.state["exp_avg"][0].tolist() == other.state[t]["exp_avg"].float().tolist()


def test_refuses():
    t = torch.ones(2, requires_grad=True)
    t.grad = torch.ones(2)
    u = torch.ones(1, requires_grad=True)
    for make, words in [
        (lambda: torch.optim.Adam([t], amsgrad=True), "amsgrad: expected False"),
        (lambda: torch.optim.Adagrad([t], lr_decay=0.1), "lr_decay: expected 0, got 0.1"),
        (lambda: torch.optim.RMSprop([t], momentum=0.9), "param_groups: expected those of"),
        (lambda: torch.optim.Rprop([t]), "param_groups: expected those of"),
        (lambda: torch.optim.NAdam([t]), "param_groups: expected those of"),
        (lambda: torch.optim.RAdam([t]), "param_groups: expected those of"),
        (lambda: torch.optim.Adam([{"params": t}, {"params": u, "amsgrad": True}]), "amsgrad: expected False"),
        (lambda: torch.optim.Adagrad([{"params": t}, {"params": u, "lr_decay": 0.5}]), "lr_decay: expected 0"),
    ]:
        other = make()
        other.step()
        with pytest.raises(ValueError, match=re.escape(words)):
            gs.convert.from_torch(other.state_dict())
    for bad in (None, {}, [], {"state": {}}, {"state": {}, "param_groups": [{}]}, {"state": 1, "param_groups": []}):
        with pytest.raises(ValueError, match="state_dict: expected one of a PyTorch optimizer"):
            gs.convert.from_torch(bad)
    opt = gs.Momentum([np.ones(2)])
    with pytest.raises(ValueError, match="rule: PyTorch has no momentum"):
        gs.convert.to_torch(opt.state_dict())
    opt = gs.Adam([np.ones(2)], lr=lambda n: 1.0)
    with pytest.raises(ValueError, match=re.escape("groups[0]['lr']: expected a number, got a schedule")):
        gs.convert.to_torch(opt.state_dict())


def test_adagrad_arrays_that_were_never_stepped():
    opt = gs.Adagrad([np.ones(2), np.ones(3)])
    opt.step([np.ones(2), None])
    tensors = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    theirs = torch.optim.Adagrad(tensors, lr=0.01)
    theirs.load_state_dict(gs.convert.to_torch(opt.state_dict()))
    for t in tensors:
        t.grad = torch.ones_like(t)
    theirs.step()
    assert torch.isfinite(tensors[1]).all()


@pytest.mark.parametrize("step", [float("inf"), float("nan"), 2.5, -1.0])
def test_a_step_that_is_no_count(step):
    theirs = torch.optim.Adam([torch.ones(2, requires_grad=True)])
    saved = theirs.state_dict()
    saved["state"] = {0: {"step": step, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}}
    with pytest.raises(ValueError, match="step"):
        gs.convert.from_torch(saved)
    saved["state"] = {0: {"step": 1.0, "exp_avg": torch.zeros(2)}}
    with pytest.raises(ValueError, match="exp_avg_sq"):
        gs.convert.from_torch(saved)
    with pytest.raises(ValueError, match="names: expected each once"):
        gs.convert.from_torch(torch.optim.Adam([torch.ones(2), torch.ones(2)]).state_dict(), names=["a", "a"])


@pytest.mark.parametrize("bad", [None, {}, [], {"rule": "adamw"}, {"rule": "sgd", "groups": [{}], "params": 3}])
def test_to_torch_refuses_what_is_no_state_dict(bad):
    with pytest.raises(ValueError, match="state_dict: expected what state_dict"):
        gs.convert.to_torch(bad)


def test_buffers_are_kept_while_there_is_no_momentum():
    w = [np.ones(2)]
    opt = gs.SGD(w, lr=0.1, momentum=0.9)
    opt.step([np.ones(2)])
    opt.groups[0]["momentum"] = 0.0
    other = gs.SGD(w, momentum=0.5)
    other.load_state_dict(gs.convert.from_torch(gs.convert.to_torch(opt.state_dict())))
    assert other.groups[0]["momentum"] == 0.0
    assert other.state["momentum_buffer"][0].tolist() == [1.0, 1.0]


def test_a_tensor_is_scaled():
    loss = gs.LossScaler(init_scale=8.0).scale(torch.tensor(0.5))
    assert (loss.item(), loss.dtype) == (4.0, torch.float32)
