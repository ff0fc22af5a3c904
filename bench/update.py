"""Plain updates: the share of what memory allows, times faster than NumPy, and many small arrays."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Iterator

import numpy as np
from contestants import RULES, compiled_ceiling, floats, in_lines, wake_blas
from figure import Figure
from turns import medians, timed

import gradstep as gs
from gradstep import textbook


def ceiling(quick: bool) -> Iterator[Figure]:
    """One array of 2^25 float32: the rate, as a fraction of an in-place kernel with the same streams."""
    wake_blas()
    n, contestant = 2**25, compiled_ceiling()
    p, g = floats(n), floats(n, 1)
    for name, (cls, hypers) in RULES.items():
        opt = cls(p, lr=1e-6, **hypers)
        spare = in_lines(n, 2 + len(opt.state))
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
