"""Minimisation of functions of CUDA arrays, on the CPU stand-in: the bits of NumPy arrays, and hardly a wait."""

import numpy as np
import pytest

import gradstep as gs
import on_cuda
from on_cuda import emulator, hosted, on_host
from problems import PROBLEMS
from test_lbfgs import model
from test_rules import same

cupy, device = on_cuda.cupy, on_cuda.device


def on_device(fun, scalar=False, counts=None):
    """Return a function of CUDA arrays that computes as one of NumPy arrays does."""

    def evaluate(x):
        assert isinstance(x, cupy.ndarray)
        if counts is not None:
            counts.append(emulator().emulator_waits())
        f, g = fun(on_host(x))
        return (hosted(np.array(f)) if scalar else f), hosted(np.ascontiguousarray(g))

    return evaluate


def quadratic(dtype, n):
    rng = np.random.default_rng(0)
    scale, tilt = np.exp(rng.uniform(0, 5, n)).astype(dtype), rng.normal(size=n).astype(dtype)
    return lambda x: (np.sum(scale * x * x + tilt * x), 2 * scale * x + tilt)


@pytest.mark.parametrize("scalar", [False, True], ids=["float", "device scalar"])
@pytest.mark.parametrize("n", [1, 5, 1024, 3000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lbfgs_has_the_bits_of_the_cpu(dtype, n, scalar):
    fun, start = quadratic(dtype, n), np.ones(n, dtype)
    found = gs.minimize(on_device(fun, scalar), hosted(start.copy()), jac=True, options={"maxiter": 30})
    want = gs.minimize(fun, start, jac=True, options={"maxiter": 30})
    assert isinstance(found.x, cupy.ndarray)
    assert isinstance(found.jac, cupy.ndarray)
    same(on_host(found.x), want.x)
    same(on_host(found.jac), want.jac)
    assert (found.fun, found.nit, found.nfev, found.message) == (want.fun, want.nit, want.nfev, want.message)


def test_the_host_waits_once_an_evaluation_at_most():
    waits = []
    fun = on_device(quadratic("f4", 2000), scalar=True, counts=waits)
    found = gs.minimize(fun, hosted(np.ones(2000, "f4")), jac=True, options={"maxiter": 40, "ftol": 0.0})
    assert found.nit > 10
    assert len(waits) == found.nfev
    assert max(np.diff(waits)) <= 1


@pytest.mark.parametrize("method", ["gd", "momentum", "nag", "adagrad", "adam", "newton-cg", "l-bfgs"])
def test_every_method_that_needs_no_lapack(method):
    problem = PROBLEMS[0]
    options = {"maxiter": 40}
    if method not in ("newton-cg", "l-bfgs"):
        options["lr"] = 1e-3
    found = gs.minimize(on_device(problem), hosted(problem.start.copy()), jac=True, method=method, options=options)
    want = gs.minimize(problem, problem.start, jac=True, method=method, options=options)
    same(on_host(found.x), want.x)
    assert (found.fun, found.nfev) == (want.fun, want.nfev)


def test_products_of_the_hessian_and_callbacks():
    scale, seen = np.arange(1.0, 9.0), []
    found = gs.minimize(
        on_device(lambda x: (0.5 * np.sum(scale * x * x), scale * x)),
        hosted(np.ones((2, 4)).reshape(8)),
        jac=True,
        hessp=lambda x, p: hosted(scale * on_host(p)),
        method="newton-cg",
        callback=seen.append,
    )
    assert found.success
    assert found.nhev > 0
    assert len(seen) == found.nit
    assert all(isinstance(x, cupy.ndarray) for x in seen)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bounds_and_differences(dtype):
    def fun(x):
        return np.sum((x - 1.0) ** 2 + x**4)

    start, bounds = np.zeros((2, 2), dtype), [(0, 0.3)] * 3 + [(None, None)]
    found = gs.minimize(lambda x: fun(on_host(x)), hosted(start.copy()), bounds=bounds)
    want = gs.minimize(fun, start, bounds=bounds)
    assert found.success
    assert found.x.shape == (2, 2)
    same(on_host(found.x), want.x)


def test_what_the_function_keeps_is_its_own():
    kept = []

    def fun(x):
        kept.append(x)
        f, g = PROBLEMS[0](on_host(x))
        return f, hosted(g)

    gs.minimize(fun, hosted(PROBLEMS[0].start.copy()), jac=True)
    assert len({x.data.ptr for x in kept}) == len(kept)


def test_least_squares_of_a_device():
    found = gs.least_squares(lambda x: hosted(np.array(on_host(x) - [1.0, 2.0])), hosted(np.zeros(2)))
    assert found.success
    assert isinstance(found.x, cupy.ndarray)
    np.testing.assert_allclose(on_host(found.x), [1, 2], atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_training_loops(tmp_path, dtype):
    mine, loss_and_grads = model(dtype)
    there, _ = model(dtype)
    theirs = {name: hosted(p) for name, p in there.items()}

    def on_theirs(p):
        loss, grads = loss_and_grads({name: on_host(a) for name, a in p.items()})
        return loss, {name: hosted(g) for name, g in grads.items()}

    opt, other = gs.LBFGS(mine, maxiter=4), gs.LBFGS(theirs, maxiter=4)
    for _ in range(3):
        assert opt.step(loss_and_grads) == other.step(on_theirs)
    for name in mine:
        same(there[name], mine[name])
    other.save(tmp_path / "a.npz")
    opt.load(tmp_path / "a.npz")
    saved = other.state_dict()
    other.load_state_dict(opt.state_dict())
    assert isinstance(saved["state"]["directions"]["W"], np.ndarray)
    assert opt.step(loss_and_grads) == other.step(on_theirs)


class TestErrors:
    def test_arrays_of_another_kind(self):
        with pytest.raises(TypeError, match=r"fun: expected a CUDA array, got float64 of shape \(2,\)"):
            gs.minimize(lambda x: (1.0, np.ones(2)), hosted(np.ones(2)), jac=True)
        with pytest.raises(TypeError, match="hess: expected a CUDA array"):
            gs.minimize(
                on_device(PROBLEMS[0]), hosted(np.zeros(2)), jac=True, hess=lambda x: np.eye(2), method="newton"
            )
        with pytest.raises(TypeError, match="x0: expected numbers, float32 or float64"):
            gs.minimize(PROBLEMS[0], hosted(np.ones(2, "i4")))

    def test_no_driver(self):
        emulator().emulator_set_broken_driver(1)
        try:
            with pytest.raises(TypeError, match="x0: expected a NumPy array, got a CUDA array; CUDA: CUDA driver"):
                gs.minimize(PROBLEMS[0], hosted(np.ones(2)))
        finally:
            emulator().emulator_set_broken_driver(0)
