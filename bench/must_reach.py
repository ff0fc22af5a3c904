"""The figures that gradstep must reach, as ratios within one process: `python bench/must_reach.py [NAME ...]`.

Each figure runs in a process of its own, so that what one imports does not change another.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from turns import medians, timed

import gradstep as gs
from gradstep import textbook
from gradstep.states import zeros_like

HERE = Path(__file__).parent
RULES: dict[str, tuple[type[gs.Optimizer], dict[str, Any]]] = {
    "GradientDescent": (gs.GradientDescent, {}),
    "SGD": (gs.SGD, {}),
    "SGD momentum": (gs.SGD, {"momentum": 0.9}),
    "SGD nesterov": (gs.SGD, {"momentum": 0.9, "nesterov": True}),
    "Momentum": (gs.Momentum, {}),
    "NAG": (gs.NAG, {}),
    "Adagrad": (gs.Adagrad, {}),
    "Adam": (gs.Adam, {}),
    "AdamW": (gs.AdamW, {}),
}
Figure = tuple[str, float, str, float]  # what, reached, "at least" or "at most", must


def floats(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def wake_blas() -> np.ndarray:
    a = floats(600 * 600).reshape(600, 600)
    a @ a
    return a


def compiled_ceiling() -> Callable[[list[np.ndarray], int], Callable[[], None]]:
    library = Path(tempfile.mkdtemp()) / "ceiling.so"
    command = ["g++", "-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread", "-fopenmp-simd"]
    subprocess.run([*command, str(HERE / "ceiling.cpp"), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).ceiling

    def contestant(arrays: list[np.ndarray], threads: int) -> Callable[[], None]:
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        n = ctypes.c_int64(arrays[0].size)
        return lambda: function(pointers, len(arrays) - 2, n, threads)

    return contestant


def ceiling(quick: bool) -> Iterator[Figure]:
    """One array of 2^25 float32: the rate, as a fraction of an in-place kernel with the same streams."""
    wake_blas()
    n, contestant = 2**25, compiled_ceiling()
    p, g = floats(n), floats(n, 1)
    for name, (cls, hypers) in RULES.items():
        opt = cls(p, lr=1e-6, **hypers)
        spare = [zeros_like([p], k)[0] for k in range(2 + len(opt.state))]  # as well placed as ours
        for array in spare:
            array.fill(1)  # untouched pages would all be read from one page of zeros
        turns = {"step": lambda opt=opt: opt.step(g), "ceiling": contestant(spare, gs.get_num_threads())}
        took = medians(turns, 5 if quick else 21)
        yield f"{name}, share of the ceiling", took["ceiling"] / took["step"], "at least", 0.90


def plain_numpy(quick: bool) -> Iterator[Figure]:
    """Against textbook NumPy on 10^7 elements."""
    wake_blas()
    n = 10**7
    g = floats(n, 1)
    for name, (cls, hypers) in RULES.items():
        mine, theirs = floats(n), floats(n)
        opt, plain = cls(mine, **hypers), getattr(textbook, cls.__name__)(**hypers)
        turns = {"step": lambda opt=opt: opt.step(g), "numpy": lambda plain=plain, p=theirs: plain.step([p], [g])}
        took = medians(turns, 3 if quick else 9)
        must = 8.0 if cls is gs.AdamW else 3.0 if opt.state else 1.5
        yield f"{name}, times faster than NumPy", took["numpy"] / took["step"], "at least", must


def small_arrays(quick: bool) -> Iterator[Figure]:
    """1,000 arrays of 1,000 floats against PyTorch's fused AdamW; one array of 100 floats."""
    torch = importlib.import_module("torch")
    wake_blas()
    grads = [floats(1000, i) for i in range(1000)]
    opt = gs.AdamW([np.zeros(1000, np.float32) for _ in grads])
    tensors = [torch.zeros(1000, requires_grad=True) for _ in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g)
    fused = torch.optim.AdamW(tensors, fused=True)
    turns = {"step": lambda: opt.step(grads), "torch": fused.step}
    rounds = 10 if quick else 50
    took = medians(turns, rounds, warm=40, rest=0.02)
    yield "1,000 arrays of 1,000 floats, of torch's fused AdamW", took["step"] / took["torch"], "at most", 0.08
    took = medians(turns, rounds, warm=5, rest=0.02)  # the kernel has not yet moved our thread to a free core
    yield "for comparison: 5 steps after a rest", took["step"] / took["torch"], "", 0.0
    one, g = gs.AdamW(np.zeros(100, np.float32)), floats(100)
    many = [timed(lambda: [one.step(g) for _ in range(1000)]) for _ in range(20)]
    yield "one array of 100 floats, microseconds", statistics.median(many) * 1e3, "at most", 2.0


def neighbour(quick: bool) -> Iterator[Figure]:
    """Right after a 600 x 600 matmul: the step against a single-threaded step alone, and the matmul after a step.

    "Alone" begins as cold as the step after a matmul does: caches hold another array's data, and no thread of any
    library is running.
    """
    a = wake_blas()
    n = 300_000
    opt, g = gs.AdamW(floats(n)), floats(n, 1)
    threads, rest = gs.get_num_threads(), 0.03
    names = ("alone", "hot", "after", "one after", "matmul", "matmul after")
    times: dict[str, list[float]] = {name: [] for name in names}
    elsewhere = floats(2_000_000)

    def step() -> None:
        opt.step(g)

    for _ in range(40 if quick else 200):
        gs.set_num_threads(1)
        time.sleep(rest)
        np.add(elsewhere, 1, out=elsewhere)
        times["alone"].append(timed(step))
        times["hot"].append(timed(step))
        time.sleep(rest)
        a @ a
        times["one after"].append(timed(step))
        gs.set_num_threads(threads)
        time.sleep(rest)
        a @ a
        times["after"].append(timed(step))
        time.sleep(rest)
        a @ a
        times["matmul"].append(timed(lambda: a @ a))
        time.sleep(rest)
        a @ a
        step()
        times["matmul after"].append(timed(lambda: a @ a))
    took = {name: statistics.median(t) for name, t in times.items()}
    what = "PyTorch imported first" if "torch" in sys.modules else "NumPy alone"
    yield f"step after a matmul, of one alone ({what})", took["after"] / took["alone"], "at most", 1.3
    yield f"matmul after a step, of one without ({what})", took["matmul after"] / took["matmul"], "at most", 1.1
    yield f"for comparison: of one alone in hot caches ({what})", took["after"] / took["hot"], "", 0.0
    yield f"for comparison: of one single-threaded after a matmul ({what})", took["after"] / took["one after"], "", 0.0


def neighbour_torch(quick: bool) -> Iterator[Figure]:
    """Measure the same with PyTorch imported first."""
    yield from neighbour(quick)


class Network:
    """Three layers on a batch of 128, in plain NumPy."""

    def __init__(self, width: int) -> None:
        rng = np.random.default_rng(0)
        shapes = [(width, width), (width, width), (width, 10)]
        self.params = [rng.normal(size=s).astype(np.float32) / np.float32(width**0.5) for s in shapes]
        self.params += [np.zeros(s[1], np.float32) for s in shapes]
        self.x, self.y = floats(128 * width).reshape(128, width), floats(1280, 1).reshape(128, 10)

    def grads(self) -> list[np.ndarray]:
        """Gradients of the mean square error, in the order of the parameters."""
        w, b = self.params[:3], self.params[3:]
        acts = [self.x]
        for k in range(2):
            acts.append(np.maximum(acts[k] @ w[k] + b[k], 0))
        d = (acts[2] @ w[2] + b[2] - self.y) / np.float32(1280)
        dw, db = [np.empty(0)] * 3, [np.empty(0)] * 3
        for k in (2, 1, 0):
            dw[k], db[k] = acts[k].T @ d, d.sum(axis=0)
            d = (d @ w[k].T) * (acts[k] > 0)
        return dw + db


def iteration(quick: bool) -> Iterator[Figure]:
    """Measure a whole MLP iteration with AdamW, of the time with the update in textbook NumPy: the worst of 20 runs."""
    wake_blas()
    for width, must, rounds in [(256, 0.95, 60), (1024, 0.80, 12)]:
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
        yield f"MLP iteration, width {width}, worst of {len(ratios)} runs", max(ratios), "at most", must
        yield f"for comparison: median of the runs, width {width}", statistics.median(ratios), "", 0.0


FIGURES = {f.__name__: f for f in (ceiling, plain_numpy, small_arrays, neighbour, neighbour_torch, iteration)}


def reached(figure: Figure) -> bool:
    _, value, sense, must = figure
    return not sense or (value >= must if sense == "at least" else value <= must)


def report(name: str, quick: bool) -> bool:
    if name == "neighbour_torch":
        importlib.import_module("torch")
    good = True
    for figure in FIGURES[name](quick):
        what, value, sense, must = figure
        good &= reached(figure)
        verdict = f"{sense} {must:g} | {'yes' if reached(figure) else 'NO'}" if sense else " | "
        print(f"| {what} | {value:.3g} | {verdict} |", flush=True)
    return good


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.names) - set(FIGURES):
        parser.error(f"no figure is named {', '.join(unknown)}")
    if args.here:
        return 0 if report(args.names[0], args.quick) else 1
    isa = gs.config.config().isa
    print(f"{processor()}, {gs.get_num_threads()} threads, {isa}, NumPy {np.__version__}, {datetime.date.today()}\n")
    print("| figure | reached | must | yes or no |\n| --- | --- | --- | --- |", flush=True)
    quick = ["--quick"] if args.quick else []
    # Some machines name an older kernel for BLAS; figures against NumPy want the one that fits.
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    codes = [
        subprocess.run([sys.executable, __file__, "--here", *quick, name], env=environment, check=False).returncode
        for name in args.names or FIGURES
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
