"""Which compiled module can update an array: the one for the memory it lives in."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from gradstep import _cpu
from gradstep.containers import Array


def backend_of(array: Array, argument: str) -> ModuleType:
    """Return the module for an array's device.

    Raises
    ------
    TypeError
        If the array is on a CUDA device, for which this build has no module.
    """
    if hasattr(array, "__cuda_array_interface__"):
        raise TypeError(f"{argument}: expected a NumPy array, got a CUDA array; this build has no CUDA module")
    return _cpu


def checked(arrays: Sequence[Array], labels: Sequence[str], argument: str = "params") -> ModuleType:
    """Return the module for arrays that a step can update.

    Raises
    ------
    TypeError, ValueError
        If one is not such an array, naming it.
    """
    backend = backend_of(arrays[0], argument + labels[0])
    for array, label in zip(arrays, labels, strict=True):
        backend.check(array, argument, label)
    return backend
