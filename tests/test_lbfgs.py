"""gs.LBFGS: training loops over containers, with the engine of gs.minimize."""

import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

import gradstep as gs
from test_rules import same


def rosenbrock(x):
    return rosen(x), rosen_der(x)


def model(dtype="f8", seed=0):
    """A small network with its loss, gradients in a buffer that is used again."""
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(40, 3)).astype(dtype), rng.normal(size=(40, 2)).astype(dtype)
    params = {"W": np.asfortranarray(rng.normal(size=(3, 4))).astype(dtype, order="K"), "b": np.zeros(4, dtype)}
    params["V"] = rng.normal(size=(4, 2)).astype(dtype)
    grads = {name: np.empty_like(p) for name, p in params.items()}

    def loss_and_grads(p):
        hidden = np.tanh(inputs @ p["W"] + p["b"])
        error = hidden @ p["V"] - targets
        back = error @ p["V"].T * (1 - hidden**2)
        grads["V"][...], grads["W"][...], grads["b"][...] = hidden.T @ error, inputs.T @ back, back.sum(axis=0)
        return 0.5 * np.sum(error * error), grads

    return params, loss_and_grads


def test_it_is_minimize_on_containers():
    params, loss_and_grads = model()

    def flat(p):
        return np.concatenate([p[name].ravel() for name in ("W", "b", "V")])

    def fun(x):
        own = {"W": x[:12].reshape(3, 4), "b": x[12:16], "V": x[16:].reshape(4, 2)}
        loss, grads = loss_and_grads(own)
        return loss, flat(grads)

    found = gs.minimize(fun, flat(params), jac=True, options={"maxiter": 30, "ftol": 0.0})
    opt = gs.LBFGS(params, maxiter=30, ftol=0.0)
    loss = opt.step(loss_and_grads)
    assert (loss, opt.steps, opt.nfev) == (found.fun, found.nit, found.nfev)
    same(flat(params), found.x)
    assert opt.loss == loss
    assert opt.converged == found.success
    assert opt.message == found.message


@pytest.mark.parametrize(
    "limits",
    [{}, {"maxls": 1}, {"gtol": 0.1, "ftol": 0.0}, {"gtol": 0.0, "ftol": 1e-3}],
    ids=lambda limits: str([*limits]),
)
def test_its_limits_are_those_of_minimize(limits):
    params = np.linspace(-1.5, 1.5, 7)
    found = gs.minimize(rosenbrock, params, jac=True, options={"maxiter": 200, **limits})
    opt = gs.LBFGS(params, maxiter=200, **limits)
    assert opt.step(rosenbrock) == found.fun
    same(params, found.x)
    assert opt.message.replace("the loss", "fun") == found.message


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16", "c8", "f2", ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", ["array", "list", "dict"])
def test_containers_and_formats(dtype, kind):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 4)).astype(dtype).T, rng.normal(size=5).astype(dtype), np.ones((), dtype)]
    target = [np.full(a.shape, 2.0 + (0.5j if a.dtype.kind == "c" else 0)).astype(dtype) for a in arrays]
    wide = np.complex128 if arrays[0].dtype.kind == "c" else np.float64
    pack = {"array": lambda x: x[0], "list": list, "dict": lambda x: dict(zip("abc", x, strict=True))}[kind]
    unpack = {"array": lambda x: [x], "list": list, "dict": lambda x: list(x.values())}[kind]
    count = 1 if kind == "array" else 3

    def loss_and_grads(p):
        gaps = [a.astype(wide) - t.astype(wide) for a, t in zip(unpack(p), target[:count], strict=True)]
        return 0.5 * sum(float(np.sum(np.abs(g) ** 2)) for g in gaps), pack([g.astype(dtype) for g in gaps])

    opt = gs.LBFGS(pack(arrays))
    for _ in range(3):
        loss = opt.step(loss_and_grads)
    assert loss < 1e-3
    for a, t in zip(arrays[:count], target, strict=False):
        np.testing.assert_allclose(a.astype(wide), t.astype(wide), atol=0.02)
    assert opt.nbytes == sum(a.nbytes for side in opt.state.values() for a in unpack(side))


@pytest.mark.parametrize("dtype", ["f2", ml_dtypes.bfloat16])
def test_what_rounding_holds_back_has_not_converged(dtype):
    x = np.full(100, 1000.0).astype(dtype)
    opt = gs.LBFGS(x)
    opt.step(lambda p: (float(np.sum((p.astype(float) - 3) ** 2)), (2 * (p.astype(float) - 3)).astype(dtype)))
    assert not opt.converged or abs(x.astype(float) - 3).max() < 0.1


def test_the_history_is_kept_from_step_to_step():
    together, apart = np.full(6, -1.0), np.full(6, -1.0)
    gs.LBFGS(together, maxiter=30).step(rosenbrock)
    opt = gs.LBFGS(apart, maxiter=10)
    for _ in range(3):
        opt.step(rosenbrock)
    assert opt.steps == 30
    same(together, apart)


def test_edited_parameters_and_another_batch_are_taken_up():
    x = np.array([5.0, 5.0])
    opt = gs.LBFGS(x)
    opt.step(lambda p: (p @ p, 2 * p))
    x[...] = [3.0, -4.0]
    opt.step(lambda p: ((p - 1) @ (p - 1), 2 * (p - 1)))
    np.testing.assert_allclose(x, 1, atol=1e-5)
    assert opt.converged


@pytest.mark.parametrize("way", ["dict", "file", "process"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path, way, dtype):
    params, loss_and_grads = model(dtype)
    straight = gs.LBFGS(params, maxiter=3)
    for _ in range(4):
        straight.step(loss_and_grads)

    other, loss_and_grads = model(dtype)
    first = gs.LBFGS(other, maxiter=3)
    for _ in range(2):
        first.step(loss_and_grads)
    if way == "process":
        np.savez(tmp_path / "params.npz", **other)
        first.save(tmp_path / "opt.npz")
        script = (
            "import sys, numpy as np, gradstep as gs; sys.path.insert(0, sys.argv[2]); from test_lbfgs import model\n"
            "params, f = model(sys.argv[3])\n"
            "for k, v in np.load(sys.argv[1] + '/params.npz').items(): params[k][...] = v\n"
            "opt = gs.LBFGS(params, maxiter=3); opt.load(sys.argv[1] + '/opt.npz'); opt.step(f); opt.step(f)\n"
            "np.savez(sys.argv[1] + '/end.npz', **params)\n"
        )
        here = str(__import__("pathlib").Path(__file__).parent)
        subprocess.run([sys.executable, "-c", script, str(tmp_path), here, dtype], check=True)
        for name, value in np.load(tmp_path / "end.npz").items():
            same(value, np.asarray(params[name]))
        return
    copies = {name: p.copy(order="K") for name, p in other.items()}
    second = gs.LBFGS(copies, maxiter=3)
    if way == "dict":
        second.load_state_dict(first.state_dict())
    else:
        first.save(tmp_path / "opt.npz")
        second.load(tmp_path / "opt.npz")
    for _ in range(2):
        second.step(loss_and_grads)
    assert second.steps == straight.steps
    for name in params:
        same(copies[name], params[name])


class TestCheckpointsThatDoNotFit:
    def saved(self):
        x = np.full(4, -1.0)
        opt = gs.LBFGS(x, maxiter=5, maxcor=3)
        opt.step(rosenbrock)
        return opt, opt.state_dict()

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"version": 9}, "version: expected 1, got 9"),
            ({"rule": "adam"}, "rule: expected lbfgs, got 'adam'"),
            ({"params": []}, "params: expected 1 arrays, got 0"),
            ({"steps": -1}, "steps: expected a count"),
            ({"history": None}, "history: expected"),
            ({"state": {"directions": np.zeros((4, 4)), "changes": np.zeros((4, 5))}}, r"state\['changes'\]"),
            ({"state": {"directions": np.zeros((4, 4))}}, "state"),
            ({"state": None}, "saved: expected what state_dict"),
        ],
    )
    def test_dicts(self, change, text):
        opt, saved = self.saved()
        before = opt.state_dict()
        with pytest.raises(ValueError, match=text):
            opt.load_state_dict({**saved, **change})
        assert str(opt.state_dict()) == str(before)

    @pytest.mark.parametrize(
        "change",
        [
            {"pairs": [0, 0]},
            {"pairs": [9]},
            {"pairs": [0, 1, 2, 3]},
            {"pairs": "no"},
            {"pairs": [-1]},
            {"lengths": [1.0]},
            {"lengths": [np.nan] * 4},
            {"lengths": ["a"] * 4},
            {"sy": [1.0] * 4},
            {"first": 3.5},
        ],
    )
    def test_histories(self, change):
        opt, saved = self.saved()
        before = opt.state_dict()
        with pytest.raises(ValueError, match="history"):
            opt.load_state_dict({**saved, "history": {**saved["history"], **change}})
        assert str(opt.state_dict()) == str(before)

    def test_files(self, tmp_path):
        opt, _ = self.saved()
        adam = gs.Adam(np.zeros(4))
        adam.save(tmp_path / "adam.npz")
        with pytest.raises(ValueError, match=r"adam\.npz"):
            opt.load(tmp_path / "adam.npz")
        opt.save(tmp_path / "lbfgs.npz")
        with pytest.raises(ValueError, match=r"lbfgs\.npz"):
            adam.load(tmp_path / "lbfgs.npz")
        with pytest.raises(ValueError, match=r"lbfgs\.npz"):
            gs.LBFGS(np.zeros(4), maxcor=5).load(tmp_path / "lbfgs.npz")
        (tmp_path / "cut.npz").write_bytes((tmp_path / "lbfgs.npz").read_bytes()[:-40])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            opt.load(tmp_path / "cut.npz")
        with pytest.raises(OSError, match="none"):
            opt.load(tmp_path / "none.npz")


class TestErrors:
    def test_what_raises_is_no_end_of_before(self):
        params = np.ones(3)
        opt = gs.LBFGS(params)
        opt.step(lambda p: (float(p @ p), 2 * p))
        assert opt.converged
        params[:] = 5

        def fails(p):
            if p[0] != 5:
                raise ZeroDivisionError
            return float(p @ p), 2 * p

        with pytest.raises(ZeroDivisionError):
            opt.step(fails)
        assert (opt.converged, opt.loss, opt.message) == (False, 75.0, "")

    def test_what_raises_leaves_the_last_point(self):
        x = np.full(4, -1.0)
        opt = gs.LBFGS(x)
        seen = []

        def failing(p):
            seen.append((rosen(p), p.copy()))
            if len(seen) == 12:
                raise ZeroDivisionError
            return rosenbrock(p)

        with pytest.raises(ZeroDivisionError):
            opt.step(failing)
        assert any((x == point).all() for _, point in seen)
        assert rosen(x) <= seen[0][0]
        steps = opt.steps
        assert steps > 0
        assert opt.step(rosenbrock) < 1
        assert opt.steps > steps

    @pytest.mark.parametrize(
        ("returned", "error", "text"),
        [
            (3.0, TypeError, "loss_and_grads: expected to return the loss and gradients"),
            ((1.0, np.ones(5)), ValueError, r"grads: expected float64 of shape \(4,\)"),
            ((1.0, np.ones(4, "f4")), TypeError, "grads: expected float64"),
            ((1.0, [np.ones(4)]), TypeError, "grads"),
            (("a", np.ones(4)), TypeError, "loss_and_grads: expected to return a number"),
            ((np.ones(2), np.ones(4)), TypeError, "loss_and_grads: expected to return a number"),
        ],
    )
    def test_what_the_function_returns(self, returned, error, text):
        x = np.arange(4.0)
        opt = gs.LBFGS(x)
        with pytest.raises(error, match=text):
            opt.step(lambda p: returned)
        same(x, np.arange(4.0))
        assert opt.steps == 0

    def test_keys_are_named(self):
        params, loss_and_grads = model()
        opt = gs.LBFGS(params)
        with pytest.raises(ValueError, match=r"grads\['b'\]"):
            opt.step(lambda p: (1.0, {**loss_and_grads(p)[1], "b": np.zeros(3)}))
        with pytest.raises(ValueError, match="missing 'b'"):
            opt.step(lambda p: (1.0, {"W": p["W"], "V": p["V"]}))

    @pytest.mark.parametrize(
        ("params", "hypers", "error", "text"),
        [
            (np.zeros(3, int), {}, TypeError, "params"),
            ([np.zeros(3), np.zeros(3, "f4")], {}, TypeError, "double precision"),
            (np.zeros(3), {"maxiter": 0}, ValueError, "maxiter"),
            (np.zeros(3), {"maxcor": 501}, ValueError, "maxcor"),
            (np.zeros(3), {"maxls": 2**31}, ValueError, "maxls: expected at most 2147483647"),
            (np.zeros(3), {"gtol": -1.0}, ValueError, "gtol"),
            (np.zeros(3), {"lr": 1.0}, TypeError, "lr"),
            ([], {}, ValueError, "params: expected at least one array"),
            ([np.broadcast_to(0.0, 3)], {}, ValueError, "writeable"),
        ],
    )
    def test_arguments(self, params, hypers, error, text):
        with pytest.raises(error, match=text):
            gs.LBFGS(params, **hypers)

    def test_shared_memory_and_read_only_later(self):
        x = np.zeros(4)
        with pytest.raises(ValueError, match="share memory"):
            gs.LBFGS([x, x])
        opt = gs.LBFGS(x)
        x.flags.writeable = False
        with pytest.raises(ValueError, match="writeable"):
            opt.step(rosenbrock)
        with pytest.raises(TypeError, match="expected a callable"):
            gs.LBFGS(np.zeros(4)).step(np.zeros(4))

    def test_not_finite_at_the_start(self):
        x = np.ones(3)
        opt = gs.LBFGS(x)
        assert np.isnan(opt.step(lambda p: (np.nan, p)))
        assert not opt.converged
        assert "not finite" in opt.message
        same(x, np.ones(3))
        assert "the loss" in opt.message

    def test_a_step_within_a_step(self):
        x = np.full(3, -1.0)
        opt = gs.LBFGS(x)
        with pytest.raises(RuntimeError, match="within its own"):
            opt.step(lambda p: (opt.step(rosenbrock), p))
        assert opt.step(rosenbrock) < 10

    def test_loading_within_a_step(self):
        x = np.full(3, -1.0)
        opt, saved = gs.LBFGS(x), gs.LBFGS(np.zeros(3)).state_dict()
        with pytest.raises(RuntimeError, match="within its own"):
            opt.step(lambda p: (opt.load_state_dict(saved), p))
        assert opt.step(rosenbrock) < 10

    def test_pairs_that_are_not_there_yet_are_zeros(self):
        np.full(1000, np.nan)  # what memory may hold
        opt = gs.LBFGS(np.full(40, -1.0), maxcor=3)
        assert not any(side.any() for side in opt.state.values())

    def test_no_copies_of_it(self):
        with pytest.raises(TypeError, match="references"):
            __import__("copy").copy(gs.LBFGS(np.zeros(3)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_gradient_of_none_leaves_its_array(dtype):
    np.full(1000, np.nan)  # what memory may hold
    params = {"a": np.zeros(3, dtype), "b": np.full(2, 7, dtype), "c": np.zeros((), dtype)}
    opt = gs.LBFGS(params)

    def loss_and_grads(p):
        gap, more = p["a"] - 3, p["c"] - 1
        return float(gap @ gap + more**2), {"a": 2 * gap, "b": None, "c": 2 * more}

    assert opt.step(loss_and_grads) < 1e-6
    same(params["b"], np.full(2, 7, dtype))
    assert not opt.state["changes"]["b"].any()
    alone = gs.LBFGS(np.full(2, 7, dtype))
    assert alone.step(lambda p: (1.0, None)) == 1.0
    assert alone.converged


def test_threads_are_served_one_after_the_other():
    x = np.full(50, -1.0)
    opt = gs.LBFGS(x, maxiter=2)
    threads = [threading.Thread(target=lambda: [opt.step(rosenbrock) for _ in range(20)]) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = np.full(50, -1.0)
    other = gs.LBFGS(alone, maxiter=2)
    for _ in range(40):
        other.step(rosenbrock)
    same(x, alone)


def test_arrays_that_are_empty():
    params = [np.zeros((0, 3)), np.full(2, 5.0)]
    opt = gs.LBFGS(params)
    assert opt.step(lambda p: (p[1] @ p[1], [p[0], 2 * p[1]])) < 1e-9
    empty = gs.LBFGS(np.zeros(0))
    assert empty.step(lambda p: (3.0, p)) == 3.0
    assert empty.converged
