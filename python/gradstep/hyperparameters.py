"""What each hyperparameter may be, and how schedules are asked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

Schedule: TypeAlias = Callable[[int], float]
Float: TypeAlias = float | Schedule
Range: TypeAlias = tuple[Callable[[float], bool], str]  # as a test and in words

NON_NEGATIVE: Range = (lambda x: 0 <= x < math.inf, "a finite number of at least 0")
FRACTION: Range = (lambda x: 0 <= x < 1, "a number from 0 up to, but not, 1")
PART: Range = (lambda x: 0 < x < 1, "a number between 0 and 1")
SHARE: Range = (lambda x: 0 <= x <= 1, "a number from 0 to 1")
LIMIT: Range = (lambda x: x >= 0, "a number of at least 0")
SCALE: Range = (lambda x: 2.0**-126 <= x <= 2.0**126, "a number from 2**-126 to 2**126")  # its inverse is a float32
FLOATS: dict[str, Range] = {  # those of a pair are written one by one
    "lr": NON_NEGATIVE,
    "momentum": NON_NEGATIVE,
    "dampening": NON_NEGATIVE,
    "eps": NON_NEGATIVE,
    "weight_decay": NON_NEGATIVE,
    "beta1": FRACTION,
    "beta2": FRACTION,
    "decay": SHARE,
}
PAIRS = {"betas": ("beta1", "beta2")}
FLAGS = ("nesterov", "maximize")


def check_float(label: str, within: Range, value: Any, origin: str = "got") -> float:
    """Return `value` as a float in its range, or raise an error that says `label`."""
    accepts, words = within
    if not isinstance(value, float) and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        item = getattr(value, "item", None)  # a 0-d array stands for its number
        if item is None or getattr(value, "ndim", None) != 0 or not isinstance(item(), float):
            raise TypeError(f"{label}: expected {words}, {origin} {value!r}")
        value = item()
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        number = math.inf
    if not accepts(number):
        raise ValueError(f"{label}: expected {words}, {origin} {number!r}")
    return number


def label_in(at: str, name: str) -> str:
    """Name a hyperparameter for messages: that of the group at `at`, empty if there are no groups."""
    return f"params{at}[{name!r}]" if at else name


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool if it is one, NumPy's included."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_whole(name: str, value: Any, least: int) -> int:
    """Return `value` if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's integers are such
        raise TypeError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check(name: str, value: Any, label: str = "") -> Any:
    """Check a hyperparameter as the user gives it, schedules included; return it as it is to be kept."""
    label = label or name
    if name in FLAGS:
        return check_flag(label, value)
    if name in PAIRS:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            raise TypeError(f"{label}: expected two numbers, got {value!r}")
        return tuple(check_one(f"{label}[{i}]", FLOATS[part], value[i]) for i, part in enumerate(PAIRS[name]))
    return check_one(label, FLOATS[name], value)


def check_one(label: str, within: Range, value: Any) -> Float:
    """Return `value` if it is a schedule, else as `check_float` does."""
    is_schedule = callable(value) and not isinstance(value, type)  # one that was not made yet is none
    return value if is_schedule else check_float(label, within, value)


def is_scheduled(value: Any) -> bool:
    """Whether a hyperparameter is a schedule, or a pair with one in it."""
    return callable(value) or (isinstance(value, tuple) and any(map(callable, value)))


def evaluate(name: str, value: Any, calls: int, label: str = "") -> Any:
    """Return the value for the step before which `calls` calls were made."""
    label = label or name
    if isinstance(value, tuple):
        parts = PAIRS[name]
        return tuple(ask(f"{label}[{i}]", FLOATS[part], value[i], calls) for i, part in enumerate(parts))
    return ask(label, FLOATS[name], value, calls) if callable(value) else value


def ask(label: str, within: Range, value: Float, calls: int) -> float:
    """Return the number that `value` is, or that it returns, if it is a schedule, checked."""
    if not callable(value):
        return value
    found = value(calls)
    if type(found) is float and within[0](found):  # as nearly always, and at every step
        return found
    return check_float(label, within, found, f"the schedule returned for call {calls}:")


def spread(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give each float its own name, as the kernels know it."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in PAIRS:
            first, second = PAIRS[name]
            flat[first], flat[second] = value
        else:
            flat[name] = value
    return flat


def float_label(at: str, name: str) -> str:
    """Name one of those floats for messages, of the group at `at`."""
    inside = next(((pair, parts.index(name)) for pair, parts in PAIRS.items() if name in parts), None)
    return f"{label_in(at, inside[0])}[{inside[1]}]" if inside else label_in(at, name)
