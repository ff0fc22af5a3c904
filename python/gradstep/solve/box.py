"""Bounds of each variable, in any of the forms that SciPy takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradstep.containers import Array, shown
from gradstep.solve.vectors import Space, as_array
from gradstep.states import on_host


class Box:
    """Lower and upper bounds as two vectors of the host, in the dtype of `x0`.

    Parameters
    ----------
    bounds : scipy.optimize.Bounds or sequence of pairs
        As SciPy takes them: None or an infinity is no bound.
    space : Space
        That of `x0`.
    """

    def __init__(self, bounds: Any, space: Space) -> None:
        if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
            lows, highs = bounds.lb, bounds.ub
        else:
            try:
                pairs = list(bounds)
            except TypeError:
                raise TypeError(f"bounds: expected Bounds or a sequence of pairs, got {shown(bounds)}") from None
            if len(pairs) == 1:
                pairs *= space.n
            if len(pairs) != space.n:
                raise ValueError(f"bounds: expected a pair for each of {space.n} variables, got {len(pairs)}")
            try:
                lows, highs = zip(*pairs, strict=True) if pairs else ((), ())
            except (TypeError, ValueError):
                raise ValueError(f"bounds: expected pairs (lower, upper), got {shown(bounds)}") from None
            lows, highs = ([side if x is None else x for x in of] for side, of in ((-np.inf, lows), (np.inf, highs)))
        lows, highs = _limits(lows, space), _limits(highs, space)
        for k in np.flatnonzero(~(lows <= highs)):
            both = f"{float(lows[k])} and {float(highs[k])}"
            raise ValueError(f"bounds[{k}]: expected a lower bound of at most the upper one, got {both}")
        self.lower, self.upper = _rounded_inwards(lows, highs, space.dtype)
        for k in np.flatnonzero((self.lower == np.inf) | (self.upper == -np.inf)):
            both = f"{float(lows[k])} and {float(highs[k])}"
            raise ValueError(f"bounds[{k}]: expected a finite {space.dtype} between them, got {both}")

    @property
    def open(self) -> bool:
        """Whether there is no bound at all."""
        return bool(np.all(self.lower == -np.inf) and np.all(self.upper == np.inf))

    def __iter__(self) -> Any:
        return iter((self.lower, self.upper))


def _limits(side: Any, space: Space) -> Array:
    values = as_array(on_host(side), "bounds")
    if values.dtype.kind not in "fiub":
        raise TypeError(f"bounds: expected numbers, got {values.dtype}")
    if values.shape == space.shape:
        values = values.reshape(-1)
    try:
        return np.broadcast_to(values, (space.n,)).astype(np.float64)
    except ValueError:
        raise ValueError(f"bounds: expected shape {space.shape}, got {values.shape}") from None


def _rounded_inwards(lows: Array, highs: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return bounds in the dtype of x, of which none lies outside; a single point between them is rounded."""
    with np.errstate(over="ignore"):
        lower, upper, nearest = lows.astype(dtype), highs.astype(dtype), lows.astype(dtype)
    lower = np.where(lower < lows, np.nextafter(lower, dtype.type(np.inf)), lower)
    upper = np.where(upper > highs, np.nextafter(upper, dtype.type(-np.inf)), upper)
    point = (lower > upper) & (lows <= highs)
    return np.where(point, nearest, lower), np.where(point, nearest, upper)
