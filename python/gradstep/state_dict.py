"""What an optimizer remembers, as plain dicts and arrays, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gradstep import checkpoint, hyperparameters
from gradstep.containers import Array, Container, Forest
from gradstep.locks import Locked
from gradstep.states import check_like, on_host, to_host

VERSION = 1


class Checkpointed(Locked):
    """Base of optimizers: what one remembers of its parameters, as it is and as plain dicts and arrays.

    A subclass has the parameters, `_arrays` in `_forest`, and its rule, `_kernel`; it tells the arrays and the facts
    that it remembers, and takes them back.
    """

    _kernel: str
    _forest: Forest
    _arrays: tuple[Array, ...]

    def _memory(self) -> Mapping[str, tuple[Array | None, ...]]:
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _restore(self, facts: Mapping[str, Any], state: Mapping[str, tuple[Array | None, ...]]) -> None:
        raise NotImplementedError

    @property
    def state(self) -> Mapping[str, Container]:
        """What the rule remembers: name -> arrays in a container as `params`. The arrays are the live ones."""
        return MappingProxyType({name: self._forest.unflatten(a) for name, a in self._memory().items()})

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the state takes."""
        return sum(a.nbytes for arrays in self._memory().values() for a in arrays if a is not None)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state, the counts and the plain hyperparameters, as dicts and arrays.

        Returns
        -------
        dict
            "state" holds arrays in containers as `params`; schedules are left out.
        """
        with self._lock:
            memory = self._memory().items()
            state = {name: self._forest.unflatten([_copy(a) for a in arrays]) for name, arrays in memory}
            return {**self._head(), **self._facts(), "state": state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Copy what `state_dict` gave into the arrays, counts and hyperparameters of this optimizer.

        Hyperparameters that were schedules stay as they are here.

        Parameters
        ----------
        saved : mapping
            Of an optimizer of the same rule, with parameters of the same names, shapes and dtypes.

        Raises
        ------
        ValueError
            If it is of another rule or other parameters, or damaged. Nothing was changed.
        """
        with self._lock:
            if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
                raise ValueError("saved: expected what state_dict() gave")
            self._take(saved, {name: self._flat(name, container) for name, container in saved["state"].items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state, the counts and the plain hyperparameters to one ``.npz`` file.

        A crash at any point leaves the old file or the new one whole.

        Parameters
        ----------
        path : path-like
            Name of the file.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with self._lock:
            checkpoint.write(path, *self._pack(on_host))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what `save` wrote, as `load_state_dict`.

        Parameters
        ----------
        path : path-like
            Name of the file.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged, or no checkpoint of such an optimizer. Nothing was changed.
        """
        with self._lock:
            facts, arrays = checkpoint.read(path)
            try:
                self._unpack(facts, arrays)
            except ValueError as e:
                raise ValueError(f"{os.fspath(path)}: {e}") from None

    def __reduce__(self) -> str:
        raise TypeError(
            f"{type(self).__name__}: an optimizer holds references to its parameters, and no copy of it would"
        )

    def _head(self) -> dict[str, Any]:
        params = [[at, str(a.dtype), list(a.shape)] for a, at in zip(self._arrays, self._forest.labels, strict=True)]
        return {"version": VERSION, "rule": self._kernel, "params": params}

    def _pack(self, of: Callable[[Array], Array] = to_host) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the facts, and the arrays by name, each as `of` returns it."""
        memory = self._memory().items()
        arrays = {f"{name}/{i}": of(a) for name, flat in memory for i, a in enumerate(flat) if a is not None}
        return {**self._head(), **self._facts()}, arrays

    def _unpack(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take back what `_pack` gave; where it does not fit a ValueError is raised, and nothing changed."""
        size = len(self._arrays)
        names = dict.fromkeys(name.partition("/")[0] for name in arrays)
        state = {name: tuple(arrays.get(f"{name}/{i}") for i in range(size)) for name in names}
        for name in self._memory():  # one of which no array is kept
            state.setdefault(name, (None,) * size)
        if sum(a is not None for flat in state.values() for a in flat) != len(arrays):
            raise ValueError("expected the states of these parameters, got others")
        self._take(facts, state)

    def _flat(self, name: Any, container: Container) -> tuple[Array | None, ...]:
        try:
            return self._forest.flatten(container, f"saved['state'][{name!r}]")
        except TypeError as e:
            raise ValueError(str(e)) from None

    def _take(self, facts: Mapping[str, Any], state: Mapping[str, tuple[Array | None, ...]]) -> None:
        mine = self._head()
        for name in ("version", "rule"):
            if facts.get(name) != mine[name]:
                raise ValueError(f"{name}: expected {mine[name]}, got {facts.get(name)!r}")
        _check_params(mine["params"], facts.get("params"))
        self._restore(facts, state)


def _copy(array: Array | None) -> Array | None:
    return None if array is None else to_host(array)


def _check_params(mine: list[Any], saved: Any) -> None:
    """Refuse what is said of parameters, unless it fits those that are here."""
    if not isinstance(saved, list) or len(saved) != len(mine):
        found = len(saved) if isinstance(saved, list) else repr(saved)
        raise ValueError(f"params: expected {len(mine)} arrays, got {found}")
    for here, there in zip(mine, saved, strict=True):
        known = isinstance(there, (list, tuple)) and len(there) == 3 and there[0] == here[0]
        if not known or (there[1:] != [None, None] and here[1:] != [there[1], _listed(there[2])]):
            raise ValueError(f"params{here[0]}: expected {here[1]} of shape {tuple(here[2])}, got {_told(there)}")


def _listed(shape: Any) -> Any:
    return list(shape) if isinstance(shape, (list, tuple)) else shape


def _told(there: Any) -> str:
    if isinstance(there, (list, tuple)) and len(there) == 3 and isinstance(there[2], (list, tuple)):
        return f"params{there[0]}, {there[1]} of shape {tuple(there[2])}"
    return repr(there)


def count(name: str, value: Any) -> int:
    """Return a count that was saved."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError(f"{name}: expected a count, got {value!r}")
    return value


def plain(value: Any) -> Any:
    """Return a hyperparameter as it is saved: a schedule, as None, is left to whoever loads."""
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return None if callable(value) else value


def hypers(group: Mapping[str, Any], saved: Any, index: int) -> dict[str, Any]:
    """Return the hyperparameters of a group that were saved; those here in the place of schedules."""
    if not isinstance(saved, Mapping) or set(saved) != set(group):
        raise ValueError(f"groups[{index}]: expected {', '.join(group)}, got {saved!r}")
    values = {}
    for name, here in group.items():
        there = saved[name]
        if isinstance(here, tuple):
            if not isinstance(there, (list, tuple)) or len(there) != len(here):
                raise ValueError(f"groups[{index}][{name!r}]: expected {len(here)} numbers, got {there!r}")
            there = tuple(a if b is None else b for a, b in zip(here, there, strict=True))
        elif there is None:
            there = here
        try:
            values[name] = hyperparameters.check(name, there)
        except (TypeError, ValueError) as e:
            raise ValueError(f"groups[{index}]: {e}") from None
    return values


def check_state(
    memory: Mapping[str, tuple[Array | None, ...]],
    state: Mapping[str, tuple[Array | None, ...]],
    labels: tuple[str, ...],
    counts: Sequence[int],
) -> None:
    """Refuse saved arrays, unless they fit those that are here; of an array not updated yet there may be none."""
    if set(state) != set(memory):
        raise ValueError(f"state: expected {', '.join(memory) or 'none'}, got {', '.join(map(str, state)) or 'none'}")
    for name, arrays in memory.items():
        for array, new, label, updates in zip(arrays, state[name], labels, counts, strict=True):
            if new is None and not updates and name != "master":
                continue  # not stepped yet
            if (array is None) != (new is None):
                raise ValueError(f"state[{name!r}]{label}: expected {'none' if array is None else 'an array'}")
            if array is None:
                continue
            check_like(f"state[{name!r}]{label}", array, new)
