"""Contestants are checked, then take turns within one process, round by round; every sample is kept."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.case import Absent, Array, Case, Contestant, Figure, Measurement, Question, Took, Wrong, nothing, sample
from bench.contestants import PEERS, ceiling, peer_of
from bench.must import LEAST_ROUNDS

T = TypeVar("T")
LEAST_SECONDS = 1e-2  # a sample lasts so long, by repeated calls, and so does what warms before it
QUICKER = 10
LONGEST_REST = 0.5  # seconds; whose threads never sleep is not waited for


@dataclass
class Runner:
    """Measures cases, until its time is over; of peers, those that were asked for."""

    quick: bool = False
    peers: Sequence[str] = PEERS
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], object] = time.sleep
    at_work: Callable[[], float] = time.process_time  # seconds of all threads
    processors: Callable[[], tuple[float, float] | None] = ceiling.processors
    until: float = math.inf  # on that clock; what would begin later is not measured
    _sweep: Array = field(default_factory=lambda: np.zeros(0, np.uint8))

    def answers(self, name: str, question: Question) -> Iterator[Measurement | Figure]:
        """Measure a question's cases; leave out figures of what was not measured."""

        def answer(case: Case) -> tuple[Measurement, Took]:
            done = self.measure(name, case)
            nbytes = dict.fromkeys(done.samples, case.nbytes) | done.bytes_of
            return done, Took(done.samples, nbytes, done.rounds)

        rounds = None
        for item in play(question, answer):
            if isinstance(item, Measurement):
                rounds = min(map(len, item.samples.values()), default=None)
                yield item
            elif not math.isnan(item.value):
                yield replace(item, rounds=rounds)

    def measure(self, question: str, case: Case) -> Measurement:
        """Measure one case."""
        done = Measurement(question, case.name, case.caches, case.unit, case.nbytes, case.x, case.series)
        runs = 1 if self.quick else case.runs
        for _ in range(runs):
            if done.runs and self.clock() > self.until:
                break
            ready = self._ready(case, done)
            if not ready:
                break
            repeats = {name: self._repeats(case, c) for name, c in ready.items()}
            until = self.clock() + case.seconds / runs / (QUICKER if self.quick else 1)
            done.rounds.append(0)
            for k in range(case.rounds):
                if (k >= LEAST_ROUNDS and self.clock() > until) or (k and self.clock() > self.until):
                    break
                if (known := self.processors()) is not None:
                    done.core_to_core.append(known[0])
                    done.side_by_side.append(known[1])
                for name in _rotated(list(ready), k):
                    took = self._turn(case, ready[name], repeats[name])
                    done.samples.setdefault(name, []).append(float(f"{took:.4g}"))
                done.rounds[-1] += 1
            done.runs += 1
            del ready
            gc.collect()
            gc.freeze()  # what is left are modules: the next time need not go through them
        return done

    def _ready(self, case: Case, done: Measurement) -> dict[str, Contestant]:
        ready: dict[str, Contestant] = {}
        expected = None
        for name in _rotated(list(case.contestants), done.runs):  # none has always the same place in memory
            make = case.contestants[name]
            if peer_of(name) not in (None, *self.peers) or name in done.absent:
                continue
            try:
                case.needs()
                if self.clock() > self.until:
                    raise Absent("no time was left")
                if case.footprint > available_memory() / 3:
                    raise Absent("too little memory is free")
                contestant = make()
                if case.expected and contestant.result:
                    expected = expected or case.expected()
                    check(contestant, expected, case)
            except ImportError as error:
                done.absent[name] = f"not installed: {error}"
            except Absent as why:
                done.absent[name] = str(why)
            except Wrong as how:
                done.absent[name] = f"WRONG: {how}"
            except Exception as error:  # peers fail in many ways; the others are still worth measuring
                done.absent[name] = f"failed: {type(error).__name__}: {error}".split("\n")[0]
            else:
                ready[name] = contestant
                if contestant.nbytes is not None:
                    done.bytes_of[name] = contestant.nbytes
        return ready

    def _repeats(self, case: Case, contestant: Contestant) -> int:
        if contestant.timed or contestant.before is not nothing or case.caches == "flushed":
            return 1
        least = LEAST_SECONDS / (QUICKER if self.quick else 1)
        for _ in range(2):  # the first may still compile
            begin = self.clock()
            contestant.call()
            took = self.clock() - begin
            if took > least:
                return 1
        return max(1, min(10_000, math.ceil(least / max(took, 1e-9))))

    def _rest(self, seconds: float) -> None:
        """Sleep so long, and again while threads of this process are at work: OpenBLAS's spin for 0.1 s or more."""
        for _ in range(math.ceil(LONGEST_REST / seconds) if seconds else 0):
            begin = self.at_work()
            self.sleep(seconds)
            if self.at_work() - begin < seconds / 10:
                return

    def _turn(self, case: Case, contestant: Contestant, repeats: int) -> float:
        self._rest(case.rest)
        for _ in range(case.warm * repeats):
            contestant.before()
            contestant.call()
        contestant.before()
        if case.caches == "flushed":
            self._flush()
        call, turns = contestant.call, range(repeats)
        if contestant.timed:
            return call()  # type: ignore[no-any-return]
        begin = self.clock()
        for _ in turns:
            call()
        return (self.clock() - begin) / repeats

    def _flush(self) -> None:
        if not self._sweep.size:
            self._sweep = np.zeros(1 << 27, np.uint8)
        self._sweep += 1


def play(question: Question, answer: Callable[[Case], tuple[T, Took]]) -> Iterator[T | Figure]:
    """Yield what `answer` makes of each case, and the figures that the question makes of its times."""
    took = None
    while True:
        try:
            item = question.send(took)  # type: ignore[arg-type]  # the first send takes None
        except StopIteration:
            return
        if isinstance(item, Case):
            made, took = answer(item)
            yield made
        else:
            took = None
            yield item


def check(contestant: Contestant, expected: Sequence[Array], case: Case) -> None:
    """Refuse a contestant whose output is not what it must be: what the case says, or what it says itself."""
    tolerance = case.tolerance if contestant.tolerance is None else contestant.tolerance
    with closing(case.turns()) as turns:
        for _ in turns:
            contestant.fetch()
            contestant.before()
            (contestant.once or contestant.call)()
    results = contestant.result() if contestant.result else ()
    expected = contestant.expected() if contestant.expected else expected
    for k, (found, want) in enumerate(zip(results, expected, strict=True)):
        off = np.abs(sample(found) - want) / np.maximum(1, np.abs(want))
        if not np.all(off <= tolerance):
            raise Wrong(f"result {k} is {np.max(off):.2g} off, where {tolerance:.2g} is allowed")


def available_memory() -> float:
    """Bytes that are free, as far as the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _rotated(names: list[str], k: int) -> list[str]:
    """Each comes first in its turn."""
    k %= max(1, len(names))
    return names[k:] + names[:k]
