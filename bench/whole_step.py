"""All that surrounds a rule, in the step or beside it: clipping, 16-bit storage, averages, zeroing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np
from contestants import compiled_ceiling, floats, in_lines, wake_blas
from figure import Figure
from turns import medians

import gradstep as gs
from gradstep import _cpu

N = 2**25
ADAMW_BYTES = 28  # float32 parameter, gradient and two states: seven times four bytes an element


def clipping(quick: bool) -> Iterator[Figure]:
    """Clip by norm on 2^25 elements: of AdamW alone, and of PyTorch's two calls."""
    torch = importlib.import_module("torch")
    wake_blas()
    g = floats(N, 1)
    opt = gs.AdamW(floats(N), lr=1e-6)  # one for both: two sets of arrays may have pages of different sizes
    tensor = torch.zeros(N, requires_grad=True)
    tensor.grad = torch.from_numpy(g.copy())
    fused = torch.optim.AdamW([tensor], lr=1e-6, fused=True)

    def theirs() -> None:
        torch.nn.utils.clip_grad_norm_([tensor], 1.0)
        fused.step()

    ceiling, threads = compiled_ceiling(), gs.get_num_threads()
    spare = in_lines(N, 4)
    turns = {
        "ceiling": ceiling(spare, threads),
        "reading": ceiling(spare[:1], threads),
        "clipped": lambda: opt.step(g, clip_norm=1.0),
        "alone": lambda: opt.step(g),
        "torch": theirs,
    }
    took = medians(turns, 5 if quick else 21, warm=2, rest=0.02)
    yield Figure("AdamW with clip_norm, of AdamW alone", took["clipped"] / took["alone"], "clipping")
    allowed = 1 + took["reading"] / took["ceiling"]
    yield Figure("for comparison: what memory allows, gradients read once more", allowed)
    what = "AdamW with clip_norm, of torch's clip_grad_norm_ and fused AdamW"
    yield Figure(what, took["clipped"] / took["torch"], "clipping torch")


def storage(quick: bool) -> Iterator[Figure]:
    """AdamW on 16-bit parameters and gradients: the share of what memory allows for its bytes."""
    bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    wake_blas()
    ceiling = compiled_ceiling()(in_lines(N, 4), gs.get_num_threads())
    chosen = _cpu.isa()
    for isa in (name for name in _cpu.isas_supported() if name != "baseline"):
        for name, dtype in (("bfloat16", bfloat16), ("float16", np.float16)):
            p, g = floats(N).astype(dtype), floats(N, 1).astype(dtype)
            opt = gs.AdamW(p, lr=1e-6)
            _cpu.set_isa(isa)
            turns = {"step": lambda opt=opt, g=g: opt.step(g), "ceiling": ceiling}
            took = medians(turns, 5 if quick else 21, warm=2, rest=0.02)
            _cpu.set_isa(chosen)
            share = took["ceiling"] / ADAMW_BYTES / (took["step"] / 22)
            yield Figure(f"AdamW on {name}, {isa}, share of the ceiling for its bytes", share, "storage")


def averaging(quick: bool) -> Iterator[Figure]:
    """AdamW with an average and zeroing: of the time that memory allows for its bytes."""
    wake_blas()
    p, g = floats(N), floats(N, 1)
    opt, ema = gs.AdamW(p, lr=1e-6), gs.EMA(p)
    ceiling = compiled_ceiling()(in_lines(N, 4), gs.get_num_threads())
    turns = {"step": lambda: opt.step(g, average=ema, zero_grads=True), "ceiling": ceiling}
    took = medians(turns, 5 if quick else 21, warm=2, rest=0.02)
    what = "AdamW with EMA and zero_grads, of the ceiling for its bytes"
    yield Figure(what, took["step"] / 40 / (took["ceiling"] / ADAMW_BYTES), "averaging")


def many_clipped(quick: bool) -> Iterator[Figure]:
    """2,000 arrays of 256 floats with clipping, of PyTorch's two calls."""
    torch = importlib.import_module("torch")
    wake_blas()
    grads = [floats(256, i) for i in range(2000)]
    opt = gs.AdamW([np.zeros(256, np.float32) for _ in grads])
    tensors = [torch.zeros(256, requires_grad=True) for _ in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g)
    fused = torch.optim.AdamW(tensors, fused=True)

    def theirs() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, 1.0)
        fused.step()

    turns = {"step": lambda: opt.step(grads, clip_norm=1.0), "torch": theirs}
    took = medians(turns, 10 if quick else 50, warm=5, rest=0.02)
    what = "2,000 arrays of 256 with clip_norm, of torch's clip_grad_norm_ and fused AdamW"
    yield Figure(what, took["step"] / took["torch"], "clipping many")
