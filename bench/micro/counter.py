"""Makes calls under callgrind: `counter.py LIBRARY NAME ...`, the library compiled of requests.cpp.

It prints where gradstep comes from. Each workload has a forked process, so that none depends on another. In several
layouts of memory it dumps what CALLS calls take and what twice as many do: the difference is the calls alone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import traceback
from random import Random

import numpy as np
from workloads import WORKLOADS, Call, floats

import gradstep as gs

WARM = 20  # calls until the interpreter has specialised its bytecode
CALLS, LAYOUTS = 3, 8
AT_ONCE = 2  # processes


class Pair:
    """Something with a method."""

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        self.left, self.right = left, right

    def views(self, *, lines: int = 10) -> dict[str, np.ndarray]:
        """Return a view of either under each name."""
        return {f"line{i}": (self.left if i % 2 else self.right).reshape(lines, -1) for i in range(lines)}


def reference() -> Call:
    """Return what gradstep has no part in: calls, containers, small arrays."""
    left, right = floats(100), floats(100)

    def call() -> None:
        views = Pair(left, right).views()
        tuple(np.asarray(v) for v in views.values() if isinstance(v, np.ndarray) and v.shape == (10, 10))

    return call


def shuffled(seed: int) -> list[bytes]:
    """Return what fills the interpreter's pools of memory in a way of its own: counts depend on how full they are."""
    blocks = [bytes(size) for size in Random(seed).choices(range(480), k=2000)]
    return blocks[::2]


def repeat(call: Call, calls: int) -> None:
    for _ in range(calls):
        call()


def count(name: str, requests: ctypes.CDLL) -> None:
    make = {**WORKLOADS, "reference": reference}[name]
    repeat(make(), WARM)
    gc.disable()
    requests.start()
    for layout in range(LAYOUTS):
        held, call = shuffled(layout), make()
        for calls in (0, CALLS, 2 * CALLS):
            repeat(call, calls or 2)
            requests.dump(f"{name} {layout} {calls}".encode())
        held.clear()


def main() -> int:
    requests = ctypes.CDLL(sys.argv[1])
    print(gs.__file__, flush=True)
    gs.set_num_threads(1)
    names, statuses = sys.argv[2:], []
    for begun, name in enumerate(names):
        if begun >= AT_ONCE:
            statuses.append(os.wait()[1])
        if os.fork():
            continue
        try:
            count(name, requests)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    while len(statuses) < len(names):
        statuses.append(os.wait()[1])
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())
