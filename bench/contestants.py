"""What the figures have in common: data, the rules, and the kernel that shows what memory allows."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gradstep as gs
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


def in_lines(n: int, arrays: int) -> list[np.ndarray]:
    """Return arrays for the ceiling, as well placed in memory as gradstep's states."""
    spare = [zeros_like([floats(n)], k)[0] for k in range(arrays)]
    for array in spare:
        array.fill(1)  # untouched pages would all be read from one page of zeros
    return spare
