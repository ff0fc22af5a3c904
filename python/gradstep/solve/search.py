"""What ends a search, what is remembered of it, and the result."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from gradstep.containers import Array, shown

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

CONVERGED, LIMIT, STUCK, NOT_FINITE, STOPPED = 0, 1, 2, 3, 99


class Callback:
    """What the user is told after each iteration, in either of SciPy's forms.

    Parameters
    ----------
    given : callable, optional
        One whose only argument is `intermediate_result` gets that, another x.
    """

    def __init__(self, given: Callable[..., Any] | None) -> None:
        if given is not None and not callable(given):
            raise TypeError(f"callback: expected a callable, got {shown(given)}")
        self.given, self._takes_result = given, False
        with suppress(TypeError, ValueError):  # what is compiled may have no signature
            self._takes_result = given is not None and {*inspect.signature(given).parameters} == {"intermediate_result"}

    def stops(self, x: Callable[[], Array], **facts: Any) -> bool:
        """Tell of an iteration that ended at `x()`, a copy; return whether StopIteration was raised."""
        if self.given is None:
            return False
        point = x()
        try:
            if self._takes_result:
                from scipy.optimize import OptimizeResult

                self.given(intermediate_result=OptimizeResult(x=point, **facts))
            else:
                self.given(point)
        except StopIteration:
            return True
        return False


class Search:
    """One run of a method: its limits, its course, and how it ended.

    Parameters
    ----------
    objective : Objective
        What is minimised, or whatever else counts its evaluations in `nfev`.
    callback : Callback
        Told of each iteration.
    gtol : float
        Limit of the greatest magnitude in the gradient.
    ftol : float or None
        Limit of the relative change of the function; with 0 the search ends where it does not change, with None there
        is none.
    maxiter : int
        Limit of iterations.
    xtol : float
        Limit of the norm of a step; 0: none.
    maxfun : int
        Limit of evaluations.
    history : bool
        Whether the course is kept.
    what : str
        What messages call the function.
    """

    def __init__(
        self,
        objective: Any,
        callback: Callback,
        *,
        gtol: float,
        ftol: float | None,
        maxiter: int,
        xtol: float = 0.0,
        maxfun: int = sys.maxsize,
        history: bool = False,
        what: str = "fun",
    ) -> None:
        self.objective, self.callback = objective, callback
        self.gtol, self.ftol, self.xtol, self.maxiter, self.maxfun = gtol, ftol, xtol, maxiter, maxfun
        self.nit, self.f, self.what = 0, math.nan, what
        self.status, self.message = STUCK, ""
        self._course: dict[str, list[float]] | None = {"fun": [], "grad": [], "step": []} if history else None

    def end(self, status: int, message: str) -> bool:
        """Note why the search ended; return True."""
        self.status, self.message = status, message
        return True

    def stuck(self, what: str) -> bool:
        """Note that no better point was found; return True."""
        return self.end(STUCK, f"{what}: the gradient may be wrong, or the limits out of reach")

    def begin(self, f: float, largest: float) -> bool:
        """Take note of the first point; return whether the search is over."""
        self.f = f
        self._record(f, largest, 0.0)
        if not (math.isfinite(f) and math.isfinite(largest)):
            what = self.what if not math.isfinite(f) else f"the gradient of {self.what}"
            return self.end(NOT_FINITE, f"{what} is not finite at the start")
        if largest <= self.gtol:
            return self.end(CONVERGED, self._small_gradient())
        return self._at_limit()

    def moved(self, f: float, largest: float, step: float, x: Callable[[], Array]) -> bool:
        """Take note of an iteration that ended at `x()`; return whether the search is over."""
        before, self.f = self.f, f
        self.nit += 1
        self._record(f, largest, step)
        if self.callback.stops(lambda: self.objective.space.shaped(x()), fun=f, nit=self.nit):
            return self.end(STOPPED, "callback raised StopIteration")
        if largest <= self.gtol:
            return self.end(CONVERGED, self._small_gradient())
        if self.ftol is not None and abs(before - f) <= self.ftol * max(abs(before), abs(f), 1.0):
            return self.end(CONVERGED, f"the relative change of {self.what} is at most ftol = {self.ftol:.3g}")
        if self.xtol and step <= self.xtol:
            return self.end(CONVERGED, f"the step is at most xtol = {self.xtol:.3g}")
        return self._at_limit()

    def spent(self) -> bool:
        """Whether no further evaluation is allowed."""
        if self.objective.nfev < self.maxfun:
            return False
        return self.end(LIMIT, f"{self.what} was evaluated maxfun = {self.maxfun} times")

    def result(self, x: Array, jac: Array, **more: Any) -> OptimizeResult:
        """Return what SciPy's methods return."""
        from scipy.optimize import OptimizeResult

        found = OptimizeResult(
            x=self.objective.space.shaped(x),
            fun=self.f,
            jac=self.objective.space.shaped(jac),
            nit=self.nit,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            status=self.status,
            success=self.status == CONVERGED,
            message=self.message,
            **more,
        )
        if self._course is not None:
            found.history = {key: np.array(values) for key, values in self._course.items()}
        return found

    def _small_gradient(self) -> str:
        return f"no component of the gradient is above gtol = {self.gtol:.3g}"

    def _at_limit(self) -> bool:
        if self.nit >= self.maxiter:
            return self.end(LIMIT, f"maxiter = {self.maxiter} iterations were made")
        return self.spent()

    def _record(self, f: float, largest: float, step: float) -> None:
        if self._course is not None:
            for key, value in zip(self._course, (f, largest, step), strict=True):
                self._course[key].append(value)
