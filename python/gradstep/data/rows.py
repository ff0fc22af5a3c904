"""The rows of an array, on its device, as the native verbs see them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gradstep.backend import backend_of, device_of
from gradstep.containers import Array, is_cuda

HELD = 2.0**-20  # how far a factor may be off in another dtype: what is subnormal there has lost digits


def plain(x: Any, label: str) -> Array:
    """Return an array of a device as `cupy.ndarray`, or what else `x` is as a NumPy array."""
    if is_cuda(x):
        backend_of(x, label)
        from gradstep import device

        return device.ready(x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{label}: expected a plain array, got a masked one")
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{label}: {error}") from None
    if array.ndim == 0 and array.dtype.kind not in "biufc":  # a sparse matrix, None, a set
        raise TypeError(f"{label}: expected an array of rows, got {type(x).__name__}")
    return array


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float that holds numbers of a dtype, float32 if that does."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 else np.result_type(dtype, np.float32)


REAL = "real numbers of at most 64 bits, in the machine's own order of bytes"


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
        self.device = device_of([array])
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
        return self.backend.Rows(a, a.shape, a.strides, a.dtype.itemsize, self._number, self.device)

    def convert(self, dtype: np.dtype[Any]) -> None:
        """Let them become float32 or float64."""
        self._convert(dtype, (None, None, None))

    def standardise(self, dtype: np.dtype[Any], shift: Array, factor: Array) -> None:
        """Let them become (x - shift) * factor, for two arrays of float64 that broadcast to a row."""
        try:
            shift, factor = (np.broadcast_to(c, self.shape) for c in (shift, factor))
        except ValueError:
            raise ValueError(f"{self.label}: expected rows of shape {shift.shape}, got {self.shape}") from None
        is_float = self.array.dtype.kind in "fV" and float_dtype(self.array.dtype) == np.float32
        arithmetic = dtype if is_float else np.dtype(np.float64)  # as in csrc/rows.h
        for what, numbers in (("shift by", shift), ("scale by", factor)):
            self._refuse_unless_held(numbers, what, arithmetic)
        high = shift.astype(arithmetic)
        low, factor = (shift - high).astype(arithmetic), factor.astype(arithmetic)
        kept = [self._beside(np.ascontiguousarray(c)) for c in (high, low, factor)]
        self._convert(dtype, kept)

    def _refuse_unless_held(self, numbers: Array, what: str, arithmetic: np.dtype[Any]) -> None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            held = numbers.astype(arithmetic)
            off = np.abs(held.astype(np.float64) - numbers)
        lost = np.isinf(held) | (off > HELD * np.abs(numbers) if what == "scale by" else False)
        if lost.any():
            remedy = "; convert them to float64" if arithmetic != np.float64 else ""
            number = numbers[lost].flat[0]
            raise ValueError(f"{self.label}: expected columns that {arithmetic} can {what} {number:.3g}{remedy}")

    def moments(self, near: Array, most: int | None = None) -> Array:
        """Return of each column, less a number near it, the count, mean and sum of squares; of so many rows at most."""
        base = self._beside(np.ascontiguousarray(near))
        rows = self if most is None or self.n <= most else Rows(self.array[:most], self.label)
        return rows.native.moments(base, self.stream).reshape(*self.shape, 3)

    def _convert(self, dtype: np.dtype[Any], columns: Sequence[Array]) -> None:
        if not self.is_number:
            raise TypeError(f"{self.label}: expected {REAL}, got {self.array.dtype}")
        self.native.convert(dtype.name, *columns)
        self.dtype, self._kept = dtype, columns

    def _beside(self, values: Array) -> Array:
        if not self.on_device:
            return values
        from gradstep import device

        made = self.empty(values.shape, values.dtype)
        device.from_host(made, values)
        return made

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
