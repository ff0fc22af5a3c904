"""Beyond steps: L-BFGS, Newton, gathering batches, standardising, and the estimators."""

from __future__ import annotations

import functools
import statistics
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import gradstep as gs
from bench.case import Array, Case, Contestant, Figure, Question, sample
from bench.contestants import ceiling, minimisers
from bench.contestants.minimisers import PAIRS, lbfgs, ours, scipys, torchs

ROWS, COLUMNS, BATCH = 50_000, 784, 256
GTOL = 1e-5  # to which gradient Newton's methods go


def question(quick: bool) -> Question:
    """Measure what imports PyTorch last: its threads change the others."""
    yield from small_lbfgs()
    yield from newton()
    yield from gather()
    yield from moments(quick)
    yield from estimator(quick)
    yield from large_lbfgs(10**5 if quick else 10**6, quick)


def small_lbfgs() -> Question:
    """Measure few variables, against SciPy."""
    for n, iterations, repeats in ((10, 20, 100), (10_000, 60, 3)):
        took = yield iterating(
            n,
            f"L-BFGS, {n:,} variables, an iteration outside fun",
            {
                "gradstep": partial(lbfgs, ours, n, "f8", iterations, repeats),
                "SciPy": partial(lbfgs, scipys, n, "f8", iterations, repeats),
            },
            rounds=9,
        )
        what = f"L-BFGS, n = {n}: an iteration outside fun, of SciPy's"
        yield Figure(what, took.ratio("gradstep", "SciPy"), f"lbfgs {n}")


def large_lbfgs(n: int, quick: bool) -> Question:
    """Measure many variables, against SciPy, memory and PyTorch, the last in a case of its own."""
    ours_double, power = partial(lbfgs, ours, n, "f8", 45), len(str(n)) - 1
    passes = {
        f"{what}, {rows} rows at once": partial(ceiling.two_passes, n, 2 * PAIRS, dtype, rows)
        for dtype, what in (("float64", "ceiling"), ("float32", "two passes in float32"))
        for rows in (4, 5, 10)
    }
    took = yield iterating(
        n,
        f"L-BFGS, 10^{power} variables, an iteration outside fun",
        {"gradstep": ours_double, "gradstep, float32": partial(lbfgs, ours, n, "f4", 45)}
        | passes
        | {"SciPy": partial(lbfgs, scipys, n, "f8", 25)},
    )
    beside = yield iterating(
        n,
        f"L-BFGS, 10^{power} variables, beside PyTorch",
        {"gradstep": ours_double, "PyTorch": partial(lbfgs, torchs, n, "f8", 45)},
    )
    if quick:
        return
    what = f"L-BFGS, 10^6 float64, m = {PAIRS}: an iteration outside fun"
    yield Figure(f"{what}, of SciPy's", took.ratio("gradstep", "SciPy"), "lbfgs scipy")
    double, single = ([name for name in passes if name.startswith(kind)] for kind in ("ceiling", "two passes"))
    yield Figure("for comparison: two passes over the rows, of SciPy's", 1 / took.ratio("SciPy", *double))
    yield Figure(f"{what}, of what memory allows two passes", took.ratio("gradstep", *double), "lbfgs memory")
    yield Figure("for comparison: the same in float32", took.ratio("gradstep, float32", *single))
    yield Figure("L-BFGS, 10^6: float32, of float64", took.ratio("gradstep, float32", "gradstep"), "lbfgs single")
    yield Figure(f"{what}, of PyTorch's with strong Wolfe", beside.ratio("gradstep", "PyTorch"), "lbfgs torch")


def iterating(n: int, name: str, makers: dict[str, Callable[[], Contestant]], rounds: int = 15) -> Case:
    """Return a case of searches that must go as SciPy's does."""
    same = {"tolerance": 1e-4, "expected": lambda: [minimisers.reference(n)]}
    return Case(name, makers, warm=0, rest=0.05, rounds=rounds, seconds=60.0, **same)


def newton() -> Question:
    """Measure Rosenbrock's function from near its minimum to it, with its Hessian and without."""
    from scipy.optimize import minimize, rosen, rosen_der, rosen_hess, rosen_hess_prod

    near = np.full(200, 1.0) + 0.05 * np.random.default_rng(0).normal(size=200)
    exact, products = {"jac": rosen_der, "hess": rosen_hess}, {"jac": rosen_der, "hessp": rosen_hess_prod}
    # Each to a gradient of 1e-5; of the steps' length, by which Newton-CG ends, to what is enough for that.
    cases: dict[str, dict[str, Callable[[], Any]]] = {
        "Newton, 200 variables": {
            "gradstep": partial(gs.minimize, rosen, near, method="newton", tol=GTOL, **exact),
            "SciPy trust-exact": partial(minimize, rosen, near, method="trust-exact", tol=GTOL, **exact),
            "NumPy": partial(minimisers.newton_in_numpy, rosen_der, rosen_hess, near, GTOL),
        },
        "Newton-CG, 200 variables": {
            "gradstep": partial(gs.minimize, rosen, near, method="newton-cg", tol=GTOL, **products),
            "SciPy trust-ncg": partial(minimize, rosen, near, method="trust-ncg", tol=GTOL, **products),
            "SciPy Newton-CG": partial(minimize, rosen, near, method="Newton-CG", tol=1e-6, **products),
        },
    }

    def end(found: Any) -> list[Array]:
        x = getattr(found, "x", found)
        return [x, rosen_der(x)]

    for name, makers in cases.items():
        yield Case(
            name,
            {who: partial(minimisers.ended_at, make, end) for who, make in makers.items()},
            lambda: [np.ones(200), np.zeros(200)],
            tolerance=GTOL,
        )


def gather() -> Question:
    """Measure an epoch of shuffled batches, standardised."""
    for dtype in ("float32", "uint8"):
        took = yield Case(
            f"batches of {BATCH} from {ROWS:,} x {COLUMNS} {dtype}, standardised",
            {
                "gradstep": partial(batches, dtype, reuse=False),
                "gradstep, arrays used again": partial(batches, dtype, reuse=True),
                "NumPy": partial(indexing, dtype),
            },
            lambda: [np.zeros(2), sample(np.arange(ROWS))],
            tolerance=1e-5,
            rounds=15,
            seconds=20.0,
            runs=5,
        )
        what = f"batches of {BATCH} from {ROWS} x {COLUMNS} {dtype}, standardised: times faster than NumPy"
        yield Figure(what, took.ratio("NumPy", "gradstep"), f"gather {dtype}")
        again = took.ratio("NumPy", "gradstep, arrays used again")
        yield Figure("for comparison: the same, into arrays that are used again", again)


@functools.lru_cache(maxsize=1)
def _pixels(dtype: str) -> tuple[Array, gs.data.Standardizer, Array, Array]:
    X = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8).astype(dtype)
    standardizer = gs.data.Standardizer().fit(X)
    return X, standardizer, *(np.asarray(a, np.float32) for a in (standardizer.mean_, standardizer.scale_))


def batches(dtype: str, reuse: bool) -> Contestant:
    """Make one epoch's batches."""
    settings: dict[str, Any] = {"batch_size": BATCH, "standardize": _pixels(dtype)[1], "reuse": reuse}
    return epochs(dtype, partial(gs.data.minibatches, **settings))


def indexing(dtype: str) -> Contestant:
    """Make them as it is written today."""
    _, _, mean, scale = _pixels(dtype)
    rng = np.random.default_rng(0)

    def make(X: Array, *others: Array) -> Iterator[Any]:
        order = rng.permutation(len(X))
        for i in range(0, len(X), BATCH):
            rows = order[i : i + BATCH]
            batch = (X[rows] - mean) / scale
            yield (batch, *(other[rows] for other in others)) if others else batch

    return epochs(dtype, make)


def epochs(dtype: str, make: Callable[..., Iterator[Any]]) -> Contestant:
    """Go through an epoch; the check looks at its batches, and whether they have each row once, and shuffled."""
    X, _, mean, scale = _pixels(dtype)
    seen: list[Array] = []

    def epoch() -> None:
        for _ in make(X):
            pass

    def watched() -> None:
        rows: list[Array] = []
        off = 0.0
        for batch, indices in make(X, np.arange(ROWS)):
            off = max(off, float(np.max(np.abs(batch - (X[indices] - mean) / scale))))
            rows.extend(indices)
        still = np.mean(np.equal(rows, np.arange(len(rows))))
        seen[:] = np.array([off, max(0.0, still - 0.01)]), np.sort(rows)

    return Contestant(epoch, lambda: seen, once=watched)


def moments(quick: bool) -> Question:
    """Measure mean and variance of columns, against scikit-learn's time."""
    shape = (10**5, 50) if quick else (10**6, 50)
    took = yield Case(
        f"Standardizer.fit on 10^{len(str(shape[0])) - 1} x 50 float64",
        {"gradstep": partial(fitting, "gradstep", shape), "scikit-learn": partial(fitting, "scikit-learn", shape)},
        lambda: [_normal(shape).mean(axis=0), _normal(shape).std(axis=0)],
        tolerance=1e-12,
        rounds=7,
        seconds=30.0,
    )
    if not quick:
        what = "Standardizer.fit on 10^6 x 50 float64: times faster than scikit-learn's"
        yield Figure(what, took.ratio("scikit-learn", "gradstep"), "moments")


@functools.lru_cache(maxsize=1)
def _normal(shape: tuple[int, int]) -> Array:
    return np.random.default_rng(0).normal(3, 2, shape)


def fitting(who: str, shape: tuple[int, int]) -> Contestant:
    """Fit one of the two standardizers."""
    if who == "gradstep":
        scaler: Any = gs.data.Standardizer()
    else:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
    X = _normal(shape)
    return Contestant(lambda: scaler.fit(X), lambda: [scaler.mean_, scaler.scale_])


def estimator(quick: bool) -> Question:
    """Measure fits of an MLP, with the same weights at first, the same batches, the same epochs."""
    scores: dict[str, list[float]] = {"gradstep": [], "scikit-learn": []}
    epochs = 5 if quick else 30
    took = yield Case(
        "MLPClassifier((256, 128)), a fit on digits",
        {who: partial(learning, who, epochs, kept) for who, kept in scores.items()},
        lambda: [np.array([0.96]), np.array([64, 256, 128, 10, 64, 1e-4, epochs])],
        tolerance=0.08,
        warm=0,
        rest=0.05,
        rounds=9,
        seconds=60.0,
    )
    what = "MLPClassifier((256, 128)), digits in float32, batch 64, Adam"
    if not quick and all(scores.values()):
        yield Figure(f"{what}: fit, of scikit-learn's", took.ratio("gradstep", "scikit-learn"), "mlp time")
        more = statistics.mean(scores["gradstep"]) - statistics.mean(scores["scikit-learn"])
        yield Figure(f"{what}: test accuracy, less scikit-learn's", more, "mlp accuracy")


def learning(who: str, epochs: int, scores: list[float]) -> Contestant:
    """Fit with another seed at each call; results are the accuracy on scans that were not seen, and what was fitted."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    X, test_X, y, test_y = train_test_split((X / 16).astype(np.float32), y, test_size=0.25, random_state=0)
    model: Any = gs.sklearn.MLPClassifier if who == "gradstep" else MLPClassifier
    same: dict[str, Any] = {
        "hidden_layer_sizes": (256, 128), "batch_size": 64, "max_iter": epochs, "tol": 0.0, "n_iter_no_change": epochs,
    }  # fmt: skip
    fitted: list[Any] = []

    def fit() -> None:
        fitted.append(model(**same, random_state=len(fitted)).fit(X, y))

    def accuracy() -> list[Array]:
        assert all(m.coefs_[0].dtype == np.float32 for m in fitted)
        last = fitted[-1]
        widths = [len(last.coefs_[0]), *(b.size for b in last.intercepts_)]
        made = [*widths, last.batch_size, last.alpha, last.n_iter_]
        return [np.array([last.score(test_X, test_y)]), np.array(made)]

    def scored() -> None:
        fit()
        scores.append(fitted[-1].score(test_X, test_y))

    return Contestant(scored, accuracy)
