"""Figures of data: batches against NumPy's indexing and arithmetic, moments against scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from contestants import wake_blas
from figure import Figure
from turns import medians

import gradstep as gs

ROWS, COLUMNS, BATCH = 50_000, 784, 256


def numpys(X: Any, mean: Any, scale: Any, rng: np.random.Generator) -> None:
    """One epoch, as it is written today."""
    order = rng.permutation(len(X))
    for i in range(0, len(X), BATCH):
        (X[order[i : i + BATCH]] - mean) / scale


def ours(X: Any, standardizer: gs.data.Standardizer, **settings: Any) -> None:
    """One epoch."""
    for _ in gs.data.minibatches(X, batch_size=BATCH, standardize=standardizer, **settings):
        pass


def gather(quick: bool) -> Iterator[Figure]:
    """Shuffled batches, standardised: an epoch, against NumPy's time."""
    wake_blas()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
    for X in (pixels.astype(np.float32), pixels):
        standardizer = gs.data.Standardizer().fit(X)
        mean, scale = (np.asarray(a, np.float32) for a in (standardizer.mean_, standardizer.scale_))
        (batch, rows) = next(gs.data.minibatches(X, np.arange(ROWS), batch_size=BATCH, standardize=standardizer))
        np.testing.assert_allclose(batch, (X[rows] - mean) / scale, atol=1e-5)
        times = medians(
            {
                "numpy": partial(numpys, X, mean, scale, rng),
                "ours": partial(ours, X, standardizer),
                "again": partial(ours, X, standardizer, reuse=True),
            },
            5 if quick else 15,
        )
        what = f"batches of {BATCH} from {ROWS} x {COLUMNS} {X.dtype}, standardised: times faster than NumPy"
        yield Figure(what, times["numpy"] / times["ours"], f"gather {X.dtype}")
        yield Figure("the same, into arrays that are used again", times["numpy"] / times["again"])


def moments(quick: bool) -> Iterator[Figure]:
    """Mean and variance of columns, against scikit-learn's time."""
    from sklearn.preprocessing import StandardScaler

    wake_blas()
    X = np.random.default_rng(0).normal(3, 2, (1_000_000, 50))
    theirs, mine = StandardScaler(), gs.data.Standardizer()
    times = medians({"scikit-learn": partial(theirs.fit, X), "ours": partial(mine.fit, X)}, 3 if quick else 7)
    np.testing.assert_allclose(mine.mean_, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(mine.scale_, theirs.scale_, rtol=1e-12)
    what = "Standardizer.fit on 10^6 x 50 float64: times faster than scikit-learn's"
    yield Figure(what, times["scikit-learn"] / times["ours"], "moments")
