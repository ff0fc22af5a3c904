"""State dicts of PyTorch's optimizers, for the rules that both have: SGD, Adagrad, Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradstep.containers import Array
from gradstep.state_dict import VERSION


class _Rule(NamedTuple):
    """How the two call one rule's states and hyperparameters, and what PyTorch has beside them."""

    states: dict[str, str]
    hypers: tuple[str, ...]
    extras: dict[str, Any]
    counted: bool = True


_COMMON = {"foreach": None, "differentiable": False, "fused": None}
_MOMENTS = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
_ADAM = ("lr", "betas", "eps", "weight_decay", "maximize")
_SGD_DEFAULTS = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}  # GradientDescent has none of them
_SGD = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "maximize")
RULES = {
    "sgd": _Rule({"momentum_buffer": "momentum_buffer"}, _SGD, _COMMON, counted=False),
    "gradient_descent": _Rule({}, _SGD, _COMMON, counted=False),
    "adagrad": _Rule(
        {"sum_sq": "sum"},
        ("lr", "eps", "weight_decay", "maximize"),
        {**_COMMON, "lr_decay": 0, "initial_accumulator_value": 0},
    ),
    "adam": _Rule(_MOMENTS, _ADAM, {**_COMMON, "amsgrad": False, "capturable": False, "decoupled_weight_decay": False}),
    "adamw": _Rule(_MOMENTS, _ADAM, {**_COMMON, "amsgrad": False, "capturable": False, "decoupled_weight_decay": True}),
}


def from_torch(state_dict: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Convert the state dict of a PyTorch optimizer to one that ``load_state_dict`` takes here.

    Parameters
    ----------
    state_dict : mapping
        What ``torch.optim.SGD``, ``Adagrad``, ``Adam`` or ``AdamW`` gave.
    names : sequence of str, optional
        Names of all parameters, in order, if they are in mappings here; otherwise they are in lists.

    Returns
    -------
    dict
        A state dict. PyTorch's 16-bit states become float32. Its SGD keeps no count of steps: arrays with a buffer
        count one.

    Raises
    ------
    ValueError
        If it is no such state dict, or the optimizer used what this rule does not have, such as amsgrad.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD([np.zeros(2)], momentum=0.9)
    >>> group = {"lr": 0.5, "momentum": 0.9, "dampening": 0, "nesterov": False, "weight_decay": 0}
    >>> torch_state = {"state": {0: {"momentum_buffer": np.ones(2)}}, "param_groups": [{**group, "params": [0]}]}
    >>> opt.load_state_dict(gs.convert.from_torch(torch_state))
    >>> opt.lr, opt.state["momentum_buffer"]
    (0.5, [array([1., 1.])])
    """
    try:
        found, groups = state_dict["state"], state_dict["param_groups"]
        order = [i for group in groups for i in group["params"]]
        rule = _rule_of(groups, found)
        labels = _labels(groups, names)
        entries = [found.get(i, {}) for i in order]
        flat = {
            mine: [_array(entry[theirs] if entry else None) for entry in entries]
            for mine, theirs in RULES[rule].states.items()
        }
        counts = [_count(entry, RULES[rule]) for entry in entries]
        params = [[label, *_described(entry, RULES[rule])] for label, entry in zip(labels, entries, strict=True)]
        hypers = [_hypers(group, rule) for group in groups]
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as e:
        raise ValueError(f"state_dict: expected one of a PyTorch optimizer; {type(e).__name__}: {e}") from None
    return {
        "version": VERSION,
        "rule": rule,
        "params": params,
        "steps": max(counts, default=0),
        "skipped": 0,
        "counts": counts,
        "groups": hypers,
        "state": {name: _contained(arrays, groups, names) for name, arrays in flat.items()},
    }


def to_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a state dict from here to one that a PyTorch optimizer's ``load_state_dict`` takes.

    Parameters
    ----------
    state_dict : mapping
        What ``SGD``, ``Adagrad``, ``Adam`` or ``AdamW`` gave.

    Returns
    -------
    dict
        A state dict, with tensors. Master weights, of which PyTorch's optimizers know nothing, are left out.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If it is no state dict, PyTorch does not have this rule, or a hyperparameter is a schedule.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> opt = gs.SGD([np.zeros(2)], lr=0.5, momentum=0.9)
    >>> gs.convert.to_torch(opt.state_dict())["param_groups"][0]["lr"]  # doctest: +SKIP
    0.5
    """
    import torch

    rule = state_dict.get("rule") if isinstance(state_dict, Mapping) else None
    if rule is None:
        raise ValueError("state_dict: expected what state_dict() gave")
    if rule not in RULES:
        raise ValueError(f"rule: PyTorch has no {rule}; there are {', '.join(RULES)}")
    try:
        groups = _groups_of(state_dict, rule)
        flat = {name: _flat(container) for name, container in state_dict["state"].items()}
        state: dict[int, dict[str, Any]] = {}
        for i, count in enumerate(state_dict["counts"]):
            if flat and (count or rule == "adagrad"):  # PyTorch's Adagrad makes its states before the first step
                state[i] = {"step": torch.tensor(float(count))} if RULES[rule].counted else {}
                for mine, theirs in RULES[rule].states.items():
                    state[i][theirs] = torch.from_numpy(np.array(flat[mine][i]))
    except (KeyError, IndexError, TypeError, AttributeError) as e:
        raise ValueError(f"state_dict: expected what state_dict() gave; {type(e).__name__}: {e}") from None
    return {"state": state, "param_groups": groups}


def _groups_of(state_dict: Mapping[str, Any], rule: str) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    at = 0
    for i, (saved, size) in enumerate(zip(state_dict["groups"], _sizes(state_dict), strict=True)):
        plain = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
        for name, value in plain.items():
            if value is None or (isinstance(value, tuple) and None in value):
                raise ValueError(f"groups[{i}][{name!r}]: expected a number, got a schedule")
        groups.append({**_SGD_DEFAULTS, **plain} if rule == "gradient_descent" else plain)
        groups[-1] |= {**RULES[rule].extras, "params": list(range(at, at + size))}
        at += size
    return groups


def _rule_of(groups: Sequence[Mapping[str, Any]], found: Mapping[Any, Mapping[str, Any]]) -> str:
    kinds = {_kind(group) for group in groups}
    if not kinds:
        raise KeyError("params")
    if len(kinds) > 1:
        raise ValueError(f"param_groups: expected groups of one rule, got {', '.join(sorted(kinds))}")
    (kind,) = kinds
    if kind != "sgd" or any(group["momentum"] for group in groups):
        return kind
    buffers = any(entry.get("momentum_buffer") is not None for entry in found.values())
    return kind if buffers else "gradient_descent"  # whose momentum may be 0 for a while


def _kind(group: Mapping[str, Any]) -> str:
    # What each optimizer of PyTorch writes tells it from its kin.
    if "amsgrad" in group:
        if group["amsgrad"]:
            raise ValueError("amsgrad: expected False, got True")
        if not isinstance(group.get("decoupled_weight_decay"), bool):
            raise ValueError("decoupled_weight_decay: expected True or False, as PyTorch 2.6 and later write it")
        return "adamw" if group["decoupled_weight_decay"] else "adam"
    if "lr_decay" in group:
        if group["lr_decay"]:
            raise ValueError(f"lr_decay: expected 0, got {group['lr_decay']!r}; use a schedule")
        return "adagrad"
    if "dampening" in group:
        return "sgd"
    raise ValueError("param_groups: expected those of SGD, Adagrad, Adam or AdamW")


def _array(tensor: Any) -> Array | None:
    if tensor is None:
        return None
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if tensor.element_size() == 2 else tensor).numpy()
    return np.array(tensor)


def _count(entry: Mapping[str, Any], rule: _Rule) -> int:
    if rule.counted:
        step = float(entry["step"]) if entry else 0.0
        if not step.is_integer() or step < 0:
            raise ValueError(f"step: expected a count, got {step!r}")
        return int(step)
    return int(any(entry.get(theirs) is not None for theirs in rule.states.values()))


def _described(entry: Mapping[str, Any], rule: _Rule) -> tuple[str | None, list[int] | None]:
    for theirs in rule.states.values():
        if (tensor := entry.get(theirs)) is not None:
            return str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
    return None, None


def _hypers(group: Mapping[str, Any], rule: str) -> dict[str, Any]:
    flags = {"maximize": False, "nesterov": False}
    return {name: _plain(group[name] if name in group else flags[name]) for name in RULES[rule].hypers}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.item() if hasattr(value, "item") else value


def _labels(groups: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> list[str]:
    sizes = [len(group["params"]) for group in groups]
    if names is not None and len(names) != sum(sizes):
        raise ValueError(f"names: expected {sum(sizes)}, got {len(names)}")
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"names: expected each once, got {list(names)!r}")
    labels, at = [], 0
    for k, size in enumerate(sizes):
        prefix = f"[{k}]" if len(sizes) > 1 else ""
        labels += [f"{prefix}[{i if names is None else names[at + i]!r}]" for i in range(size)]
        at += size
    return labels


def _contained(arrays: Sequence[Array | None], groups: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> Any:
    parts: list[Any] = []
    at = 0
    for group in groups:
        part = list(arrays[at : at + len(group["params"])])
        parts.append(part if names is None else dict(zip(names[at:], part, strict=False)))
        at += len(part)
    return parts if len(parts) > 1 else parts[0]


def _flat(container: Any) -> list[Array]:
    if isinstance(container, Mapping):
        container = list(container.values())
    if not isinstance(container, list):
        return [container]
    return [array for part in container for array in (_flat(part) if isinstance(part, (list, Mapping)) else [part])]


def _sizes(state_dict: Mapping[str, Any]) -> list[int]:
    groups = len(state_dict["groups"])
    if groups == 1:
        return [len(state_dict["params"])]
    firsts = [label.partition("]")[0] for label, _, _ in state_dict["params"]]
    return [firsts.count(f"[{k}") for k in range(groups)]
