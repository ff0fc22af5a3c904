"""Pictures of a run: a panel for each series of cases, and one for each case that stands alone."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.case import Measurement
from bench.run import Run
from bench.samples import OWN, base, ceiling_of, is_per_byte, number, quartiles, rate, ratios

COLORS = {
    "gradstep": "#0b5fd4", "pure Python": "#8c564b", "NumPy": "#d62728", "NumPy out=": "#ff9896", "numexpr": "#9467bd",
    "Numba": "#2ca02c", "PyTorch fused": "#ff7f0e", "PyTorch foreach": "#ffbb78", "PyTorch loop": "#c49c94",
    "JAX optax": "#17becf", "DeepSpeed": "#bcbd22", "Thinc": "#e377c2", "PyTorch": "#ff7f0e", "SciPy": "#9467bd",
    "scikit-learn": "#2ca02c",
}  # fmt: skip
Panel = tuple[str, list[Measurement]]


def draw(run: Run, folder: Path) -> dict[str, list[str]]:
    """Write the pictures; return question -> names of its files. Without matplotlib there are none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("matplotlib is not installed: there are no pictures", file=sys.stderr)
        return {}
    drawn: dict[str, list[str]] = {}
    caches = room(run.machine)
    for question in dict.fromkeys(m.question for m in run.measurements):
        panels = panels_of([m for m in run.measurements if m.question == question and m.samples])
        chosen = {question: panels, "roofline": [p for p in panels if question == "every_rule" and p[0] == "AdamW"]}
        for name, some in chosen.items():
            if some:
                picture = figure(Figure, some, caches)
                picture.savefig(folder / f"{name}.png", dpi=120)
                drawn.setdefault(question, []).append(f"{name}.png")
    return drawn


def room(machine: dict[str, Any]) -> dict[str, int]:
    """Return the bytes that all threads have in the caches of each level: of L1 and L2 each has its own."""
    threads = machine["gradstep"]["num_threads"]
    return {level: size * (threads if level in ("L1", "L2") else 1) for level, size in machine["caches"].items()}


def panels_of(measured: Sequence[Measurement]) -> list[Panel]:
    """Return cases of one series together, and others alone."""
    panels: dict[str, list[Measurement]] = {}
    for m in measured:
        panels.setdefault(m.case if m.x is None else m.series, []).append(m)
    return list(panels.items())


def figure(kind: Any, panels: Sequence[Panel], caches: dict[str, int]) -> Any:
    """Return a figure of panels in two columns; of one alone, wide."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    tallest = max(len(cases[0].samples) for _, cases in panels)
    height = 4.6 if any(is_line(cases) for _, cases in panels) else 0.9 + 0.28 * tallest
    made = kind(figsize=(9.5 if columns == 1 else 14, height * rows), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False)
    for ax, (name, cases) in zip(axes.flat, panels, strict=False):
        (lines if is_line(cases) else bars)(ax, cases)
        if is_line(cases) and cases[0].question == "every_rule":
            roof(ax, cases, caches)
        ax.set_title(name, loc="left", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    return made


def is_line(cases: Sequence[Measurement]) -> bool:
    """Whether cases lie along an axis."""
    return cases[0].x is not None


def names_of(cases: Sequence[Measurement]) -> list[str]:
    """Return who takes part in any of them."""
    return list(dict.fromkeys(name for m in cases for name in m.samples))


def lines(ax: Any, cases: Sequence[Measurement]) -> None:
    """Draw GB/s where cases say bytes, else times of ours."""
    moved = bool(cases[0].nbytes)
    for name in names_of(cases):
        there = [m for m in cases if name in m.samples and (moved or base(m) == OWN)]
        heights = [rate(m, name) if moved else statistics.median(ratios(m, name, OWN)) for m in there]
        style: dict[str, Any] = {"color": COLORS.get(name), "linewidth": 2.6 if name == OWN else 1.2}
        if name.startswith("ceiling"):
            style = {"color": "black", "linestyle": "--" if "," not in name else ":", "linewidth": 1.2}
        marker = {"marker": "o", "markersize": 3.5, "zorder": 3 if name == OWN else 2}
        ax.plot([m.x for m in there], heights, label=name, **style, **marker)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if cases[0].question != "every_rule":
        ax.set_xticks([m.x for m in cases], [f"{m.x:g}" for m in cases])
        ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.set_ylabel("GB/s" if moved else "times of gradstep's")
    ax.set_xlabel({"every_rule": "bytes of all arrays", "threads": "threads"}.get(cases[0].question, "width"))
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def roof(ax: Any, cases: Sequence[Measurement], caches: dict[str, int]) -> None:
    """Draw the ceiling of each cache level and of memory: the best of what its sizes allow."""
    best = {m.x: rate(m, name) for m in cases if (name := ceiling_of(m))}
    below = 0.0
    for level, size in [*caches.items(), ("memory", math.inf)]:
        inside = [x for x in best if x is not None and below < x <= size]
        if inside:
            top = max(best[x] for x in inside)
            right = min(size, 2 * max(x for x in best if x is not None))
            ax.hlines(top, max(below, min(best) or 1), right, color="0.55", linewidth=5, alpha=0.35)
            ax.annotate(f"{level} {top:.0f}", (right, top), (-2, 5), textcoords="offset points", ha="right", fontsize=8)
        if math.isfinite(size):
            ax.axvline(size, color="0.85", linewidth=0.8, zorder=0)
        below = size


def bars(ax: Any, cases: Sequence[Measurement]) -> None:
    """Draw a case: the time of each in that of the base, the fastest on top, with quartiles."""
    (m,) = cases
    own = base(m)
    assert own
    found = {name: ratios(m, name, own) for name in m.samples}
    order = sorted(found, key=lambda name: statistics.median(found[name]), reverse=True)
    for y, name in enumerate(order):
        middle, (low, high) = statistics.median(found[name]), quartiles(found[name])
        color = "black" if name.startswith("ceiling") else COLORS.get(name.split(",")[0], "0.6")
        ax.barh(y, middle, xerr=[[middle - low], [high - middle]], color=color, alpha=0.85, error_kw={"linewidth": 1})
        ax.annotate(number(middle), (high, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    labels = [f"{name}, per byte" if is_per_byte(m, name) else name for name in order]
    ax.set_yticks(range(len(order)), labels, fontsize=9)
    spans = [max(map(max, found.values())), min(map(min, found.values()))]
    if spans[0] / max(spans[1], 1e-12) > 20:
        ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.set_xlabel(f"times of {own}'s" if m.unit == "s" else f"{m.unit}, in {own}'s", fontsize=9)
