"""Figures of L-BFGS: time outside the function, an iteration with a full history, against SciPy, PyTorch and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from contestants import wake_blas
from figure import Figure
from turns import medians

import gradstep as gs
from gradstep import _cpu
from gradstep.solve.vectors import Space

PAIRS = 10


class Quadratic:
    """An ill-conditioned quadratic that notes the time between its evaluations; its gradient buffer is used again."""

    def __init__(self, n: int, dtype: str) -> None:
        rng = np.random.default_rng(0)
        self.scale = np.exp(rng.uniform(0, 6, n)).astype(dtype)
        self.start = rng.standard_normal(n).astype(dtype)
        self.buffer = np.empty(n, dtype)
        self.left = 0.0
        self.gaps: list[float] = []

    def __call__(self, x: Any) -> tuple[float, Any]:
        """Return the value and the gradient."""
        self.gaps.append(time.perf_counter() - self.left)
        np.multiply(self.scale, x, out=self.buffer)
        f = 0.5 * float(np.sum(self.buffer * x))
        self.left = time.perf_counter()
        return f, self.buffer


def outside(run: Callable[[Quadratic, int], object], fun: Quadratic, iterations: int) -> float:
    """Median seconds from one evaluation to the next, which is an iteration, once the history is full."""
    fun.gaps.clear()
    run(fun, iterations)
    return statistics.median(fun.gaps[PAIRS + 3 :])


def median(run: Callable[[Quadratic, int], object], fun: Quadratic, iterations: int, repeats: int) -> float:
    """Of several runs."""
    return statistics.median(outside(run, fun, iterations) for _ in range(repeats))


def ours(fun: Quadratic, limit: int) -> None:
    options = {"maxcor": PAIRS, "maxiter": limit, "gtol": 0.0, "ftol": 0.0}
    gs.minimize(fun, fun.start, jac=True, options=options)


def scipys(fun: Quadratic, limit: int) -> None:
    from scipy.optimize import minimize

    options = {"maxcor": PAIRS, "maxiter": limit, "gtol": 0.0, "ftol": 0.0}
    minimize(fun, fun.start, jac=True, method="L-BFGS-B", options=options)


def torchs(fun: Quadratic, limit: int) -> None:
    import torch

    x = torch.from_numpy(fun.start.copy()).requires_grad_()
    opt = torch.optim.LBFGS(
        [x], max_iter=limit, max_eval=10 * limit, history_size=PAIRS, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip
    x.grad = torch.from_numpy(fun.buffer)

    def closure() -> float:
        f, _ = fun(x.detach().numpy())
        return f

    opt.step(closure)


# Their calls return seconds.
rounds = partial(medians, warm=0, rest=0.05, measure=lambda call: call())


class Rows:
    """The 2m rows of a history, and the least that passes over them can do."""

    def __init__(self, n: int, dtype: str) -> None:
        self.space = Space(_cpu, 0, np.dtype(dtype), (n,))
        rows = self.space.rows(2 * PAIRS + 1)
        rows[...] = 1
        *self.rows, self.out = list(rows)

    def two_passes(self) -> float:
        """Seconds of one that multiplies one vector with all of them, and one that adds all of them up."""
        begin = time.perf_counter()
        self.space.run([], [((self.rows[0],), tuple(self.rows))])
        self.space.run([(self.out, [(1.0, row) for row in self.rows])])
        return time.perf_counter() - begin


def lbfgs(quick: bool) -> Iterator[Figure]:
    n = 10**6
    wake_blas()
    double, single, rows = Quadratic(n, "f8"), Quadratic(n, "f4"), Rows(n, "f8")
    found = rounds(
        {
            "double": lambda: outside(ours, double, 45),
            "memory": lambda: statistics.median(rows.two_passes() for _ in range(9)),
            "single": lambda: outside(ours, single, 45),
            "scipy": lambda: outside(scipys, double, 25),
        },
        3 if quick else 7,
    )
    what = f"L-BFGS, 10^6 float64, m = {PAIRS}: an iteration outside fun"
    yield Figure(f"{what}, of SciPy's", found["double"] / found["scipy"], "lbfgs scipy")
    yield Figure(f"{what}, of two passes over the rows", found["double"] / found["memory"], "lbfgs memory")
    yield Figure("for comparison: two passes over the rows, of SciPy's iteration", found["memory"] / found["scipy"])
    yield Figure("L-BFGS, 10^6: float32, of float64", found["single"] / found["double"], "lbfgs single")


def lbfgs_torch(quick: bool) -> Iterator[Figure]:
    wake_blas()
    fun = Quadratic(10**6, "f8")
    found = rounds(
        {"ours": lambda: outside(ours, fun, 45), "torch": lambda: outside(torchs, fun, 45)}, 3 if quick else 7
    )
    what = "L-BFGS, 10^6 float64: an iteration outside fun, of PyTorch's with strong Wolfe"
    yield Figure(what, found["ours"] / found["torch"], "lbfgs torch")


def lbfgs_small(quick: bool) -> Iterator[Figure]:
    wake_blas()
    for n, iterations, repeats, key in ((10_000, 60, 3, "lbfgs 10000"), (10, 20, 100, "lbfgs 10")):
        fun = Quadratic(n, "f8")
        both = {"ours": partial(median, ours, fun, iterations, repeats)}
        both["scipy"] = partial(median, scipys, fun, iterations, repeats)
        found = rounds(both, 3 if quick else 9)
        yield Figure(f"L-BFGS, n = {n}: an iteration outside fun, of SciPy's", found["ours"] / found["scipy"], key)
