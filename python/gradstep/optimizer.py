"""What all optimizers share: containers, hyperparameters, groups, and one native call a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar

from gradstep import hyperparameters, state_dict
from gradstep.averages import EMA
from gradstep.backend import checked
from gradstep.containers import Array, Container, Forest, is_cuda
from gradstep.group import Group, split_groups
from gradstep.health import Health
from gradstep.hyperparameters import LIMIT, SCALE, check_choice, check_flag, check_float
from gradstep.overlap import refuse_overlap
from gradstep.states import assign, masters_of, restore, zeros_like

PROPAGATE, ONE = "propagate", 1.0  # defaults, told by identity from what a user gives
NOTHING = nullcontext()


class Optimizer(state_dict.Checkpointed):
    """Base of all optimizers: updates arrays in place, one `step` at a time.

    A subclass names its native `rule` and passes its hyperparameters on. Two threads may call one optimizer:
    they are served one after the other.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Updated in place; references are kept, never copies.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.
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

    def __init__(self, params: Container, *, master_weights: bool = False, **hypers: Any) -> None:
        super().__init__()
        self._master_weights = check_flag("master_weights", master_weights)
        self._defaults = hypers
        self._average: EMA | None = None
        self._lr_array: Array | None = None
        self._health: Health | Callable[[], Health] | None = None
        self._grad_norm: float | None = None
        self._groups: tuple[Group, ...] = ()
        self._states: dict[str, tuple[Array, ...]] = {}
        self._masters: tuple[Array | None, ...] = ()
        self._build(*split_groups(params, hypers))

    def _build(self, containers: list[Container], settings: list[dict[str, Any]], grouped: bool) -> None:
        """Make what depends on the arrays, for new groups; what there is stays, and all of it if this fails."""
        forest = Forest(containers, grouped)
        labels = forest.labels
        first = len(self._groups)
        new = (Group(self, i, values, forest.prefixes[i]) for i, values in enumerate(settings, first))
        groups = (*self._groups, *new)
        backend, arrays = checked(forest.arrays(containers), labels)
        taken = [
            (a, f"state[{k!r}]{at}") for k, had in self._states.items() for a, at in zip(had, labels, strict=False)
        ]
        refuse_overlap([*(a for a, _ in taken), *arrays], [*(k for _, k in taken), *(f"params{k}" for k in labels)], "")
        rule = self._native_rule(groups)
        kept = {name: self._states.get(name, ()) for name in backend.states[rule]}
        states = {name: had + zeros_like(arrays[len(had) :], k) for k, (name, had) in enumerate(kept.items())}
        more = arrays[len(self._masters) :]
        masters = self._masters + (masters_of(more, len(states)) if self._master_weights else (None,) * len(more))
        arguments = ["params", "grads", *states]
        plan = backend.Plan(rule, arrays, tuple(states.values()), masters, forest.group_of, labels, arguments)
        if self._lr_array is not None:
            plan.set_lr(self._lr_array)
        for group, at in zip(groups, forest.prefixes, strict=True):
            group._at = at
        self._containers, self._forest, self._groups, self._arrays = containers, forest, groups, arrays
        self._kernel, self._states, self._masters, self._plan, self._average = rule, states, masters, plan, None
        self._set(tuple((group, group._values) for group in groups))

    def step(
        self,
        grads: Container,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        grad_scale: float = ONE,
        nonfinite: str = PROPAGATE,
        zero_grads: bool = False,
        average: EMA | None = None,
        health: bool = False,
    ) -> None:
        r"""Update every parameter in place by one step of the rule.

        Gradients are divided by `grad_scale`, clipped by their global norm, clipped by value, and enter the rule
        with its decay; all in one pass over memory, after one that reads gradients where a norm or `nonfinite`
        needs it.

        Parameters
        ----------
        grads : container of arrays
            Gradients in a container of the same shape as `params`, each with the shape of its parameter, in any
            memory layout. float32, bfloat16 and float16 may be mixed; otherwise the dtype is the parameter's.
            ``None`` skips an array, whose own step count then stands still. A gradient that shares memory with
            parameters or states is copied first.
        clip_norm : float, optional
            Greatest L2 norm of all gradients together: they are multiplied by
            :math:`\min(1, c / (\lVert g \rVert + 10^{-6}))`. Infinity takes the norm and clips nothing.
        clip_value : float, optional
            Greatest magnitude of an element.
        grad_scale : float, default 1.0
            What the loss was multiplied by, from 2**-126 to 2**126.
        nonfinite : {"propagate", "skip", "raise"}
            What happens where a gradient holds NaN or infinity: it enters the rule; nothing changes and `skipped`
            grows; or nothing changes and a FloatingPointError is raised.
        zero_grads : bool, default False
            Set the gradients to zero once they are read, after a skipped step too.
        average : EMA, optional
            A moving average of the same parameters, updated with them unless the step is skipped.
        health : bool, default False
            Fill `health` with facts about each gradient and update.

        Raises
        ------
        TypeError
            If a container, an array type or a dtype is wrong. Nothing was changed.
        ValueError
            If gradients are missing, too many or of the wrong shape, an argument or what a schedule returned is
            out of range, or gradients to set to zero share memory. Nothing was changed.
        FloatingPointError
            If `nonfinite` is "raise" and a gradient is not finite. Nothing was changed.
        """
        with self._lock:
            flat = self._forest.flatten(grads, "grads")
            if (
                clip_norm is None
                and clip_value is None
                and average is None
                and self._average is None
                and nonfinite is PROPAGATE
                and grad_scale is ONE
                and zero_grads is False
                and health is False
            ):
                if self._scheduled:
                    self._ask_schedules()
                self._plan.step(flat)
            else:
                self._whole_step(
                    flat,
                    average,
                    -1.0 if clip_norm is None else check_float("clip_norm", LIMIT, clip_norm),
                    math.inf if clip_value is None else check_float("clip_value", LIMIT, clip_value),
                    check_float("grad_scale", SCALE, grad_scale),
                    check_choice("nonfinite", nonfinite, ("propagate", "skip", "raise")),
                    check_flag("zero_grads", zero_grads),
                    check_flag("health", health),
                )

    def _whole_step(self, flat: tuple[Array, ...], average: EMA | None, *wishes: Any) -> None:
        if average is not None and not isinstance(average, EMA):
            raise TypeError(f"average: expected an EMA, got {type(average).__name__}")
        with NOTHING if average is None else average._lock:
            decay = 0.0 if average is None else average._joins(self._arrays)
            if average is not self._average:
                self._plan.set_averages(() if average is None else average._averages)
                self._average = average
            if self._scheduled:
                self._ask_schedules()
            self._plan.step(flat, *wishes, decay)
            if wishes[-1]:  # read when it is asked for: a device is not waited for
                self._health = partial(Health.read, self._plan, self._arrays, self._forest.labels)
            if average is not None:
                average._calls += 1

    def add_group(self, group: Mapping[str, Any]) -> None:
        """Add a group of parameters; those that there are keep their states, counts and hyperparameters.

        From then on gradients come as one container for each group.

        Parameters
        ----------
        group : mapping
            A dict with the key "params" and any hyperparameters of its own; the others are those that the
            optimizer was made with.

        Raises
        ------
        TypeError, ValueError
            As at construction. Nothing was changed.
        """
        with self._lock:
            if not isinstance(group, Mapping):
                raise TypeError(f'group: expected a dict with the key "params", got {type(group).__name__}')
            containers, settings, _ = split_groups([group], self._defaults, len(self._groups))
            old, self._grad_norm, self._health = self._plan, self.grad_norm, self.health
            self._build([*self._containers, *containers], settings, grouped=True)
            counts = old.counts
            self._plan.set_counts(old.steps, old.skipped, counts + [0] * (len(self._arrays) - len(counts)))

    def refresh_master(self) -> None:
        """Take the master weights from the parameters again, after these were edited."""
        with self._lock:
            pairs = [(m, a) for m, a in zip(self._masters, self._arrays, strict=True) if m is not None]
            assign([m for m, _ in pairs], [a for _, a in pairs])

    @property
    def steps(self) -> int:
        """Number of updates applied."""
        return int(self._plan.steps)

    @property
    def skipped(self) -> int:
        """Number of updates skipped, because a gradient was not finite."""
        return int(self._plan.skipped)

    @property
    def grad_norm(self) -> float | None:
        """The last global norm taken, after division by `grad_scale` and before clipping; None before any."""
        norm: float | None = self._plan.grad_norm
        return self._grad_norm if norm is None else norm

    @property
    def health(self) -> Health | None:
        """What the last step with ``health=True`` found; None before any."""
        with self._lock:
            if self._health is not None and not isinstance(self._health, Health):
                self._health = self._health()
            return self._health

    @property
    def lr(self) -> float:
        """The learning rate that the next step will use, of the first group. Setting it sets all groups."""
        return float(self._groups[0].at(self._plan.calls)["lr"])

    @lr.setter
    def lr(self, value: hyperparameters.Float) -> None:
        checked = hyperparameters.check("lr", value)
        self._set(tuple((group, {**group._values, "lr": checked}) for group in self._groups))

    @property
    def lr_array(self) -> Array | None:
        """A learning rate on the device: one float64 that each step reads there, in the place of every group's `lr`.

        For steps captured in a CUDA graph, which would repeat the number `lr` was when they were captured: refresh
        this array between replays. It is not checked, and not part of checkpoints; `lr` goes on telling what is used
        without it. None by default, and always for NumPy arrays.
        """
        return self._lr_array

    @lr_array.setter
    def lr_array(self, value: Array | None) -> None:
        with self._lock:
            if value is not None and not is_cuda(self._arrays[0]):
                raise TypeError(f"lr_array: expected None, for the parameters are on no CUDA device, got {value!r}")
            self._plan.set_lr(value)
            self._lr_array = value

    @property
    def groups(self) -> tuple[Group, ...]:
        """The hyperparameters of each group of parameters."""
        return self._groups

    def __repr__(self) -> str:
        hypers = ", ".join(f"{name}={value!r}" for name, value in self._groups[0].items())
        return f"{type(self).__name__}({len(self._forest.labels)} arrays, {hypers})"

    def _memory(self) -> dict[str, tuple[Array | None, ...]]:
        masters = {"master": self._masters} if self._master_weights else {}
        return {**self._states, **masters}

    def _facts(self) -> dict[str, Any]:
        plan = self._plan
        groups = [{name: state_dict.plain(value) for name, value in group.items()} for group in self._groups]
        return {"steps": plan.steps, "skipped": plan.skipped, "counts": plan.counts, "groups": groups}

    def _restore(self, facts: Mapping[str, Any], state: Mapping[str, tuple[Array | None, ...]]) -> None:
        steps, skipped = (state_dict.count(name, facts.get(name)) for name in ("steps", "skipped"))
        counts, groups = facts.get("counts"), facts.get("groups")
        if not isinstance(counts, list) or len(counts) != len(self._arrays):
            raise ValueError(f"counts: expected {len(self._arrays)} numbers, got {counts!r}")
        counts = [state_dict.count(f"counts[{i}]", n) for i, n in enumerate(counts)]
        if not isinstance(groups, list) or len(groups) != len(self._groups):
            raise ValueError(f"groups: expected {len(self._groups)}, got {groups!r}")
        changes = tuple((group, state_dict.hypers(group, groups[i], i)) for i, group in enumerate(self._groups))
        memory = self._memory()
        state_dict.check_state(memory, state, self._forest.labels, counts)

        self._set(changes)  # may refuse hyperparameters that do not go together; the rest cannot fail
        for name, arrays in memory.items():
            for array, new in zip(arrays, state[name], strict=True):
                if array is not None:
                    restore(array, 0 if new is None else new)
        self._plan.set_counts(steps, skipped, counts)

    @staticmethod
    def _check(values: Mapping[str, Any], at: str = "", given: Mapping[str, Any] | None = None) -> None:
        """Refuse hyperparameters, of the group at `at`, that do not go together; `given` may hold schedules of them."""

    @classmethod
    def _native_rule(cls, groups: Sequence[Mapping[str, Any]]) -> str:
        return cls.rule

    def _set(self, changes: tuple[tuple[Group, dict[str, Any]], ...]) -> None:
        with self._lock:
            for group, values in changes:
                self._check(values, group._at)
            for group, values in changes:
                group._keep(values)
                self._plan.set_hypers(group._index, group._constants)
            self._scheduled = tuple(group for group in self._groups if group.scheduled)

    def _ask_schedules(self) -> None:
        calls = self._plan.calls
        found = [(group, group._ask(calls)) for group in self._scheduled]
        for group, asked in found:
            self._check({**group._values, **asked}, group._at, group._values)
        for group, asked in found:
            self._plan.set_hypers(group._index, asked)
