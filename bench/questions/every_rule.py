"""Every rule on one array of 10 to 10^8 elements, against what memory allows and all peers."""

from __future__ import annotations

from bench.case import PLACES, Case, Figure, Question
from bench.contestants import TABLE, contestants
from bench.work import RULES, Work

FEW = ("gradstep", "ceiling", "NumPy", "PyTorch fused")


def question(quick: bool) -> Question:
    """Measure warm, as far as caches go; the ceilings of caches are those of the same size."""
    for rule in reversed(RULES):
        for k in range(1, 9):
            if quick and (k > 6 or (rule != "AdamW" and k != 6)):
                continue
            work, few = Work(rule, (10**k,)), quick and rule != "AdamW"
            took = yield Case(
                f"{rule}, 10^{k}",
                contestants(work, FEW if few else TABLE),
                work.expected,
                turns=work.turns,
                nbytes=work.nbytes,
                footprint=work.footprint,
                x=work.footprint,
                series=rule,
                seconds={7: 15.0, 8: 40.0}.get(k, 4.0),
                **(PLACES if k < 8 else {}),
            )
            if k == 7:
                key = "numpy AdamW" if rule == "AdamW" else "numpy state" if work.spec.states else "numpy stateless"
                yield Figure(f"{rule}, 10^7 elements, times faster than NumPy", took.ratio("NumPy", "gradstep"), key)
        if not quick or rule == "AdamW":
            work = Work(rule, (2**25,))
            took = yield Case(
                f"{rule}, 2^25",
                contestants(work, ["gradstep", "ceiling"]),
                work.expected,
                turns=work.turns,
                nbytes=work.nbytes,
                rest=0.0,
                seconds=15.0,
                **PLACES,
            )
            yield Figure(f"{rule}, 2^25 elements, share of the ceiling", took.ratio("ceiling", "gradstep"), "ceiling")
