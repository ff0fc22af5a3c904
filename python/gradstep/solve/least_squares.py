"""Nonlinear least squares by the method of Levenberg and Marquardt."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from gradstep.containers import Array, shown
from gradstep.hyperparameters import NON_NEGATIVE, check_float
from gradstep.schedules import COUNT
from gradstep.solve.differences import derivatives, moved
from gradstep.solve.search import Callback
from gradstep.solve.vectors import Space, as_array
from gradstep.states import on_host

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

MESSAGES = {
    -2: "callback raised StopIteration",
    0: "fun was evaluated max_nfev times",
    1: "the residuals are orthogonal to each column of the Jacobian within gtol",
    2: "the relative change of the cost is below ftol",
    3: "the trust region is below xtol, or below the rounding of x",
    4: "the relative change of the cost is below ftol, and the trust region below xtol",
}


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-math.inf, math.inf),
    method: str = "lm",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: Any = None,
    loss: str = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: None = None,
    tr_options: Any = None,
    jac_sparsity: None = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    workers: None = None,
) -> OptimizeResult:
    r"""Minimise half the sum of squares of the residuals that a function returns.

    SciPy's signature and result, with the method of Levenberg and Marquardt in Moré's form [1]_: steps
    :math:`p = -(J^T J + \lambda D^2)^{-1} J^T f` with :math:`\lambda` such that :math:`\lVert D p \rVert` keeps within
    a trust region; by the singular values of :math:`J D^{-1}`, so that a singular Jacobian does no harm.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs)`` returns the residuals, an array.
    x0 : array_like
        Where to begin: float32 or float64 of any shape, on any device; integers and lists become float64. Residuals
        and Jacobians of CUDA arrays are copied to the host, where the linear algebra is done, in double.
    jac : callable or "2-point"
        ``jac(x, *args, **kwargs)`` returns the derivatives, residuals by variables: of shape (m, n) or
        (m, *x0.shape); or forward differences.
    bounds : pair
        As SciPy's method "lm" takes it: none, which is the default.
    method : {"lm"}
        There is one.
    ftol, xtol, gtol : float or None
        Limits of the relative change of the cost, of the trust region relative to x, and of the greatest cosine between
        the residuals and a column of the Jacobian, which no units change; None for none.
    x_scale : float, array_like, "jac" or None
        Size of each variable, :math:`1 / D`; None and "jac" take the inverse of the greatest norm that its column had.
    loss : {"linear"}
        As of SciPy's method "lm".
    f_scale : float
        Without effect, as with SciPy's linear loss.
    diff_step : float or array_like, optional
        Step of finite differences relative to each variable; by default 1.5e-8 (3.5e-4 in float32) times
        max(1, abs(x)).
    tr_solver, tr_options, jac_sparsity : None
        As of SciPy's method "lm".
    max_nfev : int, optional
        Limit of evaluations, those for differences left out; 100 times the number of variables by default.
    verbose : {0, 1, 2}
        Whether a line is printed at the end, and one at each iteration.
    args, kwargs : tuple, mapping
        Further arguments of `fun` and `jac`.
    callback : callable, optional
        ``callback(x)``, or ``callback(*, intermediate_result)``, after each iteration; StopIteration ends the search.
    workers : None
        As of SciPy's method "lm" with a callable `jac`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``cost``, ``fun``, ``jac``, ``grad``, ``optimality``, ``active_mask``, ``nfev``, ``njev``, ``nit``,
        ``success``, ``message``, and ``status``: 1 `gtol`, 2 `ftol`, 3 `xtol`, 4 `ftol` and `xtol`, 0 a limit was
        met, -2 the callback raised StopIteration.

    Raises
    ------
    TypeError
        If an argument, or what a function returns, is of the wrong type.
    ValueError
        If an argument is out of range, a shape is wrong, or residuals or derivatives are not finite at `x0`.

    References
    ----------
    .. [1] J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Numerical Analysis, Lecture
       Notes in Mathematics 630 (1978), 105-116.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> t = np.linspace(0, 2, 20)
    >>> y = 3 * np.exp(-1.5 * t)
    >>> found = gs.least_squares(lambda x: x[0] * np.exp(-x[1] * t) - y, [1.0, 1.0])
    >>> found.success, found.x.round(4).tolist()
    (True, [3.0, 1.5])
    """
    lows, highs = _sides(bounds)
    free = np.all(lows == -np.inf) and np.all(highs == np.inf)
    fixed: dict[str, tuple[Any, Any]] = {
        "bounds": (None if free else bounds, None),
        "method": (method, "lm"),
        "loss": (loss, "linear"),
        "tr_solver": (tr_solver, None),
        "tr_options": ({} if tr_options is None else tr_options, {}),
        "jac_sparsity": (jac_sparsity, None),
        "workers": (workers, None),
    }
    for name, (value, default) in fixed.items():
        if not isinstance(value, type(default)) or value != default:
            method_is = "as the method is that of Levenberg and Marquardt"
            raise ValueError(f"{name}: expected the default, {method_is}, got {shown(value)}")
    if not isinstance(verbose, Integral) or verbose not in (0, 1, 2):
        raise ValueError(f"verbose: expected 0, 1 or 2, got {shown(verbose)}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs: expected a dict, got {shown(kwargs)}")
    told = Callback(callback)
    limits = {
        name: 0.0 if value is None else check_float(name, NON_NEGATIVE, value)
        for name, value in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol))
    }
    residuals = Residuals(fun, jac, x0, args, kwargs or {}, diff_step)
    by_jac = x_scale is None or (isinstance(x_scale, str) and x_scale == "jac")
    scale = None if by_jac else _sizes("x_scale", "'jac' or positive numbers", x_scale, residuals.space)
    most = COUNT("max_nfev", max_nfev) if max_nfev is not None else 100 * max(residuals.space.n, 1)
    return _search(residuals, scale, limits, most, verbose, told)


class Residuals:
    """The user's function and Jacobian, with results on the host and in double.

    Parameters
    ----------
    fun, jac, x0, args, kwargs, diff_step
        As `least_squares` got them.
    """

    def __init__(self, fun: Any, jac: Any, x0: Any, args: Any, kwargs: Mapping[str, Any], diff_step: Any) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a callable, got {type(fun).__name__}")
        if not callable(jac) and not (isinstance(jac, str) and jac == "2-point"):
            raise ValueError(f"jac: expected a callable or '2-point', got {shown(jac)}")
        self.space, start = Space.of(x0)
        self.start = np.array(on_host(start), np.float64)
        self.given = fun, jac
        self.args, self.kwargs = args if isinstance(args, tuple) else (args,), kwargs
        self.step = None if diff_step is None else _sizes("diff_step", "positive numbers", diff_step, self.space)
        self.nfev = self.njev = self.size = 0
        self.unit = 1.0  # of what is returned, residuals and derivatives

    def measure(self, f: Array, jac: Array) -> tuple[Array, Array]:
        """Take such a unit, from what was found at the start, that squares can be summed; return both in it."""
        least = np.abs(jac).max(initial=0.0) * 2.0**-400  # so that derivatives are not too great for it
        self.unit = float(_powers(max(np.abs(f).max(initial=0.0), least)))
        return f / self.unit, jac / self.unit

    def at(self, x: Array) -> Array:
        """Return the residuals."""
        self.nfev += 1
        return self._evaluate(x)

    def jacobian(self, x: Array, f: Array) -> Array:
        """Return the matrix of derivatives."""
        space, jac = self.space, self.given[1]
        self.njev += 1
        if callable(jac):
            found = _numbers(jac(self.own(x), *self.args, **self.kwargs), "jac")
            fits = dict.fromkeys([(f.size, space.n), (f.size, *space.shape)])
            if found.shape not in fits:
                raise ValueError(f"jac: expected shape {' or '.join(map(str, fits))}, got {shown(found)}")
            return found.reshape(f.size, space.n) / self.unit
        at = x.astype(space.dtype)
        there = moved(at, None if self.step is None else self.step * np.abs(at))
        return derivatives(self._evaluate, f, at, there).T

    def own(self, x: Array) -> Array:
        """Return a point as an array of the user's device."""
        made = self.space.vector()
        self.space.from_host(made, x)
        return self.space.shaped(made)

    def _evaluate(self, x: Array) -> Array:
        f = _numbers(self.given[0](self.own(x), *self.args, **self.kwargs), "fun").reshape(-1)
        if self.size and f.size != self.size:
            raise ValueError(f"fun: expected {self.size} residuals, as before, got {f.size}")
        self.size = f.size
        return f / self.unit


def _powers(sizes: Any) -> Array:
    """Return powers of two, by which to divide loses nothing, no greater than these sizes; of zero, a half."""
    return np.ldexp(0.5, np.frexp(sizes)[1])


def _norms(columns: Array) -> Array:
    """Return norms of columns; no square on the way vanishes or overflows."""
    units = _powers(np.abs(columns).max(axis=0, initial=0.0))
    return units * np.linalg.norm(columns / units, axis=0)


def _numbers(x: Any, what: str) -> Array:
    found = as_array(on_host(x.toarray() if hasattr(x, "toarray") else x), what)
    if found.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected to return numbers, got {found.dtype}")
    return found.astype(np.float64)


def _sides(bounds: Any) -> tuple[Array, Array]:
    try:
        lows, highs = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
        return np.asarray(lows, np.float64), np.asarray(highs, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"bounds: expected a pair, got {shown(bounds)}") from None


def _sizes(name: str, expected: str, given: Any, space: Space) -> Array:
    """Return a positive number of each variable."""
    try:
        sizes = np.broadcast_to(np.asarray(given, np.float64).reshape(-1), (space.n,))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected {expected} like x0, got {shown(given)}") from None
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ValueError(f"{name}: expected {expected}, got {shown(given)}")
    return sizes


def _search(
    residuals: Residuals,
    given_scale: Array | None,
    limits: Mapping[str, float],
    max_nfev: int,
    verbose: int,
    callback: Callback,
) -> OptimizeResult:
    x = residuals.start
    f = residuals.at(x)
    jac = residuals.jacobian(x, f)
    if not (np.isfinite(f).all() and np.isfinite(jac).all()):
        raise ValueError("fun, jac: expected finite residuals and derivatives at x0")
    with np.errstate(over="ignore"):
        cost = 0.5 * float(f @ f)
    if not math.isfinite(cost):
        raise ValueError(f"fun: expected residuals at x0 whose squares can be summed, got up to {np.abs(f).max():.3g}")
    f, jac = residuals.measure(f, jac)
    unit, norms = residuals.unit, np.zeros(x.size)
    cost, nit, status, radius = 0.5 * float(f @ f), 0, None, 0.0
    while True:
        columns = _norms(jac)
        if _cosine(jac, columns, f) <= limits["gtol"]:
            status = 1
        if status is not None or residuals.nfev >= max_nfev:
            break
        norms = np.maximum(norms, columns)
        scale = 1 / np.where(norms > 0, norms, 1.0) if given_scale is None else given_scale
        size = float(np.linalg.norm(x / scale))
        if nit == 0:
            radius = size or 1.0
        model = Model(jac * scale, f)
        moved = None
        while moved is None and status is None and residuals.nfev < max_nfev:
            step = model.step(radius)
            promised = model.promised(step)
            moved, status, radius = _try(residuals, x, cost, scale * step, promised, radius, step, size, limits)
            if moved is not None:
                there = residuals.jacobian(moved[0], moved[1])
                if not np.isfinite(there).all():  # no place to go on from
                    moved, status, radius = None, None, 0.25 * min(radius, float(np.linalg.norm(step)))
        if moved is None:
            break
        x, f, cost = moved
        jac = there
        nit += 1
        if verbose > 1:
            print(f"iteration {nit}: cost {cost * unit * unit:.6g}, {residuals.nfev} evaluations")
        facts = {"fun": f * unit, "cost": cost * unit * unit, "nit": nit, "nfev": residuals.nfev}
        if callback.stops(partial(residuals.own, x), **facts):
            status = -2
            break
    return _result(residuals, x, f * unit, cost * unit * unit, jac * unit, status or 0, nit, verbose)


def _cosine(jac: Array, columns: Array, f: Array) -> float:
    """Return the greatest between residuals and a column of the Jacobian, given the columns' norms."""
    f = f / _powers(np.abs(f).max(initial=0.0))
    size = np.linalg.norm(f)
    if size == 0 or not columns.any():
        return 0.0
    directions = np.divide(jac, columns, out=np.zeros_like(jac), where=columns > 0)
    return float(np.abs(directions.T @ (f / size)).max())


class Model:
    """The residuals' linear model at a point, in scaled variables.

    Parameters
    ----------
    jac, f : array
        Its matrix and the residuals.
    """

    def __init__(self, jac: Array, f: Array) -> None:
        from scipy.linalg import svd

        self.jac, self.f = jac, f
        left, self.values, self.right = svd(jac, full_matrices=False, check_finite=False)
        self.coordinates = left.T @ f

    def promised(self, step: Array) -> float:
        """Return by how much the cost falls, by the model."""
        along = self.jac @ step
        return -float(along @ (self.f + 0.5 * along))

    def step(self, radius: float) -> Array:
        """Return the minimum of the model within a radius: by Newton's method for the parameter that reaches it."""
        s, c = self.values, self.coordinates
        tiny = sys.float_info.epsilon * max(self.jac.shape) * s.max(initial=0.0)
        regular = s > tiny

        def at(parameter: float) -> Array:
            shares = np.zeros_like(s)
            np.divide(s * c, s * s + parameter, out=shares, where=regular)
            return shares

        shares = at(0.0)
        norm = float(np.linalg.norm(shares))
        parameter, low, high = 0.0, 0.0, float(np.linalg.norm(s * c)) / radius
        for _ in range(20):
            if norm <= 1.01 * radius and (parameter == 0.0 or norm >= 0.99 * radius):
                break
            bend = float(np.sum(np.divide(shares**2, s * s + parameter, out=np.zeros_like(s), where=regular)))
            low, high = (parameter, high) if norm > radius else (low, parameter)
            parameter += (norm - radius) / radius * norm**2 / bend
            if not low < parameter < high:
                parameter = max(1e-3 * high, math.sqrt(low * high))
            shares = at(parameter)
            norm = float(np.linalg.norm(shares))
        return -(self.right.T @ shares)


def _try(
    residuals: Residuals,
    x: Array,
    cost: float,
    step: Array,
    promised: float,
    radius: float,
    scaled: Array,
    size: float,
    limits: Mapping[str, float],
) -> tuple[tuple[Array, Array, float] | None, int | None, float]:
    """Evaluate after a step. Return the new point if it is better, the status if the search ends, and the radius."""
    norm = float(np.linalg.norm(scaled))
    target = residuals.at(x + step)
    with np.errstate(over="ignore", invalid="ignore"):
        found = 0.5 * float(target @ target)
    if not math.isfinite(found):
        return None, 3 if norm <= max(sys.float_info.epsilon * size, sys.float_info.min) else None, 0.25 * norm
    ratio = (cost - found) / promised if promised > 0 else 0.0
    if ratio < 0.25:
        radius = 0.25 * norm
    elif ratio > 0.75 or norm < 0.95 * radius:  # the model is good, or its minimum was within
        radius = 2 * norm
    by_cost = promised <= limits["ftol"] * cost and abs(cost - found) <= limits["ftol"] * cost and ratio <= 2
    by_step = radius <= max(limits["xtol"], sys.float_info.epsilon) * size or norm == 0 or radius == 0
    status = 4 if by_cost and by_step else 2 if by_cost else 3 if by_step else None
    moved = (x + step, target, found) if found < cost else None
    return moved, status, radius


def _result(
    residuals: Residuals, x: Array, f: Array, cost: float, jac: Array, status: int, nit: int, verbose: int
) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    gradient = jac.T @ f
    optimality = float(np.abs(gradient).max(initial=0.0))
    if verbose:
        print(f"lm: {MESSAGES[status]}; cost {cost:.6g}, {nit} iterations, {residuals.nfev} evaluations")
    return OptimizeResult(
        x=residuals.own(x),
        cost=cost,
        fun=f,
        jac=jac,
        grad=gradient,
        optimality=optimality,
        active_mask=np.zeros(x.size, int),
        nfev=residuals.nfev,
        njev=residuals.njev,
        nit=nit,
        status=status,
        message=MESSAGES[status],
        success=status > 0,
    )
