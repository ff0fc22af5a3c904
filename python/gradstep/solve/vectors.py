"""Vectors that the native verbs work on: flat, of float32 or float64, on the device of the user's array."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradstep.backend import backend_of
from gradstep.containers import Array, is_cuda

LINE = 64  # bytes: rows begin on cache lines


class Space:
    """Where vectors like the user's `x0` live: their device, dtype, length and shape.

    Parameters
    ----------
    x0 : array_like
        Where a search begins.
    """

    def __init__(self, x0: Any) -> None:
        if is_cuda(x0):
            from gradstep import device

            self.backend = backend_of(x0, "x0")
            self.start = device.view(x0)
            self.device = self.start.data.device_id if self.start.size else 0
        else:
            from gradstep import _cpu

            self.backend, self.device = _cpu, 0
            self.start = np.asarray(x0)
            if self.start.dtype.kind in "iub":
                self.start = self.start.astype(np.float64)
        if np.ma.isMaskedArray(x0):
            raise TypeError("x0: expected a plain array, got a masked one")
        if self.start.dtype not in (np.float32, np.float64):
            raise TypeError(f"x0: expected numbers, float32 or float64, got {_described(self.start)}")
        self.on_device = self.backend.__name__.endswith("_cuda")
        self.dtype = self.start.dtype.newbyteorder("=")
        self.shape, self.n = tuple(self.start.shape), int(self.start.size)
        self.verbs = self.backend.Vectors(self.device)

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

    def from_host(self, vector: Array, values: Array) -> None:
        """Write a NumPy array into a vector."""
        if self.on_device:
            from gradstep import device

            device.from_host(vector, np.ascontiguousarray(values, self.dtype))
        else:
            vector[...] = values


def _described(array: Array) -> str:
    return f"{array.dtype} of shape {tuple(array.shape)}"
