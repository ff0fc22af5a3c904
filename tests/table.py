"""The table that buys a rule its tests: a row a rule, and the matrix they run over."""

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

import gradstep as gs
import reference
from gradstep import _cpu


@dataclass(frozen=True)
class Row:
    """A rule with hyperparameters: the class, its reference, and how it converges."""

    cls: Any
    reference: Any
    states: int
    hypers: dict = field(default_factory=dict)
    quadratic: dict = field(default_factory=lambda: {"lr": 0.1})  # reaches 1e-3 of x^2 from 10 in 2,000 steps
    rosenbrock: dict = field(default_factory=lambda: {"lr": 1e-3})  # gets below 0.1 in 20,000 steps

    @property
    def name(self):
        return "-".join([self.cls.__name__, *(f"{k}={v}" for k, v in self.hypers.items())])

    def make(self, params, **more):
        return self.cls(params, **{**self.hypers, **more})


ROWS = [
    Row(gs.GradientDescent, reference.gradient_descent, 0),
    Row(gs.SGD, reference.gradient_descent, 0, {"maximize": True}, {"lr": 0.1, "maximize": False}, {"lr": 1e-3, "maximize": False}),
    Row(gs.SGD, reference.sgd, 1, {"momentum": 0.9, "dampening": 0.1}, rosenbrock={"lr": 1e-4}),
    Row(gs.SGD, reference.sgd, 1, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"lr": 0.1, "weight_decay": 0.0}, {"lr": 1e-4, "weight_decay": 0.0}),
    Row(gs.Momentum, reference.momentum, 1, {"lr": 0.02}, rosenbrock={"lr": 1e-4}),
    Row(gs.Momentum, reference.momentum, 1, {"weight_decay": 0.1, "maximize": True}, {"lr": 0.1, "weight_decay": 0.0, "maximize": False}, {"lr": 1e-4, "weight_decay": 0.0, "maximize": False}),
    Row(gs.NAG, reference.nag, 1, {"lr": 0.02}, rosenbrock={"lr": 1e-4}),
    Row(gs.Adagrad, reference.adagrad, 1, {"lr": 0.1}, {"lr": 1.0}, {"lr": 0.5}),
    Row(gs.Adam, reference.adam, 2, {}, {"lr": 0.1}, {"lr": 1e-2}),
    Row(gs.Adam, reference.adam, 2, {"weight_decay": 0.1, "betas": (0.8, 0.99), "maximize": True}, {"lr": 0.1, "weight_decay": 0.0, "maximize": False}, {"lr": 1e-2, "weight_decay": 0.0, "maximize": False}),
    Row(gs.AdamW, reference.adamw, 2, {"weight_decay": 0.1}, {"lr": 0.1, "weight_decay": 0.0}, {"lr": 1e-2, "weight_decay": 0.0}),
]  # fmt: skip
IDS = [row.name for row in ROWS]
ISAS = _cpu.isas_supported()
LAYERS = ["pool", "openmp"]
THREADS = [1, 2, 3]
TEAMS = [("pool", 1), ("pool", 3), ("openmp", 2)]  # where all of LAYERS x THREADS would take too long
DTYPES = ["float32", "float64"]
FORMATS = ["float32", "float64", "bfloat16", "float16", "complex64", "complex128"]
SHORT = ["bfloat16", "float16"]
PAIRS = [(p, g) for p in ["float32", *SHORT] for g in ["float32", *SHORT]]
PAIRS += [(f, f) for f in ("float64", "complex64", "complex128")]


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
