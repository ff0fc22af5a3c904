"""The user's function with its gradient, evaluated and counted; what it returns is checked."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradstep.containers import Array, is_cuda, shown
from gradstep.solve.box import Box
from gradstep.solve.differences import accuracy, derivatives, moved
from gradstep.solve.vectors import Space, as_array
from gradstep.states import on_host

CREEPING = 16  # steps in a row without progress, as where rounding is all that gradients tell
CREEP = 64  # roundings of each element: a step that changes none by more makes no progress
LEVEL = 4  # roundings of the function: what may be no more than that


class Handout:
    """A vector that the user's functions get, and may keep: then another takes its place.

    Parameters
    ----------
    space : Space
        Where it lives.
    vector : array
        The first.
    """

    def __init__(self, space: Space, vector: Array) -> None:
        self.space, self.vector = space, vector
        self._known = self._references()  # whoever refers to it besides, later on, has kept it

    def renew(self) -> bool:
        """Take another vector if this one was kept; return whether."""
        if self._references() == self._known:
            return False
        fresh = self.space.vector()
        self.space.run([(fresh, [(1.0, self.vector)])])
        self.vector = fresh
        return True

    def _references(self) -> int:
        # Views that are kept refer to the memory, not to the vector, which is a view of it too.
        return sys.getrefcount(self.vector.base)


class Objective:
    """A function, its gradient, and the vector that it is evaluated at.

    Each function gets an array of its own, which it may keep or change.

    Parameters
    ----------
    fun, args, jac : callable, tuple, callable or bool
        As `minimize` got them.
    space : Space
        That of `x0`.
    start : array
        `x0` as a vector, which becomes the trial.
    eps : float, optional
        The step of finite differences, if it is not to be in proportion to x.
    bounds : Box, optional
        Within which finite differences keep.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        args: Any,
        jac: Any,
        space: Space,
        start: Array,
        eps: float | None = None,
        bounds: Box | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a callable, got {type(fun).__name__}")
        if isinstance(jac, np.bool_):
            jac = bool(jac)
        if not (callable(jac) or jac is None or isinstance(jac, bool) or (isinstance(jac, str) and jac == "2-point")):
            raise ValueError(f"jac: expected a callable, True, None or '2-point', got {shown(jac)}")
        self.fun, self.jac, self.space, self.bounds = fun, jac, space, bounds
        self.args = args if isinstance(args, tuple) else (args,)
        self.eps = eps
        exact = accuracy(space.dtype)  # for differences of gradients that are exact, or differences themselves
        self.gap = exact if jac is True or callable(jac) else math.sqrt(exact)
        self.nfev = self.njev = 0
        self._for_fun = Handout(space, start)
        self._for_jac = None if jac is True else Handout(space, space.vector())
        self._held: Callable[[Array], None] = lambda trial: None

    @property
    def trial(self) -> Array:
        """Where the next evaluation is."""
        return self._for_fun.vector

    def hold(self, replace: Callable[[Array], None]) -> None:
        """Let a native method write to `trial`: it is told where a new one takes its place."""
        self._held = replace

    def evaluate(self) -> tuple[Any, Array]:
        """Evaluate at `trial`; return the function's value, perhaps on the device still, and its gradient."""
        f, g = self._both()
        if self._for_fun.renew():
            self._held(self.trial)
        if self._for_jac:
            self._for_jac.renew()
        return f, g

    def _both(self) -> tuple[Any, Array]:
        x = self.space.shaped(self.trial)
        if self._for_jac:
            self.space.run([(self._for_jac.vector, [(1.0, self.trial)])])
        self.nfev += 1
        found = self.fun(x, *self.args)
        self.njev += 1
        if self._for_jac is None:
            if not isinstance(found, Sequence) or len(found) != 2:
                raise TypeError(f"fun: expected to return the value and the gradient, got {_kind(found)}")
            return self._value_of(found[0]), self.vector_of(found[1], "fun")
        f, x = self._value_of(found), self.space.shaped(self._for_jac.vector)
        if callable(self.jac):
            return f, self.vector_of(self.jac(x, *self.args), "jac")
        return f, self._differences(f, self._for_jac.vector)

    def _value_of(self, f: Any) -> Any:
        return number(f, self.space, "fun")

    def vector_of(self, g: Any, origin: str) -> Array:
        """Return what a function gave as a vector, which may be the user's own memory."""
        space = self.space
        if space.on_device:
            if not is_cuda(g):
                raise TypeError(f"{origin}: expected a CUDA array, got {_kind(g)}")
            from gradstep import device

            g = device.view(g)
        else:
            g = as_array(g, origin)
        if g.shape != (space.n,) and without_ones(g.shape) != without_ones(space.shape):
            raise ValueError(f"{origin}: expected shape {space.shape}, got {_kind(g)}")
        if g.dtype != space.dtype:
            if g.dtype.kind not in "fiu":
                raise TypeError(f"{origin}: expected {space.dtype}, got {_kind(g)}")
            with np.errstate(over="ignore"):
                g = g.astype(space.dtype)
        if not g.flags.c_contiguous:
            return space.copy(g.reshape(space.shape))
        return g.reshape(-1)

    def _differences(self, f: Any, point: Array) -> Array:
        """Return the gradient by forward differences, on the host."""
        space, x, f = self.space, np.array(on_host(point)), plain(f, "fun")

        def at(values: Array) -> float:
            self.nfev += 1
            made = space.vector()
            space.from_host(made, values)
            return plain(self.fun(space.shaped(made), *self.args), "fun")

        known = math.isfinite(f)  # or differences from it would tell nothing
        g = derivatives(at, f, x, moved(x, self.eps, self.bounds)) if known else np.full(space.n, np.nan)
        with np.errstate(over="ignore"):
            g = g.astype(space.dtype)
        if not space.on_device:
            return g
        made = space.vector()
        space.from_host(made, g)
        return made


class Point:
    """A point with the function and the gradient there; `keep` comes before these are known.

    Parameters
    ----------
    objective : Objective
        Evaluated at its trial, which is where it begins.
    """

    def __init__(self, objective: Objective) -> None:
        space = objective.space
        self.objective, self.x = objective, space.twin(objective.trial)
        self.jac, self._tried = space.vector(), space.vector()
        self.f, self.largest = math.nan, math.nan
        self.rounding = LEVEL * float(np.finfo(space.dtype).eps)
        self.stale, self._lowest = 0, math.inf  # steps since the function fell by more than rounding, and to where

    def evaluate(self) -> tuple[float, float]:
        """Evaluate at the trial; return the value and the greatest magnitude in the gradient, which is set aside."""
        f, g = self.objective.evaluate()
        _, largest, value = self.objective.space.verbs.run([(self._tried, [(1.0, g)])], [], self._tried, f)
        return value, largest

    def look(self, step: float, direction: Array) -> tuple[float, float]:
        """Evaluate a step along a direction away."""
        self.objective.space.run([(self.objective.trial, [(1.0, self.x), (step, direction)])])
        return self.evaluate()

    def moves(self, step: float, direction: Array, roundings: float, least: float = 0.0) -> bool:
        """Whether a step along a direction changes an element of x by more than some roundings of it plus `least`."""
        x, along = (np.abs(on_host(v)) for v in (self.x, direction))
        return bool((step * along > roundings * np.finfo(x.dtype).eps * (least + x)).any())

    def level(self, f: float, largest: float) -> bool:
        """Whether rounding hides how the function falls, close to the minimum, but not how the gradient does."""
        return abs(f - self.f) <= self.rounding * abs(self.f) and largest < self.largest

    def keep(self, f: float, largest: float) -> None:
        """Make what was found last that of x."""
        self.f, self.largest = f, largest
        self.jac, self._tried = self._tried, self.jac

    def move(self, step: float, direction: Array, f: float, largest: float) -> None:
        """Move x to where `look` found this."""
        self.objective.space.run([(self.x, [(1.0, self.x), (step, direction)])])
        lowest = min(self._lowest, self.f)
        falls = lowest - f > self.rounding * abs(lowest)
        self.stale, self._lowest = (0, f) if falls else (self.stale + 1, lowest)
        self.keep(f, largest)


def number(f: Any, space: Space, origin: str) -> Any:
    """Return a value as a float, or as it is where it lies on the device of a space."""
    if type(f) is float or type(f) is np.float64:
        return f
    if space.on_device and is_cuda(f) and f.size == 1 and f.dtype in (np.float32, np.float64):
        return f
    return plain(f, origin)


def pair(found: Any, origin: str) -> tuple[Any, Any]:
    """Return the loss and the gradients that a user's function gave."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise TypeError(f"{origin}: expected to return the loss and gradients, got {type(found).__name__}")
    return found[0], found[1]


def plain(f: Any, origin: str) -> float:
    """Return a value as a float; a device is waited for."""
    found = as_array(on_host(f), origin)
    if found.size != 1 or (found.dtype.kind not in "fiub" and found.dtype.name != "bfloat16"):
        raise TypeError(f"{origin}: expected to return a number, got {_kind(f)}")
    return float(found.reshape(()))


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its axes of one element."""
    return tuple(n for n in shape if n != 1)


def _kind(x: Any) -> str:
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"{x.dtype} of shape {tuple(x.shape)}"
    return type(x).__name__
