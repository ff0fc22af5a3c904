"""What the examples share: how they run, and the digits that several learn to read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits


def run(main: Callable[[], Figure]) -> None:
    """Call `main`, which prints what it finds and returns a picture of it, and write the picture."""
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path(f"{script.stem}.png"), help="where the picture goes")
    output = parser.parse_args().output
    with threadpool_limits(1, "blas"):  # matrices this small take longer with more threads
        figure = main()
    figure.savefig(output, dpi=120)
    print(f"picture: {output}")


def panels(columns: int = 2, rows: int = 1, **options: object) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure and its axes; those of a single row in one dimension."""
    figure = Figure(figsize=(4.8 * columns, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes[0] if rows == 1 else axes


def digits(train: float | int, seed: int = 0) -> list[NDArray]:
    """Return scans of handwritten digits, 8 by 8 pixels from 0 to 16: to train, to test, and what they show."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images.astype(np.float32)
    return train_test_split(images, data.target, train_size=train, random_state=seed, stratify=data.target)
