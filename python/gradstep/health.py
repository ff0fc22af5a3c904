"""What a step saw of each gradient and did to each parameter: signs of vanishing and exploding gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradstep.containers import Array


@dataclass(frozen=True)
class ArrayHealth:
    """Facts about one array and its gradient.

    Parameters
    ----------
    name : str
        What the array is called in messages, such as ``params['W1']``.
    norm : float
        L2 norm of the gradient, after division by `grad_scale` and before clipping.
    max_abs : float
        Greatest magnitude of an element of it; NaN if one is NaN.
    zeros : float
        Share of its elements that are zero, from 0 to 1.
    nans, infs : int
        How many are NaN or infinite.
    update_ratio : float
        L2 norm of the change of the parameter, divided by the norm of the parameter before; 0 if the step was
        skipped, infinity where a parameter of zeros has moved. About 1e-3 is usual.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD({"W": np.full(4, 2.0)}, lr=0.5)
    >>> opt.step({"W": np.array([3.0, 0.0, 0.0, 4.0])}, health=True)
    >>> row = opt.health["W"]
    >>> row.norm, row.max_abs, row.zeros, row.update_ratio
    (5.0, 4.0, 0.5, 0.625)
    """

    name: str
    norm: float
    max_abs: float
    zeros: float
    nans: int
    infs: int
    update_ratio: float


class Health(tuple[ArrayHealth, ...]):
    """One `ArrayHealth` for each array that had a gradient; prints as a table.

    ``health[i]`` is that of the i-th such array, ``health["W1"]`` that of the array of this name.

    Parameters
    ----------
    iterable : iterable of ArrayHealth
        In the order of the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD([np.ones(3), np.ones(2)])
    >>> opt.step([np.ones(3), None], health=True)
    >>> [row.name for row in opt.health]
    ['params[0]']
    """

    __slots__ = ()

    @classmethod
    def read(cls, plan: Any, arrays: Sequence[Array], labels: Sequence[str]) -> Health:
        """Ask a plan what its last step with health found.

        Parameters
        ----------
        plan : Plan
            Of the backend.
        arrays : sequence of arrays
            The parameters.
        labels : sequence of str
            Their names.

        Returns
        -------
        Health
            One row for each array that had a gradient.
        """
        applied, rows = plan.health()
        return cls(
            ArrayHealth(
                name="params" + labels[i],
                norm=norm,
                max_abs=max_abs,
                zeros=zeros / max(1, arrays[i].size * (2 if arrays[i].dtype.kind == "c" else 1)),
                nans=nans,
                infs=infs,
                update_ratio=_ratio(update, weight) if applied else 0.0,
            )
            for i, norm, max_abs, zeros, nans, infs, update, weight in rows
        )

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        found = [row for row in self if row.name == key or row.name.endswith(f"[{key!r}]")]
        if len(found) > 1:
            raise KeyError(f"{key}: expected the name of one array, there are {', '.join(row.name for row in found)}")
        if not found:
            raise KeyError(key)
        return found[0]

    def __str__(self) -> str:
        width = max((len(row.name) for row in self), default=5)
        titles = ("norm", 10), ("max abs", 10), ("zeros", 7), ("NaN", 6), ("inf", 6), ("update/weight", 13)
        head = " ".join([f"{'array':<{width}} ", *(f"{title:>{w}}" for title, w in titles)])
        rows = (
            f"{row.name:<{width}}  {row.norm:>10.3g} {row.max_abs:>10.3g} {row.zeros:>7.1%} "
            f"{row.nans:>6} {row.infs:>6} {row.update_ratio:>13.3g}"
            for row in self
        )
        return "\n".join([head, *rows])


def _ratio(update: float, weight: float) -> float:
    if weight == 0:
        return 0.0 if update == 0 else math.inf
    return update / weight
