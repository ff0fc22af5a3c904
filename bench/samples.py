"""What samples say: rates, ratios round by round, quartiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress, islice

from bench.case import Measurement

OWN = "gradstep"
OURS = (OWN, "step", "matmul after a step")  # beginnings of names; the others beside a matmul
FAR = 3  # times the shortest way of a cache line from core to core: seen are up to 2.6 near, and from 5 on afar
ONE_CORE = 1.5  # times as long side by side as alone: 1 on two cores, 2 on hardware threads of one
NEAR, AFAR, ON_ONE_CORE = DISTANCES = ("near", "far", "on one core")  # of both processors, as hosts move them
UNSTEADY = 3  # times the least sample: a median beyond says how threads were scheduled


def is_ours(name: str) -> bool:
    """Whether a contestant is gradstep, or work that it takes part in."""
    return name.startswith(OURS)


def base(m: Measurement) -> str | None:
    """Return the contestant in whose time others are shown: ours, a variant of ours, or the first."""
    return min(m.samples, key=lambda name: (name != OWN, not name.startswith(OWN)), default=None)


def ceiling_of(m: Measurement) -> str | None:
    """Return the fastest ceiling: on one thread or on all."""
    there = [name for name in m.samples if name.startswith("ceiling")]
    return max(there, key=lambda name: rate(m, name), default=None)


def bytes_of(m: Measurement, name: str) -> int:
    """Return the bytes that a contestant moves: those of its case, or its own."""
    return m.bytes_of.get(name, m.nbytes)


def is_per_byte(m: Measurement, name: str) -> bool:
    """Whether it moves other bytes than its case, so that times are compared per byte."""
    return bytes_of(m, name) != m.nbytes


def rate(m: Measurement, name: str) -> float:
    """Return gigabytes a second, of the bytes that must be moved; of one, where a case does not count them.

    Others' rates are those of ours by their ratios: medians of their own may be of other minutes.
    """
    own = base(m) or name
    ours = (bytes_of(m, own) or 1) / statistics.median(m.samples[own]) / 1e9
    return ours / statistics.median(ratios(m, name, own))


def ratios(m: Measurement, name: str, own: str) -> list[float]:
    """Return a contestant's time in ours, round by round; for as many bytes, where both say how many."""
    more = bytes_of(m, name) / bytes_of(m, own) if m.nbytes else 1.0
    return [theirs / mine / more for theirs, mine in zip(m.samples[name], m.samples[own], strict=False)]


def distances_of(m: Measurement, least: float = math.inf) -> list[str]:
    """Return for each round in which of `DISTANCES` processors were to each other; nothing where that is not known."""
    known = m.core_to_core if len(m.core_to_core) == sum(m.rounds) else []
    least = min([least, *known])
    longer = m.side_by_side if len(m.side_by_side) == len(known) else [1.0] * len(known)  # earlier runs did not ask
    return [
        ON_ONE_CORE if times > ONE_CORE else AFAR if ns > FAR * least else NEAR
        for ns, times in zip(known, longer, strict=True)
    ]


def of_rounds(m: Measurement, wanted: Sequence[bool]) -> Measurement:
    """Return what is known of some rounds alone."""
    kept = {name: list(compress(took, wanted)) for name, took in m.samples.items()}
    each = iter(wanted)
    rounds = [sum(islice(each, count)) for count in m.rounds]
    known = {name: list(compress(getattr(m, name), wanted)) for name in ("core_to_core", "side_by_side")}
    return replace(m, samples={k: took for k, took in kept.items() if took}, rounds=rounds, **known)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the lower and the upper one."""
    if len(samples) < 2:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def is_unsteady(samples: Sequence[float]) -> bool:
    """Whether the median is far above the least sample, though the work was the same."""
    return statistics.median(samples) > UNSTEADY * min(samples)


def number(value: float) -> str:
    """Write three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
