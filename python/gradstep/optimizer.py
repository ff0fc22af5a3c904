"""What all optimizers share: containers, hyperparameters, groups, and one native call a step."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, ClassVar

from gradstep import hyperparameters
from gradstep.backend import backend_of
from gradstep.containers import Container, Forest, is_sequence
from gradstep.overlap import refuse_overlap
from gradstep.states import zeros_like

_living: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def _unlock_in_child() -> None:
    # A thread that was inside a step is not there in a forked child, and would hold its lock for ever.
    for optimizer in _living:
        optimizer._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


class Group(MutableMapping[str, Any]):
    """The hyperparameters of one group of parameters: a mapping with fixed keys.

    ``group["lr"] = 0.1`` checks the new value as the constructor does, and counts from the next step on.
    Float hyperparameters may be schedules: callables of the number of calls of ``step`` made before.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer that it belongs to.
    index : int
        Its place in ``optimizer.groups``.
    values : mapping
        The hyperparameters by name.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD([{"params": np.zeros(2)}, {"params": np.zeros(3), "lr": 0.5}], lr=0.1)
    >>> opt.groups[1]["lr"]
    0.5
    """

    def __init__(self, optimizer: Optimizer, index: int, values: Mapping[str, Any]) -> None:
        self._optimizer = optimizer
        self._index = index
        self._values = {name: hyperparameters.check(name, value) for name, value in values.items()}
        optimizer._check(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._values:
            raise KeyError(f"{name}: {type(self._optimizer).__name__} has {', '.join(self._values)}")
        self._optimizer._set(((self, {**self._values, name: hyperparameters.check(name, value)}),))

    def __delitem__(self, name: str) -> None:
        raise TypeError("a group keeps all its hyperparameters")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Group({self._values})"

    @property
    def scheduled(self) -> bool:
        """Whether any hyperparameter is a schedule."""
        return any(map(hyperparameters.is_scheduled, self._values.values()))

    def at(self, calls: int) -> dict[str, Any]:
        """Return the hyperparameters of one step, schedules asked.

        Parameters
        ----------
        calls : int
            Number of calls of ``step`` made before it.

        Returns
        -------
        dict
            Values by name.
        """
        return {name: hyperparameters.evaluate(name, v, calls) for name, v in self._values.items()}


class Optimizer:
    """Base of all optimizers: updates arrays in place, one `step` at a time.

    A subclass names its native `rule` and passes its hyperparameters on. Two threads may call one optimizer:
    they are served one after the other.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Updated in place; references are kept, never copies.
    **hypers : float, schedule, bool or tuple
        Hyperparameters of the rule, with their defaults; a group dict may have its own.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> isinstance(gs.Adam(np.zeros(3)), gs.Optimizer)
    True
    """

    rule: ClassVar[str]

    def __init__(self, params: Container, **hypers: Any) -> None:
        self._lock = threading.RLock()
        _living.add(self)
        containers, settings, grouped = _split_groups(params, hypers)
        self._forest = Forest(containers, grouped)
        self._groups = tuple(Group(self, i, values) for i, values in enumerate(settings))
        arrays = tuple(
            array
            for tree, container in zip(self._forest.trees, containers, strict=True)
            for array in tree.flatten(container, "params")
        )
        labels = self._forest.labels
        backend = backend_of(arrays[0], "params" + labels[0])
        for array, label in zip(arrays, labels, strict=True):
            backend.check(array, "params", label)
        refuse_overlap(arrays, labels)
        rule = self._native_rule()
        self._states = {name: zeros_like(arrays, k) for k, name in enumerate(backend.states[rule])}
        self._plan = backend.Plan(rule, arrays, tuple(self._states.values()), self._forest.group_of, labels)
        self._set(tuple((group, group._values) for group in self._groups))

    def step(self, grads: Container) -> None:
        """Update every parameter in place by one step of the rule.

        Parameters
        ----------
        grads : container of arrays
            Gradients in a container of the same shape as `params`, each with the shape and dtype of its
            parameter, in any memory layout. ``None`` skips an array, whose own step count then stands still.
            A gradient that shares memory with parameters or states is copied first.

        Raises
        ------
        TypeError
            If a container, an array type or a dtype is wrong. Nothing was changed.
        ValueError
            If gradients are missing, too many or of the wrong shape, or a schedule returned a number out of
            range. Nothing was changed.
        """
        with self._lock:
            flat = self._forest.flatten(grads, "grads")
            if self._scheduled:
                self._apply(self._scheduled)
            self._plan.step(flat)

    @property
    def steps(self) -> int:
        """Number of updates applied."""
        return int(self._plan.steps)

    @property
    def lr(self) -> float:
        """The learning rate that the next step will use, of the first group. Setting it sets all groups."""
        return float(self._groups[0].at(self._plan.calls)["lr"])

    @lr.setter
    def lr(self, value: hyperparameters.Float) -> None:
        checked = hyperparameters.check("lr", value)
        self._set(tuple((group, {**group._values, "lr": checked}) for group in self._groups))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The hyperparameters of each group of parameters."""
        return self._groups

    @property
    def state(self) -> Mapping[str, Container]:
        """What the rule remembers: name -> arrays in a container as `params`. The arrays are the live ones."""
        return MappingProxyType({name: self._forest.unflatten(a) for name, a in self._states.items()})

    def __repr__(self) -> str:
        hypers = ", ".join(f"{name}={value!r}" for name, value in self._groups[0].items())
        return f"{type(self).__name__}({len(self._forest.labels)} arrays, {hypers})"

    def __reduce__(self) -> str:
        raise TypeError(
            f"{type(self).__name__}: an optimizer holds references to its parameters, and no copy of it would"
        )

    def _check(self, values: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that do not go together."""

    def _native_rule(self) -> str:
        return self.rule

    def _set(self, changes: tuple[tuple[Group, dict[str, Any]], ...]) -> None:
        with self._lock:
            for _, values in changes:
                self._check(values)
            for group, values in changes:
                group._values = values
            self._scheduled = tuple(group for group in self._groups if group.scheduled)
            self._apply(tuple(group for group, _ in changes if not group.scheduled))

    def _apply(self, groups: tuple[Group, ...]) -> None:
        calls = self._plan.calls
        values = [hyperparameters.spread(group.at(calls)) for group in groups]
        for group, flat in zip(groups, values, strict=True):
            self._plan.set_hypers(group._index, flat)


def _split_groups(params: Container, hypers: dict[str, Any]) -> tuple[list[Container], list[dict[str, Any]], bool]:
    """Return each group's arrays, each group's hyperparameters, and whether the user gave groups."""
    if not (is_sequence(params) and params and isinstance(params[0], Mapping)):
        return [params], [hypers], False
    containers, settings = [], []
    for i, group in enumerate(params):
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'params[{i}]: expected a dict with the key "params", got {type(group).__name__}')
        own = {name: value for name, value in group.items() if name != "params"}
        if unknown := [name for name in own if name not in hypers]:
            raise TypeError(f"params[{i}]: unknown hyperparameter {unknown[0]!r}; there are {', '.join(hypers)}")
        containers.append(group["params"])
        settings.append({**hypers, **own})
    return containers, settings, True
