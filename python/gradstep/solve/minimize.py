"""The entry: SciPy's signature, the methods by name, and their options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from gradstep import hyperparameters
from gradstep.containers import shown
from gradstep.hyperparameters import check_flag, check_float
from gradstep.rules import NAG, SGD, Adagrad, Adam, AdamW, GradientDescent, Momentum
from gradstep.schedules import COUNT, POSITIVE, WHOLE
from gradstep.solve import descent, lbfgs, newton, newton_cg
from gradstep.solve.box import Box
from gradstep.solve.hessian import Hessian
from gradstep.solve.objective import Objective
from gradstep.solve.search import Callback, Search
from gradstep.solve.vectors import Space

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

RULES = {
    "gd": GradientDescent,
    "sgd": SGD,
    "momentum": Momentum,
    "nag": NAG,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
}
STOPPING = {"gtol": 1e-5, "ftol": None, "xtol": 0.0, "maxiter": 15000, "maxfun": sys.maxsize}


@dataclass(frozen=True)
class Method:
    """A method: what runs it, its options beside those of all, and the defaults that are its own.

    Parameters
    ----------
    run : callable
        Takes the objective, the search and the options; returns the result.
    options : mapping
        Name -> default.
    stopping : mapping
        What differs from `STOPPING`.
    tol : tuple of str
        Which limits `tol` sets.
    """

    run: Callable[..., OptimizeResult]
    options: Mapping[str, Any] = field(default_factory=dict)
    stopping: Mapping[str, float] = field(default_factory=dict)
    tol: tuple[str, ...] = ("gtol",)


METHODS: dict[str, Method] = {
    **{name: Method(partial(descent.minimize, rule), descent.defaults(rule)) for name, rule in RULES.items()},
    "newton": Method(newton.minimize, stopping={"maxiter": 1000}),
    "newton-cg": Method(newton_cg.minimize, stopping={"maxiter": 1000}),
    "l-bfgs": Method(
        lbfgs.minimize,
        {"maxcor": 10, "maxls": 20},
        {"ftol": 1e7 * sys.float_info.epsilon, "maxfun": 15000},
        ("gtol", "ftol"),
    ),
}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "l-bfgs",
    jac: Any = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    bounds: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResult:
    r"""Minimise a function of one or more variables, until it has converged.

    SciPy's signature and result, on NumPy and CuPy arrays. ``"l-bfgs"`` is the limited-memory BFGS method [1]_ with
    the line search of Moré and Thuente [2]_, and with `bounds` L-BFGS-B [3]_; ``"newton"`` solves
    :math:`(H + \tau I) d = -g` by Cholesky's factorisation and backtracks; ``"newton-cg"`` is its Hessian-free form
    in a trust region [4]_; the others are the update rules of this package. Where the function or its gradient is NaN
    or infinite, these three take a shorter step; a rule, whose step is given, ends at the last point where both were
    finite, with status 3.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns the value, or the value and the gradient if `jac` is True. It gets an array of its
        own, which it may keep; what it returns is read at once, so that it may be a buffer used again.
    x0 : array_like
        Where to begin: float32 or float64 of any shape, on any device; integers and lists become float64.
    args : tuple, optional
        Further arguments of `fun`, `jac`, `hess` and `hessp`.
    method : str, default "l-bfgs"
        "l-bfgs", "newton", "newton-cg", "gd", "sgd", "momentum", "nag", "adagrad", "adam" or "adamw".
    jac : callable, bool or None
        ``jac(x, *args)`` returns the gradient; True: `fun` does; None, False or "2-point": forward differences.
    hess, hessp : callable, optional
        ``hess(x, *args)``, the matrix or, for "newton-cg", a linear operator; and ``hessp(x, p, *args)``, its product
        with a vector. "newton" needs `hess`; "newton-cg" uses either, or differences of gradients.
    bounds : scipy.optimize.Bounds or sequence of pairs, optional
        For "l-bfgs": a lower and an upper bound of each variable, None for none.
    tol : float, optional
        Sets ``gtol``; for "l-bfgs" also ``ftol``.
    callback : callable, optional
        ``callback(xk)``, or ``callback(*, intermediate_result)``, after each iteration; StopIteration ends the search.
    options : dict, optional
        ``gtol`` (1e-5): greatest magnitude of a component of the gradient, with `bounds` of the projected gradient.
        ``ftol`` (2.2e-9 for "l-bfgs", else none): relative change of the function in an iteration; 0: no change at all.
        ``xtol`` (0): Euclidean norm of a step.
        ``maxiter`` (15000; 1000 for Newton's), ``maxfun`` (15000 for "l-bfgs", else no limit).
        ``maxcor`` (10): pairs that "l-bfgs" remembers; ``maxls`` (20): evaluations of a line search.
        ``eps``: the step of finite differences; by default, and where rounding leaves nothing of it, 1.5e-8 (3.5e-4 in
        float32) times max(1, abs(x)).
        ``disp``, ``history`` (False): print a line at the end; keep the course in ``result.history``.
        The update rules take their hyperparameters, ``lr`` and so on, schedules too; ``eps`` is then that of the rule
        if it has one.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` with the dtype, device and shape of `x0`, ``fun``, ``jac``, ``nit``, ``nfev``, ``njev``, ``success``,
        ``message``, and ``status``: 0 converged, 1 a limit was met, 2 no better point was found along a direction,
        3 the function or a derivative is not finite, 99 the callback raised StopIteration. "l-bfgs" adds ``hess_inv``
        for NumPy arrays, Newton's methods add ``nhev``.

    Raises
    ------
    TypeError
        If an argument, or what a function returns, is of the wrong type.
    ValueError
        If an argument is out of range or unknown, or of the wrong shape.

    References
    ----------
    .. [1] D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
       Mathematical Programming 45 (1989), 503-528.
    .. [2] J. J. Moré and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease",
       ACM Transactions on Mathematical Software 20 (1994), 286-307.
    .. [3] R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, "A limited memory algorithm for bound constrained optimization",
       SIAM Journal on Scientific Computing 16 (1995), 1190-1208.
    .. [4] T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization",
       SIAM Journal on Numerical Analysis 20 (1983), 626-637.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from scipy.optimize import rosen, rosen_der
    >>> found = gs.minimize(rosen, np.array([-1.2, 1.0]), jac=rosen_der)
    >>> found.success, bool(np.allclose(found.x, 1, atol=1e-4))
    (True, True)
    """
    name = _known(method)
    chosen = METHODS[name]
    told = Callback(callback)
    if bounds is not None and name != "l-bfgs":
        raise ValueError(f"bounds: only method 'l-bfgs' takes them, got them for {name!r}")
    if name not in ("newton", "newton-cg") and (hess is not None or hessp is not None):
        raise ValueError(f"hess, hessp: only methods 'newton' and 'newton-cg' take them, got them for {name!r}")
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options: expected a dict, got {type(options).__name__}")
    stopping, own, eps, disp, history = _split(name, chosen, tol, dict(options or {}))
    space, start = Space.of(x0)
    box = None if bounds is None else Box(bounds, space)
    box = None if box is not None and box.open else box
    objective = Objective(fun, args, jac, space, start, eps, box)
    if name in ("newton", "newton-cg"):
        own["hessian"] = Hessian(objective, hess, hessp)
    if box is not None:
        own["box"] = box
    search = Search(objective, told, **stopping, history=history)
    found = chosen.run(objective, search, **own)
    if disp:
        print(f"{name}: {found.message}; fun {found.fun:.6g}, {found.nit} iterations, {found.nfev} evaluations")
    return found


def _split(
    name: str, method: Method, tol: float | None, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], float | None, bool, bool]:
    """Return the limits, the method's own options, and those of all, each checked."""
    limits: dict[str, Any] = {**STOPPING, **method.stopping}
    if tol is not None:
        limits.update(dict.fromkeys(method.tol, check_float("tol", hyperparameters.NON_NEGATIVE, tol)))
    disp = options.pop("disp", False)
    if disp is not None and not isinstance(disp, (Integral, np.bool_)):
        raise TypeError(f"options['disp']: expected True, False or a whole number, got {shown(disp)}")
    history = check_flag("options['history']", options.pop("history", False))
    eps = None if "eps" in method.options else options.pop("eps", None)  # of a rule that has one it is the rule's
    if eps is not None:
        eps = POSITIVE("options['eps']", eps)
    for key in limits.keys() & options.keys():
        label, value = f"options[{key!r}]", options.pop(key)
        if key in ("gtol", "ftol", "xtol"):
            limits[key] = check_float(label, hyperparameters.NON_NEGATIVE, value)
        else:
            limits[key] = (WHOLE if key == "maxiter" else COUNT)(label, value)
    own = {**method.options}
    unknown = [key for key in options if key not in own]
    if unknown:
        known = ", ".join(dict.fromkeys([*limits, *own, "eps", "disp", "history"]))
        raise ValueError(f"options: expected some of {known}, got {shown(unknown[0])}")
    if name in RULES:
        return limits, {"hypers": options}, eps, bool(disp), history
    own.update((key, lbfgs.count(key, f"options[{key!r}]", value)) for key, value in options.items())
    return limits, own, eps, bool(disp), history


def _known(method: Any) -> str:
    if not isinstance(method, str) or method.lower() not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {shown(method)}")
    return method.lower()


def scipy_method(method: str = "l-bfgs") -> Callable[..., OptimizeResult]:
    """Return one of the methods of `minimize` for SciPy's own entry.

    Parameters
    ----------
    method : str, default "l-bfgs"
        As for `minimize`.

    Returns
    -------
    callable
        What ``scipy.optimize.minimize(..., method=)`` takes.

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> found = minimize(rosen, np.zeros(4), jac=rosen_der, method=gs.scipy_method("l-bfgs"))
    >>> bool(np.allclose(found.x, 1, atol=1e-4))
    True
    """
    _known(method)

    def run(
        fun: Callable[..., Any],
        x0: Any,
        args: Any = (),
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Any = None,
        **options: Any,
    ) -> OptimizeResult:
        if constraints not in ((), [], None):
            raise ValueError("constraints: expected none but bounds")
        tol = options.pop("tol", None)
        return minimize(fun, x0, args, method, jac, hess, hessp, bounds, tol, callback, options)

    return run
