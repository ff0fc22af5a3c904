"""AdamW on many arrays: the counts and sizes of real models, and very small ones."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import PLACES, Case, Figure, Question
from bench.contestants import TABLE, contestants
from bench.contestants.ceiling import IN_CACHE
from bench.work import Work


def resnet50() -> Iterator[int]:
    """Sizes of its 161 arrays, 25.6 million parameters."""
    yield from (64 * 3 * 49, 64, 64)
    inside = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            yield from (inside * width, width, width, width * width * 9, width, width)
            yield from (width * 4 * width, 4 * width, 4 * width)
            if block == 0:
                yield from (inside * 4 * width, 4 * width, 4 * width)
            inside = 4 * width
    yield from (2048 * 1000, 1000)


def gpt2() -> Iterator[int]:
    """Sizes of the small model's 148 arrays, 124 million parameters."""
    d = 768
    yield from (50257 * d, 1024 * d)
    for _ in range(12):
        yield from (d, d, 3 * d * d, 3 * d, d * d, d, d, d, 4 * d * d, 4 * d, 4 * d * d, d)
    yield from (d, d)


def mlp() -> Iterator[int]:
    """784-256-128-10: 6 arrays, 235,146 parameters."""
    for before, after in ((784, 256), (256, 128), (128, 10)):
        yield from (before * after, after)


MODELS = {"an MLP's": mlp, "ResNet-50's": resnet50, "GPT-2's": gpt2}


def question(quick: bool) -> Question:
    """Measure models with flushed caches, as forward and backward pass leave them; the small ones warm, too."""
    one = Work("AdamW", (100,))
    took = yield Case(
        "one array of 100",
        contestants(one),
        one.expected,
        turns=one.turns,
        nbytes=one.nbytes,
        seconds=15.0,  # neighbours slow an absolute time for seconds
        **PLACES,
    )
    yield Figure("one array of 100 floats, microseconds", took.median("gradstep") * 1e6, "small")
    many = Work("AdamW", (1000,) * 1000)
    for warm, key in ((5, "fused"), (40, "")):
        took = yield Case(
            f"1,000 arrays of 1,000, {warm} steps after a rest",
            contestants(many, ["gradstep", "PyTorch fused"] if warm == 40 else contestants(many)),
            many.expected,
            turns=many.turns,
            nbytes=many.nbytes,
            warm=warm,
            seconds=15.0,
            **PLACES,
        )
        what = f"1,000 arrays of 1,000, {warm} steps after a rest, of PyTorch's fused AdamW"
        yield Figure(what, took.ratio("gradstep", "PyTorch fused"), key)
    for name, sizes in MODELS.items():
        work = Work("AdamW", tuple(sizes()))
        if quick and work.elements > 10**8:
            continue
        small = work.footprint < IN_CACHE
        for caches in ("warm", "flushed") if small else ("flushed",):
            hurried = caches == "flushed" and small  # ceilings, which sweep a cache many times
            yield Case(
                f"{name} {len(work.sizes)} arrays, {caches}",
                contestants(work, [who for who in TABLE if not (hurried and who.startswith("ceiling"))]),
                work.expected,
                turns=work.turns,
                nbytes=work.nbytes,
                footprint=work.footprint,
                caches=caches,
                seconds=10.0,
                **(PLACES if small else {}),
            )
