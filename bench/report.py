"""What a run says: tables for the terminal, a Markdown report, and pictures."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import pictures
from bench.case import Figure, Measurement
from bench.contestants import peer_of
from bench.must import LEAST_ROUNDS, MUST, Must, verdict
from bench.questions import title
from bench.run import Run
from bench.samples import (
    DISTANCES,
    FAR,
    ON_ONE_CORE,
    OWN,
    UNSTEADY,
    base,
    ceiling_of,
    distances_of,
    is_ours,
    is_per_byte,
    is_unsteady,
    number,
    quartiles,
    rate,
    ratios,
)

T = TypeVar("T")
BEYOND = f"the contestant's median is more than {UNSTEADY} times its own least sample"
UNITS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "bytes": ((2.0**20, "MiB"), (2.0**10, "KiB"), (1, "bytes")),
}


def fails(run: Run) -> bool:
    """Whether a question fails, a contestant computes something else than it should, or one of ours fails."""
    return bool(run.failures) or any(
        why.startswith(("WRONG", "failed") if is_ours(name) else "WRONG")
        for m in run.measurements
        for name, why in m.absent.items()
    )


def missed(run: Run) -> list[Figure]:
    """Return the figures of earlier issues that are not reached."""
    return [figure for figure in run.figures if verdict(figure) == "NO"]


def unmeasured(run: Run) -> list[Must]:
    """Return what must be reached and a whole run has no figure of."""
    there = {figure.key for figure in run.figures}
    return [must for key, must in MUST.items() if key not in there] if run.is_whole else []


def read(path: Path) -> Run:
    """Read a run, and refuse what no report can be made of."""
    run = Run.load(path)
    try:
        markdown(run, {})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SystemExit(f"{path}: expected the run.json of a run: {type(error).__name__}: {error}") from None
    return run


def write(run: Run, folder: Path) -> None:
    """Write the report and its pictures."""
    drawn = pictures.draw(run, folder)
    (folder / "report.md").write_text(markdown(run, drawn))


def markdown(run: Run, drawn: dict[str, list[str]]) -> str:
    """Return the whole report."""
    parts = [f"# `{run.command}`", _where(run)]
    if run.interrupted:
        parts.append("It was interrupted: what is not here was not measured.")
    if run.figures or unmeasured(run):
        parts += ["## Figures that must be reached", figures(run)]
    least = min((ns for m in run.measurements for ns in m.core_to_core), default=math.inf)
    for question in dict.fromkeys([*(m.question for m in run.measurements), *run.failures]):
        parts.append(f"## {title(question)}")
        if question in run.failures:
            parts.append(f"It failed:\n\n```text\n{run.failures[question]}\n```")
        parts += [f"![{title(question)}]({name})" for name in drawn.get(question, [])]
        mine = [m for m in run.measurements if m.question == question]
        parts += [times(mine), *distances(mine, least), *absences(mine)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _where(run: Run) -> str:
    facts = run.machine
    config = facts["gradstep"]
    caches = ", ".join(f"{name} {quantity(size, 'bytes')}" for name, size in facts["caches"].items())
    peers = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"- {facts['processor']}, {facts['processors']} processors; {caches}; {facts['memory']} of memory; "
        f"transparent huge pages {facts['transparent huge pages']}; {facts['kernel']}; "
        f"load when it began {facts.get('load', ['unknown'])[0]}",
        f"- gradstep {config['version']} ({facts['commit']}), {config['compiler']}, {config['isa']}, "
        f"{config['threading']}, {config['num_threads']} threads; {config['cuda']}",
        f"- {facts['date']}; Python {facts['python']}, {peers}",
        f"- Environment: {json.dumps(facts['environment'])}; unset: {facts['unset for the run'] or 'nothing'}",
    ]
    lines += [f"- The installed package, which was measured, is not the checkout's: {how}" for how in others(run)]
    waits = {
        f"{p.get('prefix', p.get('internal_api'))}: {p['policy']}": None
        for found in run.pools.values()
        for p in found
        if "policy" in p
    }
    lines += [f"- Idle threads of {wait}" for wait in waits]
    if ways := core_to_core(run):
        lines.append(f"- A cache line's way from core to core: {ways}")
    if shared := on_one_core(run):
        lines.append(f"- Rounds in which both processors were hardware threads of one core: {shared}")
    for question, found in run.pools.items():
        pools = (f"{p.get('internal_api')} {p.get('version', '')} ({p.get('num_threads')})" for p in found)
        lines.append(f"- Pools of threads after `{question}`: {', '.join(pools) or 'none known'}")
    return "\n".join(lines)


def core_to_core(run: Run) -> str:
    """Return the range of latencies before the rounds of each question."""
    return of_questions(run, lambda m: m.core_to_core, lambda ns: f"{number(min(ns))} to {number(max(ns))} ns")


def on_one_core(run: Run) -> str:
    """Return how many rounds of each question were so, of those where that is known."""
    return of_questions(
        run,
        lambda m: distances_of(m) if m.side_by_side else [],
        lambda found: f"{found.count(ON_ONE_CORE)} of {len(found)}",
    )


def of_questions(run: Run, of: Callable[[Measurement], Sequence[T]], say: Callable[[Sequence[T]], str]) -> str:
    """Say something of all rounds of each question, where it is known of any."""
    known: dict[str, list[T]] = {}
    for m in run.measurements:
        known.setdefault(m.question, []).extend(of(m))
    return ", ".join(f"{say(found)} in `{question}`" for question, found in known.items() if found)


def others(run: Run) -> list[str]:
    """Return in what the package that was measured is not the checkout's, as far as the run knows."""
    facts = run.machine.get("installed", {})
    files, older = facts.get("other files"), facts.get("older module")
    said = [f"{len(files)} Python files differ, {files[0]} for one"] if files else []
    return said + (["its native module is older than csrc"] if older else [])


def quantity(value: float, unit: str) -> str:
    """Write a number in the multiple of its unit that suits it."""
    scale, name = next((pair for pair in UNITS[unit] if value >= pair[0]), UNITS[unit][-1])
    return f"{number(value / scale)} {name}"


def figures(run: Run) -> str:
    """Return the table of figures, judged."""
    rows = [["figure", "measured", "must be", "reached"]]
    for figure in run.figures:
        said = verdict(figure).replace("NO", "**NO**")
        rows.append([figure.what, number(figure.value), str(MUST.get(figure.key, "")), said])
    return table([*rows, *([*row[:-1], f"**{row[-1]}**"] for row in missing(run))])


def missing(run: Run) -> list[list[str]]:
    """Return rows of what must be reached and was not measured."""
    return [[must.what, "not measured", str(must), "NO"] for must in unmeasured(run)]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, the first of them its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def times(measured: Sequence[Measurement]) -> str:
    """Return a question's table: a row a case, and in the columns of contestants how many times the base they take."""
    names = list(dict.fromkeys(name for m in measured for name in m.samples if base(m) != name))
    rows = [["case", OWN, "GB/s", *names]]
    for m in measured:
        own = base(m)
        if own is None:
            continue
        middle = f"{quantity(statistics.median(m.samples[own]), m.unit)}{spread(m.samples[own])}{mark(m, own)}"
        first = middle if own == OWN else f"{own}: {middle}"
        cells = [ratio(m, name, own) if name in m.samples else "" for name in names]
        rows.append([f"{m.case}", first, number(rate(m, own)) if m.nbytes else "", *cells])
    if len(rows) == 1:
        return ""
    own_bytes = [name for name in names if any(is_per_byte(m, name) for m in measured)]
    note = "The other columns are times of the first, median ± half of the range between quartiles; smaller is faster."
    if own_bytes:
        note += f" Of {', '.join(own_bytes)}, times per byte: they move other bytes than the first."
    if any(mark(m, name) for m in measured for name in m.samples):
        note += f" Unsteady: {BEYOND}, as where idle threads spin on the processors of those that work."
    return f"{table(rows)}\n\n{note}"


def ratio(m: Measurement, name: str, own: str) -> str:
    """Write the median of them, their spread, and whether the contestant's own times are unsteady."""
    found = ratios(m, name, own)
    return f"{number(statistics.median(found))}{spread(found)}{mark(m, name)}"


def mark(m: Measurement, name: str) -> str:
    """Mark times that are artefacts of scheduling."""
    return " unsteady" if is_unsteady(m.samples[name]) else ""


def spread(samples: Sequence[float]) -> str:
    """Write half of the range between quartiles, in percent of the median."""
    if len(samples) < 2:
        return ""
    low, high = quartiles(samples)
    return f" ±{50 * (high - low) / abs(statistics.median(samples) or 1):.0f}%"


def distances(measured: Sequence[Measurement], least: float) -> Iterator[str]:
    """Say what differs between rounds with processors near each other, and with others, where a case has such."""
    rows = [["case", "contestant", *DISTANCES]]
    for m in measured:
        own, there = base(m), distances_of(m, least)
        for name in m.samples if own else ():
            found = list(zip(ratios(m, name, own or ""), there, strict=False))
            groups = [[ratio for ratio, place in found if place == wanted] for wanted in DISTANCES]
            if name != own and max(map(len, groups[1:])) >= LEAST_ROUNDS:
                rows.append([m.case, name, *map(median_of, groups)])
    if len(rows) > 1:
        yield (
            f"The same ratios, in rounds in which a cache line's way from core to core was short, more than {FAR} "
            f"times as long, and in which both processors were hardware threads of one core:\n\n{table(rows)}"
        )


def median_of(ratios: Sequence[float]) -> str:
    """Write a median, and of how many rounds it is; nothing of none."""
    return "" if not ratios else f"{number(statistics.median(ratios))} ({len(ratios)} rounds)"


def absences(measured: Sequence[Measurement]) -> Iterator[str]:
    """Say who did not take part, and why."""
    rows = absent(measured)
    if len(rows) > 1:
        yield table(rows)


def absent(measured: Sequence[Measurement]) -> list[list[str]]:
    """Return rows of who did not take part, why, and in which cases."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for m in measured:
        for name, why in m.absent.items():
            reasons.setdefault((name, why), []).append(m.case)
    rows = [["absent", "why", "in cases"]]
    for (name, why), cases in reasons.items():
        where = "all" if len(cases) == len(measured) else ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
        rows.append([name, why, where])
    return rows


def show(run: Run) -> None:
    """Print the short form: each case with its ceiling, NumPy and the fastest peer; then the figures."""
    rows = [["case", OWN, "ceiling", "NumPy", "fastest other"]]
    for m in run.measurements:
        own = base(m)
        if own is None:
            continue
        others = {n: ratios(m, n, own) for n in m.samples if peer_of(n) and n not in (own, "NumPy")}
        fastest = min(others, key=lambda n: statistics.median(others[n]), default=None)
        first = quantity(statistics.median(m.samples[own]), m.unit)
        shown = (name if name in m.samples and name != own else None for name in (ceiling_of(m), "NumPy"))
        cells = [ratio(m, name, own) if name else "" for name in shown]
        last = f"{fastest} {ratio(m, fastest, own)}" if fastest else ""
        rows.append([m.case, first if own == OWN else f"{own}: {first}", *cells, last])
    judged = [["figure", "measured", "must be", "reached"]]
    for figure in run.figures:
        if figure.key in MUST:
            judged.append([figure.what, number(figure.value), str(MUST[figure.key]), verdict(figure)])
    judged += missing(run)
    tables = {
        f"Times of gradstep's, smaller is faster; unsteady: {BEYOND}": rows,
        "Who did not take part": absent(run.measurements),
        "Figures that must be reached": judged,
    }
    for title_, body in tables.items():
        if len(body) > 1:
            _print(title_, body)
    for question, why in run.failures.items():
        print(f"{question} failed:\n{why}")


def _print(title_: str, rows: Sequence[Sequence[str]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title_}\n\n{table(rows)}")
        return
    shown = Table(title=title_, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for k, head in enumerate(rows[0]):
        shown.add_column(head, overflow="fold", justify="left" if k in (0, 4) else "right")
    for row in rows[1:]:
        shown.add_row(*row, style="bold red" if row[-1] == "NO" else "")
    Console().print(shown)
