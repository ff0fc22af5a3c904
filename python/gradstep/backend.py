"""Which compiled module can update an array: the one for the memory it lives in."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gradstep import _cpu
from gradstep.containers import Array, is_cuda


def cuda_module() -> ModuleType:
    """Return the module for CUDA devices, ready for use.

    Raises
    ------
    ImportError
        If this build has none, or CuPy is not installed.
    RuntimeError
        If there is no driver, or no device.
    """
    try:
        from gradstep import _cuda
    except ImportError as error:
        raise ImportError(f"this build of gradstep has no CUDA module ({error})") from None
    _cuda.device_count()
    try:
        import cupy  # noqa: F401
    except ImportError:
        raise ImportError("CUDA arrays need CuPy for the optimizer's state: pip install gradstep[cuda13]") from None
    module: ModuleType = _cuda
    return module


def backend_of(array: Array, argument: str) -> ModuleType:
    """Return the module for an array's device.

    Raises
    ------
    TypeError
        If the array is on a CUDA device that cannot be used.
    """
    if not is_cuda(array):
        return _cpu
    try:
        return cuda_module()
    except (ImportError, RuntimeError) as error:
        raise TypeError(f"{argument}: expected a NumPy array, got a CUDA array; {error}") from None


def device_of(arrays: Sequence[Array]) -> int:
    """Return the number of the device that arrays are on; 0 for the host, and for arrays without memory."""
    return next((a.data.device_id for a in arrays if a.size and is_cuda(a)), 0)


def checked(
    arrays: Sequence[Array], labels: Sequence[str], argument: str = "params", *, written: bool = True
) -> tuple[ModuleType, tuple[Array, ...]]:
    """Return the module for arrays that a step can update, and the arrays: on a device as `cupy.ndarray`.

    Those that are not `written` may be read-only.

    Raises
    ------
    TypeError, ValueError
        If one is not such an array, naming it.
    """
    backend = backend_of(arrays[0], argument + labels[0])
    for array, label in zip(arrays, labels, strict=True):
        backend.check(array, argument, label, written)
    if backend is _cpu:
        return backend, tuple(arrays)
    from gradstep import device

    return backend, tuple(map(device.view, arrays))


def copy_plan(backend: Any, targets: tuple[Array, ...], labels: tuple[str, ...], source: str) -> Any:
    """Return a plan whose steps write arrays, which messages call `source`, into the targets, rounded."""
    n = len(targets)
    plan = backend.Plan("copy", targets, (), (None,) * n, [0] * n, labels, ["to", source])
    plan.set_hypers(0, {"weight_decay": 0.0, "maximize": False})
    return plan
