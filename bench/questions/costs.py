"""What it costs beside time per step: imports, the first step, memory of state, the wheel and its build."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import gradstep as gs
from bench import ROOT
from bench.case import Absent, Case, Contestant, Question
from bench.contestants import TABLE

N = 10**7
IMPORTS = {
    "gradstep": "gradstep", "NumPy": "numpy", "SciPy": "scipy.optimize", "numexpr": "numexpr", "Numba": "numba",
    "PyTorch": "torch", "JAX optax": "optax", "Thinc": "thinc.api", "scikit-learn": "sklearn.neural_network",
}  # fmt: skip
STEPPERS = ("gradstep", "NumPy", "NumPy out=", "numexpr", "Numba", "PyTorch fused", "JAX optax", "Thinc")

IMPORT = """
import time
begin = time.perf_counter()
import {module}
print(time.perf_counter() - begin)
"""
# What a program sees: the optimizer is made, and steps; libraries are imported, and arrays made, before.
FIRST = """
import importlib, time
from bench.contestants import contestants
from bench.work import Work
work = Work("AdamW", (10**6,))
grads, params = work.grads(), work.params()
Work.params = lambda self: params
importlib.import_module("bench.contestants.{module}")
begin = time.perf_counter()
contestants(work)["{name}"]().call()
print(time.perf_counter() - begin)
"""
# The peak while stepping, less what was there before, and less a contestant's own parameters and gradients.
PEAK = """
import importlib
from bench.contestants import contestants
from bench.questions.costs import peak
from bench.work import Work
tiny, work = Work("AdamW", (1000,)), Work("AdamW", ({n},))
contestants(tiny)["{name}"]().call()
grads, params = work.grads(), work.params()
Work.params = lambda self: params
before = peak(reset=True)
made = contestants(work)["{name}"]()
made.call(), made.call()
print(peak() - before - made.copies)
"""


def question(quick: bool) -> Question:
    """Measure each in processes of their own, which begin anew."""
    rounds = 1 if quick else 9
    once = {"warm": 0, "rest": 0.0}
    few = ("gradstep", "NumPy", "PyTorch", "PyTorch fused")
    imports = {who: partial(importing, module) for who, module in IMPORTS.items() if not quick or who in few}
    yield Case("import", imports, rounds=rounds, seconds=60, **once)
    names = [name for name in STEPPERS if not quick or name in few]
    first = {name: partial(printed, FIRST, name) for name in names}
    yield Case("first step, 10^6 elements", first, rounds=rounds, seconds=60, **once)
    memory = {name: partial(printed, PEAK, name) for name in names}
    yield Case("memory beside parameter and gradient, 10^7 elements", memory, rounds=1, unit="bytes", **once)
    state = partial(sized, [gs.memory(np.broadcast_to(np.float32(0), N), "adamw")])
    yield Case("state of AdamW, 10^7 elements", {"gradstep": state}, rounds=1, unit="bytes", **once)
    if not quick:
        wheels: list[int] = []
        yield Case("clean build of the wheel", {"gradstep": partial(building, wheels)}, rounds=1, **once)
        yield Case("size of the wheel", {"gradstep": partial(sized, wheels)}, rounds=1, unit="bytes", **once)


def importing(module: str) -> Contestant:
    """Import it in a new process, which says how long that took; once before, so that no disk counts."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise ImportError(f"No module named '{module}'")
    program = IMPORT.format(module=module)
    run(program)
    return Contestant(lambda: run(program), timed=True)


def printed(program: str, name: str) -> Contestant:
    """Run a program in a new process, which prints what counts."""
    module = TABLE[name][0]
    importlib.import_module(f"bench.contestants.{module}")
    return Contestant(lambda: run(program.format(module=module, name=name, n=N)), timed=True)


def sized(sizes: Sequence[int]) -> Contestant:
    """Tell the first of these sizes."""
    if not sizes:
        raise Absent("it was not built")
    return Contestant(lambda: float(sizes[0]), timed=True)


def run(program: str) -> float:
    """Return the last line that a program prints."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.splitlines()[-1])
    return float(done.stdout.splitlines()[-1])


def peak(reset: bool = False) -> int:
    """Return the most memory that this process has had, in bytes, since the last reset."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise Absent(f"the system does not say: {error}") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def building(wheels: list[int]) -> Contestant:
    """Build the wheel without CUDA, of the sources alone; note its size."""
    for module in ("scikit_build_core", "pybind11"):
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"No module named '{module}'")

    def build() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
            command += [f"--config-settings=build-dir={folder}/build", str(ROOT)]
            environment = os.environ | {"SKBUILD_CMAKE_DEFINE": "GRADSTEP_CUDA=OFF"}
            begin = time.perf_counter()
            subprocess.run(command, env=environment, check=True)
            took = time.perf_counter() - begin
            wheels.extend(wheel.stat().st_size for wheel in Path(folder).glob("*.whl"))
        return took

    return Contestant(build, timed=True)
