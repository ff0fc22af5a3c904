"""What each hyperparameter may be, and how schedules are asked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Schedule: TypeAlias = Callable[[int], float]
Float: TypeAlias = float | Schedule

# The range of each float, as a test and in words. Those of a pair are written one by one.
NON_NEGATIVE = (lambda x: 0 <= x < math.inf, "a finite number of at least 0")
FRACTION = (lambda x: 0 <= x < 1, "a number from 0 up to, but not, 1")
SHARE = (lambda x: 0 <= x <= 1, "a number from 0 to 1")
LIMIT = (lambda x: x >= 0, "a number of at least 0")
POSITIVE = (lambda x: 0 < x < math.inf, "a finite number above 0")
FLOATS: dict[str, tuple[Callable[[float], bool], str]] = {
    "lr": NON_NEGATIVE,
    "momentum": NON_NEGATIVE,
    "dampening": NON_NEGATIVE,
    "eps": NON_NEGATIVE,
    "weight_decay": NON_NEGATIVE,
    "beta1": FRACTION,
    "beta2": FRACTION,
    "decay": SHARE,
    "clip_norm": LIMIT,
    "clip_value": LIMIT,
    "grad_scale": POSITIVE,
}
PAIRS = {"betas": ("beta1", "beta2")}
FLAGS = ("nesterov", "maximize")


def check_float(label: str, name: str, value: Any, origin: str = "got") -> float:
    """Return `value` as a float in the range of hyperparameter `name`, or raise an error that says `label`."""
    accepts, words = FLOATS[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        item = getattr(value, "item", None)  # a 0-d array stands for its number
        if item is None or getattr(value, "ndim", None) != 0 or not isinstance(item(), float):
            raise TypeError(f"{label}: expected {words}, {origin} {value!r}")
        value = item()
    number = float(value)
    if not accepts(number):
        raise ValueError(f"{label}: expected {words}, {origin} {number!r}")
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool if it is one, NumPy's included."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check(name: str, value: Any) -> Any:
    """Check a hyperparameter as the user gives it, schedules included; return it as it is to be kept."""
    if name in FLAGS:
        return check_flag(name, value)
    if name in PAIRS:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            raise TypeError(f"{name}: expected two numbers, got {value!r}")
        return tuple(_check_one(f"{name}[{i}]", part, value[i]) for i, part in enumerate(PAIRS[name]))
    return _check_one(name, name, value)


def _check_one(label: str, name: str, value: Any) -> Float:
    return value if callable(value) else check_float(label, name, value)


def is_scheduled(value: Any) -> bool:
    """Whether a hyperparameter is a schedule, or a pair with one in it."""
    return callable(value) or (isinstance(value, tuple) and any(map(callable, value)))


def evaluate(name: str, value: Any, calls: int) -> Any:
    """Return the value for the step before which `calls` calls were made."""
    if isinstance(value, tuple):
        parts = PAIRS[name]
        return tuple(_ask(f"{name}[{i}]", part, value[i], calls) for i, part in enumerate(parts))
    return _ask(name, name, value, calls) if callable(value) else value


def _ask(label: str, name: str, value: Float, calls: int) -> float:
    if not callable(value):
        return value
    return check_float(label, name, value(calls), f"the schedule returned for call {calls}:")


def spread(values: Mapping[str, Any]) -> dict[str, float]:
    """Give each float its own name, as the kernels know it."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        flat.update(zip(PAIRS[name], value, strict=True) if name in PAIRS else ((name, value),))
    return flat
