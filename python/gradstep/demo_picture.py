"""The demo's picture: loss curves, and the time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradstep.mlp import WIDTHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradstep.demo import Result

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
OURS, NUMPY = "#0072B2", "#C8CDD3"
GREY = "#555555"


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the picture.

    Parameters
    ----------
    results : sequence of Result
        One for each optimizer.
    path : Path
        Where it goes.
    """
    figure = Figure(figsize=(12, 5.2), facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.12)
    left, right = figure.subplots(1, 2)
    _draw_losses(left, results)
    _draw_times(right, results)
    figure.savefig(path, dpi=160)


def _draw_losses(axes: Axes, results: Sequence[Result]) -> None:
    for result, colour in zip(results, COLOURS, strict=False):
        label = f"{result.optimizer}  ({result.test_accuracy:.1%})"
        axes.plot(range(len(result.losses)), result.losses, color=colour, linewidth=1.8, label=label)
    axes.set_yscale("log")
    axes.set_xlim(0, len(results[0].losses) - 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel("epoch", color=GREY)
    _title(axes, "Training loss", "cross-entropy over the training scans; test accuracy in brackets")
    axes.grid(color="#E6E8EB", linewidth=0.8)
    axes.legend(frameon=False, loc="upper right", fontsize=9)


def _draw_times(axes: Axes, results: Sequence[Result]) -> None:
    rows = range(len(results))
    ours = [r.step_seconds * 1e6 for r in results]
    plain = [r.numpy_step_seconds * 1e6 for r in results]
    axes.barh([y - 0.19 for y in rows], plain, 0.36, color=NUMPY, label="plain NumPy")
    axes.barh([y + 0.19 for y in rows], ours, 0.36, color=OURS, label="gradstep")
    for y, result in zip(rows, results, strict=True):
        text = f"{result.speedup:.1f}x"
        axes.annotate(text, (ours[y], y + 0.19), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(rows, [r.optimizer for r in results])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("microseconds", color=GREY)
    count = sum((n + 1) * m for n, m in pairwise(WIDTHS))
    _title(axes, "Time of a step", f"median, and speed-up; {count:,} parameters in float32")
    axes.grid(axis="x", color="#E6E8EB", linewidth=0.8)
    axes.legend(frameon=False, loc="upper right", fontsize=9)


def _title(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=22)
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": GREY}
    axes.annotate(below, (0, 1), (0, 8), xycoords="axes fraction", **style)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=GREY, labelsize=9)
