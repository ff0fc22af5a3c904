"""Beside BLAS: a step after a matmul, a matmul after a step, a whole training iteration."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
from contestants import floats, wake_blas
from figure import Figure
from turns import Contestant, medians, percentile, timed

import gradstep as gs
from gradstep import textbook


def neighbour_times(rounds: int) -> dict[str, list[float]]:
    """Seconds of steps and matmuls, alone and one right after the other, as a training loop has them.

    Every turn begins with a sleep, for the idle threads of the turn before, and a few loops not counted.
    """
    a, n = wake_blas(), 300_000
    opt, g = gs.AdamW(floats(n)), floats(n, 1)
    all_threads = gs.get_num_threads()
    times: dict[str, list[float]] = {}

    def turn(name: str, before: Contestant | None, call: Contestant, threads: int = all_threads) -> None:
        gs.set_num_threads(threads)
        time.sleep(0.03)
        for _ in range(5):
            if before:
                before()
            took = timed(call)
        times.setdefault(name, []).append(took)

    def step() -> None:
        opt.step(g)

    def matmul() -> np.ndarray:
        return a @ a

    for _ in range(rounds):
        turn("step", None, step, 1)
        turn("step after", matmul, step)
        turn("step after, one thread", matmul, step, 1)
        turn("matmul", None, matmul)
        turn("matmul after", step, matmul)
    return times


def neighbour(quick: bool) -> Iterator[Figure]:
    """Right after a 600 x 600 matmul: the step, of a single-threaded one alone; the matmul after a step."""
    times = neighbour_times(40 if quick else 200)
    where = "PyTorch imported first" if "torch" in sys.modules else "NumPy alone"

    def ratios(what: str, name: str, base: str, key: str) -> Iterator[Figure]:
        for percent, bound in ((50, key), (90, "")):
            value = percentile(times[name], percent) / percentile(times[base], percent)
            note = "" if bound else "for comparison: "
            yield Figure(f"{note}{what}, percentile {percent} ({where})", value, bound)

    yield from ratios("step after a matmul, of one alone", "step after", "step", "step")
    yield from ratios("single-threaded step after a matmul, of one alone", "step after, one thread", "step", "")
    yield from ratios("matmul after a step, of one without", "matmul after", "matmul", "matmul")
    for name in times:
        yield Figure(f'for comparison: "{name}", microseconds ({where})', statistics.median(times[name]) * 1e6)


def neighbour_torch(quick: bool) -> Iterator[Figure]:
    """Measure the same with PyTorch imported first."""
    yield from neighbour(quick)


class Network:
    """Three layers on a batch of 128, in plain NumPy."""

    def __init__(self, width: int) -> None:
        rng = np.random.default_rng(0)
        shapes = [(width, width)] * 3
        self.params = [rng.normal(size=s).astype(np.float32) / np.float32(width**0.5) for s in shapes]
        self.params += [np.zeros(s[1], np.float32) for s in shapes]
        self.x, self.y = (floats(128 * width, k).reshape(128, width) for k in (0, 1))

    def grads(self) -> list[np.ndarray]:
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


def iteration(quick: bool) -> Iterator[Figure]:
    """Measure a whole MLP iteration with AdamW, of one with the update in textbook NumPy: the worst of 20."""
    wake_blas()
    for width, rounds in [(256, 60), (1024, 12)]:
        ratios = []
        for _ in range(3 if quick else 20):
            mine, theirs = Network(width), Network(width)
            opt, plain = gs.AdamW(mine.params), textbook.AdamW()
            turns = {
                "step": lambda net=mine, opt=opt: opt.step(net.grads()),
                "numpy": lambda net=theirs, plain=plain: plain.step(net.params, net.grads()),
            }
            took = medians(turns, rounds)
            ratios.append(took["step"] / took["numpy"])
        key = f"iteration {width}"
        yield Figure(f"MLP iteration, width {width}, worst of {len(ratios)} runs", max(ratios), key)
        yield Figure(f"for comparison: median of the runs, width {width}", statistics.median(ratios))
