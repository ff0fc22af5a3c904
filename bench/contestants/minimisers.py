"""Minimisers: L-BFGS with a full history, of which the time outside the function counts, and Newton's method."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import gradstep as gs
from bench.case import Contestant

PAIRS = 10
VALUES = 24  # that are compared


class Quadratic:
    """An ill-conditioned quadratic that notes the time between its evaluations; its gradient buffer is used again."""

    def __init__(self, n: int, dtype: str) -> None:
        rng = np.random.default_rng(0)
        self.scale = np.exp(rng.uniform(0, 6, n)).astype(dtype)
        self.start = rng.standard_normal(n).astype(dtype)
        self.buffer = np.empty(n, dtype)
        self.left = 0.0
        self.gaps: list[float] = []
        self.values: list[float] = []

    def __call__(self, x: Any) -> tuple[float, Any]:
        """Return the value and the gradient."""
        self.gaps.append(time.perf_counter() - self.left)
        np.multiply(self.scale, x, out=self.buffer)
        f = 0.5 * float(np.sum(self.buffer * x))
        self.values.append(f)
        self.left = time.perf_counter()
        return f, self.buffer


def outside(run: Callable[[Quadratic, int], object], fun: Quadratic, iterations: int) -> float:
    """Median seconds from one evaluation to the next, which is an iteration, once the history is full."""
    fun.gaps.clear()
    fun.values.clear()
    run(fun, iterations)
    return statistics.median(fun.gaps[PAIRS + 3 :])


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


def lbfgs(run: Callable[[Quadratic, int], object], n: int, dtype: str, iterations: int, repeats: int = 1) -> Contestant:
    """Time iterations outside the function; the result is the course of its values."""
    fun = Quadratic(n, dtype)
    made = Contestant(
        lambda: statistics.median(outside(run, fun, iterations) for _ in range(repeats)),
        lambda: [course(fun)],
        timed=True,
    )
    if run is not torchs:
        return made
    end = slice(-1, None)  # its line search is another
    return replace(made, result=lambda: [course(fun)[end]], expected=lambda: [reference(n)[end]], tolerance=0.1)


def course(fun: Quadratic) -> Any:
    """Return logarithms of the first values, more than a full history has: who keeps fewer pairs leaves it."""
    values = np.array(fun.values[:VALUES])
    return np.log(values / values[0])


@functools.cache
def reference(n: int) -> Any:
    """Return SciPy's course."""
    fun = Quadratic(n, "f8")
    scipys(fun, VALUES)
    return course(fun)


def ended_at(work: Callable[[], Any], what: Callable[[Any], Sequence[Any]] = lambda end: [end]) -> Contestant:
    """Work from the start to the end, of which `what` is the result."""
    ends: list[Any] = []

    def call() -> None:
        ends[:] = [work()]

    return Contestant(call, lambda: what(ends[0]))


def newton_in_numpy(grad: Callable[[Any], Any], hess: Callable[[Any], Any], x: Any, gtol: float) -> Any:
    """Newton's method as it stands in books."""
    while np.max(np.abs(g := grad(x))) > gtol:
        x = x - np.linalg.solve(hess(x), g)
    return x
