"""Arrays on CUDA devices: their memory, through CuPy. Imported where the first such array is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy
import numpy as np

from gradstep import _cuda
from gradstep.backend import copy_plan, device_of
from gradstep.containers import Array, dense_strides

ALIGNMENT = 256  # bytes: no two states share a cache line, and all vectors lie on lines of 16


def view(array: Array) -> Array:
    """Return a `cupy.ndarray` of the memory of any CUDA array."""
    if isinstance(array, cupy.ndarray):
        return array
    interface = array.__cuda_array_interface__
    shape, strides = tuple(map(int, interface["shape"])), interface.get("strides")
    dtype = _dtype_of(array, interface)
    address = interface["data"][0]
    strides = dense_strides(shape, None, dtype.itemsize) if strides is None else strides
    reach = dtype.itemsize + sum(max(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True))
    memory = cupy.cuda.UnownedMemory(address, reach, array, _cuda.device_of(address) if address else 0)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides)


def ready(array: Array) -> Array:
    """Return a `cupy.ndarray` of any CUDA array, once the stream that it names has made it."""
    made = view(array)
    if made is not array and (stream := array.__cuda_array_interface__.get("stream")) is not None:
        _cuda.wait_for(stream, device_of([made]))
    return made


def _dtype_of(array: Array, interface: dict[str, Any]) -> np.dtype[Any]:
    own = getattr(array, "dtype", None)
    if str(own) == "torch.bfloat16":
        import ml_dtypes

        own = np.dtype(ml_dtypes.bfloat16)
    return own if isinstance(own, np.dtype) else np.dtype(interface["typestr"])


def current_stream(device: int) -> int:
    """Return the stream that CuPy works on, on a device."""
    return int(cupy.cuda.get_current_stream(device).ptr)


def zeros_like(params: Sequence[Array], dtypes: Sequence[np.dtype[Any]]) -> tuple[Array, ...]:
    """Return a zero array for each parameter, of these dtypes, dense and in its order of axes: one allocation."""
    sizes = [-(-p.size * d.itemsize // ALIGNMENT) * ALIGNMENT for p, d in zip(params, dtypes, strict=True)]
    if not params:
        return ()
    device = device_of(params)
    memory = _allocated(sum(sizes) or ALIGNMENT, device)
    _cuda.clear(memory.ptr, sum(sizes), current_stream(device))
    arrays, at = [], 0
    for p, dtype, size in zip(params, dtypes, sizes, strict=True):
        arrays.append(cupy.ndarray(p.shape, dtype, memory + at, dense_strides(p.shape, p.strides, dtype.itemsize)))
        at += size
    return tuple(arrays)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Array:
    """Return an array on a device; what is in it is left open."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return cupy.ndarray(shape, dtype, _allocated(nbytes or ALIGNMENT, device))


def _allocated(nbytes: int, device: int) -> Any:
    if device == _cuda.current_device():
        return cupy.cuda.alloc(nbytes)
    with cupy.cuda.Device(device):
        return cupy.cuda.alloc(nbytes)


def assign(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Write arrays of a device into others, rounded to their formats."""
    if targets:
        copy_plan(_cuda, tuple(targets), ("",) * len(targets), "from").step(tuple(sources))


def copy_of(array: Array) -> Array:
    """Return a copy, as the array lies in memory; nothing waits."""
    source = view(array)
    low, nbytes = _span(source)
    device = source.data.device_id
    memory = _allocated(nbytes or ALIGNMENT, device)
    _cuda.copy(memory.ptr, source.data.ptr + low, nbytes, current_stream(device))
    return cupy.ndarray(source.shape, source.dtype, memory + -low, source.strides)


def to_host(array: Array) -> Array:
    """Return a NumPy array of the elements, as they lie in memory; waits for the device."""
    source = view(array)
    low, nbytes = _span(source)
    host = np.empty(nbytes, np.uint8)
    if nbytes:
        _cuda.copy_to_host(source.data.ptr + low, host)
    return np.ndarray(source.shape, source.dtype, host, -low, source.strides)


def _span(array: Array) -> tuple[int, int]:
    # Where its lowest byte lies, from its first element on, and how many there are up to the highest.
    if not array.size:
        return 0, 0
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    return sum(min(0, r) for r in reach), sum(map(abs, reach)) + int(array.itemsize)


def from_host(target: Array, source: Array) -> None:
    """Write a NumPy array into a dense array of the same shape; waits for the device."""
    if not target.size:
        return  # it may have an address that is no device's
    host = np.empty(target.size, target.dtype)
    np.ndarray(target.shape, target.dtype, host, 0, target.strides)[...] = source
    _cuda.copy_to_device(target.data.ptr, host.view(np.uint8))
