"""Bounds of each variable, in any of the forms that SciPy takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradstep.containers import Array, is_cuda
from gradstep.solve.vectors import Space


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
            self.lower, self.upper = (_limits(side, space) for side in (bounds.lb, bounds.ub))
        else:
            pairs = list(bounds)
            if len(pairs) != space.n:
                raise ValueError(f"bounds: expected a pair for each of {space.n} variables, got {len(pairs)}")
            try:
                lows, highs = zip(*pairs, strict=True) if pairs else ((), ())
            except (TypeError, ValueError):
                raise ValueError("bounds: expected pairs (lower, upper)") from None
            self.lower = _limits([-np.inf if x is None else x for x in lows], space)
            self.upper = _limits([np.inf if x is None else x for x in highs], space)
        wrong = np.flatnonzero(~(self.lower <= self.upper))
        if wrong.size:
            k = int(wrong[0])
            raise ValueError(
                f"bounds[{k}]: expected a lower bound of at most the upper one, "
                f"got {self.lower[k]!r} and {self.upper[k]!r}"
            )
        if np.any(self.lower == np.inf) or np.any(self.upper == -np.inf):
            raise ValueError("bounds: expected lower bounds below infinity and upper bounds above minus infinity")

    @property
    def open(self) -> bool:
        """Whether there is no bound at all."""
        return bool(np.all(self.lower == -np.inf) and np.all(self.upper == np.inf))

    def __iter__(self) -> Any:
        return iter((self.lower, self.upper))


def _limits(side: Any, space: Space) -> Array:
    if is_cuda(side):
        from gradstep import device

        side = device.to_host(side)
    values = np.asarray(side)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"bounds: expected numbers, got {values.dtype}")
    if values.shape == space.shape:
        values = values.reshape(-1)
    try:
        return np.broadcast_to(values, (space.n,)).astype(space.dtype)
    except ValueError:
        raise ValueError(f"bounds: expected shape {space.shape}, got {values.shape}") from None
