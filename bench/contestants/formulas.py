"""Each rule as text, one assignment an array: numexpr, Numba and pure Python make their programs of it."""

from __future__ import annotations

from typing import Any

from bench.case import Absent, Array
from bench.work import Work, complete
from gradstep.textbook import power

ADAM = {"m": "beta1 * m + rest1 * g", "v": "beta2 * v + rest2 * (g * g)"}
FORMULAS = {
    "GradientDescent": {"p": "p - lr * g"},
    "SGD": {"p": "p - lr * g"},
    "SGD momentum": {"b": "mu * b + g", "p": "p - lr * b"},
    "SGD nesterov": {"b": "mu * b + g", "p": "p - lr * (g + mu * b)"},
    "Momentum": {"v": "mu * v - lr * g", "p": "p + v"},
    "NAG": {"v": "mu * v - lr * g", "p": "p + (mu * v - lr * g)"},
    "Adagrad": {"s": "s + g * g", "p": "p - lr * g / (sqrt(s) + eps)"},
    "Adam": ADAM | {"p": "p - lr * (fix1 * m / (sqrt(fix2 * v) + eps))"},
    "AdamW": ADAM | {"p": "p * shrink - lr * (fix1 * m / (sqrt(fix2 * v) + eps))"},
}


def formulas(work: Work) -> dict[str, str]:
    """Return array -> what is assigned to it, the parameter last."""
    if work.surrounded or work.itemsize == 2:
        raise Absent("has the plain rule on float32 and float64")
    return FORMULAS[work.rule]


def constants(work: Work, t: int) -> dict[str, Any]:
    """Return the numbers that step `t` needs, in the arrays' dtype."""
    h = complete(work.spec.hypers)
    found = {"lr": h["lr"], "mu": h["momentum"], "eps": h.get("eps", 0.0)}
    if "betas" in h:
        b1, b2 = h["betas"]
        found |= {"beta1": b1, "rest1": 1 - b1, "fix1": 1 / (1 - power(b1, t))}
        found |= {"beta2": b2, "rest2": 1 - b2, "fix2": 1 / (1 - power(b2, t))}
        found["shrink"] = 1 - h["lr"] * h["weight_decay"]
    text = " ".join(FORMULAS[work.rule].values()).replace("(", " ").replace(")", " ").split()
    return {name: work.numpy_dtype.type(value) for name, value in found.items() if name in text}


def loop(work: Work, over: str) -> str:
    """Return the source of a function `update(arrays, constants)` with one loop, `over` so many elements."""
    rows = formulas(work)
    states = [name for name in rows if name != "p"]
    arrays = ["P", "G", *(name.upper() + "s" for name in states)]
    lines = [f"def update({', '.join([*arrays, *constants(work, 1)])}):", f"    for i in {over}(len(P)):"]
    lines += [f"        {name} = {array}[i]" for name, array in zip(["p", "g", *states], arrays, strict=True)]
    lines += [f"        {name} = {text}" for name, text in rows.items()]
    lines += [f"        {array}[i] = {name}" for name, array in zip(["p", *states], ["P", *arrays[2:]], strict=True)]
    return "\n".join(lines)


def zeros(work: Work) -> list[list[Array]]:
    """Return the states of each array."""
    import numpy as np

    count = len(formulas(work)) - 1
    return [[np.zeros(n, work.numpy_dtype) for _ in range(count)] for n in work.sizes]
