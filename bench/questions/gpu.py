"""On a GPU: AdamW against CuPy, PyTorch and a device copy."""

from __future__ import annotations

import importlib
from functools import partial

import numpy as np

import gradstep as gs
from bench.case import Array, Case, Contestant, Question, sample
from bench.work import CLIP, Work

CONTESTANTS = {
    "gradstep": "gradstep",
    "ceiling, device copy": "device_copy",
    "CuPy expressions": "expressions",
    "CuPy ElementwiseKernel an array": "kernel",
    "PyTorch fused": "torch_fused",
}
WORKS = {
    "2^25": Work("AdamW", (2**25,)),
    "2^25, clip_norm": Work("AdamW", (2**25,), clip=CLIP),
    "float16, 2^25": Work("AdamW", (2**25,), "float16"),
    "1,000 arrays of 1,000": Work("AdamW", (1000,) * 1000),
    "2,000 arrays of 256, clip_norm": Work("AdamW", (256,) * 2000, clip=CLIP),
    "100 arrays of 10 to 10^6": Work("AdamW", tuple(int(10 ** (1 + 5 * i / 99)) for i in range(100))),
}


def question(quick: bool) -> Question:
    """Compare with gradstep on the CPU, whose bits it must have on the GPU."""
    for name, work in WORKS.items():
        yield case(name, work)


def case(name: str, work: Work) -> Case:
    """Return a case of that work."""
    return Case(
        name,
        {who: partial(make, function, work) for who, function in CONTESTANTS.items()},
        partial(on_cpu, work),
        turns=work.turns,
        tolerance=1e-5 if work.dtype == "float32" else 2e-3,
        nbytes=work.nbytes,
        needs=lambda: importlib.import_module("bench.contestants.cupy_").need_device(),
        warm=0,
        rest=0.0,
        rounds=21,
        seconds=10.0,
    )


def make(function: str, work: Work) -> Contestant:
    """Return a contestant, timed by the device."""
    module = importlib.import_module("bench.contestants.cupy_")
    made = getattr(module, function)(work)
    timed: Contestant = module.on_stream(made)
    return timed


def on_cpu(work: Work) -> list[Array]:
    """Return what the parameters must be after the calls of the check."""
    params, grads = work.params(), work.grads()
    opt = gs.AdamW(params, **work.spec.hypers)
    for _ in work.turns():
        opt.step(grads, **({"clip_norm": work.clip_norm} if work.clip_norm else {}))
    return [sample(np.asarray(p)) for p in params]
