"""The host's time of a step over 1,000 CuPy gradients, with launches that do nothing: needs no GPU.

`python bench/cuda_host.py` compiles the CUDA module against its stand-in on the CPU (see tests/on_cuda.py) and exits
with 1 if a step takes more than 300 microseconds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from turns import timed

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import gradstep as gs
import on_cuda

MOST = 300.0  # microseconds
COUNT, ROUNDS = 1000, 101


def arrays() -> list[object]:
    """Return CuPy arrays, of that very class, over host memory."""
    cupy, made = on_cuda.cupy, []
    for _ in range(COUNT):
        a = np.ones((10, 10), np.float32)
        memory = cupy.cuda.UnownedMemory(a.ctypes.data, a.nbytes, a, 0)
        made.append(cupy.ndarray(a.shape, a.dtype, cupy.cuda.MemoryPointer(memory, 0)))
    return made


def main() -> int:
    on_cuda.install(pytest.MonkeyPatch())
    emulator = on_cuda.emulator()
    params = arrays()
    turns = [arrays(), arrays()]  # as training has it: not the same gradients at each step
    names = [str(i) for i in range(COUNT)]
    plain, clipped = gs.AdamW(params), gs.AdamW(params)
    mapped = gs.AdamW(dict(zip(names, params, strict=True)))
    dicts = [dict(zip(names, grads, strict=True)) for grads in turns]
    interface = [on_cuda.Foreign(np.ones((10, 10), np.float32)) for _ in range(COUNT)]
    contestants = {
        "a list": lambda k: plain.step(turns[k % 2]),
        "a list, with clip_norm": lambda k: clipped.step(turns[k % 2], clip_norm=1.0),
        "a dict": lambda k: mapped.step(dicts[k % 2]),
        "for comparison: reading the interface of each, no more": lambda k: [
            a.__cuda_array_interface__ for a in interface
        ],
    }
    emulator.emulator_set_stubbed(1)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for k in range(ROUNDS):
        for name, call in contestants.items():
            samples[name].append(timed(lambda call=call, k=k: call(k)) * 1e6)
    emulator.emulator_set_stubbed(0)
    print(f"| AdamW, {COUNT} gradients in | microseconds | must |\n| --- | --- | --- |")
    missed = False
    for name, took in samples.items():
        own = not name.startswith("for")
        missed |= own and statistics.median(took) > MOST
        print(f"| {name} | {statistics.median(took):.0f} | {f'at most {MOST:.0f}' if own else ''} |")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
