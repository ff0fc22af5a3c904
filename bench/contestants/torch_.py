"""PyTorch's optimizers in their three implementations, and its calls for what surrounds them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.case import Absent, Contestant, nothing
from bench.work import Work

CLASSES = {"SGD": torch.optim.SGD, "Adagrad": torch.optim.Adagrad, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
CLASSES["GradientDescent"] = torch.optim.SGD


def step(work: Work, device: str = "cpu", **implementation: bool) -> Contestant:
    """Unscale, clip, update, average and zero, each in calls of its own."""
    if work.spec.cls not in CLASSES:
        raise Absent("PyTorch has no such rule")
    if work.itemsize == 2:
        raise Absent("its states would have 16 bits too")
    params = [torch.from_numpy(p).to(device).requires_grad_() for p in work.params()]
    hosts = [torch.from_numpy(g) for g in work.grads()]
    originals = [g.to(device) for g in hosts]  # on the CPU these are the same
    writes = work.changes_grads or (work.rule == "SGD nesterov" and "foreach" in implementation)
    grads = [g.clone() for g in originals] if writes else originals
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    opt = CLASSES[work.spec.cls](params, **work.spec.hypers, **implementation)
    plain = [p.detach() for p in params]
    averages = [p.clone() for p in plain] if work.average is not None else []

    def whole() -> Any:
        norm = None
        if work.grad_scale != 1:
            torch._foreach_mul_(grads, 1 / work.grad_scale)
        if work.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(params, work.clip_norm)
        opt.step()
        if averages:
            torch._foreach_lerp_(averages, plain, 1 - (work.average or 0))
        if work.zero_grads:
            torch._foreach_zero_(grads)
        return norm

    fill = partial(torch._foreach_copy_, grads, originals) if writes else nothing
    call: Any = whole if work.surrounded else opt.step
    results = [*plain, *averages, *(grads if work.zero_grads else ())]
    fetch = partial(torch._foreach_copy_, originals, hosts)
    made = Contestant(call, lambda: [t.cpu().numpy() for t in results], fill, fetch=fetch)
    if work.clip_norm is None:
        return made
    norms: list[float] = []
    return replace(made, once=lambda: norms.append(float(whole())), expected=lambda: work.expected(norms))


def fused(work: Work) -> Contestant:
    """One kernel a list."""
    return step(work, fused=True)


def foreach(work: Work) -> Contestant:
    """Each operation over all arrays."""
    return step(work, foreach=True)


def loop(work: Work) -> Contestant:
    """Each operation on each array."""
    return step(work, foreach=False)
