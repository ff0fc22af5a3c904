"""What changed between two runs, beyond noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from bench.case import Figure, Measurement
from bench.contestants import peer_of
from bench.must import LEAST_ROUNDS, MUST, verdict
from bench.report import table
from bench.run import Run
from bench.samples import DISTANCES, OWN, ceiling_of, distances_of, is_ours, number, of_rounds, quartiles, ratios

MANY = 7  # rounds, whose quartiles tell something
LEAST = 1.2  # smaller changes are those of another process: where arrays lie, and what neighbours do
LEAST_OF_SIZES = 1.05
LEAST_OF_FEW = 1.4  # of fewer rounds, and of times that are compared with nothing
KINDS = (OWN, "ceiling", "NumPy")  # beside peers
HEAD = ("question", "case", "contestant", "in", "before", "after", "change")
Row = tuple[str, ...]
Pair = tuple[Measurement, Measurement]  # the same case in both runs


def text(before: Run, after: Run) -> str:
    """Say it in Markdown."""
    parts = [
        f"{before.machine['commit']}, {before.machine['date']} -> {after.machine['commit']}, {after.machine['date']}"
    ]
    ours, theirs = (run.machine["gradstep"] | {"processor": run.machine["processor"]} for run in (before, after))
    facts = ("processor", "isa", "threading", "num_threads", "compiler")
    parts += [f"Another {fact}: {ours[fact]} and {theirs[fact]}." for fact in facts if ours[fact] != theirs[fact]]
    old, new = (latency(run) for run in (before, after))
    if max(old, new) > LEAST_OF_FEW * min(old, new):
        parts.append(f"A line's way from core to core was {number(old)} ns, and now {number(new)}, in the median.")
    parts += unknown(before, after)
    pairs = in_pairs(before, after)
    rows = [*changes(pairs, on_one_machine(before, after)), *presence(before, after)]
    told = [table([HEAD, *rows])] if rows else []
    said = [*asked(before, after), *told, *judged(before, after), *moved(pairs)]
    return "\n\n".join([*parts, *(said or ["Nothing changed beyond noise."])])


def unknown(before: Run, after: Run) -> Iterator[str]:
    """Say of which run it is not known in which rounds processors were near each other."""
    for which, run in (("first", before), ("second", after)):
        if not all(distances_of(m) for m in run.measurements if m.samples):
            yield (
                f"Of the {which} run's rounds it is not known whether processors were near: all are compared, of all "
                "kinds."
            )


def latency(run: Run) -> float:
    """Return the median of nanoseconds from core to core, NaN where they are not known."""
    known = [ns for m in run.measurements for ns in m.core_to_core]
    return statistics.median(known) if known else math.nan


def asked(before: Run, after: Run) -> Iterator[str]:
    """Say which questions fail, and which were asked in one run alone."""
    for question, why in after.failures.items():
        yield f"{question} FAILED:\n\n```text\n{why}\n```"
    for which, one, other in (("first", before, after), ("second", after, before)):
        if alone := [question for question in _questions(one) if question not in _questions(other)]:
            yield f"Asked in the {which} run alone: {', '.join(alone)}."


def moved(pairs: Sequence[Pair]) -> Iterator[str]:
    """Say which cases are not compared, because the host moved processors."""
    if cases := [m.case for _, m in pairs if m.rounds and not sum(m.rounds)]:
        more = f" and {len(cases) - 3} more" if cases[3:] else ""
        yield f"Too few rounds of both had processors as near or as far, so not compared: {', '.join(cases[:3])}{more}."


def judged(before: Run, after: Run) -> Iterator[str]:
    """Say which bounds are judged otherwise now, and which are gone though all questions were asked again."""
    now = {figure.what: figure for figure in after.figures}
    whole = not set(_questions(before)) - set(_questions(after))
    for figure in before.figures:
        new = now.get(figure.what)
        if new is None and figure.key in MUST and (whole or after.failures):
            yield f"{figure.what}: {number(figure.value)}, NO LONGER MEASURED."
        elif new and verdict(figure) != verdict(new) and not _near(figure, new):
            said = {"yes": "now reached", "NO": "NO LONGER REACHED"}.get(verdict(new), verdict(new))
            yield f"{figure.what}: {number(new.value)}, {said}."


def changes(pairs: Sequence[Pair], same: bool) -> Iterator[Row]:
    """Yield a row for each contestant that changed against most of the others of its case.

    On the `same` machine its own times must say so too: else it is the others that changed.
    """
    for was, m in pairs:
        for name in m.samples:
            if name in was.samples and (how := changed(was, m, name, same)):
                yield (m.question, m.case, name, *how)


def on_one_machine(before: Run, after: Run) -> bool:
    """Whether both were made on one kind of processor."""
    return bool(before.machine["processor"] == after.machine["processor"])


def in_pairs(before: Run, after: Run) -> list[Pair]:
    """Return the cases of both runs, in rounds that can be compared."""
    same = on_one_machine(before, after)
    old = {(m.question, m.case): m for m in before.measurements}
    both = [m for m in after.measurements if (m.question, m.case) in old]
    return [alike(old[m.question, m.case], m, same) for m in both]


def alike(was: Measurement, m: Measurement, same: bool) -> Pair:
    """Return both in rounds with processors at the same distance, whichever they have most of: nothing of few.

    What is near on the `same` machine another may call far.
    """
    least = min([*was.core_to_core, *m.core_to_core], default=math.inf) if same else math.inf
    there = distances_of(was, least), distances_of(m, least)
    if not all(there):
        return was, m
    shared = {distance: min(found.count(distance) for found in there) for distance in DISTANCES}
    most = max(shared, key=lambda distance: shared[distance])
    enough = shared[most] >= min(LEAST_ROUNDS, *map(len, there))
    wanted = [[enough and distance == most for distance in found] for found in there]
    return of_rounds(was, wanted[0]), of_rounds(m, wanted[1])


def changed(was: Measurement, m: Measurement, name: str, same: bool) -> Row:
    """Return in what, and by how much, a contestant changed; nothing where it did not."""
    others: list[str | None] = [*others_of(was, m, name)]
    found = [(other, in_other(was, name, other), in_other(m, name, other)) for other in others or [None]]
    ways = [way(a, b, other is None, m.unit == "bytes") for other, a, b in found]
    kinds = [kind(other or "") for other, _, _ in found]
    votes = {
        change: sum(1 / kinds.count(k) for k, w in zip(kinds, ways, strict=True) if w == change) for change in (-1, 1)
    }
    change = max(votes, key=lambda change: votes[change])
    ours = kind(name) == OWN or OWN not in kinds  # where none has our name, all are parts of our work
    needed = len(set(kinds)) / 2 if ours else max(1, len(set(kinds)) - 1)  # of two, it is ours that changed
    if votes[change] <= needed or (same and not itself(was, m, name, change)):
        return ()
    other, a, b = found[ways.index(change)]
    x, y = statistics.median(a), statistics.median(b)
    return other or m.unit, number(x), number(y), f"{100 * (y / x - 1):+.0f}%"


def itself(was: Measurement, m: Measurement, name: str, change: int) -> bool:
    """Whether its own samples went that way."""
    factor = statistics.median(m.samples[name]) / statistics.median(was.samples[name])
    return bool(factor**change > (LEAST_OF_SIZES if m.unit == "bytes" else LEAST))


def kind(name: str) -> str:
    """Return what variants of a contestant share: they change together, and have one vote together."""
    word = OWN if is_ours(name) else name.replace(",", " ").split(" ")[0]
    return peer_of(name) or (word if word in KINDS else name)


def others_of(was: Measurement, m: Measurement, name: str) -> list[str]:
    """Return whom a contestant is compared with, what no change of gradstep moves first."""
    there = [other for other in m.samples if other in was.samples and kind(other) != kind(name)]
    first = (ceiling_of(m), "NumPy")
    return sorted(there, key=lambda other: first.index(other) if other in first else len(first))


def in_other(m: Measurement, name: str, other: str | None) -> list[float]:
    """Return ratios round by round, or times where a contestant is alone."""
    return ratios(m, name, other) if other else m.samples[name]


def way(a: Sequence[float], b: Sequence[float], alone: bool = False, exact: bool = False) -> int:
    """Return 1 for slower and -1 for faster where ranges lie apart, and medians by more than what is no change.

    Sizes are exact: a few of them are enough.
    """
    few = min(len(a), len(b)) < MANY
    (a_low, a_high), (b_low, b_high) = ((min(s), max(s)) if few else quartiles(s) for s in (a, b))
    least = LEAST_OF_SIZES if exact else LEAST_OF_FEW if few or alone else LEAST
    factor = statistics.median(b) / statistics.median(a)
    return int(a_high < b_low and factor > least) - int(b_high < a_low and factor * least < 1)


def presence(before: Run, after: Run) -> Iterator[Row]:
    """Yield a row for each contestant that is measured in one run alone, or absent for another reason."""
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    both = set(_questions(before)) & set(_questions(after))
    old, new = ({(m.question, m.case): m for m in run.measurements if m.question in both} for run in (before, after))
    for key in (key for key in old | new if key in new or key[0] not in after.failures):
        was, now = (_states(cases.get(key)) for cases in (old, new))
        for name in was | now:
            x, y = (states.get(name, "not there") for states in (was, now))
            if x.split(":")[0] != y.split(":")[0]:
                found.setdefault((name, x, y), []).append(key)
    for (name, x, y), cases in found.items():
        question, case = cases[0]
        yield (question, case + (f" and {len(cases) - 1} more" if cases[1:] else ""), name, "", x, y, "")


def _near(figure: Figure, new: Figure) -> bool:
    """Whether both are judged, and their values differ by no more than figures of one commit do."""
    low, high = sorted((figure.value, new.value))
    return {verdict(figure), verdict(new)} == {"yes", "NO"} and high <= LEAST * low


def _states(m: Measurement | None) -> dict[str, str]:
    return {**dict.fromkeys(m.samples, "measured"), **m.absent} if m else {}


def _questions(run: Run) -> list[str]:
    return list(dict.fromkeys([*(m.question for m in run.measurements), *run.failures]))
