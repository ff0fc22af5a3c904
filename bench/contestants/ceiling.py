"""What memory allows: a kernel with the streams of a step, and next to no arithmetic."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import gradstep as gs
from bench import ROOT, SHARED
from bench.case import Absent, Array, Contestant
from bench.work import Work
from gradstep import _cpu
from gradstep.solve.vectors import Space
from gradstep.states import PAGE

IN_CACHE = 1 << 28  # bytes that a call sweeps at least, so that it lasts as long in caches as out of them


@functools.cache
def library() -> Any:
    """Load bench/ceiling.cpp, compiled once a run."""
    shared = os.environ.get(SHARED)
    with nullcontext(shared) if shared else tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ceiling.so"
        if not out.exists():
            _compile(out)
        found = ctypes.CDLL(str(out))
    for measures in (found.ceiling, found.two_passes, found.core_to_core, found.side_by_side):
        measures.restype = ctypes.c_double
    return found


def _compile(out: Path) -> None:
    command = ["g++", "-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread", "-fopenmp-simd"]
    command += ["-ffp-contract=fast", "-Wno-psabi"]
    try:
        subprocess.run([*command, str(ROOT / "bench/ceiling.cpp"), "-o", str(out)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Absent(f"it could not be compiled: {error}") from error


def processors() -> tuple[float, float] | None:
    """Return what lies between this process's first processor and its last, None where there are no two.

    These are the nanoseconds of a cache line's way from one to the other, and how many times as long both take for
    arithmetic, side by side, as one alone. Hosts move the processors of a virtual machine: now they share a cache, now
    they do not, and now they are threads of one core.
    """
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    measures = _of_processors() if len(own) > 1 else None
    return (_measured(measures[0], own), _measured(measures[1], own)) if measures else None


def _measured(measure: Any, own: Sequence[int]) -> float:
    return float(f"{measure(own[0], own[-1]):.3g}")


@functools.cache
def _of_processors() -> Any:
    """Return what measures them, None where it could not be compiled: once, since each round asks."""
    try:
        return library().core_to_core, library().side_by_side
    except Absent:
        return None


def streams(arrays: Sequence[Array], threads: int, zeroing: bool = False) -> Contestant:
    """Sweep arrays of one size: all are written but the last, and that one too by a step that zeroes gradients."""
    sweep = library().ceiling
    count, n = len(arrays), ctypes.c_int64(arrays[0].size)
    pointers = (ctypes.c_void_p * count)(*(a.ctypes.data for a in arrays))
    moved = sum(a.nbytes for a in arrays)
    steps = max(1, IN_CACHE // moved)
    moved += moved // count * (count - 1 + (zeroing and count > 1))

    def call() -> float:  # which keeps the arrays
        return float(sweep(pointers, len(arrays), ctypes.c_bool(zeroing), n, threads, ctypes.c_int64(steps)))

    return Contestant(call, timed=True, nbytes=moved)


def in_lines(n: int, count: int) -> list[Array]:
    """Return arrays that begin on cache lines, at places of a page that lie apart: the same in every process."""
    room = -(-4 * n // PAGE) * PAGE + 3 * PAGE // 8
    memory = np.zeros(PAGE + count * room, np.uint8)
    begin = -memory.ctypes.data % PAGE
    arrays: list[Array] = [np.ndarray(n, np.float32, memory, begin + k * room) for k in range(count)]
    for array in arrays:
        array.fill(1)  # untouched pages would all be read from one page of zeros
    return arrays


def all_threads(work: Work, threads: int | None = None) -> Contestant:
    """Sweep the streams of a step, as many bytes in all, in float32."""
    n = max(1, math.ceil(work.footprint / 4 / work.streams))
    return streams(in_lines(n, work.streams), threads or gs.get_num_threads(), work.zero_grads)


def one_thread(work: Work) -> Contestant:
    """Sweep the same on one thread."""
    return all_threads(work, 1)


def reading(work: Work) -> Contestant:
    """Read the gradients once."""
    return streams(in_lines(work.elements, 1), gs.get_num_threads())


def two_passes(n: int, count: int, dtype: str, at_once: int) -> Contestant:
    """Multiply a vector by rows, and add the rows up, so many of them at once: no L-BFGS does with less."""
    rows = Space(_cpu, 0, np.dtype(dtype), (n,)).rows(count + 2)
    rows[...] = 1
    *rows, vector, total = list(rows)
    pointers, dots = (ctypes.c_void_p * count)(*(row.ctypes.data for row in rows)), np.empty(count)
    addresses = [ctypes.c_void_p(a.ctypes.data) for a in (vector, total, dots)]
    kernel, size = library().two_passes, ctypes.c_int64(n)
    threads = gs.get_num_threads()

    def sweep() -> float:
        return float(kernel(pointers, count, *addresses, size, vector.itemsize, at_once, threads))

    sweep()
    assert (dots == n).all()
    assert (total == count).all()
    return Contestant(lambda: statistics.median(sweep() for _ in range(9)), timed=True)
