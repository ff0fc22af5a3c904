"""Forward differences: where each variable is moved to, and derivatives by what was really moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradstep.containers import Array
from gradstep.solve.box import Box


def accuracy(dtype: np.dtype[Any]) -> float:
    """Return the relative step that rounding and truncation share: the root of the dtype's precision."""
    return math.sqrt(float(np.finfo(dtype).eps))


def moved(x: Array, step: float | Array | None = None, bounds: Box | None = None) -> Array:
    """Return where each variable is moved to for its difference; itself if there is no room.

    Parameters
    ----------
    x : array
        The point, in the dtype that functions get.
    step : float or array, optional
        By how much; where it is None or lost in rounding, in proportion to max(1, abs(x)).
    bounds : Box, optional
        Within which the steps keep: to the side where there is room.
    """
    own = accuracy(x.dtype) * np.maximum(1, np.abs(x))
    with np.errstate(over="ignore"):
        given = own if step is None else np.asarray(step).astype(x.dtype)
        steps = np.where(x + given == x, own, given)
        if bounds is None:
            return x + steps
        forwards = (bounds.upper - x >= steps) | (bounds.upper - x >= x - bounds.lower)
        return np.where(forwards, np.minimum(x + steps, bounds.upper), np.maximum(x - steps, bounds.lower))


def derivatives(fun: Callable[[Array], Any], f: Any, x: Array, there: Array) -> Array:
    """Return derivatives in double, a row of each variable.

    Parameters
    ----------
    fun : callable
        Returns a float or an array of them at a point, which it may keep.
    f : float or array
        What it returned at `x`.
    x, there : array
        The point, and where each variable is moved to.
    """
    rows = np.zeros((x.size, *np.shape(f)))
    for k in np.flatnonzero(there != x):
        point = x.copy()
        point[k] = there[k]
        beside = fun(point)
        with np.errstate(over="ignore", invalid="ignore"):
            rows[k] = (beside - f) / (float(there[k]) - float(x[k]))
    return rows
