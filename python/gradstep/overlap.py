"""Whether arrays share memory, exactly, in time that grows with what they span and not with its square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradstep.containers import Array, is_cuda


@dataclass(frozen=True)
class Extent:
    """Where an array lies: its label, the addresses from `low` up to `high`, its first element and strides."""

    label: str
    low: int
    high: int
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @property
    def dense(self) -> bool:
        """Every byte between `low` and `high` belongs to one element: nothing can lie twice."""
        reach = self.itemsize
        for stride, size in sorted(zip(map(abs, self.strides), self.shape, strict=True)):
            if stride != reach:
                return False
            reach *= size
        return True

    @property
    def nested(self) -> bool:
        """Each axis steps over all that the axes inside it reach: no element can lie on another."""
        reach = self.itemsize
        for stride, size in sorted(zip(map(abs, self.strides), self.shape, strict=True)):
            if stride < reach:
                return False
            reach += stride * (size - 1)
        return True


def _own(array: Array) -> Array:
    # Other packages call the same things by other names.
    if not is_cuda(array):
        return array
    from gradstep import device

    return device.view(array)


def extent(array: Array, label: str) -> Extent:
    """Read where an array lies, without its axes of length one."""
    start = array.data.ptr if is_cuda(array) else array.__array_interface__["data"][0]
    axes = [(n, s) for n, s in zip(array.shape, array.strides, strict=True) if n != 1]
    reach = [(n - 1) * s for n, s in axes]
    low = start + sum(r for r in reach if r < 0)
    high = start + sum(r for r in reach if r > 0) + array.itemsize
    return Extent(label, low, high, start, tuple(n for n, _ in axes), tuple(s for _, s in axes), int(array.itemsize))


def same_place(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements of memory."""
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and extent(a, "") == extent(b, ""))


def refuse_overlap(arrays: Sequence[Array], labels: Sequence[str], argument: str = "params") -> None:
    """Raise a ValueError if an element of one array is also one of another, or twice one of the same.

    Parameters
    ----------
    arrays : sequence of arrays
        Of one device.
    labels : sequence of str
        What they are called in the message.
    argument : str
        Where they came in.

    Raises
    ------
    ValueError
        Naming the arrays.
    """
    own = zip(map(_own, arrays), labels, strict=True)
    extents = [extent(a, argument + label) for a, label in own if a.size]
    extents.sort(key=lambda e: e.low)
    cluster: list[Extent] = []
    high = 0
    for e in extents:
        if cluster and e.low >= high:
            _refuse_in(cluster)
            cluster = []
        cluster.append(e)
        high = max(high, e.high) if len(cluster) > 1 else e.high
    if cluster:
        _refuse_in(cluster)


def shares(array: Array, others: Sequence[Array]) -> bool:
    """Whether an array whose bounds meet those of others, which share nothing, has an element in common with one."""
    try:
        _refuse_in(sorted((extent(_own(a), "") for a in (array, *others)), key=lambda e: e.low))
    except ValueError:
        return True
    return False


def _refuse_in(cluster: list[Extent]) -> None:
    # Marks every unit of memory that belongs to an array: as many marks as units, or something lies twice.
    if len(cluster) == 1 and cluster[0].nested:
        return
    if len(cluster) > 1 and all(e.dense for e in cluster):
        raise ValueError(f"{cluster[0].label} and {cluster[1].label} share memory")
    low = cluster[0].low
    unit = math.gcd(*(n for e in cluster for n in (e.itemsize, e.start - low, *e.strides)))
    marks = np.zeros((max(e.high for e in cluster) - low) // unit, dtype=bool)
    marked = 0
    for e in cluster:
        if 0 in e.strides:
            raise ValueError(f"{e.label}: expected elements of their own, got some that share memory")
        view = as_strided(
            marks[(e.start - low) // unit :],
            (*e.shape, e.itemsize // unit),
            (*(s // unit for s in e.strides), 1),
        )
        if view.any():
            raise ValueError(f"{_partner(cluster, e)} and {e.label} share memory")
        view[...] = True
        marked += view.size
        if len(cluster) == 1 and np.count_nonzero(marks) != marked:
            raise ValueError(f"{e.label}: expected elements of their own, got some that share memory")
    if np.count_nonzero(marks) != marked:
        labels = ", ".join(f"{e.label}" for e in cluster)
        raise ValueError(f"{labels}: expected elements of their own, got some that share memory")


def _partner(cluster: list[Extent], late: Extent) -> str:
    near = [e for e in cluster if e is not late and e.low < late.high and late.low < e.high]
    return near[0].label
