"""The work that steps do: a rule on arrays of some sizes, what surrounds it, and what must come out."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from bench import ROOT
from bench.case import Array, Wrong, spread


@dataclass(frozen=True)
class Rule:
    """A row of the table: the class, in gradstep and in its textbook, its reference, and its hyperparameters."""

    cls: str
    reference: str
    states: int
    hypers: dict[str, Any]


CLIP = 3.0  # between the norms of the first and of the second gradients that are checked
NORM = 0.005  # PyTorch's norm of 2^25 numbers is some 0.2 % off
MOMENTUM: dict[str, Any] = {"lr": 0.01, "momentum": 0.9}
EPS = 1e-6  # large enough for the check to see whether it is there
ADAM: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.999), "eps": EPS}
RULES = {
    "GradientDescent": Rule("GradientDescent", "gradient_descent", 0, {"lr": 0.01}),
    "SGD": Rule("SGD", "gradient_descent", 0, {"lr": 0.01}),
    "SGD momentum": Rule("SGD", "sgd", 1, MOMENTUM),
    "SGD nesterov": Rule("SGD", "sgd", 1, MOMENTUM | {"nesterov": True}),
    "Momentum": Rule("Momentum", "momentum", 1, MOMENTUM),
    "NAG": Rule("NAG", "nag", 1, MOMENTUM),
    "Adagrad": Rule("Adagrad", "adagrad", 1, {"lr": 0.01, "eps": EPS}),
    "Adam": Rule("Adam", "adam", 2, ADAM),
    "AdamW": Rule("AdamW", "adamw", 2, ADAM | {"weight_decay": 0.01}),
}


@dataclass(frozen=True)
class Work:
    """One step of a rule; clipping, scaling, averaging and zeroing where they are asked for."""

    rule: str
    sizes: tuple[int, ...]
    dtype: str = "float32"
    clip: float | None = None  # `clip_norm`, of what the norm of the gradients is about
    grad_scale: float = 1.0
    average: float | None = None  # the decay of an exponential moving average
    zero_grads: bool = False

    @property
    def spec(self) -> Rule:
        """The rule's row."""
        return RULES[self.rule]

    @property
    def clip_norm(self) -> float | None:
        """The norm that gradients are clipped to."""
        return None if self.clip is None else self.clip * self.elements**0.5

    @property
    def elements(self) -> int:
        """Number of elements in all arrays."""
        return sum(self.sizes)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of parameters and gradients."""
        if self.dtype == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of an element, told without ml_dtypes: a case has its bytes also where contestants find none."""
        return 2 if self.dtype == "bfloat16" else self.numpy_dtype.itemsize

    @property
    def state_itemsize(self) -> int:
        """Bytes of an element of a state: 16-bit parameters have states of float32."""
        return max(4, self.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes that one step reads and writes at least."""
        item, state = self.itemsize, self.state_itemsize
        each = 3 * item + 2 * state * self.spec.states
        each += item * (self.clip_norm is not None) + item * self.zero_grads + 2 * state * (self.average is not None)
        return self.elements * each

    @property
    def nbytes_of_params(self) -> int:
        """Bytes of the parameters, or of the gradients."""
        return self.elements * self.itemsize

    @property
    def streams(self) -> int:
        """Number of arrays that a step walks over for each parameter."""
        return 2 + self.spec.states + (self.average is not None)

    @property
    def footprint(self) -> int:
        """Bytes that a step walks over."""
        return 2 * self.nbytes_of_params + self.elements * self.state_itemsize * (self.streams - 2)

    @property
    def surrounded(self) -> bool:
        """Whether more than the rule is asked for."""
        return self.changes_grads or self.average is not None

    @property
    def changes_grads(self) -> bool:
        """Whether a step in separate passes writes to its gradients."""
        return self.zero_grads or self.clip_norm is not None or self.grad_scale != 1

    def params(self) -> list[Array]:
        """Return new parameters, the same at each call."""
        return [floats(n, k).astype(self.numpy_dtype) for k, n in enumerate(self.sizes)]

    def grads(self) -> list[Array]:
        """Return gradients, shared by all contestants, which `turns` writes to: whoever else does takes copies."""
        return _grads(self.sizes, self.numpy_dtype, self.grad_scale)

    def turns(self) -> Generator[object]:
        """Let the check make steps of other gradients each: contestants with none, or other, states must not pass.

        Powers of two come back to the same bits; `CLIP` clips the first. Large ones come first: what an average keeps
        of them shows its decay.
        """
        grads, last = self.grads(), 1.0
        try:
            for factor in (4.0, -2.0, 1.0):
                _multiply(grads, factor / last)
                last = factor
                yield
        finally:
            _multiply(grads, 1 / last)

    def expected(self, norms: Sequence[float] = (), **hypers: Any) -> list[Array]:
        """Return what `sample` must see after the `turns`: of parameters, averages, and gradients that are zeroed.

        A peer whose norms are sums of floats says which it took, so that nothing else of it may be off; other
        `hypers`, functions of the step where they change, are for one that has none of ours.
        """
        reference = specification()
        rule, hypers = getattr(reference, self.spec.reference), complete(self.spec.hypers | hypers)
        params, grads = [spread(p).copy() for p in self.params()], [spread(g) for g in self.grads()]
        wide = np.float32 if self.itemsize == 2 else self.numpy_dtype
        states = [[np.zeros(p.shape, wide) for _ in range(self.spec.states)] for p in params]
        averages = [p.astype(wide) if self.average is not None else None for p in params]
        for t, _ in enumerate(self.turns(), 1):
            factor = self._factor(norms[t - 1] if norms else None)
            now = {name: value(t) if callable(value) else value for name, value in hypers.items()}
            more = {"t": t, "h": now, "factor": factor, "decay": self.average or 0.0}
            for p, g, ours, average in zip(params, grads, states, averages, strict=True):
                reference.step(rule, p, g, ours, average=average, **more)
        zeroed = [np.zeros(g.shape) for g in grads if self.zero_grads]
        return [a.astype(np.float64) for a in (*params, *averages, *zeroed) if a is not None]

    def _factor(self, taken: float | None) -> float:
        """Return what the gradients are multiplied by; with a norm of the unscaled ones that is taken, by that."""
        if self.clip_norm is None:
            return 1 / self.grad_scale
        squares = (np.vdot(g, g) for g in (g.astype(np.float64) for g in self.grads()))
        norm = np.sqrt(sum(squares))
        if taken is not None:
            if not abs(taken * self.grad_scale / norm - 1) <= NORM:
                raise Wrong(f"the norm is {taken:.6g}, where {norm / self.grad_scale:.6g} is expected")
            norm = taken * self.grad_scale
        factor: float = specification().clip_factor(norm, self.clip_norm, self.grad_scale)
        return factor


def complete(hypers: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with the defaults of those that are not named."""
    return {"weight_decay": 0.0, "maximize": False, "momentum": 0.0, "dampening": 0.0, "nesterov": False} | hypers


def floats(n: int, seed: int = 0) -> Array:
    """Return random numbers; large arrays repeat a block of 2^20."""
    block = np.random.default_rng(seed).normal(size=min(n, 2**20)).astype(np.float32)
    return block if n == block.size else np.resize(block, n)


@functools.lru_cache(maxsize=1)
def _grads(sizes: tuple[int, ...], dtype: np.dtype[Any], scale: float) -> list[Array]:
    return [(floats(n, 1000 + k) * np.float32(scale)).astype(dtype) for k, n in enumerate(sizes)]


def _multiply(arrays: list[Array], factor: float) -> None:
    for a in arrays:
        a *= a.dtype.type(factor)


def specification() -> ModuleType:
    """Return tests/reference.py."""
    return from_tests("reference")


def from_tests(name: str) -> ModuleType:
    """Import a module of tests/."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module(name)


def wake_blas() -> None:
    """Start BLAS's threads, which users have too."""
    a = floats(600 * 600).reshape(600, 600)
    a @ a
