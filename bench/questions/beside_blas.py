"""Beside BLAS: a step after a matmul, a matmul after a step, a whole training iteration of an MLP in NumPy."""

from __future__ import annotations

import functools
import importlib
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import gradstep as gs
from bench.case import Array, Case, Contestant, Figure, Question, calls, nothing, sample
from bench.contestants.minimisers import ended_at
from bench.work import RULES, Work, complete, floats, specification
from gradstep import textbook

N = 300_000
BATCH = 128
CHECKED = 3  # iterations
HYPERS = RULES["AdamW"].hypers | {"lr": 1e-3, "weight_decay": 0.1}  # with which the network learns
ALL = gs.get_num_threads()


def question(quick: bool) -> Question:
    """Measure both ends of an iteration, then whole ones."""
    yield from neighbours("NumPy alone")
    for width in (64, 128, 256, 512, 1024, 2048):
        if quick and width in (128, 512, 2048):
            continue
        took = yield iteration(width, quick)
        ratios = took.ratios_of_runs("gradstep", "NumPy")
        yield Figure(f"MLP iteration, width {width}, worst of its runs", max(ratios), f"iteration {width}")
        yield Figure(f"for comparison: median of {len(ratios)} runs, width {width}", float(np.median(ratios)))


def neighbours(where: str, first: str = "numpy") -> Question:
    """Each turn begins with a rest, and a few loops that are not counted, as a training loop has them.

    A step alone comes as long after the last one as a step after a matmul; the one "at once" finds its arrays in the
    caches still.
    """
    work, at_once = Work("AdamW", (N,)), "step, 1 thread, at once"
    makers = {
        "step, 1 thread": partial(stepping, work, 1, waiting),
        at_once: partial(stepping, work, 1),
        "step after a matmul": partial(stepping, work, ALL, matmul),
        "step after a matmul, 1 thread": partial(stepping, work, 1, matmul),
        "matmul": partial(multiplying, work, None),
        "matmul after a step": partial(multiplying, work, ALL),
    }
    took = yield Case(
        f"a step of {N:,} elements and a matmul, {where}",
        {name: partial(importing, first, make) for name, make in makers.items()},
        work.expected,
        turns=work.turns,
        warm=4,
        rest=0.03,
        rounds=200,
        seconds=100.0,
    )
    for what, name, other, key in (
        ("step after a matmul, of a single-threaded one alone", "step after a matmul", "step, 1 thread", "step"),
        ("single-threaded step after a matmul, of one alone", "step after a matmul, 1 thread", "step, 1 thread", ""),
        ("step after a matmul, of a single-threaded one at once", "step after a matmul", at_once, "step at once"),
        ("matmul after a step, of one without", "matmul after a step", "matmul", "matmul"),
    ):
        for percent in (50, 90):
            value = took.percentile(name, percent) / took.percentile(other, percent)
            yield Figure(f"{what}, percentile {percent} ({where})", value, key if percent == 50 else "")
    for name in took:
        yield Figure(f"for comparison: {name}, microseconds ({where})", took.median(name) * 1e6)


def importing(module: str, make: Callable[[], Contestant]) -> Contestant:
    """Make a contestant where that module is loaded before; where it is missing, there is none."""
    importlib.import_module(module)
    return make()


@functools.cache
def _square() -> Array:
    return floats(600 * 600).reshape(600, 600)


def matmul() -> Array:
    """Let BLAS work on all of its threads, which then spin for a while."""
    product: Array = _square() @ _square()
    return product


@functools.cache
def _product() -> list[Array]:
    exact = _square().astype(np.float64)
    return [sample(exact @ exact)]


@functools.cache
def _matmul_seconds() -> float:
    return statistics.median(timeit.repeat(matmul, number=1, repeat=9))


def waiting() -> None:
    """Keep this thread busy for the time of a matmul: on shared processors neighbours take the caches meanwhile."""
    until = time.perf_counter() + _matmul_seconds()
    while time.perf_counter() < until:
        pass


def stepping(work: Work, threads: int, before: Callable[[], object] = nothing) -> Contestant:
    """Step on so many threads, right after something else."""
    params, grads = work.params(), work.grads()
    opt = gs.AdamW(params, **work.spec.hypers)

    def prepared() -> None:
        gs.set_num_threads(threads)
        before()

    return Contestant(lambda: opt.step(grads), lambda: params, prepared, tolerance=0.0)


def multiplying(work: Work, threads: int | None) -> Contestant:
    """Multiply, right after a step if it says on how many threads."""
    params, grads = work.params(), work.grads()
    opt = gs.AdamW(params, **work.spec.hypers)

    def step() -> None:
        if threads:
            gs.set_num_threads(threads)
            opt.step(grads)

    return replace(ended_at(matmul), before=step, expected=_product, tolerance=1e-4)


class Network:
    """Three layers on a batch of 128, in plain NumPy."""

    def __init__(self, width: int) -> None:
        rng = np.random.default_rng(0)
        shapes = [(width, width)] * 3
        self.params = [rng.normal(size=s).astype(np.float32) / np.float32(width**0.5) for s in shapes]
        self.params += [np.zeros(s[1], np.float32) for s in shapes]
        self.x, self.y = (floats(BATCH * width, k).reshape(BATCH, width) for k in (0, 1))

    def grads(self) -> list[Array]:
        """Gradients of the mean square error, in the order of the parameters."""
        w, b = self.params[:3], self.params[3:]
        acts = [self.x]
        for k in range(2):
            acts.append(np.maximum(acts[k] @ w[k] + b[k], 0))
        d = (acts[2] @ w[2] + b[2] - self.y) / np.float32(self.y.size)
        dw, db = [np.empty(0)] * 3, [np.empty(0)] * 3
        for k in (2, 1, 0):
            dw[k], db[k] = acts[k].T @ d, d.sum(axis=0)
            d = (d @ w[k].T) * (acts[k] > 0)
        return dw + db


def iteration(width: int, quick: bool) -> Case:
    """Return a case of whole iterations, which differ in the update alone; each run has new networks."""
    rounds, runs = (60, 20) if width <= 256 else (12, 20) if width <= 1024 else (12, 3)
    return Case(
        f"MLP iteration, width {width}",
        {
            "gradstep": partial(training, width, _ours),
            "NumPy": partial(training, width, _plain),
            "no update": partial(training, width, None),
        },
        partial(_trained, width),
        turns=partial(calls, CHECKED),
        x=width,
        rest=0.0,
        rounds=rounds,
        runs=runs,
        seconds=24.0 if quick else 60.0,
    )


def training(width: int, update: Callable[[list[Array]], Callable[[list[Array]], Any]] | None) -> Contestant:
    """Iterate: gradients in NumPy, then the update."""
    net = Network(width)
    if update is None:
        return Contestant(net.grads)
    step = update(net.params)
    gs.set_num_threads(ALL)
    return Contestant(lambda: step(net.grads()), lambda: net.params)


def _ours(params: list[Array]) -> Callable[[list[Array]], Any]:
    return gs.AdamW(params, **HYPERS).step


def _plain(params: list[Array]) -> Callable[[list[Array]], Any]:
    return partial(textbook.AdamW(**HYPERS).step, params)


@functools.cache
def _trained(width: int) -> list[Array]:
    net, reference = Network(width), specification()
    states = [(np.zeros_like(p), np.zeros_like(p)) for p in net.params]
    for t in range(1, CHECKED + 1):
        for p, g, (m, v) in zip(net.params, net.grads(), states, strict=True):
            reference.adamw(p, g, m, v, t=t, h=complete(HYPERS))
    return [sample(p) for p in net.params]
