"""The host's time of a step over 1,000 CuPy gradients, with launches that do nothing: needs no GPU."""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

import gradstep as gs
from bench.case import Absent, Case, Contestant, Figure, Question, nothing
from bench.work import from_tests

COUNT = 1000


def question(quick: bool) -> Question:
    """Measure each container; for comparison, what reading the interface of each array would take."""
    makers: dict[str, Callable[[], Contestant]] = {
        "gradstep": partial(stepping, list),
        "gradstep, clip_norm": partial(stepping, list, clip_norm=1.0),
        "gradstep, a dict": partial(stepping, lambda arrays: dict(zip(map(str, range(COUNT)), arrays, strict=True))),
        "reading __cuda_array_interface__": reading,
    }
    what = f"AdamW, {COUNT:,} CuPy gradients, the host's part"
    took = yield Case(what, makers, needs=left_out if quick else nothing, rounds=101, warm=3, seconds=20.0)
    for name in makers:
        own = name.startswith("gradstep")
        yield Figure(f"host: {name}, microseconds", took.median(name) * 1e6, "cuda host" if own else "")


def left_out() -> None:
    """Say why a quick run has none of it."""
    raise Absent("compiling the stand-in takes minutes: not in a quick run")


@functools.cache
def stand_in() -> Any:
    """Put the CUDA module, compiled for the CPU, in the place of the one for GPUs; its launches do nothing."""
    importlib.import_module("cupy")
    pytest = importlib.import_module("pytest")
    if shutil.which("cmake") is None:
        raise Absent("it is compiled with CMake, which is not installed")
    on_cuda = from_tests("on_cuda")
    if isinstance(why := on_cuda.built(), str):
        raise Absent(why)
    on_cuda.install(pytest.MonkeyPatch())
    on_cuda.emulator().emulator_set_stubbed(1)
    return on_cuda


def arrays() -> Iterator[object]:
    """Make CuPy arrays, of that very class, over host memory."""
    cupy = stand_in().cupy
    for _ in range(COUNT):
        a = np.ones((10, 10), np.float32)
        memory = cupy.cuda.UnownedMemory(a.ctypes.data, a.nbytes, a, 0)
        yield cupy.ndarray(a.shape, a.dtype, cupy.cuda.MemoryPointer(memory, 0))


def stepping(container: Callable[[Any], Any], **more: Any) -> Contestant:
    """Step with other gradients at each call, as training has them."""
    opt = gs.AdamW(container(list(arrays())))
    turns = cycle([container(list(arrays())), container(list(arrays()))])
    return Contestant(lambda: opt.step(next(turns), **more))


def reading() -> Contestant:
    """Read the interface of each array, no more."""
    foreign = [stand_in().Foreign(np.ones((10, 10), np.float32)) for _ in range(COUNT)]
    return Contestant(lambda: [a.__cuda_array_interface__ for a in foreign])
