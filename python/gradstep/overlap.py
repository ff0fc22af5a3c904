"""Whether arrays share memory, exactly, in time that grows with what they span and not with its square."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


def same_places(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether two rows of arrays are, one by one, the same elements of memory."""
    return len(a) == len(b) and all(map(same_place, a, b))


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
    for cluster in _clusters([extent(a, argument + label) for a, label in own if a.size]):
        _refuse_in(cluster)


def shared(arrays: Sequence[Array | None], others: Sequence[Array]) -> list[bool]:
    """Tell of each array, or None, whether it has an element in common with others, which share nothing."""
    found = [False] * len(arrays)
    extents = {i: extent(own, "") for i, a in enumerate(arrays) if a is not None and (own := _own(a)).size}
    places = {id(e): i for i, e in extents.items()}
    for cluster in _clusters([*extents.values(), *(extent(own, "") for a in others if (own := _own(a)).size)]):
        mine = [e for e in cluster if id(e) in places]
        theirs = [e for e in cluster if id(e) not in places]
        if mine and theirs:
            meets = _bounds_meet(theirs) if all(e.dense for e in cluster) else _elements_meet(cluster, theirs)
            for e in mine:
                found[places[id(e)]] = meets(e)
    return found


def _bounds_meet(others: Sequence[Extent]) -> Callable[[Extent], bool]:
    lows = [e.low for e in others]

    def meets(e: Extent) -> bool:
        before = bisect_left(lows, e.high)  # they lie one after the other: the last of these reaches farthest
        return before > 0 and others[before - 1].high > e.low

    return meets


def _elements_meet(cluster: Sequence[Extent], others: Sequence[Extent]) -> Callable[[Extent], bool]:
    marks = _Marks(cluster)
    for e in others:
        marks.of(e)[...] = True
    return lambda e: bool(marks.of(e).any())


def _clusters(extents: Sequence[Extent]) -> Iterator[list[Extent]]:
    """Give those whose bounds meet, directly or by way of others, the lowest first."""
    cluster: list[Extent] = []
    high = 0
    for e in sorted(extents, key=lambda e: e.low):
        if cluster and e.low >= high:
            yield cluster
            cluster = []
        cluster.append(e)
        high = max(high, e.high) if len(cluster) > 1 else e.high
    if cluster:
        yield cluster


class _Marks:
    """A mark for every unit of memory that elements of a cluster begin and end at."""

    def __init__(self, cluster: Sequence[Extent]) -> None:
        self.low = cluster[0].low
        self.unit = math.gcd(*(n for e in cluster for n in (e.itemsize, e.start - self.low, *e.strides)))
        self.marks = np.zeros((max(e.high for e in cluster) - self.low) // self.unit, dtype=bool)

    def of(self, e: Extent) -> Any:
        """Return those of an array, writeable."""
        return as_strided(
            self.marks[(e.start - self.low) // self.unit :],
            (*e.shape, e.itemsize // self.unit),
            (*(s // self.unit for s in e.strides), 1),
        )


def _refuse_in(cluster: list[Extent]) -> None:
    # As many marks as units of memory that belong to an array, or something lies twice.
    if len(cluster) == 1 and cluster[0].nested:
        return
    if len(cluster) > 1 and all(e.dense for e in cluster):
        raise ValueError(f"{cluster[0].label} and {cluster[1].label} share memory")
    marks, marked = _Marks(cluster), 0
    for e in cluster:
        if 0 in e.strides:
            raise ValueError(f"{e.label}: expected elements of their own, got some that share memory")
        view = marks.of(e)
        if view.any():
            raise ValueError(f"{_partner(cluster, e)} and {e.label} share memory")
        view[...] = True
        marked += view.size
        if len(cluster) == 1 and np.count_nonzero(marks.marks) != marked:
            raise ValueError(f"{e.label}: expected elements of their own, got some that share memory")
    if np.count_nonzero(marks.marks) != marked:
        labels = ", ".join(f"{e.label}" for e in cluster)
        raise ValueError(f"{labels}: expected elements of their own, got some that share memory")


def _partner(cluster: list[Extent], late: Extent) -> str:
    near = [e for e in cluster if e is not late and e.low < late.high and late.low < e.high]
    return near[0].label
