"""The whole step (unscale, norm, clip, decay, update, average, zeroing), against the same in separate passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import gradstep as gs
from bench.case import PLACES, Case, Contestant, Figure, Question, Took
from bench.contestants import ceiling, contestants
from bench.work import CLIP, Work

BOTH = ("gradstep", "NumPy", "PyTorch fused", "PyTorch foreach")


def question(quick: bool) -> Question:
    """Measure clipping alone, averaging alone, then everything, on one large array and on many small ones."""
    power, many = 22 if quick else 25, (256,) * 2000
    large = (2**power,)
    clipped = Work("AdamW", large, clip=CLIP)
    took = yield case(f"clip_norm, 2^{power}", clipped, {"gradstep, no clipping": partial(unclipped, clipped)})
    yield from figures_of_clipping(took, "" if quick else "clipping")

    averaged = Work("AdamW", large, average=0.999, zero_grads=True)
    took = yield case(f"EMA and zero_grads, 2^{power}", averaged)
    share = took.ratio_per_byte("gradstep", "ceiling")
    yield Figure("AdamW with EMA and zero_grads, of the ceiling for its bytes", share, "" if quick else "averaging")

    took = yield case("clip_norm, 2,000 arrays of 256", Work("AdamW", many, clip=CLIP))
    what = "2,000 arrays of 256 with clip_norm, of PyTorch's clip_grad_norm_ and fused AdamW"
    yield Figure(what, took.ratio("gradstep", "PyTorch fused"), "clipping many")

    for name, sizes in ((f"2^{power}", large), ("2,000 arrays of 256", many)):
        whole = Work("AdamW", sizes, clip=CLIP, grad_scale=1024.0, average=0.999, zero_grads=True)
        yield case(f"everything, {name}", whole, {"gradstep, separate passes": partial(separate, whole)})


def figures_of_clipping(took: Took, key: str) -> Iterator[Figure]:
    """Judge clipping against the step without it, memory, and PyTorch's two calls."""
    yield Figure("AdamW with clip_norm, of AdamW alone", took.ratio("gradstep", "gradstep, no clipping"), key)
    allowed = 1 + took.ratio("reading the gradients", "ceiling")
    yield Figure("for comparison: what memory allows, gradients read once more", allowed)
    what = "AdamW with clip_norm, of PyTorch's clip_grad_norm_ and fused AdamW"
    yield Figure(what, took.ratio("gradstep", "PyTorch fused"), key and f"{key} torch")


def case(name: str, work: Work, more: dict[str, partial[Contestant]] | None = None) -> Case:
    """Return a case with the ceiling of its one pass that writes, and that of reading gradients once."""
    large = len(work.sizes) == 1
    makers = contestants(work, BOTH) | (more or {})
    if large:
        makers["ceiling"] = partial(ceiling.all_threads, work)
        makers["reading the gradients"] = partial(ceiling.reading, work)
    return Case(
        name,
        makers,
        work.expected,
        turns=work.turns,
        nbytes=work.nbytes,
        footprint=work.footprint,
        warm=1 if large else 5,
        seconds=15.0,
        **PLACES,
    )


def unclipped(work: Work) -> Contestant:
    """Make the same step, and leave clipping away: its result is another."""
    plain = replace(work, clip=None)
    return replace(contestants(plain, ["gradstep"])["gradstep"](), expected=plain.expected)


def separate(work: Work) -> Contestant:
    """Unscale, clip, average and zero in NumPy, beside gradstep's plain step."""
    from bench.contestants.numpy_ import surround

    params = work.params()
    opt = gs.AdamW(params, **work.spec.hypers)
    return surround(work, params, lambda grads: opt.step(grads))
