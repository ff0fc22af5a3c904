"""What changed between two runs, beyond noise."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench.case import Measurement
from bench.must import verdict
from bench.run import Run
from bench.samples import OWN, ceiling_of, number, quartiles, ratios

LEAST = 0.05  # smaller differences come from where arrays lie in memory
FEWEST = 7  # rounds, whose quartiles tell something


def text(before: Run, after: Run) -> str:
    """Say it in Markdown."""
    parts = [
        f"{before.machine['commit']}, {before.machine['date']} -> {after.machine['commit']}, {after.machine['date']}"
    ]
    if before.machine["processor"] != after.machine["processor"]:
        parts.append(f"Other machines: {before.machine['processor']} and {after.machine['processor']}.")
    rows = list(changes(before, after))
    if rows:
        parts.append("| question | case | contestant | in | before | after | change |\n|" + " --- |" * 7)
        parts[-1] += "".join(f"\n| {' | '.join(row)} |" for row in rows)
    else:
        parts.append("Nothing changed beyond noise.")
    known = {figure.what: verdict(figure) for figure in before.figures}
    for figure in after.figures:
        if {known.get(figure.what), verdict(figure)} == {"yes", "NO"}:
            now = "now reached" if verdict(figure) == "yes" else "NO LONGER REACHED"
            parts.append(f"{figure.what}: {number(figure.value)}, {now}.")
    return "\n\n".join(parts)


def changes(before: Run, after: Run) -> Iterator[tuple[str, ...]]:
    """Yield a row for each contestant whose ratio to the reference of its case changed."""
    old = {(m.question, m.case): m for m in before.measurements}
    for m in after.measurements:
        was = old.get((m.question, m.case))
        if was is None:
            continue
        reference = reference_of(was, m)
        for name in m.samples:
            if name == reference or name not in was.samples:
                continue
            a, b = (in_reference(which, name, reference) for which in (was, m))
            change = way(a, b)
            others = [other for other in m.samples if other in was.samples and other != name]
            agree = sum(way(in_reference(was, name, other), in_reference(m, name, other)) == change for other in others)
            if change and (not others or 2 * agree > len(others)):
                x, y = statistics.median(a), statistics.median(b)
                yield (
                    m.question,
                    m.case,
                    name,
                    reference or m.unit,
                    number(x),
                    number(y),
                    f"{100 * (y / x - 1):+.0f}%",
                )


def reference_of(a: Measurement, b: Measurement) -> str | None:
    """Return what both have that no change of gradstep moves, as far as there is such a one."""
    return next((name for name in (ceiling_of(a), "NumPy", OWN) if name in a.samples and name in b.samples), None)


def in_reference(m: Measurement, name: str, reference: str | None) -> list[float]:
    """Return ratios round by round, or times where a contestant is alone."""
    return ratios(m, name, reference) if reference else m.samples[name]


def way(a: Sequence[float], b: Sequence[float]) -> int:
    """Return 1 for slower and -1 for faster where the ranges between quartiles lie apart, and the medians too."""
    if min(len(a), len(b)) < FEWEST or abs(statistics.median(b) / statistics.median(a) - 1) <= LEAST:
        return 0
    (a_low, a_high), (b_low, b_high) = quartiles(a), quartiles(b)
    return int(a_high < b_low) - int(b_high < a_low)
