"""Contestants take turns within one process, round by round; what counts is the median of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Contestant = Callable[[], object]


def timed(call: Contestant) -> float:
    """Seconds that one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def medians(
    contestants: Mapping[str, Contestant],
    rounds: int,
    *,
    warm: int = 1,
    rest: float = 0.0,
    measure: Callable[[Any], float] = timed,
) -> dict[str, float]:
    """Median of what is measured of each; every turn begins with a rest and `warm` calls that are not counted.

    The rest, in seconds, lets the idle threads of the contestant before fall asleep: they spin on the same
    cores.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            time.sleep(rest)
            for _ in range(warm):
                call()
            samples[name].append(measure(call))
    return {name: statistics.median(times) for name, times in samples.items()}


def percentile(samples: list[float], percent: int) -> float:
    """Return that percentile of some samples, by their rank."""
    return sorted(samples)[min(len(samples) - 1, len(samples) * percent // 100)]
