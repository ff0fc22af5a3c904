"""Pictures, drawn by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradstep.hyperparameters import NON_NEGATIVE, Float, ask
from gradstep.schedules import COUNT, SCHEDULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["schedule"]


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
    for name, values in lines:
        ax.plot(values, label=name)
    ax.set_xlabel("calls")
    if isinstance(schedule, Mapping) and schedule:
        ax.legend()
    return ax


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"gradstep.plot needs matplotlib ({error}): pip install 'gradstep[demo]'") from error
    return pyplot.subplots(layout="constrained")[1]
