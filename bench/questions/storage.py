"""Storage formats: AdamW on one array of each, on each instruction set."""

from __future__ import annotations

import math
from functools import partial

from bench.case import PLACES, Case, Contestant, Figure, Question
from bench.contestants import contestants
from bench.work import Work
from gradstep import _cpu

FORMATS = ("bfloat16", "float16", "float32", "float64")


def question(quick: bool) -> Question:
    """Measure with the same number of elements; the ceiling moves as many bytes."""
    sets = [isa for isa in _cpu.isas_supported() if isa != "baseline"]
    for dtype in FORMATS:
        short = dtype.endswith("16")
        work = Work("AdamW", (2**22 if quick else 2**25,), dtype)
        took = yield Case(
            f"{dtype}, 2^{int(math.log2(work.elements))}",
            contestants(work, ["ceiling", "NumPy", "PyTorch fused"])
            | {f"gradstep, {isa}": partial(on, isa, work) for isa in sets},
            work.expected,
            turns=work.turns,
            tolerance={"bfloat16": 1e-2, "float16": 2e-3}.get(dtype, 2e-6),
            nbytes=work.nbytes,
            footprint=work.footprint,
            seconds=15.0,
            **PLACES,
        )
        for isa in sets:
            share = took.ratio_per_byte("ceiling", f"gradstep, {isa}")
            what = f"AdamW on {dtype}, {isa}, share of the ceiling for its bytes"
            yield Figure(what, share, "storage" if short and not quick else "")


def on(isa: str, work: Work) -> Contestant:
    """Step with one instruction set."""
    made = contestants(work, ["gradstep"])["gradstep"]()
    made.before = lambda: _cpu.set_isa(isa)
    return made
