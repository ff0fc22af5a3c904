"""gs.least_squares against SciPy's, on the problems of Moré, Garbow and Hillstrom."""

import re

import numpy as np
import pytest
from scipy.optimize import Bounds, least_squares
from scipy.sparse import csr_matrix

import gradstep as gs
from problems import LOWEST, MEYERS, PROBLEMS
from test_rules import same


@pytest.mark.parametrize("jac", ["2-point", "exact"])
@pytest.mark.parametrize("problem", [*PROBLEMS, MEYERS], ids=lambda p: p.name)
def test_problems(problem, jac):
    with np.errstate(all="ignore"):
        found = gs.least_squares(problem.f, problem.start, problem.jac if jac == "exact" else jac)
        scipys = least_squares(problem.f, problem.start, problem.jac, method="lm")
    assert found.status >= 0
    assert found.cost <= scipys.cost * 1.0001 + 1e-9
    assert found.nfev <= 100 * len(problem.start)
    if jac == "exact":
        f = problem.f(found.x)
        np.testing.assert_allclose(found.fun, f)
        np.testing.assert_allclose(found.grad, problem.jac(found.x).T @ f)
        assert found.cost == 0.5 * f @ f
        assert found.optimality == np.abs(found.grad).max()
        if problem.name in LOWEST and problem.name != "linear, full rank":
            np.testing.assert_allclose(2 * found.cost, LOWEST[problem.name], rtol=1e-3, atol=1e-9)


def test_evaluations_are_like_scipys():
    ratios = []
    for problem in PROBLEMS:
        with np.errstate(all="ignore"):
            found = gs.least_squares(problem.f, problem.start, problem.jac)
            scipys = least_squares(problem.f, problem.start, problem.jac, method="lm")
        ratios.append(found.nfev / scipys.nfev)
    assert np.median(ratios) <= 1.2


def fit(scale=None, noise=0.0, **more):
    t = np.linspace(0, 3, 30)
    y = 2e4 * np.exp(-0.7 * t) + 5 + noise * np.sin(17 * t)
    return gs.least_squares(lambda p: p[0] * np.exp(-p[1] * t) + p[2] - y, [1e4, 1.0, 0.0], x_scale=scale, **more)


class TestOptions:
    @pytest.mark.parametrize("scale", ["jac", 1.0, [1e4, 1.0, 1.0]], ids=str)
    def test_scales(self, scale):
        np.testing.assert_allclose(fit(scale, xtol=1e-14, ftol=1e-14).x, [2e4, 0.7, 5], rtol=1e-5)

    def test_each_limit_says_so(self):
        assert fit(noise=1.0, xtol=None, ftol=None, gtol=1e-3).status == 1
        assert fit(noise=1.0, xtol=None, gtol=None).status == 2
        assert fit(noise=1.0, ftol=None, gtol=None).status == 3
        assert fit(max_nfev=2).status == 0
        assert not fit(max_nfev=2).success
        assert fit(max_nfev=2).nfev == 2

    def test_callbacks(self):
        seen = []

        def plain(x):
            seen.append(x)
            if len(seen) == 2:
                raise StopIteration

        found = fit(callback=plain)
        assert found.status == -2
        assert found.nit == 2
        assert not found.success
        same(found.x, seen[-1])

        def newer(intermediate_result):
            assert intermediate_result.nit == 1
            assert intermediate_result.cost == 0.5 * intermediate_result.fun @ intermediate_result.fun
            raise StopIteration

        assert fit(callback=newer).nit == 1

    def test_verbose(self, capsys):
        fit(verbose=2)
        out = capsys.readouterr().out
        assert "iteration 1" in out
        assert "lm: " in out

    @pytest.mark.parametrize("unit", [1e-290, 1e-170, 1e-30, 1e-9, 1e-4, 1e9, 1e150])
    def test_residuals_in_any_unit(self, unit):
        t = np.linspace(0, 2, 20)
        y = 3 * np.exp(-1.5 * t) + 0.01 * np.sin(20 * t)

        def run(unit):
            return gs.least_squares(lambda p: unit * (p[0] * np.exp(-p[1] * t) - y), [1.0, 1.0])

        found, want = run(unit), run(1.0)
        assert found.success
        assert abs(found.nfev - want.nfev) <= 2
        np.testing.assert_allclose(found.x, want.x, rtol=1e-4)

    def test_squares_that_vanish_are_no_convergence(self):
        found = gs.least_squares(lambda x: 1e-170 * (x - 1), [0.0])
        assert found.success
        np.testing.assert_allclose(found.x, 1)
        assert found.fun == 1e-170 * (found.x - 1)
        apart = gs.least_squares(lambda x: np.array([x[0] - 1, 1e-170 * (x[1] - 1)]), [3.0, 3.0], xtol=1e-12)
        np.testing.assert_allclose(apart.x, 1)
        below = gs.least_squares(lambda x: x**2 * 1e-200, [1.0], lambda x: np.diag(2 * x * 1e-200), max_nfev=8)
        assert below.x[0] < 0.02

    def test_variables_of_very_different_size(self):
        t = np.linspace(0, 3000, 80)
        found = gs.least_squares(lambda p: p[0] * np.exp(-p[1] * t) - 5e6 * np.exp(-1e-3 * t), [1e6, 5e-3])
        np.testing.assert_allclose(found.x, [5e6, 1e-3], rtol=1e-6)

    def test_args_shapes_and_dtypes(self):
        start = np.zeros((2, 2), "f4")
        found = gs.least_squares(lambda x, a, b=0: (x - a - b).ravel(), start, args=(2.0,), kwargs={"b": 1.0})
        assert found.x.shape == (2, 2)
        assert found.x.dtype == np.float32
        np.testing.assert_allclose(found.x, 3, atol=1e-4)
        sparse = gs.least_squares(lambda x: x - 1, np.zeros(3), lambda x: csr_matrix(np.eye(3)))
        np.testing.assert_allclose(sparse.x, 1)
        few = gs.least_squares(lambda x: np.array([x[0] + x[1] - 2]), [0.0, 0.0])
        np.testing.assert_allclose(few.x, 1, atol=1e-6)

    @pytest.mark.parametrize("size", [1.0, 1e4, 1e10])
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    @pytest.mark.parametrize("step", [None, 1e-3, 1e-30, [1e-3, 1e-2]], ids=str)
    def test_differences_by_what_was_really_stepped(self, dtype, size, step):
        start = np.array([size, size / 3], dtype)
        found = gs.least_squares(lambda x: 2.0 * x.astype("f8") - 6, start, diff_step=step, max_nfev=1)
        np.testing.assert_allclose(found.jac, 2 * np.eye(2), rtol=1e-6, atol=1e-6)

    def test_a_relative_step(self):
        seen = []
        gs.least_squares(lambda x: seen.append(x) or x - 3, [10.0, -1e4], diff_step=[0.1, 0.01], max_nfev=1)
        np.testing.assert_allclose(np.array(seen) - seen[0], [[0, 0], [1, 0], [0, 100]])

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
    def test_shapes_of_jacobians(self, shape):
        n = int(np.prod(shape))
        matrix = np.arange(1.0, 1 + 4 * n).reshape(4, n) ** 2

        def run(made):
            return gs.least_squares(lambda x: matrix @ x.ravel() - 1, np.zeros(shape), lambda x: made)

        want = run(matrix)
        same(run(matrix.reshape(4, *shape)).x, want.x)
        assert want.x.shape == shape
        for wrong in {(n, 4), (4 * n,), (2, 2 * n), (4, n, 1), (4, 1, n), (1, 4, n)} - {(4, n), (4, *shape)}:
            expected = re.escape(f"jac: expected shape (4, {n})") + f".*, got float64 of shape {re.escape(str(wrong))}"
            with pytest.raises(ValueError, match=expected):
                run(np.ones(wrong))

    def test_degenerate(self):
        assert gs.least_squares(lambda x: np.ones(3), np.zeros(2)).success
        assert gs.least_squares(lambda x: np.zeros(0), np.zeros(2)).success
        assert gs.least_squares(lambda x: np.ones(2), np.zeros(0)).success
        singular = gs.least_squares(lambda x: np.array([x[0] - x[1], 2 * (x[0] - x[1])]), [3.0, 1.0])
        assert singular.success
        assert singular.cost < 1e-12

    def test_what_is_not_finite_is_backed_away_from(self):
        with np.errstate(all="ignore"):
            found = gs.least_squares(lambda x: np.log(x) - 1, [20.0], lambda x: np.diag(1 / x))
        np.testing.assert_allclose(found.x, np.e, rtol=1e-6)

    def test_derivatives_that_are_not_finite_are_backed_away_from(self):
        with np.errstate(all="ignore"):
            edge = gs.least_squares(lambda p: np.array([np.sqrt(1 - p[0]), p[1] - 2]), [0.0, 0.0])
            bend = gs.least_squares(lambda p: np.array([np.arccos(p[0]), p[1]]), [0.2, 1.0])
        np.testing.assert_allclose(edge.x, [1, 2], atol=1e-2)
        np.testing.assert_allclose(bend.x, [1, 0], atol=1e-2)

    @pytest.mark.parametrize("size", [1.0, 1000.0])
    def test_without_any_limit_it_ends_at_the_last_bits(self, size):
        rng = np.random.default_rng(0)
        t = np.linspace(0, 2, 40)
        y = 3 * np.exp(-1.5 * t) + 0.1 * rng.normal(size=40)
        found = gs.least_squares(
            lambda p: size * (p[0] * np.exp(-p[1] * t) - y), [1.0, 1.0], xtol=None, ftol=None, gtol=None
        )
        assert found.success
        np.testing.assert_allclose(found.x, [3, 1.5], rtol=0.1)

    def test_a_cost_beyond_all_floats(self):
        with pytest.raises(ValueError, match="squares can be summed, got up to 2e\\+155"):
            gs.least_squares(lambda p: 1e155 * (p - 3), [1.0, 1.0])

    def test_a_wrong_jacobian_ends(self):
        found = gs.least_squares(lambda x: x - 1, np.array([5.0, -3.0]), lambda x: -np.eye(2))
        same(found.x, np.array([5.0, -3.0]))
        assert found.nfev <= 200


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"fun": 3}, TypeError, "fun: expected a callable"),
        ({"jac": "3-point"}, ValueError, "jac: expected a callable or '2-point'"),
        ({"jac": lambda x: np.ones((2, 2))}, ValueError, r"jac: expected shape \(3, 2\)"),
        ({"bounds": (0, 1)}, ValueError, "bounds: expected the default"),
        ({"bounds": Bounds(0, 1)}, ValueError, "bounds"),
        ({"bounds": 3}, ValueError, "bounds: expected a pair"),
        ({"method": "trf"}, ValueError, "method: expected the default"),
        ({"loss": "huber"}, ValueError, "loss"),
        ({"jac_sparsity": np.eye(2)}, ValueError, "jac_sparsity"),
        ({"jac": np.eye(2)}, ValueError, r"jac: expected a callable or '2-point', got float64 of shape \(2, 2\)"),
        ({"bounds": np.array([0.0, 1.0])}, ValueError, r"bounds: expected the default.*got float64 of shape \(2,\)"),
        ({"method": np.eye(2)}, ValueError, "method: expected the default"),
        ({"loss": np.eye(2)}, ValueError, "loss: expected the default"),
        ({"tr_options": np.eye(2)}, ValueError, "tr_options: expected the default"),
        ({"workers": 2}, ValueError, "workers: expected the default, .*got 2"),
        ({"verbose": "a"}, ValueError, "verbose: expected 0, 1 or 2, got 'a'"),
        ({"verbose": np.ones(2)}, ValueError, "verbose"),
        ({"verbose": 3}, ValueError, "verbose"),
        ({"kwargs": [1]}, TypeError, r"kwargs: expected a dict, got \[1\]"),
        ({"kwargs": np.ones(2)}, TypeError, "kwargs"),
        ({"diff_step": -1.0}, ValueError, "diff_step: expected positive numbers, got -1.0"),
        ({"diff_step": np.ones(3)}, ValueError, "diff_step: expected positive numbers like x0, got float64"),
        ({"x_scale": 10**400}, ValueError, "x_scale"),
        ({"x_scale": [1.0, -1.0]}, ValueError, "x_scale: expected 'jac' or positive numbers, got"),
        ({"x_scale": "hess"}, ValueError, "x_scale"),
        ({"x_scale": [1.0, 1.0, 1.0]}, ValueError, "x_scale"),
        ({"ftol": -1.0}, ValueError, "ftol"),
        ({"max_nfev": 0}, ValueError, "max_nfev"),
        ({"callback": 3}, TypeError, "callback"),
        ({"fun": lambda x: np.array([np.nan, 1.0])}, ValueError, "finite residuals"),
        ({"fun": lambda x: x * 1j}, TypeError, "fun: expected to return numbers"),
        ({"fun": lambda x: [1.0, [2.0]]}, ValueError, "fun: expected numbers in an array"),
        ({"jac": lambda x: [1.0, [2.0]]}, ValueError, "jac: expected numbers in an array"),
        ({"x0": ["a"]}, TypeError, "x0"),
    ],
)
def test_errors(change, error, text):
    given = {"fun": lambda x: np.array([x[0] - 1, x[1], x[0] * x[1]]), "x0": np.zeros(2), **change}
    with pytest.raises(error, match=text):
        gs.least_squares(**given)


def test_residuals_that_change_their_number():
    calls = []

    def fun(x):
        calls.append(1)
        return np.zeros(3 + len(calls) // 3) + x[0] - 1

    with pytest.raises(ValueError, match="expected 3 residuals, as before, got 4"):
        gs.least_squares(fun, [5.0])
