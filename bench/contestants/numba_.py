"""Numba: the same loop, compiled; parallel where the array is large."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numba

from bench.case import Contestant
from bench.contestants.formulas import constants, loop, zeros
from bench.work import Work

PARALLEL = 1 << 15  # elements; below, the start of its threads costs more than it gains


def loops(work: Work) -> Contestant:
    """Call one kernel for each array."""
    alone, team = (compiled(loop(work, over), parallel) for over, parallel in (("range", False), ("prange", True)))
    params, grads, states = work.params(), work.grads(), zeros(work)
    rows = [
        (team if p.size >= PARALLEL else alone, p, g, *ours) for p, g, ours in zip(params, grads, states, strict=True)
    ]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        numbers = constants(work, t).values()
        for kernel, *arrays in rows:
            kernel(*arrays, *numbers)

    return Contestant(step, lambda: params)


_kernels: dict[str, Any] = {}


def compiled(source: str, parallel: bool) -> Any:
    """Compile a function once a process, without fast-math."""
    if source not in _kernels:
        names: dict[str, Any] = {"sqrt": sqrt, "prange": numba.prange}
        exec(source, names)
        _kernels[source] = numba.njit(parallel=parallel, fastmath=False)(names["update"])
    return _kernels[source]
