"""All that training changes: taken, put back, written to a file and read."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from gradstep import checkpoint
from gradstep.averages import EMA
from gradstep.backend import checked
from gradstep.containers import Array, Container, Forest
from gradstep.feed import Passes, Positioned
from gradstep.footprint import rule_class
from gradstep.group import split_groups
from gradstep.lbfgs import LBFGS
from gradstep.loss_scaler import LossScaler
from gradstep.optimizer import Optimizer
from gradstep.overlap import same_places
from gradstep.schedules import ReduceOnPlateau
from gradstep.states import on_host, restore_all, to_host

VERSION = 1


@dataclass
class History:
    """The course of training: lists with one number a step, and lists with one an epoch.

    Parameters
    ----------
    loss, lr, grad_norm : list of float
        Of each step: the loss before it, the learning rate of the first group, and the global norm of the gradients
        before clipping, NaN where none was taken.
    epoch_loss, validation : list of float
        Of each epoch: the mean of its losses, and what `validate` found after it, NaN without.
    epoch_end : list of int
        Of each epoch: the number of steps made when it ended.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = np.array([4.0])
    >>> history = gs.fit(lambda w: (w[0] ** 2, 2 * w), w, [(), ()], gs.SGD(w, lr=0.25), epochs=2).history
    >>> history.loss, history.epoch_loss, history.epoch_end
    ([16.0, 4.0, 1.0, 0.25], [10.0, 0.625], [2, 4])
    """

    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    epoch_loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    epoch_end: list[int] = field(default_factory=list)


@dataclass
class Snapshot:
    """Takes and puts back all that training changes: an optimizer, its parameters, and what belongs to them."""

    optimizer: Optimizer
    feed: Passes | Positioned
    average: EMA | None = None
    scaler: LossScaler | None = None
    history: History = field(default_factory=History)
    best: list[Array] = field(default_factory=list)  # parameters of the best epoch, on the host

    @property
    def plateaus(self) -> list[ReduceOnPlateau]:
        """Every `ReduceOnPlateau` among the optimizer's hyperparameters."""
        return plateaus_of(self.optimizer)

    def take(self, of: Callable[[Array], Array] = to_host) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return facts, and arrays by name, each as `of` returns it."""
        with self.optimizer._lock:
            own, state = self.optimizer._pack(of)
        average = self.average
        parts = {
            "optimizer": state,
            "params": _numbered(map(of, self.optimizer._arrays)),
            "best": _numbered(self.best),
            "average": _numbered(map(of, average._averages if average else ())),
            "history": {
                name: np.array(v, "i8" if name == "epoch_end" else "f8") for name, v in vars(self.history).items()
            },
        }
        facts = {
            "fit": VERSION,
            "optimizer": own,
            "data": self.feed.state_dict(),
            "average": average.calls if average else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "plateaus": json.dumps([one.state_dict() for one in self.plateaus]),  # as text, for it may hold infinity
        }
        return facts, {f"{part}/{name}": array for part, held in parts.items() for name, array in held.items()}

    def put_back(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Write what `take` gave into the optimizer, its parameters, and what belongs to them."""
        if facts.get("fit") != VERSION:
            raise ValueError(f"expected a checkpoint of gradstep.fit, version {VERSION}")
        parts: dict[str, dict[str, Array]] = {}
        for name, array in arrays.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = array
        for name, mine in (("average", self.average), ("scaler", self.scaler)):
            if (facts[name] is None) != (mine is None):
                raise ValueError(f"{name}: expected one with {name}={'None' if mine is None else mine!r}")
        with self.optimizer._lock:
            self.optimizer._unpack(facts["optimizer"], parts.get("optimizer", {}))
        _read(self.history, parts["history"])
        self.feed.load_state_dict(facts["data"])
        if self.average:
            averages = _in_order(parts.get("average", {}), self.average._forest.labels)
            saved = {"averages": self.average._forest.unflatten(averages), "calls": facts["average"]}
            self.average.load_state_dict(saved)
        if self.scaler:
            self.scaler.load_state_dict(facts["scaler"])
        plateaus = json.loads(facts["plateaus"])
        if len(plateaus) != len(self.plateaus):
            raise ValueError(f"expected an optimizer with {len(plateaus)} ReduceOnPlateau, got {len(self.plateaus)}")
        for plateau, state in zip(self.plateaus, plateaus, strict=True):
            plateau.load_state_dict(state)
        self.best = self._like_params("best", parts["best"]) if "best" in parts else []
        restore_all(self.optimizer._arrays, self._like_params("params", parts["params"]))

    def _like_params(self, name: str, held: Mapping[str, Array]) -> list[Array]:
        labels = self.optimizer._forest.labels
        found = _in_order(held, labels)
        for mine, array, label in zip(self.optimizer._arrays, found, labels, strict=True):
            if (array.dtype, array.shape) != (mine.dtype, mine.shape):
                raise ValueError(f"{name}{label}: expected {mine.dtype} of shape {mine.shape}")
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, whole or not at all."""
        checkpoint.write(path, *self.take(on_host))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what `save` wrote; whatever is wrong with it leaves everything as it was."""
        facts, arrays = checkpoint.read(path)
        before = self.take()
        try:
            self.put_back(facts, arrays)
        except BaseException as error:
            self.put_back(*before)
            if not isinstance(error, Exception):
                raise
            words = f"no {error} in it" if isinstance(error, KeyError) else error
            raise ValueError(f"{os.fspath(path)}: {words}") from error


def optimizer_on(params: Container, optimizer: Any) -> Optimizer:
    """Return an optimizer of these parameters: the user's, or one of the rule that the user named."""
    if isinstance(optimizer, LBFGS):
        raise TypeError("optimizer: expected one that takes gradients, got LBFGS: give its step the function itself")
    if not isinstance(optimizer, Optimizer):
        return rule_class("optimizer", optimizer)(params)
    containers, _, grouped = split_groups(params, None)
    forest = Forest(containers, grouped)
    _, arrays = checked(forest.arrays(containers), forest.labels)
    if not same_places(arrays, optimizer._arrays):
        raise ValueError("params: expected the arrays that optimizer was made with, in their order")
    return optimizer


def plateaus_of(optimizer: Optimizer) -> list[ReduceOnPlateau]:
    """Return every `ReduceOnPlateau` among an optimizer's hyperparameters."""
    return plateaus_in([list(group.values()) for group in optimizer.groups])


def loss_plateaus_of(optimizer: Optimizer) -> list[ReduceOnPlateau]:
    """Return every `ReduceOnPlateau` among an optimizer's hyperparameters, each of which has to watch a loss."""
    plateaus = plateaus_of(optimizer)
    if upwards := [one for one in plateaus if one.mode == "max"]:
        raise ValueError(f'optimizer: expected schedules with mode="min", for smaller is better here, got {upwards[0]}')
    return plateaus


def plateaus_in(*values: Any) -> list[ReduceOnPlateau]:
    """Return every `ReduceOnPlateau` in hyperparameters, each once: in sequences, and in schedules of schedules."""
    found: list[ReduceOnPlateau] = []
    seen: dict[int, Any] = {}  # schedules may be the user's, and refer to themselves
    waiting = list(values[::-1])
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, ReduceOnPlateau):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            waiting += value[::-1]
        elif dataclasses.is_dataclass(value):
            waiting += [getattr(value, part.name, None) for part in fields(value)][::-1]
    return found


def _numbered(arrays: Iterator[Array] | Sequence[Array]) -> dict[str, Array]:
    return {str(i): array for i, array in enumerate(arrays)}


def _in_order(held: Mapping[str, Array], labels: Sequence[str]) -> list[Array]:
    if set(held) != {str(i) for i in range(len(labels))}:
        raise ValueError(f"expected {len(labels)} arrays, got {len(held)}")
    return [held[str(i)] for i in range(len(labels))]


def _read(history: History, arrays: Mapping[str, Array]) -> None:
    names = list(vars(history))
    if set(arrays) != set(names) or any(a.ndim != 1 for a in arrays.values()):
        raise ValueError(f"history: expected {', '.join(names)}")
    sizes = [arrays[name].size for name in names]
    if sizes != [sizes[0]] * 3 + [sizes[3]] * 3:
        raise ValueError(f"history: expected a number a step and a number an epoch, got {sizes}")
    for name, values in arrays.items():
        getattr(history, name)[:] = values.tolist()
