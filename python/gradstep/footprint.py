"""What an optimizer's state will cost."""

from __future__ import annotations

import inspect
from typing import Any

from gradstep import hyperparameters, rules
from gradstep.backend import checked
from gradstep.containers import Container, Forest
from gradstep.group import split_groups
from gradstep.optimizer import Optimizer
from gradstep.states import state_dtype

NAMED: dict[str, type[Optimizer]] = {
    cls.rule: cls
    for cls in vars(rules).values()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}
NAMED["gd"] = NAMED["gradient_descent"]  # as minimize calls it


def rule_class(argument: str, rule: Any) -> type[Optimizer]:
    """Return the class that a user named, or gave."""
    cls = NAMED.get(rule) if isinstance(rule, str) else rule
    if cls is None or cls not in NAMED.values():
        kind = ValueError if isinstance(rule, str) else TypeError
        raise kind(f"{argument}: expected an optimizer class or one of {', '.join(NAMED)}, got {rule!r}")
    return cls


def memory(params: Container, rule: type[Optimizer] | str, *, master_weights: bool = False, **hypers: Any) -> int:
    """Return the bytes that an optimizer's state takes, before anything is allocated.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        As for the optimizer; only shapes and dtypes are looked at, so they may be read-only.
    rule : class or str
        Such as ``gs.AdamW`` or ``"adamw"``.
    master_weights : bool, default False
        Whether 16-bit parameters get a float32 copy.
    **hypers : float, schedule, bool or tuple
        Hyperparameters, as for the optimizer: `SGD` keeps a state only with momentum.

    Returns
    -------
    int
        Bytes: ``optimizer.nbytes`` of such an optimizer.

    Raises
    ------
    TypeError, ValueError
        If a container, an array or a hyperparameter is none that an optimizer takes, or there is no such rule.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = {"W": np.zeros((100, 10), np.float32)}
    >>> gs.memory(w, "adamw"), gs.memory(w, gs.SGD), gs.memory(w, gs.SGD, momentum=0.9)
    (8000, 0, 4000)
    """
    cls = rule_class("rule", rule)
    keywords = inspect.signature(cls).parameters.items()
    defaults = {k: p.default for k, p in keywords if p.kind is p.KEYWORD_ONLY and k != "master_weights"}
    if unknown := [name for name in hypers if name not in defaults]:
        raise TypeError(f"{unknown[0]}: {cls.__name__} has {', '.join(defaults)}")
    containers, settings, grouped = split_groups(params, {**defaults, **hypers})
    forest = Forest(containers, grouped)
    for values, at in zip(settings, forest.prefixes, strict=True):
        own = {k: hyperparameters.check(k, v, hyperparameters.label_in(at, k)) for k, v in values.items()}
        cls._check({**values, **own}, at)
    backend, arrays = checked(forest.arrays(containers), forest.labels, written=False)
    copies = len(backend.states[cls._native_rule(settings)])
    return sum(
        a.size * state_dtype(a).itemsize * (copies + (1 if master_weights and a.itemsize == 2 else 0)) for a in arrays
    )
