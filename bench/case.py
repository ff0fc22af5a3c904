"""What questions are made of: cases, the contestants in them, and the figures that come of their times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Absent(Exception):
    """Why a contestant does not take part."""


class Wrong(Exception):
    """How a contestant's output differs from what it must be."""


def nothing() -> None:
    """Stands where a contestant needs no preparation."""


def calls(count: int = 1) -> Generator[object]:
    """Let the check make so many calls that are alike."""
    yield from range(count)


@dataclass
class Contestant:
    """One way to do the work of a case.

    `before` is called, untimed, before each call. One that is `timed` returns what counts itself; where it makes more
    than a step for that, `once` makes one, which is what the check calls. One that has copies of the gradients will
    `fetch` them anew before each call of the check. Where it moves other bytes, may be off by less, or computes
    something else than the case says (asked after the check's calls), it says so; `copies` are the bytes of parameters
    and gradients of its own, where it can't work on those that there are. One without `result` computes nothing that
    could be compared.
    """

    call: Callable[[], Any]
    result: Callable[[], Sequence[Any]] | None = None
    before: Callable[[], object] = nothing
    once: Callable[[], Any] | None = None
    fetch: Callable[[], object] = nothing
    timed: bool = False
    nbytes: int | None = None
    copies: int = 0
    tolerance: float | None = None
    expected: Callable[[], Sequence[Array]] | None = None


# Of steps, but on 10^8 elements or a large model: the same one takes up to 1.5 times as long elsewhere in memory.
PLACES: dict[str, Any] = {"runs": 5, "rounds": 6}


@dataclass
class Case:
    """The same work for some contestants, which are made when it begins.

    `expected` gives what `sample` sees of each result after one call in each of the `turns`. Caches are "warm" by
    `warm` times as many calls as are counted, or "flushed". A turn begins after a `rest` in seconds, and not before the
    idle threads of the turn before have fallen asleep: they spin on the same cores. There are `rounds`, or fewer where
    `seconds` are over, with new contestants in each of so many `runs`.
    """

    name: str
    contestants: Mapping[str, Callable[[], Contestant]]
    expected: Callable[[], Sequence[Array]] | None = None
    tolerance: float = 2e-6
    turns: Callable[[], Generator[object]] = calls
    nbytes: int = 0
    footprint: int = 0  # bytes that a contestant keeps
    caches: str = "warm"
    warm: int = 1
    rest: float = 0.02
    rounds: int = 31
    seconds: float = 4.0
    runs: int = 1
    unit: str = "s"
    needs: Callable[[], object] = nothing  # says why nobody can take part
    x: float | None = None  # where pictures put it
    series: str = ""


def sample(array: Any) -> Array:
    """Return some 4,096 elements of an array, spread over it, or all of a smaller one."""
    return spread(np.asarray(array).reshape(-1)).astype(np.float64)


def spread(flat: Array) -> Array:
    """Return a view of these elements, the last one among them: it is the first that a wrong end leaves out."""
    stride = max(1, flat.size // 4096) | 1
    return flat[(flat.size - 1) % stride :: stride]


class Took(dict[str, list[float]]):
    """The samples of a case; what was not measured gives NaN."""

    def __init__(self, samples: Mapping[str, list[float]], nbytes: Mapping[str, int], rounds: Sequence[int]) -> None:
        super().__init__(samples)
        self.nbytes, self.rounds = nbytes, rounds  # of each run

    def median(self, name: str) -> float:
        """Median of a contestant's samples."""
        return statistics.median(self[name]) if self.get(name) else math.nan

    def percentile(self, name: str, percent: int) -> float:
        """Return that percentile, by rank."""
        ranked = sorted(self.get(name, ()))
        return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)] if ranked else math.nan

    def ratio(self, name: str, *others: str) -> float:
        """Return the median of ratios within rounds, in the middle one of the runs; of several, to the fastest."""
        return statistics.median(self.ratios_of_runs(name, *others))

    def ratio_per_byte(self, name: str, other: str) -> float:
        """Return that for as many bytes."""
        return self.ratio(name, other) * self.nbytes.get(other, 0) / self.nbytes.get(name, 1)

    def ratios_of_runs(self, name: str, *others: str) -> list[float]:
        """Return the median of ratios within rounds, of each run; of several others that of the fastest in a round."""
        ends = np.cumsum(self.rounds)[:-1]
        fastest = map(min, zip(*(self.get(other, ()) for other in others), strict=False))
        ratios = [mine / theirs for mine, theirs in zip(self.get(name, ()), fastest, strict=False)]
        parts = [part for part in np.split(np.array(ratios), ends) if part.size]
        return [float(np.median(part)) for part in parts] or [math.nan]


@dataclass(frozen=True)
class Figure:
    """What was measured, and the key in `MUST` of what it must reach; none where it only compares.

    `rounds` are those of the case before it, as far as they are known.
    """

    what: str
    value: float
    key: str = ""
    rounds: int | None = None


Question = Generator[Case | Figure, Took, None]


@dataclass
class Measurement:
    """A case as it is kept: every sample of each contestant, or why there are none."""

    question: str
    case: str
    caches: str
    unit: str
    nbytes: int
    x: float | None
    series: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    bytes_of: dict[str, int] = field(default_factory=dict)  # where they are not those of the case
    rounds: list[int] = field(default_factory=list)  # of each run, which time may cut
    # Before each round, where that is known: nanoseconds, and times as long as alone.
    core_to_core: list[float] = field(default_factory=list)
    side_by_side: list[float] = field(default_factory=list)
