"""Vectors that the native verbs work on: flat, of float32 or float64, on the device of the user's array."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from gradstep import _cpu
from gradstep.backend import backend_of, device_of
from gradstep.containers import Array, shown

LINE = 64  # bytes: rows begin on cache lines


def as_array(x: Any, label: str) -> Array:
    """Return an aligned NumPy array of what a user gave, which messages call `label`."""
    try:
        found = np.asarray(x)
        return found if found.flags.aligned else found.copy()
    except ValueError:  # lists of unequal lengths
        raise ValueError(f"{label}: expected numbers in an array, got {shown(x)}") from None


class Space:
    """Where vectors like the user's `x0` live: their device, dtype, length and shape.

    Parameters
    ----------
    backend : module
        What runs the verbs on them.
    device : int
        Number of the device.
    dtype : dtype
        float32 or float64.
    shape : tuple of int
        Of the user's array.
    """

    def __init__(self, backend: ModuleType, device: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.backend, self.device, self.dtype, self.shape = backend, device, dtype, shape
        self.on_device, self.n, self.verbs = backend is not _cpu, math.prod(shape), backend.Vectors(device)

    @classmethod
    def of(cls, x0: Any) -> tuple[Space, Array]:
        """Return the space of where a search begins, and that as a vector."""
        backend = backend_of(x0, "x0")
        if backend is _cpu:
            start = as_array(x0, "x0")
            if start.dtype.kind in "iub":
                start = start.astype(np.float64)
        else:
            from gradstep import device

            start = device.view(x0)
        if np.ma.isMaskedArray(x0):
            raise TypeError("x0: expected a plain array, got a masked one")
        if start.dtype not in (np.float32, np.float64):
            raise TypeError(f"x0: expected numbers, float32 or float64, got {start.dtype} of shape {start.shape}")
        space = cls(backend, device_of([start]), start.dtype, start.shape)
        return space, space.copy(start)

    def rows(self, count: int) -> Array:
        """Return that many vectors, each on a cache line of its own; what is in them is left open."""
        each = -(-max(self.n, 1) * self.dtype.itemsize // LINE) * LINE
        stride = each // self.dtype.itemsize
        if self.on_device:
            from gradstep import device

            return device.empty((count, stride), self.dtype, self.device)[:, : self.n]
        memory = np.empty(count * each + LINE, np.uint8)
        first = -memory.ctypes.data % LINE
        return memory[first : first + count * each].view(self.dtype).reshape(count, stride)[:, : self.n]

    def vector(self) -> Array:
        """Return one vector; what is in it is left open."""
        return self.rows(1)[0]

    def copy(self, array: Array) -> Array:
        """Return the elements of an array of this space, in C order, as a new vector."""
        made = self.vector()
        if self.on_device:
            from gradstep import device

            device.assign([self.shaped(made)], [array])
        else:
            self.shaped(made)[...] = array
        return made

    def twin(self, vector: Array) -> Array:
        """Return a copy of a vector."""
        return self.copy(self.shaped(vector))

    def shaped(self, vector: Array) -> Array:
        """Return a vector in the shape of the user's array, over the same memory."""
        return vector.reshape(self.shape)

    def run(self, combinations: Any = (), products: Any = (), largest: Array = None) -> tuple[list[float], float]:
        """Run linear combinations in order, then products, in one pass: see ``csrc/vectors.h``."""
        dots, most, _ = self.verbs.run(list(combinations), list(products), largest)
        return dots, most

    def dot(self, a: Array, b: Array) -> float:
        """Return a dot product, with the same bits on every machine."""
        return self.run(products=[((a,), (b,))])[0][0]

    def largest(self, a: Array) -> float:
        """Return the greatest magnitude of an element."""
        return self.run(largest=a)[1]

    def from_host(self, vector: Array, values: Array) -> None:
        """Write a NumPy array into a vector."""
        if self.on_device:
            from gradstep import device

            device.from_host(vector, np.ascontiguousarray(values, self.dtype))
        else:
            vector[...] = values
