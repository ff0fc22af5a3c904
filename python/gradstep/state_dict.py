"""What an optimizer remembers, as plain dicts and arrays, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gradstep import checkpoint, hyperparameters
from gradstep.containers import Array, Container
from gradstep.states import on_host, to_host
from gradstep.states import restore as write

if TYPE_CHECKING:
    from gradstep.optimizer import Optimizer

VERSION = 1


def of(opt: Optimizer) -> dict[str, Any]:
    """Return the state dict of an optimizer, with copies of its arrays."""
    state = {name: opt._forest.unflatten([_copy(a) for a in arrays]) for name, arrays in opt._memory().items()}
    return {**_facts(opt), "state": state}


def restore(opt: Optimizer, saved: Mapping[str, Any]) -> None:
    """Copy a state dict into an optimizer.

    Raises
    ------
    ValueError
        If it does not fit. Nothing was changed.
    """
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
        raise ValueError("saved: expected what state_dict() gave")
    state = {name: _flat(opt, name, container) for name, container in saved["state"].items()}
    _restore(opt, saved, state)


def pack(opt: Optimizer, take: Callable[[Array], Array] = to_host) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return an optimizer's facts, and its arrays by name, each as `take` returns it."""
    memory = opt._memory().items()
    return _facts(opt), {f"{name}/{i}": take(a) for name, flat in memory for i, a in enumerate(flat) if a is not None}


def unpack(opt: Optimizer, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Copy what `pack` gave into an optimizer.

    Raises
    ------
    ValueError
        If it does not fit. Nothing was changed.
    """
    size = len(opt._arrays)
    names = dict.fromkeys(name.partition("/")[0] for name in arrays)
    state = {name: tuple(arrays.get(f"{name}/{i}") for i in range(size)) for name in names}
    for name in opt._memory():  # one of which no array is kept
        state.setdefault(name, (None,) * size)
    if sum(a is not None for flat in state.values() for a in flat) != len(arrays):
        raise ValueError("expected the states of these parameters, got others")
    _restore(opt, facts, state)


def save(opt: Optimizer, path: str | os.PathLike[str]) -> None:
    """Write an optimizer's state dict to a file."""
    checkpoint.write(path, *pack(opt, on_host))


def load(opt: Optimizer, path: str | os.PathLike[str]) -> None:
    """Read a file that `save` wrote.

    Raises
    ------
    ValueError
        If it does not fit, naming the file. Nothing was changed.
    """
    facts, arrays = checkpoint.read(path)
    try:
        unpack(opt, facts, arrays)
    except ValueError as e:
        raise ValueError(f"{os.fspath(path)}: {e}") from None


def _facts(opt: Optimizer) -> dict[str, Any]:
    return {
        "version": VERSION,
        "rule": opt._kernel,
        "params": [
            [label, str(a.dtype), list(a.shape)] for a, label in zip(opt._arrays, opt._forest.labels, strict=True)
        ],
        "steps": opt._plan.steps,
        "skipped": opt._plan.skipped,
        "counts": opt._plan.counts,
        "groups": [{name: _plain(value) for name, value in group.items()} for group in opt._groups],
    }


def _plain(value: Any) -> Any:
    # A schedule is left to whoever loads.
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return None if callable(value) else value


def _copy(array: Array | None) -> Array | None:
    return None if array is None else to_host(array)


def _flat(opt: Optimizer, name: Any, container: Container) -> tuple[Array | None, ...]:
    try:
        return opt._forest.flatten(container, f"saved['state'][{name!r}]")
    except TypeError as e:
        raise ValueError(str(e)) from None


def _restore(opt: Optimizer, facts: Mapping[str, Any], state: Mapping[str, tuple[Array | None, ...]]) -> None:
    mine = _facts(opt)
    if facts.get("version") != VERSION:
        raise ValueError(f"version: expected {VERSION}, got {facts.get('version')!r}")
    if facts.get("rule") != mine["rule"]:
        raise ValueError(f"rule: expected {mine['rule']}, got {facts.get('rule')!r}")
    check_params(mine["params"], facts.get("params"))
    steps, skipped = (count(name, facts.get(name)) for name in ("steps", "skipped"))
    counts = facts.get("counts")
    if not isinstance(counts, list) or len(counts) != len(mine["counts"]):
        raise ValueError(f"counts: expected {len(mine['counts'])} numbers, got {counts!r}")
    counts = [count(f"counts[{i}]", n) for i, n in enumerate(counts)]
    groups = facts.get("groups")
    if not isinstance(groups, list) or len(groups) != len(mine["groups"]):
        raise ValueError(f"groups: expected {len(mine['groups'])}, got {groups!r}")
    changes = tuple((group, _hypers(group, groups[i], i)) for i, group in enumerate(opt._groups))
    memory = opt._memory()
    _check_state(memory, state, opt._forest.labels, counts)

    opt._set(changes)  # may refuse hyperparameters that do not go together; the rest cannot fail
    for name, arrays in memory.items():
        for array, new in zip(arrays, state[name], strict=True):
            if array is not None:
                write(array, 0 if new is None else new)
    opt._plan.set_counts(steps, skipped, counts)


def check_params(mine: list[Any], saved: Any) -> None:
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


def _hypers(group: Mapping[str, Any], saved: Any, index: int) -> dict[str, Any]:
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


def _check_state(
    memory: Mapping[str, tuple[Array | None, ...]],
    state: Mapping[str, tuple[Array | None, ...]],
    labels: tuple[str, ...],
    counts: list[int],
) -> None:
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
            found = getattr(new, "dtype", type(new).__name__), getattr(new, "shape", None)
            if found != (array.dtype, array.shape):
                raise ValueError(
                    f"state[{name!r}]{label}: expected {array.dtype} of shape {array.shape}, "
                    f"got {found[0]} of shape {found[1]}"
                )
