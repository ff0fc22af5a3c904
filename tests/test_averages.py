"""Moving averages: in the step or alone, the same bits; swapped in and out."""

import copy
import pickle

import numpy as np
import pytest

import gradstep as gs
import reference
from table import FORMATS, IDS, ISAS, ROWS
from test_rules import same
from test_whole_step import randoms


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("master", [False, True])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_in_the_step_or_alone(engine, rng, row, name, master, isa):
    engine(isa=isa, threads=2)
    start = [randoms(rng, n, name) for n in (0, 3, 1500)]
    a, b = ([p.copy() for p in start] for _ in range(2))
    first, second = (row.make(p, master_weights=master) for p in (a, b))
    fused, alone = gs.EMA(a, 0.75), gs.EMA(b, 0.75)
    for k in range(5):
        grads = [randoms(rng, p.size, name) for p in start]
        grads[k % 3] = None
        first.step(grads, average=fused)
        second.step(grads)
        alone.update()
    for x, y in zip(fused.averages, alone.averages, strict=True):
        same(np.array(x), np.array(y))
    assert fused.calls == alone.calls == 5


def test_specification(rng):
    w = rng.normal(size=50).astype("f4")
    ema, want = gs.EMA(w, 0.9), w.copy()
    for _ in range(3):
        w += 1
        ema.update()
        want = np.float32(0.9) * want + np.float32(1 - 0.9) * w
    same(ema.averages.copy(), want)


def test_torch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    w = rng.normal(size=50)
    ema, theirs = gs.EMA(w, 0.9), [torch.from_numpy(w.copy())]
    for _ in range(20):
        w += rng.normal(size=50)
        ema.update()
        get_ema_multi_avg_fn(0.9)(theirs, [torch.from_numpy(w)], 1)
    assert np.allclose(ema.averages, theirs[0].numpy(), rtol=0, atol=8 * 2.3e-16 * np.abs(w).max())


@pytest.mark.parametrize("name", FORMATS)
def test_swapping(rng, name):
    w = {"a": randoms(rng, 20, name), "b": randoms(rng, (3, 4), name)[:, ::2]}
    ema = gs.EMA(w, 0.5)
    for p in w.values():
        p[...] = 2 * p
    ema.update()
    before = {k: p.copy() for k, p in w.items()}
    with ema.swapped():
        for k, p in w.items():
            same(
                p.copy(),
                reference.reals(np.array(ema.averages[k])).view(ema.averages[k].dtype).reshape(p.shape).astype(p.dtype),
            )
        with pytest.raises(ValueError, match="swapped in"):
            ema.update()
        with pytest.raises(ValueError, match="swapped in"):
            ema.swap_in()
        with pytest.raises(ValueError, match="swapped in"):
            gs.SGD(w).step(dict.fromkeys(w), average=ema)
    for k, p in w.items():
        same(p.copy(), before[k].copy())
    with pytest.raises(ValueError, match="swapped in"):
        ema.swap_out()
    with pytest.raises(RuntimeError), ema.swapped():
        raise RuntimeError
    same(w["a"], before["a"])


def test_one_average_at_a_time_is_in_the_place_of_parameters():
    w, b = np.ones(3), np.ones(2)
    opt, one, two, apart = gs.SGD([w, b]), gs.EMA([w, b], 0.5), gs.EMA(w[1:], 0.5), gs.EMA(np.ones(3))
    w[...], b[...] = 5, 6
    with one.swapped():
        for refused in (two.swap_in, two.update, lambda: opt.step([np.ones(3), None], average=gs.EMA([w, b]))):
            with pytest.raises(ValueError, match="another EMA are swapped in"):
                refused()
        with apart.swapped():
            assert w.tolist() == [1.0] * 3
    assert (w.tolist(), b.tolist()) == ([5.0] * 3, [6.0] * 2)
    with two.swapped():
        assert w.tolist() == [5.0, 1.0, 1.0]
    assert two.calls == opt.steps == 0
    one.swap_in()
    del one  # who drops it has the averages as parameters
    two.swap_in()
    two.swap_out()


def test_swapping_a_parameter_that_became_read_only_changes_nothing():
    params = [np.full(2, 3.0), np.full(2, 3.0)]
    ema = gs.EMA(params, 0.5)
    for p in params:
        p[...] = 7
    params[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[1\]: expected a writeable array"):
        ema.swap_in()
    assert params[0].tolist() == [7.0, 7.0]
    params[1].flags.writeable = True
    ema.swap_in()
    params[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[0\]: expected a writeable array"):
        ema.swap_out()
    params[0].flags.writeable = True
    ema.swap_out()
    assert [p.tolist() for p in params] == [[7.0, 7.0]] * 2


def test_decay_is_a_schedule_of_the_calls():
    asked = []
    w = np.ones(1)
    ema = gs.EMA(w, lambda updates: asked.append(updates) or min(0.9, (1 + updates) / (10 + updates)))
    opt = gs.SGD(w)
    opt.step(np.ones(1), average=ema)
    ema.update()
    opt.step(np.full(1, np.nan), average=ema, nonfinite="skip")
    opt.step(np.ones(1), average=ema)
    assert asked == [0, 1, 2, 3]
    assert ema.calls == 4


def test_averages_come_and_go():
    w = np.ones(4)
    opt, one, two = gs.SGD(w, lr=1.0), gs.EMA(w, 0.5), gs.EMA(w, 0.5)
    opt.step(np.ones(4), average=one)
    opt.step(np.ones(4), average=two)
    opt.step(np.ones(4))
    assert one.averages.tolist() == [0.5] * 4
    assert two.averages.tolist() == [0.0] * 4
    opt.step(one.averages, average=one)  # a gradient that is the average itself is read before it changes
    assert w.tolist() == [-2.5] * 4
    assert one.averages.tolist() == [-1.0] * 4


def test_refuses():
    w, v = np.ones(3), np.ones(3)
    opt = gs.SGD([w])
    for params in ([v], [w, v], [w[:2]], [w[::-1]]):
        with pytest.raises(ValueError, match="average: expected an EMA of this optimizer's parameters"):
            opt.step([np.ones(3)], average=gs.EMA(params))
    for decay, error in [(-0.1, ValueError), (1.5, ValueError), ("x", TypeError), (float("nan"), ValueError)]:
        with pytest.raises(error, match="decay"):
            gs.EMA(w, decay)
    with pytest.raises(ValueError, match="share memory"):
        gs.EMA([w, w])
    ema = gs.EMA(w)
    for make in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="holds references"):
            make(ema)
    assert w.tolist() == [1.0] * 3


def test_state(rng):
    w = {"a": rng.normal(size=5)}
    ema, other = gs.EMA(w, 0.5), gs.EMA(w, 0.5)
    w["a"] += 1
    ema.update()
    other.load_state_dict(ema.state_dict())
    same(other.averages["a"], ema.averages["a"])
    assert other.calls == 1
    kept = other.averages["a"].copy()
    for bad in (
        {},
        {"averages": {"a": np.zeros(4)}, "calls": 1},
        {"averages": {"b": np.zeros(5)}, "calls": 1},
        {"averages": {"a": np.zeros(5, "f4")}, "calls": 1},
        {"averages": {"a": np.zeros(5)}, "calls": -1},
        {"averages": [np.zeros(5)], "calls": 1},
        {"averages": {"a": np.ma.zeros(5)}, "calls": 1},
    ):
        with pytest.raises(ValueError, match="saved"):
            other.load_state_dict(bad)
    same(other.averages["a"], kept)


def test_groups():
    a, b = np.ones(2), np.ones(3)
    groups = [{"params": [a], "lr": 1.0}, {"params": {"b": b}}]
    opt, ema = gs.SGD(groups), gs.EMA(groups, 0.5)
    opt.step([[np.ones(2)], {"b": None}], average=ema)
    assert ema.averages[0][0].tolist() == [0.5, 0.5]
    assert ema.averages[1]["b"].tolist() == [1.0] * 3
    assert ema.nbytes == 40


def test_an_average_that_is_gone_leaves_no_claim_to_its_memory():
    w, fresh = np.zeros(1000), []
    opt, ema = gs.SGD(w), gs.EMA(w)
    opt.step(np.ones(1000), average=ema)
    opt.step(np.ones(1000))
    former = ema.averages
    for g in (former, np.ones(1000)):
        opt.step(g, zero_grads=True)
        fresh.append(g)
    assert not any(g.any() for g in fresh)
