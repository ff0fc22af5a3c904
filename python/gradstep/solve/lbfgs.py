"""The L-BFGS method to convergence, without bounds and with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradstep import _cpu
from gradstep.containers import Array, shown
from gradstep.schedules import COUNT
from gradstep.solve.box import Box
from gradstep.solve.objective import Objective, plain
from gradstep.solve.search import NOT_FINITE, STUCK, Search
from gradstep.solve.vectors import Space
from gradstep.states import on_host

TRIAL, MOVED, FAILED = range(3)
MOST = {
    "maxcor": 500,  # pairs of which the argument of a CUDA kernel holds the addresses
    "maxls": 2**31 - 1,
}


def count(name: str, label: str, value: Any) -> int:
    """Return an option of the method, which messages call `label`, checked."""
    found = COUNT(label, value)
    if found > MOST[name]:
        raise ValueError(f"{label}: expected at most {MOST[name]}, got {shown(value)}")
    return found


class Free:
    """The method without bounds, on the device of `x0`, with the vectors that it works on.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    maxcor : int
        How many pairs are remembered.
    maxls : int
        How often a line search may evaluate.
    """

    def __init__(self, objective: Objective, maxcor: int, maxls: int) -> None:
        space = objective.space
        self.x, self.gradient, self.rows = space.twin(objective.trial), space.vector(), space.rows(2 * (maxcor + 1))
        self.native = space.backend.Lbfgs(self.x, objective.trial, self.gradient, self.rows, maxcor, maxls)
        self.evaluate = objective.evaluate
        objective.hold(self.native.set_trial)

    def point(self) -> tuple[Array, Array]:
        """Return x and the gradient."""
        return self.x, self.gradient


class Boxed:
    """The method within bounds: on the host, and in double, whatever `x0` is.

    Parameters
    ----------
    objective, maxcor, maxls : Objective, int, int
        As in `Free`.
    box : Box
        The bounds.
    """

    def __init__(self, objective: Objective, maxcor: int, maxls: int, box: Box) -> None:
        self.objective = objective
        host = Space(_cpu, 0, np.dtype(np.float64), (objective.space.n,))
        self.x, self.trial, self.gradient = host.vector(), host.vector(), host.vector()
        self.x[...] = self.trial[...] = on_host(objective.trial)
        lower, upper = (np.asarray(side, np.float64) for side in box)
        self.rows = host.rows(2 * (maxcor + 1))
        vectors = lower, upper, self.x, self.trial, self.gradient, self.rows
        self.native = _cpu.lbfgs_within(*vectors, maxcor, maxls, float(np.finfo(objective.space.dtype).eps))

    def evaluate(self) -> tuple[float, Array]:
        """Evaluate at the trial."""
        objective = self.objective
        objective.space.from_host(objective.trial, self.trial)
        f, g = objective.evaluate()
        return plain(f, "fun"), np.ascontiguousarray(on_host(g), np.float64)

    def point(self) -> tuple[Array, Array]:
        """Return x and the gradient, as vectors of the user's device."""
        space = self.objective.space
        found = space.vector(), space.vector()
        for vector, values in zip(found, (self.x, self.gradient), strict=True):
            space.from_host(vector, values)
        return found


def minimize(objective: Objective, search: Search, *, maxcor: int, maxls: int, box: Box | None = None) -> Any:
    """Minimise from `objective.trial` on.

    Parameters
    ----------
    objective, search : Objective, Search
        What is minimised, and until when.
    maxcor, maxls : int
        As in `Free`.
    box : Box, optional
        The bounds.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `gradstep.minimize` returns it.
    """
    form = Free(objective, maxcor, maxls) if box is None else Boxed(objective, maxcor, maxls, box)
    run(form, search, lambda: objective.space.twin(form.point()[0]))
    if search.status == STUCK and not np.isfinite(on_host(form.gradient)).all():  # within bounds it may seem so
        search.end(NOT_FINITE, f"the gradient of {search.what} is not finite at x")
    more = {} if objective.space.on_device else {"hess_inv": _inverse(form.rows, form.native.history)}
    return search.result(*form.point(), **more)


def run(form: Any, search: Search, x: Callable[[], Array]) -> None:
    """Evaluate and move until the search is over.

    Parameters
    ----------
    form : Free or Boxed
        Has the native method, `native`, and what evaluates at its trial, `evaluate`.
    search : Search
        Decides when it is over.
    x : callable
        Returns a copy of the point.
    """
    native = form.native
    native.begin(*form.evaluate())

    def settled() -> Array:
        native.settle()
        return x()

    over = search.begin(native.f, native.largest) or not _advance(native, search)
    while not over and not search.spent():
        task = native.tell(*form.evaluate())
        if task == MOVED:
            over = search.moved(native.f, native.largest, native.step_norm, settled)
        elif task == FAILED:
            over = not native.pairs and _stuck(native, search, "the line search found no better point")
            native.forget()
        if task != TRIAL and not over:
            over = not _advance(native, search)
    native.settle()


def _inverse(rows: Array, history: tuple[Any, ...]) -> Any:
    """Return the estimate of the inverse Hessian, as SciPy's method does."""
    from scipy.optimize import LbfgsInvHessProduct

    pairs, lengths, *_ = history
    steps = rows[pairs].astype(np.float64) * np.array([lengths[k] for k in pairs])[:, None]
    return LbfgsInvHessProduct(steps, rows[[k + len(lengths) for k in pairs]].astype(np.float64))


def _advance(native: Any, search: Search) -> bool:
    descends: bool = native.advance()
    return descends or not _stuck(native, search, "the gradient shows no direction of descent")


def _stuck(native: Any, search: Search, what: str) -> bool:
    """Note that no better point was found, and where squares of the gradient are the reason; return True."""
    if native.square == 0 or native.square == np.inf:
        way, remedy = ("vanishes", "up") if native.square == 0 else ("overflows", "down")
        return search.end(STUCK, f"{what}: the square of the gradient's norm {way}; scale {search.what} {remedy}")
    return search.stuck(what)
