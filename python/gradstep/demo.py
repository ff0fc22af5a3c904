"""The demo: seven optimizers read handwritten digits, each against its textbook form in plain NumPy."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import gradstep
from gradstep import mlp, textbook
from gradstep.mlp import Floats, Labels

if TYPE_CHECKING:
    from rich.table import Table

BATCH = 64
EPOCHS = 30

SETTINGS: dict[str, dict[str, Any]] = {
    "GradientDescent": {"lr": 0.2},
    "SGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "Momentum": {"lr": 0.05, "momentum": 0.9},
    "NAG": {"lr": 0.05, "momentum": 0.9},
    "Adagrad": {"lr": 0.02},
    "Adam": {"lr": 2e-3},
    "AdamW": {"lr": 2e-3, "weight_decay": 0.05},
}

# What is imported, and what pip calls it.
EXTRAS = {"rich.progress": "rich", "matplotlib.figure": "matplotlib", "sklearn.datasets": "scikit-learn"}

COLUMNS = ("optimizer", "test accuracy", "final loss", "us per step", "NumPy us", "speed-up", "bits equal")


@dataclass(frozen=True)
class Digits:
    """The scans, split.

    Attributes
    ----------
    x, y : array
        To train on: one image a row, and its digit.
    test_x, test_y : array
        To test on.
    """

    x: Floats
    y: Labels
    test_x: Floats
    test_y: Labels


@dataclass(frozen=True)
class Result:
    """How one optimizer did.

    Attributes
    ----------
    optimizer : str
        Its class.
    losses : tuple of float
        Over the training scans: before training, then after each epoch.
    test_accuracy : float
        Share of the test scans read right.
    step_seconds, numpy_step_seconds : float
        Median time of a step, with gradstep and in plain NumPy.
    bit_equal : bool
        Whether both ended with the same bits in all parameters.
    """

    optimizer: str
    losses: tuple[float, ...]
    test_accuracy: float
    step_seconds: float
    numpy_step_seconds: float
    bit_equal: bool

    @property
    def speedup(self) -> float:
        """How many times faster than plain NumPy."""
        return self.numpy_step_seconds / self.step_seconds

    def record(self) -> dict[str, Any]:
        """Return the entry of the JSON file.

        Returns
        -------
        dict
            What ``--json`` writes of this optimizer.
        """
        return {
            "optimizer": self.optimizer,
            "test_accuracy": self.test_accuracy,
            "final_loss": self.losses[-1],
            "step_seconds": self.step_seconds,
            "numpy_step_seconds": self.numpy_step_seconds,
            "bit_equal": self.bit_equal,
        }

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table.

        Returns
        -------
        tuple of str
            One for each of `COLUMNS`.
        """
        return (
            self.optimizer,
            f"{self.test_accuracy:.4f}",
            f"{self.losses[-1]:.2e}",
            f"{self.step_seconds * 1e6:.1f}",
            f"{self.numpy_step_seconds * 1e6:.1f}",
            f"{self.speedup:.1f}x",
            "yes" if self.bit_equal else "NO",
        )


class Race:
    """gradstep and the textbook on copies of the same parameters, taking turns.

    Parameters
    ----------
    name : str
        One of `SETTINGS`.
    params : list of arrays
        gradstep updates these; the textbook has a copy.
    """

    def __init__(self, name: str, params: list[Floats]) -> None:
        self._params = params
        self._mirror = [p.copy() for p in params]
        ours = getattr(gradstep, name)(params, **SETTINGS[name])
        plain = getattr(textbook, name)(**SETTINGS[name])
        self._steps = (ours.step, partial(plain.step, self._mirror))
        self._seconds: tuple[list[float], list[float]] = ([], [])

    def step(self, grads: list[Floats]) -> None:
        """Step both.

        Parameters
        ----------
        grads : list of arrays
            One for each parameter.
        """
        # Whoever goes second finds the gradients in cache.
        order = (0, 1) if len(self._seconds[0]) % 2 else (1, 0)
        for i in order:
            start = perf_counter()
            self._steps[i](grads)
            self._seconds[i].append(perf_counter() - start)

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds of a step, gradstep's and the textbook's."""
        return median(self._seconds[0]), median(self._seconds[1])

    @property
    def bit_equal(self) -> bool:
        """Whether both have the same bits in all parameters."""
        return all(a.tobytes() == b.tobytes() for a, b in zip(self._params, self._mirror, strict=True))


def load(seed: int) -> Digits:
    """Load scikit-learn's scans and keep a fifth for the test.

    Parameters
    ----------
    seed : int
        Of the split.

    Returns
    -------
    Digits
        Pixels from 0 to 1.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), labels.astype(np.int64)
    test, train = np.split(np.random.default_rng(seed).permutation(len(x)), [len(x) // 5])
    return Digits(x[train], y[train], x[test], y[test])


def train(name: str, *, digits: Digits, epochs: int, seed: int, tick: Callable[[], object] = lambda: None) -> Result:
    """Train the network with one optimizer.

    Parameters
    ----------
    name : str
        One of `SETTINGS`.
    digits : Digits
        The scans.
    epochs : int
        How often each scan is seen.
    seed : int
        Of weights and batches.
    tick : callable, optional
        Called after each epoch.

    Returns
    -------
    Result
        How it did.
    """
    rng = np.random.default_rng(seed)
    params = mlp.init(rng)
    race = Race(name, params)
    losses = [mlp.loss_and_accuracy(params, digits.x, digits.y)[0]]
    for _ in range(epochs):
        for batch in _batches(rng, len(digits.x)):
            race.step(mlp.loss_and_grads(params, digits.x[batch], digits.y[batch])[1])
        losses.append(mlp.loss_and_accuracy(params, digits.x, digits.y)[0])
        tick()
    _, accuracy = mlp.loss_and_accuracy(params, digits.test_x, digits.test_y)
    return Result(name, tuple(losses), accuracy, *race.medians, race.bit_equal)


def run(
    names: Sequence[str], *, epochs: int, seed: int, picture: Path | None = None, record: Path | None = None
) -> int:
    """Train with each optimizer in turn, and show how they did.

    Parameters
    ----------
    names : sequence of str
        Of `SETTINGS`.
    epochs : int
        How often each scan is seen.
    seed : int
        Of split, weights and batches.
    picture, record : Path, optional
        Where to draw, and where to write JSON.

    Returns
    -------
    int
        The exit status.
    """
    if complaint := _missing(picture=picture is not None):
        print(complaint, file=sys.stderr)
        return 1
    fit = partial(train, digits=load(seed), epochs=epochs, seed=seed)
    results = _in_table(names, fit, epochs) if _wide_terminal() else _in_lines(names, fit)
    if record:
        record.write_text(json.dumps([r.record() for r in results], indent=2) + "\n", encoding="utf-8")
        print(f"Wrote {record}")
    if picture:
        from gradstep.demo_picture import draw

        draw(results, picture)
        print(f"Wrote {picture}")
    return 0


def _missing(*, picture: bool) -> str | None:
    for module, distribution in EXTRAS.items():
        if distribution == "matplotlib" and not picture:
            continue
        try:
            with _interrupts_later():
                import_module(module)
        except ImportError as error:
            return f"gradstep demo needs {distribution} ({error}): pip install 'gradstep[demo]'"
    return None


@contextmanager
def _interrupts_later() -> Iterator[None]:
    # Inside an import, importlib or an extension module may swallow a KeyboardInterrupt.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if seen:
        raise KeyboardInterrupt


def _batches(rng: np.random.Generator, n: int) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(n)
    for start in range(0, n, BATCH):
        yield order[start : start + BATCH]


def _wide_terminal() -> bool:
    return sys.stdout.isatty() and shutil.get_terminal_size().columns >= 80


def _in_lines(names: Sequence[str], fit: Callable[..., Result]) -> list[Result]:
    print(_line(COLUMNS), flush=True)
    results = []
    for name in names:
        results.append(fit(name))
        print(_line(results[-1].cells()), flush=True)
    return results


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    widths = map(len, COLUMNS[1:])
    return "  ".join([first.ljust(max(map(len, SETTINGS))), *map(str.rjust, others, widths)])


def _in_table(names: Sequence[str], fit: Callable[..., Result], epochs: int) -> list[Result]:
    from rich.progress import Progress

    results = []
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(names) * epochs)
        for name in names:
            progress.update(task, description=f"{name:<15}")
            results.append(fit(name, tick=partial(progress.advance, task)))
        progress.console.print(_table(results))
    return results


def _table(results: Sequence[Result]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1))
    for title in COLUMNS:  # a word a line, to leave room for the cells
        table.add_column(title.replace(" ", "\n"), justify="right" if table.columns else "left", no_wrap=True)
    for result in results:
        *cells, equal = result.cells()
        table.add_row(*cells, f"[{'green' if result.bit_equal else 'bold red'}]{equal}")
    return table
