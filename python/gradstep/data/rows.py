"""The rows of an array, on its device, as the native verbs see them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from gradstep.backend import backend_of
from gradstep.containers import Array, is_cuda


def plain(x: Any, label: str) -> Array:
    """Return an array of a device as `cupy.ndarray`, or what else `x` is as a NumPy array."""
    if is_cuda(x):
        backend_of(x, label)
        from gradstep import device

        return device.ready(x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{label}: expected a plain array, got a masked one")
    return np.asarray(x)


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float that holds numbers of a dtype, float32 if that does."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 else np.result_type(dtype, np.float32)


def filled(memory: Array, values: Array) -> Array:
    """Return `memory`, an array of a device or of the host, with values of the host in it."""
    if is_cuda(memory):
        from gradstep import device

        device.from_host(memory, values)
    else:
        memory[...] = values
    return memory


class Rows:
    """The rows of an array, as they lie in memory.

    Parameters
    ----------
    array : array
        As `plain` returns it.
    label : str
        What it is called in messages.
    """

    def __init__(self, array: Array, label: str) -> None:
        if array.ndim == 0:
            raise ValueError(f"{label}: expected an array of rows, got a 0-d array")
        self.array, self.label, self.backend = array, label, backend_of(array, label)
        self.on_device = is_cuda(array)
        self.device = int(array.data.device_id) if self.on_device and array.size else 0
        self.n, self.shape = len(array), tuple(array.shape[1:])
        self.dtype = array.dtype  # of what they become

    @property
    def is_number(self) -> bool:
        """Whether elements are real numbers that can be converted."""
        return self._number != ""

    @property
    def _number(self) -> str:
        name = "uint8" if self.array.dtype.kind == "b" else self.array.dtype.name
        return name if name in self.backend.numbers and self.array.dtype.isnative else ""

    @cached_property
    def native(self) -> Any:
        """What the backend knows of them."""
        a = self.array
        return self.backend.Rows(address_of(a), a.shape, a.strides, a.dtype.itemsize, self._number, self.device)

    def convert(self, dtype: np.dtype[Any], shift: Array | None = None, factor: Array | None = None) -> None:
        """Let them become float32 or float64, as (x - shift) * factor where there are such."""
        if not self.is_number:
            raise TypeError(f"{self.label}: expected numbers, got {self.array.dtype}")
        addresses = (0, 0) if shift is None else (address_of(shift), address_of(factor))
        self.native.convert(dtype.name, *addresses)
        self.dtype, self._kept = dtype, (shift, factor)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array beside them; what is in it is left open."""
        if not self.on_device:
            return np.empty(shape, dtype)
        from gradstep import device

        return device.empty(shape, np.dtype(dtype), self.device)

    @property
    def stream(self) -> int:
        """The stream of work on their device."""
        if not self.on_device:
            return 0
        from gradstep import device

        return device.current_stream(self.device)


def address_of(array: Array) -> int:
    """Return where the first element of an array lies."""
    if is_cuda(array):
        return int(array.data.ptr)
    return int(array.__array_interface__["data"][0])
