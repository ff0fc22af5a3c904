"""The update rules as functions: no optimizer object, no memory of their own.

``gs.kernels.<rule>(p, g, *state, step=, **hyper)`` updates one array, or lists of equally many arrays, in place:
parameter, gradient, then each state of the rule in the order of the optimizer's ``state``. Formats and layouts are
those of the optimizers; a state is dense, in its parameter's order of axes, as ``np.zeros_like`` makes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradstep import _cpu, hyperparameters, rules
from gradstep.backend import checked
from gradstep.containers import Array, is_sequence
from gradstep.optimizer import Optimizer
from gradstep.overlap import refuse_overlap

_DOC = """{summary}

Parameters
----------
p : array or sequence of arrays
    Parameters, updated in place.
g : array or sequence of arrays
    Their gradients.
{states}step : int, default 1
    Number of this update, counted from 1.
{hypers}
Raises
------
TypeError, ValueError
    As the optimizer, `{cls}`. Nothing was changed.

Examples
--------
>>> import numpy as np
>>> import gradstep as gs
>>> p = np.array([1.0, 2.0])
>>> gs.kernels.{rule}(p, np.array([1.0, 0.0]){zeros}, lr=0.5{more})
>>> bool(p[0] < 1), float(p[1])
(True, 2.0)
"""


def _kernel(cls: type[Optimizer]) -> Callable[..., None]:
    rule = cls.rule
    states = tuple(_cpu.states[rule])  # every backend has the same
    signature = inspect.signature(cls)
    defaults = {
        name: p.default
        for name, p in signature.parameters.items()
        if p.kind is p.KEYWORD_ONLY and name != "master_weights"
    }

    def kernel(p: Any, g: Any, *state: Any, step: int = 1, **hyper: Any) -> None:
        if unknown := [name for name in hyper if name not in defaults]:
            raise TypeError(f"{rule}: unknown hyperparameter {unknown[0]!r}; there are {', '.join(defaults)}")
        values = {name: hyperparameters.check(name, value) for name, value in {**defaults, **hyper}.items()}
        if scheduled := [name for name, value in values.items() if hyperparameters.is_scheduled(value)]:
            raise TypeError(f"{scheduled[0]}: expected a number, got a schedule")
        cls._check(values)
        native = rule if state else cls._native_rule([values])  # one that may do without
        needed = _cpu.states[native]
        if len(state) != len(needed):
            raise TypeError(f"{rule}: expected {len(states)} states ({', '.join(states) or 'none'}), got {len(state)}")
        if hyperparameters.check_whole("step", step, 1) >= 1 << 62:
            raise ValueError(f"step: expected a whole number below 2**62, got {step!r}")
        _run(native, ("p", "g", *needed), (p, g, *state), step, values)

    kernel.__name__ = kernel.__qualname__ = rule
    kernel.__signature__ = _signature(states, defaults)  # type: ignore[attr-defined]
    kernel.__doc__ = _doc(cls, states, defaults)
    return kernel


def _run(rule: str, names: Sequence[str], given: Sequence[Any], step: int, values: Mapping[str, Any]) -> None:
    (params, grads, *states), labels = _columns(names, given)
    written = {names[0]: params, **dict(zip(names[2:], states, strict=True))}
    for name, column in written.items():
        backend, written[name] = checked(column, labels, name)
    params, *states = written.values()
    refuse_overlap([a for column in written.values() for a in column], [n + k for n in written for k in labels], "")
    for grad, label in zip(grads, labels, strict=True):
        if grad is None:
            raise TypeError(f"{names[1]}{label}: expected an array, got None")
    n = len(params)
    plan = backend.Plan(rule, params, tuple(states), (None,) * n, [0] * n, labels, list(names))
    plan.set_counts(step - 1, 0, [step - 1] * n)
    plan.set_hypers(0, hyperparameters.spread(values))
    plan.step(grads)


def _columns(names: Sequence[str], given: Sequence[Any]) -> tuple[list[tuple[Array, ...]], tuple[str, ...]]:
    if not is_sequence(given[0]):
        return [(x,) for x in given], ("",)
    n = len(given[0])
    for name, x in zip(names, given, strict=True):
        if not is_sequence(x):
            raise TypeError(f"{name}: expected a sequence of {n} arrays, got {type(x).__name__}")
        if len(x) != n or not n:
            raise ValueError(f"{name}: expected {f'{n} arrays' if n else 'at least one array'}, got {len(x)}")
    return [tuple(x) for x in given], tuple(f"[{i}]" for i in range(n))


def _signature(states: Sequence[str], defaults: Mapping[str, Any]) -> inspect.Signature:
    positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("p", "g", *states)]
    keywords = {"step": 1, **defaults}
    named = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in keywords.items()]
    return inspect.Signature([*positional, *named], return_annotation=None)


def _doc(cls: type[Optimizer], states: Sequence[str], defaults: Mapping[str, Any]) -> str:
    free = "" if cls._native_rule([defaults]) == cls.rule else "; without momentum it may be left out"
    return _DOC.format(
        summary=f"One step of the rule of `{cls.__name__}`, which has its mathematics.",
        states="".join(
            f"{name} : array or sequence of arrays\n    State, updated in place{free}.\n" for name in states
        ),
        hypers="".join(
            f"{name} : {type(v).__name__}, default {v!r}\n    As the optimizer's.\n" for name, v in defaults.items()
        ),
        cls=cls.__name__,
        rule=cls.rule,
        zeros=", np.zeros(2)" * len(states),
        more=", weight_decay=0.0" if defaults["weight_decay"] else "",
    )


gradient_descent = _kernel(rules.GradientDescent)
sgd = _kernel(rules.SGD)
momentum = _kernel(rules.Momentum)
nag = _kernel(rules.NAG)
adagrad = _kernel(rules.Adagrad)
adam = _kernel(rules.Adam)
adamw = _kernel(rules.AdamW)

__all__ = ["adagrad", "adam", "adamw", "gradient_descent", "momentum", "nag", "sgd"]
