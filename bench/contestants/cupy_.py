"""AdamW on a GPU: gradstep, CuPy's expressions, a CuPy kernel an array, PyTorch, and a copy as the ceiling."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cupy as cp
import numpy as np

import gradstep as gs
from bench.case import Absent, Contestant, nothing
from bench.work import Work

STEPS = 10  # between two events of the stream


def on_stream(made: Contestant) -> Contestant:
    """Time steps by the events before and after them."""
    steps = STEPS if made.before is nothing else 1

    def timed() -> float:
        made.call()
        made.before()
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        begin.record()
        for _ in range(steps):
            made.call()
        end.record()
        end.synchronize()
        return float(cp.cuda.get_elapsed_time(begin, end)) / 1e3 / steps

    return replace(made, call=timed, timed=True, once=made.call)


def need_device() -> None:
    """Refuse where there is no GPU, or gradstep was built without CUDA."""
    try:
        importlib.import_module("gradstep._cuda").devices()[0]
    except (ImportError, RuntimeError, IndexError) as error:
        raise Absent(f"no GPU: {error}") from error


def gradstep(work: Work) -> Contestant:
    """Step in one call."""
    params, grads, fetch = _on_device(work)
    opt = gs.AdamW(params, **work.spec.hypers)
    more = {"clip_norm": work.clip_norm} if work.clip_norm else {}
    return Contestant(lambda: opt.step(grads, **more), lambda: [p.get() for p in params], fetch=fetch, tolerance=0.0)


def expressions(work: Work) -> Contestant:
    """Write the rule as NumPy users do."""
    c = _constants(work)

    def update(p: Any, grad: Any, m: Any, v: Any, factor: Any, fix1: Any, fix2: Any) -> None:
        g = grad.astype(np.float32) * factor
        w = p.astype(np.float32) * c["shrink"]
        m[...] = c["beta1"] * m + c["rest1"] * g
        v[...] = c["beta2"] * v + c["rest2"] * (g * g)
        p[...] = w - c["lr"] * (fix1 * m / (cp.sqrt(fix2 * v) + c["eps"]))

    return _array_by_array(work, update)


def kernel(work: Work) -> Contestant:
    """Launch one ElementwiseKernel for each array."""
    c = {name: f"{value:.9g}f" for name, value in _constants(work).items()}
    launch = cp.ElementwiseKernel(
        "T grad, float32 factor, float32 fix1, float32 fix2",
        "T p, float32 m, float32 v",
        f"""
        float g = float(grad) * factor, w = float(p) * {c["shrink"]};
        m = {c["beta1"]} * m + {c["rest1"]} * g;
        v = {c["beta2"]} * v + {c["rest2"]} * (g * g);
        p = T(w - {c["lr"]} * (fix1 * m / (sqrtf(fix2 * v) + {c["eps"]})));
        """,
        "adamw",
    )

    def update(p: Any, g: Any, m: Any, v: Any, factor: Any, fix1: Any, fix2: Any) -> None:
        launch(g, factor, fix1, fix2, p, m, v)

    return _array_by_array(work, update)


def torch_fused(work: Work) -> Contestant:
    """Step with PyTorch's fused kernel."""
    from bench.contestants.torch_ import step

    return step(work, "cuda", fused=True)


def device_copy(work: Work) -> Contestant:
    """Copy so much that as many bytes are read and written."""
    source, target = (cp.empty(work.nbytes // 2, np.uint8) for _ in range(2))
    return Contestant(lambda: target.data.copy_from_device_async(source.data, source.nbytes, cp.cuda.Stream.null))


def _constants(work: Work) -> dict[str, Any]:
    h = work.spec.hypers
    (b1, b2), lr = h["betas"], h["lr"]
    numbers = {"lr": lr, "eps": h["eps"], "shrink": 1 - lr * h["weight_decay"]}
    numbers |= {"beta1": b1, "rest1": 1 - b1, "beta2": b2, "rest2": 1 - b2}
    return {name: np.float32(value) for name, value in numbers.items()}


def _on_device(work: Work) -> tuple[list[Any], list[Any], Callable[[], None]]:
    """Return parameters, gradients, and what copies the latter anew."""
    params, grads = ([cp.asarray(a) for a in arrays] for arrays in (work.params(), work.grads()))

    def fetch() -> None:
        for own, g in zip(grads, work.grads(), strict=True):
            own.set(g)

    return params, grads, fetch


def _array_by_array(work: Work, update: Callable[..., None]) -> Contestant:
    params, grads, fetch = _on_device(work)
    states = [(cp.zeros(p.shape, np.float32), cp.zeros(p.shape, np.float32)) for p in params]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        factor = np.float32(1)
        if work.clip_norm:
            norm = cp.sqrt(sum(cp.vdot(g, g) for g in grads))
            factor = cp.minimum(np.float32(1), np.float32(work.clip_norm) / (norm + np.float32(1e-6)))
        fix1, fix2 = (np.float32(1 / (1 - beta**t)) for beta in work.spec.hypers["betas"])
        for p, g, (m, v) in zip(params, grads, states, strict=True):
            update(p, g, m, v, factor, fix1, fix2)

    return Contestant(step, lambda: [p.get() for p in params], fetch=fetch)
