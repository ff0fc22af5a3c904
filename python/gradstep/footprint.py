"""What an optimizer's state will cost."""

from __future__ import annotations

from gradstep.backend import backend_of
from gradstep.containers import Container, Forest
from gradstep.group import split_groups
from gradstep.optimizer import Optimizer
from gradstep.states import state_dtype


def memory(params: Container, rule: type[Optimizer] | str, *, master_weights: bool = False) -> int:
    """Return the bytes that an optimizer's state takes, before anything is allocated.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        As for the optimizer; only shapes and dtypes are looked at.
    rule : class or str
        Such as ``gs.AdamW`` or ``"adamw"``. `SGD` is taken to have momentum; without, it keeps no state.
    master_weights : bool, default False
        Whether 16-bit parameters get a float32 copy.

    Returns
    -------
    int
        Bytes: ``optimizer.nbytes`` of such an optimizer.

    Raises
    ------
    TypeError, ValueError
        If a container or an array is none that an optimizer takes, or there is no such rule.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> gs.memory({"W": np.zeros((100, 10), np.float32)}, "adamw")
    8000
    """
    containers, _, grouped = split_groups(params, None)
    forest = Forest(containers, grouped)
    arrays = forest.arrays(containers)
    backend = backend_of(arrays[0], "params" + forest.labels[0])
    for array, label in zip(arrays, forest.labels, strict=True):
        backend.check(array, "params", label)
    name = rule if isinstance(rule, str) else getattr(rule, "rule", None)
    names = [r for r in backend.states if r != "average"]
    if name not in names:
        kind = ValueError if isinstance(rule, str) else TypeError
        raise kind(f"rule: expected an optimizer class or one of {', '.join(names)}, got {rule!r}")
    copies = len(backend.states[name])
    return sum(
        a.size * state_dtype(a).itemsize * (copies + (1 if master_weights and a.itemsize == 2 else 0)) for a in arrays
    )
