"""Minimisation on a real device: functions of CuPy arrays, Newton's method with CuPy's LAPACK, waits."""

import numpy as np
import pytest
from on_gpu import DRY_RUN, cupy, gpu

import gradstep as gs
from test_rules import same

pytestmark = [*gpu, pytest.mark.skipif(DRY_RUN, reason="needs a real device")]


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    g = 0 * x
    g[:-1] = -400 * a * (b - a * a) - 2 * (1 - a)
    g[1:] += 200 * (b - a * a)
    return (100 * (b - a * a) ** 2 + (1 - a) ** 2).sum(), g


def hessian(x):
    n, xp = len(x), cupy.get_array_module(x)
    diagonal = xp.full(n, 200.0)
    diagonal[0] = 0
    diagonal[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    return xp.diag(diagonal) + xp.diag(-400 * x[:-1], 1) + xp.diag(-400 * x[:-1], -1)


@pytest.mark.parametrize("method", ["l-bfgs", "newton", "newton-cg", "adam"])
def test_methods(method):
    given = {"hess": hessian} if method.startswith("newton") else {}
    options = {"lr": 0.01, "maxiter": 3000} if method == "adam" else {}
    start = np.full(8, 0.5)
    found = gs.minimize(rosenbrock, cupy.asarray(start), jac=True, method=method, options=options, **given)
    want = gs.minimize(rosenbrock, start, jac=True, method=method, options=options, **given)
    assert isinstance(found.x, cupy.ndarray)
    assert found.status == want.status
    np.testing.assert_allclose(found.x.get(), want.x, atol=1e-3)


def test_an_indefinite_hessian_is_shifted():
    start = cupy.asarray([0.5, 0.01])
    found = gs.minimize(
        lambda x: (x[0] ** 2 - x[1] ** 2 + x[1] ** 4, cupy.stack([2 * x[0], -2 * x[1] + 4 * x[1] ** 3])),
        start,
        jac=True,
        hess=lambda x: cupy.diag(cupy.stack([cupy.asarray(2.0), -2 + 12 * x[1] ** 2])),
        method="newton",
    )
    assert found.success
    assert abs(found.fun + 0.25) < 1e-8


def test_a_factorisation_that_fails_is_told():
    indefinite, gradient = cupy.asarray([[1.0, 2.0], [2.0, 1.0]]), cupy.asarray([3.0, 4.0])
    device = gs.solve.shifted.Device()
    assert device.solve(indefinite, 0.0, gradient) is None
    found = device.solve(indefinite, 3.0, gradient).get()
    np.testing.assert_allclose((indefinite.get() + 3 * np.eye(2)) @ found, [3, 4])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_quadratic_has_the_bits_of_the_cpu(dtype):
    rng = np.random.default_rng(0)
    scale, start = np.exp(rng.uniform(0, 5, 5000)).astype(dtype), np.ones(5000, dtype)
    there = cupy.asarray(scale)

    def value(products):  # summed on the host, in one order
        return float(np.sum(products.get() if isinstance(products, cupy.ndarray) else products, dtype=np.float64))

    found = gs.minimize(lambda x: (value(there * x * x - x), 2 * there * x - 1), cupy.asarray(start), jac=True)
    want = gs.minimize(lambda x: (value(scale * x * x - x), 2 * scale * x - 1), start, jac=True)
    same(found.x.get(), want.x)
    assert (found.fun, found.nfev) == (want.fun, want.nfev)


def test_training_loop_and_least_squares():
    params = {"a": cupy.full(5, 3.0, "f4"), "b": cupy.ones((), "f4")}
    opt = gs.LBFGS(params)
    loss = opt.step(lambda p: ((p["a"] ** 2).sum() + (p["b"] - 2) ** 2, {"a": 2 * p["a"], "b": 2 * (p["b"] - 2)}))
    assert opt.converged
    assert loss < 1e-6
    found = gs.least_squares(lambda x: x - cupy.arange(3.0), cupy.ones(3))
    np.testing.assert_allclose(found.x.get(), [0, 1, 2], atol=1e-6)
