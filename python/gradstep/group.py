"""The hyperparameters of one group of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from gradstep import hyperparameters
from gradstep.containers import Container, is_sequence

if TYPE_CHECKING:
    from gradstep.optimizer import Optimizer


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
    at : str
        Where the group stands in `params`, for messages; empty if there are no groups.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD([{"params": np.zeros(2)}, {"params": np.zeros(3), "lr": 0.5}], lr=0.1)
    >>> opt.groups[1]["lr"]
    0.5
    """

    def __init__(self, optimizer: Optimizer, index: int, values: Mapping[str, Any], at: str = "") -> None:
        self._optimizer = optimizer
        self._index = index
        self._at = at
        self._values = {name: self._check(name, value) for name, value in values.items()}
        optimizer._check(self._values, at)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._values:
            raise KeyError(f"{name}: {type(self._optimizer).__name__} has {', '.join(self._values)}")
        self._optimizer._set(((self, {**self._values, name: self._check(name, value)}),))

    def __delitem__(self, name: str) -> None:
        raise TypeError("a group keeps all its hyperparameters")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Group({self._values})"

    def __reduce__(self) -> str:
        raise TypeError("Group: a group belongs to its optimizer; dict(group) copies its hyperparameters")

    @property
    def scheduled(self) -> bool:
        """Whether any hyperparameter is a schedule."""
        return bool(self._schedules)

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
        evaluate = hyperparameters.evaluate
        return {name: evaluate(name, value, calls, self._label(name)) for name, value in self._values.items()}

    def _keep(self, values: dict[str, Any]) -> None:
        """Take values, and note what each step asks, so that it does no more than that."""
        self._values = values
        flat, label = hyperparameters.spread(values), hyperparameters.float_label
        self._constants = {name: value for name, value in flat.items() if not callable(value)}
        self._schedules = [(name, label(self._at, name), value) for name, value in flat.items() if callable(value)]

    def _ask(self, calls: int) -> dict[str, float]:
        floats, ask = hyperparameters.FLOATS, hyperparameters.ask
        return {name: ask(label, floats[name], schedule, calls) for name, label, schedule in self._schedules}

    def _check(self, name: str, value: Any) -> Any:
        return hyperparameters.check(name, value, self._label(name))

    def _label(self, name: str) -> str:
        return hyperparameters.label_in(self._at, name)


def split_groups(
    params: Container, hypers: dict[str, Any] | None, first: int = 0
) -> tuple[list[Container], list[dict[str, Any]], bool]:
    """Return each group's arrays, each group's hyperparameters, and whether the user gave groups.

    Where there are no `hypers`, those of the groups are of no interest. `first` is the number of the first group.
    """
    if not (is_sequence(params) and params and isinstance(params[0], Mapping)):
        return [params], [hypers or {}], False
    containers, settings = [], []
    for i, group in enumerate(params, first):
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'params[{i}]: expected a dict with the key "params", got {type(group).__name__}')
        own = {name: value for name, value in group.items() if name != "params"}
        if hypers is not None and (unknown := [name for name in own if name not in hypers]):
            raise TypeError(f"params[{i}]: unknown hyperparameter {unknown[0]!r}; there are {', '.join(hypers)}")
        containers.append(group["params"])
        settings.append({**(hypers or {}), **own})
    return containers, settings, True
