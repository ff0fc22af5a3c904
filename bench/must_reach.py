"""The figures that gradstep must reach, as ratios: `python bench/must_reach.py [--only NAME] [--json FILE]`.

Each figure runs in a process of its own, so that what one imports does not change another.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from turns import Contestant, medians, percentile, timed

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
MUST = {
    "ceiling": ("at least", 0.90),
    "numpy AdamW": ("at least", 8.0),
    "numpy state": ("at least", 3.0),
    "numpy stateless": ("at least", 1.5),
    "fused": ("at most", 0.08),
    "small": ("at most", 2.0),
    "step": ("at most", 1.3),
    "matmul": ("at most", 1.1),
    "iteration 256": ("at most", 0.95),
    "iteration 1024": ("at most", 0.80),
}


class Figure(NamedTuple):
    """What was measured, and the key in `MUST` of what it must reach; none where it only compares."""

    what: str
    value: float
    key: str = ""

    @property
    def reached(self) -> bool:
        """Whether the bound holds; a comparison has none."""
        sense, must = MUST.get(self.key, ("", 0.0))
        return not sense or (self.value >= must if sense == "at least" else self.value <= must)

    @property
    def row(self) -> str:
        """A line of the table."""
        sense, must = MUST.get(self.key, ("", 0.0))
        verdict = f"{sense} {must:g} | {'yes' if self.reached else 'NO'}" if sense else " | "
        return f"| {self.what} | {self.value:.3g} | {verdict} |"


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
        yield Figure(f"{name}, share of the ceiling", took["ceiling"] / took["step"], "ceiling")


def plain_numpy(quick: bool) -> Iterator[Figure]:
    """Against textbook NumPy on 10^7 elements."""
    wake_blas()
    n = 10**7
    g = floats(n, 1)
    for name, (cls, hypers) in RULES.items():
        mine, theirs = floats(n), floats(n)
        opt, plain = cls(mine, **hypers), getattr(textbook, cls.__name__)(**hypers)
        turns = {
            "step": lambda opt=opt: opt.step(g),
            "numpy": lambda plain=plain, p=theirs: plain.step([p], [g]),
        }
        took = medians(turns, 3 if quick else 9)
        key = "numpy AdamW" if cls is gs.AdamW else "numpy state" if opt.state else "numpy stateless"
        yield Figure(f"{name}, times faster than NumPy", took["numpy"] / took["step"], key)


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
    took = medians(turns, rounds, warm=5, rest=0.02)
    yield Figure("1,000 arrays of 1,000, of torch's fused AdamW", took["step"] / took["torch"], "fused")
    took = medians(turns, rounds, warm=40, rest=0.02)
    yield Figure("for comparison: 40 steps after a rest instead of 5", took["step"] / took["torch"])
    one, g = gs.AdamW(np.zeros(100, np.float32)), floats(100)
    many = [timed(lambda: [one.step(g) for _ in range(1000)]) for _ in range(20)]
    yield Figure("one array of 100 floats, microseconds", statistics.median(many) * 1e3, "small")


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


FIGURES = {f.__name__: f for f in (ceiling, plain_numpy, small_arrays, neighbour, neighbour_torch, iteration)}


def measure(name: str, quick: bool) -> None:
    """Print each figure of that name as a line of JSON."""
    if name == "neighbour_torch":
        importlib.import_module("torch")
    for figure in FIGURES[name](quick):
        print(json.dumps(figure), flush=True)


def figures(name: str, quick: bool) -> Iterator[Figure]:
    """Figures of that name, measured in a process of their own."""
    # Some machines name an older kernel for BLAS; figures against NumPy want the one that fits.
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    command = [sys.executable, __file__, "--here", "--only", name, *(["--quick"] if quick else [])]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            yield Figure(*json.loads(line))
    if process.returncode:
        raise SystemExit(f"{name} failed")


def processor() -> str:
    """Model name, family and model number: virtual machines often hide the first."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
    name, family, model = (facts.get(key, "").strip("\t: ") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="which figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args.only[0], args.quick)
        return 0
    isa = gs.config.config().isa
    versions = f"{gs.get_num_threads()} threads, {isa}, NumPy {np.__version__}"
    print(f"{processor()}, {versions}, {datetime.date.today()}\n")
    print("| figure | reached | must | yes or no |\n| --- | --- | --- | --- |", flush=True)
    table = []
    for name in args.only:
        for figure in figures(name, args.quick):
            print(figure.row, flush=True)
            table.append(figure)
    if args.json:
        rows = [f._asdict() | {"must": MUST.get(f.key), "reached": f.reached} for f in table]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(figure.reached for figure in table) else 1


if __name__ == "__main__":
    sys.exit(main())
