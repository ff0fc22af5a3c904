"""Pictures, drawn by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradstep.containers import is_sequence
from gradstep.health import Health
from gradstep.hyperparameters import NON_NEGATIVE, Float, ask
from gradstep.schedules import COUNT, SCHEDULE
from gradstep.training import FitResult
from gradstep.tune import LRRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["convergence", "health", "history", "lr_range", "schedule"]


def convergence(result: Any, ax: Axes | None = None) -> Axes:
    """Draw how far a search was from the lowest value it found, and its gradient, iteration by iteration.

    Parameters
    ----------
    result : scipy.optimize.OptimizeResult, or mapping of them
        What `gradstep.minimize` returned with ``options={"history": True}``; the keys of a mapping name the lines.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure of pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If a result has no history.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from matplotlib.figure import Figure
    >>> found = gs.minimize(lambda x: (x @ x, 2 * x), np.ones(3), jac=True, options={"history": True})
    >>> ax = gs.plot.convergence(found, ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_yscale(), len(ax.lines)
    ('iterations', 'log', 2)
    """
    single = not isinstance(result, Mapping) or "fun" in result
    courses = {name: _course(name, one) for name, one in ({"": result} if single else result).items()}
    if not courses:
        raise ValueError("result: expected at least one, got none")
    ax = _new_axes() if ax is None else ax
    values = [f for course in courses.values() for f in course["fun"] if math.isfinite(f)] or [0.0]
    lowest, rounding = min(values), sys.float_info.epsilon * (max(map(abs, values)) or 1.0)
    for name, course in courses.items():
        prefix = f"{name}: " if name else ""
        above = [max(f - lowest, rounding) if math.isfinite(f) else math.nan for f in course["fun"]]
        (line,) = ax.plot(above, label=f"{prefix}fun above the lowest")
        ax.plot(course["grad"], "--", color=line.get_color(), label=f"{prefix}greatest component of the gradient")
    ax.set_yscale("log")
    ax.set_xlabel("iterations")
    ax.legend()
    return ax


def _course(name: str, result: Any) -> Mapping[str, Any]:
    course = getattr(result, "history", None)
    if not isinstance(course, Mapping) or not {"fun", "grad"} <= set(course):
        label = f"result[{name!r}]" if name else "result"
        raise ValueError(f'{label}: expected one of minimize with options={{"history": True}}, got none')
    return course


def schedule(schedule: Float | Mapping[str, Float], steps: int, ax: Axes | None = None) -> Axes:
    """Draw the values of one schedule, or of several, call by call.

    Parameters
    ----------
    schedule : schedule, or mapping of schedules
        What is drawn; the keys of a mapping name the lines. A number is a constant schedule.
    steps : int
        Number of calls, from the first one on.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure of pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an argument is out of range, or a schedule returns no finite number of at least 0.

    Examples
    --------
    >>> import gradstep as gs
    >>> from matplotlib.figure import Figure
    >>> lr = gs.schedules.cosine(1e-3, 1000, warmup=100)
    >>> ax = gs.plot.schedule({"cosine": lr, "constant": 1e-3}, 1000, ax=Figure().subplots())
    >>> ax.get_xlabel(), len(ax.lines)
    ('calls', 2)
    """
    steps = COUNT("steps", steps)
    lines = []
    for name, one in schedule.items() if isinstance(schedule, Mapping) else [(None, schedule)]:
        label = "schedule" if name is None else f"schedule[{name!r}]"
        checked = SCHEDULE(label, one)
        lines.append((name, [ask(label, NON_NEGATIVE, checked, calls) for calls in range(steps)]))
    if ax is None:
        ax = _new_axes()
    assert ax is not None
    for name, values in lines:
        ax.plot(values, label=name)
    ax.set_xlabel("calls")
    if isinstance(schedule, Mapping) and schedule:
        ax.legend()
    return ax


def health(history: Sequence[Health], axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw gradient norms and update-to-weight ratios of every array over time, on logarithmic scales.

    Norms that fall from the last layer to the first, or with time, are vanishing gradients; norms that soar are
    exploding ones. Zeros and what is not finite leave a gap.

    Parameters
    ----------
    history : sequence of Health
        ``opt.health`` of one step after another.
    axes : two of matplotlib.axes.Axes, optional
        Where to draw; without them, in a new figure of pyplot.

    Returns
    -------
    sequence of matplotlib.axes.Axes
        Those of the norms and of the ratios.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is no sequence of Health.
    ValueError
        If `axes` are not two.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from matplotlib.figure import Figure
    >>> opt, history = gs.SGD({"W": np.ones(3)}, lr=0.1), []
    >>> for _ in range(5):
    ...     opt.step({"W": np.ones(3)}, health=True)
    ...     history.append(opt.health)
    >>> norms, ratios = gs.plot.health(history, axes=Figure().subplots(1, 2))
    >>> norms.get_ylabel(), ratios.get_ylabel()
    ('gradient norm', 'update / weight')
    """
    kind = is_sequence(history) and not isinstance(history, Health)
    if not kind or not all(isinstance(h, Health) for h in history):
        raise TypeError("history: expected a sequence of Health, one a step")
    if axes is not None and len(axes) != 2:
        raise ValueError(f"axes: expected two, got {len(axes)}")
    if axes is None:
        axes = _new_axes(2)
    names = dict.fromkeys(row.name for h in history for row in h)
    for ax, field, title in zip(axes, ("norm", "update_ratio"), ("gradient norm", "update / weight"), strict=True):
        for name in names:
            ax.plot([_drawn(h, name, field) for h in history], label=_short(name))
        ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel(title)
    if names:
        axes[1].legend(fontsize="small")
    return axes


def history(result: FitResult | Mapping[str, FitResult], ax: Axes | None = None) -> Axes:
    """Draw the losses of training step by step, and epoch by epoch their means and what `validate` found.

    Parameters
    ----------
    result : FitResult, or mapping of them
        What `gradstep.fit` returned; the keys of a mapping name the lines.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure of pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If a result is none of `gradstep.fit`.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from matplotlib.figure import Figure
    >>> w = np.ones(3)
    >>> result = gs.fit(lambda w: (w @ w, 2 * w), w, [()], gs.SGD(w, lr=0.1), epochs=20)
    >>> ax = gs.plot.history(result, ax=Figure().subplots())
    >>> ax.get_xlabel(), [line.get_label() for line in ax.lines]
    ('steps', ['loss', 'mean of the epoch'])
    """
    results = dict(result) if isinstance(result, Mapping) else {"": result}
    for name, one in results.items():
        if not isinstance(one, FitResult):
            label = f"result[{name!r}]" if isinstance(result, Mapping) else "result"
            raise TypeError(f"{label}: expected what gradstep.fit returned, got {type(one).__name__}")
    ax = _new_axes() if ax is None else ax
    for name, one in results.items():
        course, prefix = one.history, f"{name}: " if name else ""
        (line,) = ax.plot(range(1, one.steps + 1), course.loss, alpha=0.4, label=f"{prefix}loss")
        ax.plot(course.epoch_end, course.epoch_loss, color=line.get_color(), label=f"{prefix}mean of the epoch")
        if not all(map(math.isnan, course.validation)):
            ax.plot(course.epoch_end, course.validation, "--", color=line.get_color(), label=f"{prefix}validation")
    ax.set_xlabel("steps")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def lr_range(result: LRRange, ax: Axes | None = None) -> Axes:
    """Draw the loss over the learning rate, and the one that is suggested.

    Parameters
    ----------
    result : LRRange
        What `gradstep.tune.lr_range_test` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure of pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `result` is none of a range test.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> from matplotlib.figure import Figure
    >>> w = np.ones(3)
    >>> found = gs.tune.lr_range_test(lambda w: (w @ w, 2 * w), w, [()], "sgd")
    >>> ax = gs.plot.lr_range(found, ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_xscale(), len(ax.lines)
    ('learning rate', 'log', 3)
    """
    if not isinstance(result, LRRange):
        raise TypeError(f"result: expected what lr_range_test returned, got {type(result).__name__}")
    ax = _new_axes() if ax is None else ax
    (line,) = ax.plot(result.lrs, result.losses, alpha=0.4, label="loss")
    ax.plot(result.lrs, result.smoothed, color=line.get_color(), label="smoothed loss")
    if result.suggestion is not None:
        ax.axvline(result.suggestion, color="black", linestyle=":", label=f"suggestion: {result.suggestion:.2g}")
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def _short(name: str) -> str:
    """Return how one would say where an array is: layer.W for params['layer']['W']."""
    return re.sub(r"\['([^']*)'\]", r".\1", name.removeprefix("params")).removeprefix(".") or "params"


def _drawn(health: Health, name: str, field: str) -> float:
    value = next((float(getattr(row, field)) for row in health if row.name == name), math.nan)
    return value if 0 < value < math.inf else math.nan


def _new_axes(columns: int = 1) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"gradstep.plot needs matplotlib ({error}): pip install 'gradstep[demo]'") from error
    return pyplot.subplots(ncols=columns, layout="constrained", figsize=(5.5 * columns, 4.5))[1]
