"""gradstep, in one call."""

from __future__ import annotations

from typing import Any

import gradstep as gs
from bench.case import Array, Contestant, nothing
from bench.work import Work


def step(work: Work) -> Contestant:
    """Make one whole step."""
    params = work.params()
    grads, fill = refilled(work) if work.zero_grads else (work.grads(), nothing)
    opt = getattr(gs, work.spec.cls)(params, **work.spec.hypers)
    ema = gs.EMA(params, decay=work.average) if work.average is not None else None
    options: dict[str, Any] = {
        "clip_norm": work.clip_norm,
        "grad_scale": work.grad_scale,
        "average": ema,
        "zero_grads": work.zero_grads,
    }
    options = options if work.surrounded else {}
    others = [*(ema.averages if ema else ()), *(grads if work.zero_grads else ())]
    # Without a norm, whose last bits depend on the order of its sum, it has the bits of the reference.
    exact = 0.0 if work.clip_norm is None else None
    return Contestant(lambda: opt.step(grads, **options), lambda: [*params, *others], fill, tolerance=exact)


def refilled(work: Work) -> tuple[list[Array], Any]:
    """Return gradients of one's own, and what writes them anew, as a backward pass does."""
    originals = work.grads()
    own = [g.copy() for g in originals]

    def fill() -> None:
        for mine, original in zip(own, originals, strict=True):
            mine[...] = original

    return own, fill
