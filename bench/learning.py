"""Figures of training: the estimators against scikit-learn's."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from figure import Figure

import gradstep as gs


def sklearn_mlp(quick: bool) -> Iterator[Figure]:
    """Time of a fit, and accuracy, both of scikit-learn's: same weights at first, same batches, same epochs."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    X, test_X, y, test_y = train_test_split((X / 16).astype(np.float32), y, test_size=0.25, random_state=0)
    epochs = 15 if quick else 30
    same: dict[str, Any] = {
        "hidden_layer_sizes": (256, 128), "batch_size": 64, "max_iter": epochs, "tol": 0.0, "n_iter_no_change": epochs,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    scores: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    for seed in range(3 if quick else 9):
        models = {"ours": gs.sklearn.MLPClassifier, "scikit-learn": MLPClassifier}
        for name, model in models.items():
            time.sleep(0.05)  # idle threads of the one before fall asleep
            begin = time.perf_counter()
            fitted = model(**same, random_state=seed).fit(X, y)
            seconds[name].append(time.perf_counter() - begin)
            assert fitted.n_iter_ == epochs
            assert fitted.coefs_[0].dtype == np.float32
            scores[name].append(fitted.score(test_X, test_y))
    times = {name: statistics.median(samples) for name, samples in seconds.items()}
    means = {name: statistics.mean(samples) for name, samples in scores.items()}
    what = "MLPClassifier((256, 128)), digits in float32, batch 64, Adam"
    yield Figure(f"{what}: fit, of scikit-learn's", times["ours"] / times["scikit-learn"], "mlp time")
    yield Figure(f"{what}: test accuracy, less scikit-learn's", means["ours"] - means["scikit-learn"], "mlp accuracy")
