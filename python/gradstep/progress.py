"""A progress bar, drawn by rich where it is installed, and where there is somebody to see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

PERIOD = 0.1  # seconds from one picture to the next: drawing takes longer than a small step


@contextmanager
def bar(wanted: bool | None, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows how many steps are done, and words about them.

    `wanted` is False for never, True wherever rich can, None for terminals only.
    """
    if wanted is False or (wanted is None and not _seen()):
        yield _nothing
        return
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _nothing
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)
        shown = -PERIOD

        def show(done: int, words: str) -> None:
            nonlocal shown
            if (now := monotonic()) - shown >= PERIOD or done == total:
                shown = now
                progress.update(task, completed=done, description=words)

        yield show


def _seen() -> bool:
    isatty = getattr(sys.stdout, "isatty", None)  # a program without a console has no stdout
    return isatty is not None and bool(isatty())


def _nothing(done: int, words: str) -> None:
    pass
