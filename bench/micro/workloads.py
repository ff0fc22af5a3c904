"""Small calls, which cost what surrounds the arithmetic; each function returns one, to be made again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradstep as gs

Call = Callable[[], object]


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def ten() -> dict[str, np.ndarray]:
    return {f"layer{i}": floats(100) for i in range(10)}


def step(params: Any, *, average: bool = False, hypers: Any = None, **wishes: Any) -> Call:
    """Return a step of AdamW whose gradients lie where they lay before."""
    opt = gs.AdamW(params, **(hypers or {}))
    if average:
        wishes["average"] = gs.EMA(params)
    if isinstance(params, dict):
        grads: Any = {name: p.copy() for name, p in params.items()}
    else:
        grads = params.copy() if isinstance(params, np.ndarray) else [p.copy() for p in params]
    return (lambda: opt.step(grads, **wishes)) if wishes else (lambda: opt.step(grads))


def step_one() -> Call:
    return step(floats(100))


def step_ten() -> Call:
    return step(ten())


def step_thousand() -> Call:
    return step([floats(10) for _ in range(1000)])


def step_clip_norm() -> Call:
    return step(ten(), clip_norm=1.0)


def step_average() -> Call:
    return step(ten(), average=True)


def step_half() -> Call:
    return step({name: p.astype(np.float16) for name, p in ten().items()}, hypers={"master_weights": True})


def step_scheduled() -> Call:
    return step(floats(100), hypers={"lr": gs.schedules.cosine(1e-3, steps=10_000, warmup=500)})


def construct() -> Call:
    params = ten()
    return lambda: gs.AdamW(params)


def state_dict() -> Call:
    return gs.AdamW(ten()).state_dict


def kernel() -> Call:
    p, g, exp_avg, exp_avg_sq = floats(4, 100)
    exp_avg_sq[:] = 1
    return lambda: gs.kernels.adamw(p, g, exp_avg, exp_avg_sq, step=10)


def schedule() -> Call:
    cosine = gs.schedules.cosine(1e-3, steps=10_000, warmup=500)
    return lambda: cosine(2000)


def minimize() -> Call:
    """Return ten iterations of L-BFGS on ten variables: curvatures from 1 to 1000."""
    curvature, x0 = np.geomspace(1, 1000, 10), np.ones(10)

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        g = curvature * x
        return 0.5 * (x @ g), g

    options = {"gtol": 0.0, "ftol": 0.0, "maxiter": 10}
    return lambda: gs.minimize(fun, x0, jac=True, options=options)


def minibatch() -> Call:
    batches = iter(gs.data.minibatches(floats(1000, 10), floats(1000), batch_size=10, seed=0, epochs=None))
    return lambda: next(batches)


WORKLOADS: dict[str, Callable[[], Call]] = {
    make.__name__: make
    for make in (
        step_one,
        step_ten,
        step_thousand,
        step_clip_norm,
        step_average,
        step_half,
        step_scheduled,
        construct,
        state_dict,
        kernel,
        schedule,
        minimize,
        minibatch,
    )
}
