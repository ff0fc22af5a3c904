"""Pure Python: one loop over lists."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from bench.case import Absent, Contestant
from bench.contestants.formulas import constants, loop, zeros
from bench.work import Work

MOST = 100_000  # elements; more take seconds


def loops(work: Work) -> Contestant:
    """Step through each list."""
    source = loop(work, "range")
    if work.elements > MOST:
        raise Absent(f"more than {MOST:,} elements take too long")
    names: dict[str, Any] = {"sqrt": sqrt}
    exec(source, names)
    params, grads = ([a.tolist() for a in arrays] for arrays in (work.params(), work.grads()))
    states = [[s.tolist() for s in ours] for ours in zeros(work)]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        numbers = [float(c) for c in constants(work, t).values()]
        for p, g, ours in zip(params, grads, states, strict=True):
            names["update"](p, g, *ours, *numbers)

    def fetch() -> None:
        grads[:] = [g.tolist() for g in work.grads()]

    return Contestant(step, lambda: [np.array(p) for p in params], fetch=fetch)
