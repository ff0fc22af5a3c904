"""NumPy: the textbook's expressions, and the same into buffers that are used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.case import Absent, Array, Contestant, nothing
from bench.contestants.formulas import constants, zeros
from bench.contestants.gradstep_ import refilled
from bench.work import Work
from gradstep import textbook as books


def textbook(work: Work) -> Contestant:
    """Write each rule as it stands in books, and what surrounds it in passes of its own."""
    if work.itemsize == 2:
        raise Absent("the textbook's states would have 16 bits too")
    params = work.params()
    rule = getattr(books, work.spec.cls)(**work.spec.hypers)
    return surround(work, params, lambda grads: rule.step(params, grads))


def surround(work: Work, params: list[Array], update: Callable[[list[Array]], object]) -> Contestant:
    """Unscale, clip, update, average and zero, each in passes of its own."""
    grads, fill = refilled(work) if work.changes_grads else (work.grads(), nothing)
    averages = [p.copy() for p in params] if work.average is not None else []

    def step() -> None:
        if work.grad_scale != 1:
            for g in grads:
                g /= g.dtype.type(work.grad_scale)
        if work.clip_norm is not None:
            norm = np.sqrt(sum(np.vdot(g, g) for g in grads))
            for g in grads:
                g *= g.dtype.type(min(1.0, work.clip_norm / (norm + 1e-6)))
        update(grads)
        for p, average in zip(params, averages, strict=bool(averages)):
            average += p.dtype.type(1 - (work.average or 0)) * (p - average)
        if work.zero_grads:
            for g in grads:
                g.fill(0)

    results = [*params, *averages, *(grads if work.zero_grads else ())]
    return Contestant(step if work.surrounded else lambda: update(grads), lambda: results, fill)


def with_out(work: Work) -> Contestant:
    """Write every operation's result into an array that is there."""
    if work.surrounded or work.itemsize == 2:
        raise Absent("has the plain rule on float32 and float64")
    update, params = UPDATES[work.rule], work.params()
    rows = [
        (p, g, *ours, np.empty_like(p), np.empty_like(p))
        for p, g, ours in zip(params, work.grads(), zeros(work), strict=True)
    ]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        numbers = constants(work, t)
        for arrays in rows:
            update(*arrays, **numbers)

    return Contestant(step, lambda: params)


def _descend(p: Array, g: Array, a: Array, b: Array, *, lr: Any) -> None:
    p -= np.multiply(lr, g, out=a)


def _momentum(p: Array, g: Array, buf: Array, a: Array, b: Array, *, lr: Any, mu: Any) -> None:
    buf *= mu
    buf += g
    p -= np.multiply(lr, buf, out=a)


def _nesterov(p: Array, g: Array, buf: Array, a: Array, b: Array, *, lr: Any, mu: Any) -> None:
    buf *= mu
    buf += g
    np.multiply(mu, buf, out=a)
    a += g
    a *= lr
    p -= a


def _velocity(p: Array, g: Array, v: Array, a: Array, b: Array, *, lr: Any, mu: Any) -> None:
    v *= mu
    v -= np.multiply(lr, g, out=a)
    p += v


def _nag(p: Array, g: Array, v: Array, a: Array, b: Array, *, lr: Any, mu: Any) -> None:
    v *= mu
    v -= np.multiply(lr, g, out=a)
    p -= a
    p += np.multiply(mu, v, out=b)


def _adagrad(p: Array, g: Array, s: Array, a: Array, b: Array, *, lr: Any, eps: Any) -> None:
    s += np.multiply(g, g, out=a)
    np.sqrt(s, out=a)
    a += eps
    np.multiply(lr, g, out=b)
    p -= np.divide(b, a, out=b)


def _adam(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array, **c: Any) -> None:
    m *= c["beta1"]
    m += np.multiply(c["rest1"], g, out=a)
    v *= c["beta2"]
    np.multiply(g, g, out=a)
    v += np.multiply(c["rest2"], a, out=a)
    np.multiply(c["fix2"], v, out=a)
    np.sqrt(a, out=a)
    a += c["eps"]
    np.multiply(c["fix1"], m, out=b)
    b /= a
    p -= np.multiply(c["lr"], b, out=b)


def _adamw(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array, **c: Any) -> None:
    p *= c["shrink"]
    _adam(p, g, m, v, a, b, **c)


UPDATES: dict[str, Callable[..., None]] = {
    "GradientDescent": _descend,
    "SGD": _descend,
    "SGD momentum": _momentum,
    "SGD nesterov": _nesterov,
    "Momentum": _velocity,
    "NAG": _nag,
    "Adagrad": _adagrad,
    "Adam": _adam,
    "AdamW": _adamw,
}
