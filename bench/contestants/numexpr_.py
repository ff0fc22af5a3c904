"""numexpr: an expression an array, evaluated in blocks by its threads."""

from __future__ import annotations

import numexpr

from bench.case import Contestant
from bench.contestants.formulas import constants, formulas, zeros
from bench.work import Work


def expressions(work: Work) -> Contestant:
    """Evaluate into the arrays."""
    texts, params = formulas(work), work.params()
    names = ["p", "g", *(name for name in texts if name != "p")]
    rows = [
        dict(zip(names, (p, g, *ours), strict=True))
        for p, g, ours in zip(params, work.grads(), zeros(work), strict=True)
    ]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        numbers = constants(work, t)
        for arrays in rows:
            known = arrays | numbers
            for name, text in texts.items():
                numexpr.evaluate(text, local_dict=known, global_dict={}, out=arrays[name])

    return Contestant(step, lambda: params)
