"""Batches of rows, drawn anew in each epoch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from gradstep import _cpu
from gradstep.containers import Array
from gradstep.data.ahead import Ahead
from gradstep.data.augment import Augment
from gradstep.data.rows import REAL, Rows, float_dtype, plain
from gradstep.data.standardizer import Standardizer
from gradstep.hyperparameters import check_flag, check_whole
from gradstep.locks import Locked

VERSION = 1
SETTINGS = ("size", "batch_size", "shuffle", "replace", "drop_last")


def minibatches(
    *arrays: Any,
    batch_size: int | None = None,
    shuffle: bool = True,
    replace: bool = False,
    drop_last: bool = False,
    seed: int | None = None,
    epochs: int | None = 1,
    standardize: Standardizer | None = None,
    augment: Augment | None = None,
    dtype: Any = None,
    reuse: bool = False,
    prefetch: int = 0,
) -> Minibatches:
    """Draw batches of rows, the same rows of each array.

    An epoch shows every row once, in an order of its own, which is a function of seed and epoch alone: the same on
    every machine, whatever the number of threads and the device. Rows are gathered into fresh arrays, and on the way
    converted, standardised and augmented, in one pass over memory.

    Parameters
    ----------
    *arrays : array_like
        As many rows in each, along the first axis; of any dtype, shape and memory layout. CUDA arrays stay on their
        device.
    batch_size : int, optional
        Rows of a batch: 1 is stochastic gradient descent. None: all rows, in their own order.
    shuffle : bool, default True
        Whether rows come in another order in each epoch.
    replace : bool, default False
        Draw each row from all of them, so that some come twice in an epoch and others not at all.
    drop_last : bool, default False
        Leave out the last batch of an epoch where it is smaller.
    seed : int, optional
        From 0 to 2**64 - 1. None: one that is drawn, to be found in `seed`.
    epochs : int, optional
        How often the rows are seen. None: without end.
    standardize : Standardizer, optional
        A fitted one, for the first array.
    augment : Augment, optional
        Variations of the first array, whose rows are images (H, W) or (H, W, C); after it was standardised.
    dtype : float32 or float64, as dtype or name, optional
        What the first array becomes. By default it stays as it is; what is standardised becomes float32 if it was
        that or has at most 16 bits, else float64.
    reuse : bool, default False
        Hand out the same arrays again and again, which the next batch overwrites.
    prefetch : int, default 0
        Batches that are made ahead, by a thread beside the caller's. Of arrays on a device batches are made when they
        are asked for: nothing waits for them anyway.

    Returns
    -------
    Minibatches
        An iterator over tuples, of one array for each that was given. It goes on where it is: once all `epochs` are
        over, a second ``for`` finds nothing; for a new pass ask for more epochs, or load a position.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the arrays do not have as many rows.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> for X_batch, y_batch in gs.data.minibatches(X, y, batch_size=3, seed=1):
    ...     print(y_batch, X_batch[:, 0])
    [1 0 2] [2. 0. 4.]
    [3 4] [6. 8.]
    """
    return Minibatches(
        arrays,
        batch_size=batch_size,
        shuffle=shuffle,
        replace=replace,
        drop_last=drop_last,
        seed=seed,
        epochs=epochs,
        standardize=standardize,
        augment=augment,
        dtype=dtype,
        reuse=reuse,
        prefetch=prefetch,
    )


class Minibatches(Locked):
    """What `minibatches` returns: an iterator over batches that knows where it is.

    Parameters
    ----------
    arrays : tuple of array_like
        Of as many rows each.
    standardize, augment, dtype, **settings : object
        As `minibatches` takes them.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> batches = gs.data.minibatches(np.arange(6), batch_size=2, seed=0, epochs=2)
    >>> len(batches), [int(rows.sum()) for (rows,) in batches][:3], batches.epoch
    (6, [6, 5, 4], 2)
    """

    def __init__(
        self,
        arrays: tuple[Any, ...],
        *,
        standardize: Standardizer | None,
        augment: Augment | None,
        dtype: Any,
        **settings: Any,
    ) -> None:
        super().__init__()
        if not arrays:
            raise TypeError("minibatches: expected at least one array, got none")
        labels = [f"arrays[{i}]" for i in range(len(arrays))]
        for label, a in zip(labels, arrays, strict=True):
            if isinstance(a, Integral):
                raise TypeError(f"{label}: expected an array of rows, got {a!r}; rows of a batch are batch_size={a!r}")
        self._rows = [Rows(plain(a, label), label) for a, label in zip(arrays, labels, strict=True)]
        self._size = self._rows[0].n
        for rows in self._rows:
            if rows.n != self._size:
                raise ValueError(f"{rows.label}: expected {self._size} rows, as arrays[0] has, got {rows.n}")
        self._set(**settings)
        self._shapes = [rows.shape for rows in self._rows]
        self._prepare(standardize, augment, dtype)
        self._given = 0
        self._buffers: dict[int, list[Array]] = {}
        self._ahead = Ahead()

    def __iter__(self) -> Minibatches:
        return self

    def __len__(self) -> int:
        if self._epochs is None:
            raise TypeError("Minibatches: those without end have no length")
        return self._epochs * self._per_epoch

    def __next__(self) -> tuple[Array, ...]:
        with self._lock:
            given, end = self._given, self._end
            if given >= end:
                raise StopIteration
            batch = self._made_ahead(given, end) if self._prefetch else self._make(given)
            self._given = given + 1
            return batch

    @property
    def size(self) -> int:
        """Number of rows."""
        return self._size

    @property
    def batch_size(self) -> int:
        """Rows of a batch, but perhaps for the last one of an epoch."""
        return self._batch_size

    @property
    def seed(self) -> int:
        """What the order follows from."""
        return self._seed

    @property
    def epochs(self) -> int | None:
        """How often the rows are seen; None without end."""
        return self._epochs

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return self._per_epoch

    @property
    def epoch(self) -> int:
        """Which epoch the next batch is of, from 0 on."""
        return self._given // self._per_epoch if self._per_epoch else 0

    @property
    def batch(self) -> int:
        """Which batch of its epoch comes next, from 0 on."""
        return self._given % self._per_epoch if self._per_epoch else 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what the order follows from.

        Returns
        -------
        dict
            Of numbers, for JSON too.
        """
        with self._lock:
            return {**self._facts(), "seed": self._seed, "batches": self._given}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was asked for, with the seed that was used there.

        Parameters
        ----------
        saved : mapping
            Of batches of as many rows, with the same `batch_size`, `shuffle`, `replace` and `drop_last`.

        Raises
        ------
        ValueError
            If it is of others, or damaged. Nothing was changed.
        """
        facts = self._facts()
        if not isinstance(saved, Mapping) or set(saved) != {*facts, "seed", "batches"}:
            raise ValueError(f"saved: expected what state_dict() gave, got {saved!r:.200}")
        for name, value in facts.items():
            if saved[name] != value or type(saved[name]) is not type(value):
                raise ValueError(f"saved[{name!r}]: expected {value!r}, got {saved[name]!r}")
        try:
            seed, given = _check_seed(saved["seed"]), check_whole("batches", saved["batches"], 0)
        except TypeError as error:
            raise ValueError(f"saved: {error}") from None
        if given > _cpu.most_epochs * self._per_epoch:
            raise ValueError(f"saved['batches']: expected a position in the data, got {given}")
        with self._lock:
            self._ahead.drop()  # first: it is of the old seed
            self._seed, self._given = seed, given

    def __repr__(self) -> str:
        epochs = "without end" if self._epochs is None else f"of {self._epochs}"
        return f"Minibatches({self._size} rows by {self._batch_size}, epoch {self.epoch} {epochs}, seed {self._seed})"

    def __reduce__(self) -> str:
        raise TypeError("Minibatches: expected state_dict() and load_state_dict(), for copies would hold the data")

    def _go_back(self, given: int) -> None:
        with self._lock:
            self._ahead.drop()  # for the one that was given
            self._given = given

    def _facts(self) -> dict[str, Any]:
        return {"version": VERSION, **{name: getattr(self, f"_{name}") for name in SETTINGS}}

    def _set(
        self,
        *,
        batch_size: int | None,
        shuffle: bool,
        replace: bool,
        drop_last: bool,
        seed: int | None,
        epochs: int | None,
        reuse: bool,
        prefetch: int,
    ) -> None:
        whole = batch_size is None
        self._batch_size = max(1, self._size) if batch_size is None else check_whole("batch_size", batch_size, 1)
        self._shuffle, self._replace = check_flag("shuffle", shuffle), check_flag("replace", replace)
        self._order = "replaced" if self._replace else "shuffled" if self._shuffle and not whole else "given"
        self._drop_last, self._reuse = check_flag("drop_last", drop_last), check_flag("reuse", reuse)
        self._per_epoch = (self._size if self._drop_last else self._size + self._batch_size - 1) // self._batch_size
        if self._drop_last and self._size and not self._per_epoch:
            raise ValueError(f"batch_size: expected at most the {self._size} rows with drop_last, got {batch_size}")
        self._seed = secrets.randbits(64) if seed is None else _check_seed(seed)
        self._epochs = None if epochs is None else check_whole("epochs", epochs, 0)
        if self._epochs is not None and self._epochs > _cpu.most_epochs:
            raise ValueError(f"epochs: expected at most {_cpu.most_epochs}, got {epochs}")
        self._end = (_cpu.most_epochs if self._epochs is None else self._epochs) * self._per_epoch
        most = self._per_epoch if self._epochs is None else self._end
        self._prefetch = min(check_whole("prefetch", prefetch, 0), most)
        if any(rows.on_device for rows in self._rows):
            self._prefetch = 0  # a device works beside the host as it is

    def _prepare(self, standardize: Standardizer | None, augment: Augment | None, dtype: Any) -> None:
        first = self._rows[0]
        dtype = None if dtype is None else _check_dtype(dtype)
        if not isinstance(standardize, Standardizer | None):
            raise TypeError(f"standardize: expected a Standardizer, got {type(standardize).__name__}")
        if not isinstance(augment, Augment | None):
            raise TypeError(f"augment: expected an Augment, got {type(augment).__name__}")
        if standardize is not None:
            first.standardise(dtype or float_dtype(first.dtype), *standardize._columns_of(first))
        elif dtype is not None or (augment is not None and augment.noise and first.dtype in (np.float32, np.float64)):
            first.convert(dtype or first.dtype)
        if augment is not None:
            if not first.is_number:
                raise TypeError(f"arrays[0]: expected images of {REAL}, got {first.dtype}")
            self._shapes[0] = augment.out_shape(first.shape, "arrays[0]")
            augment._apply(first.native, first.shape, first.dtype)

    def _made_ahead(self, number: int, end: int) -> tuple[Array, ...]:
        batch: tuple[Array, ...] = self._ahead.take(self, number, min(number + 1 + self._prefetch, end))
        return batch

    def _make(self, number: int) -> tuple[Array, ...]:
        epoch, batch = divmod(number, self._per_epoch)
        first = batch * self._batch_size
        count = min(self._batch_size, self._size - first)
        outs = self._outs(number, count)
        indices: dict[tuple[Any, int], Array] = {}
        for rows, out in zip(self._rows, outs, strict=True):
            place = (rows.backend, rows.device)
            if self._order != "given" and place not in indices:
                indices[place] = self._indices(rows, epoch, first, count)
            chosen = indices.get(place)
            if rows.dtype.hasobject or not rows.dtype.itemsize:
                rows.array.take(range(first, first + count) if chosen is None else chosen, axis=0, out=out, mode="clip")
            else:
                rows.native.gather(self._seed, epoch, first, count, chosen, out, rows.stream)
        return tuple(outs)

    def _indices(self, rows: Rows, epoch: int, first: int, count: int) -> Array:
        indices = rows.empty((count,), np.int64)
        where = (indices, rows.device, rows.stream)
        rows.backend.select(self._order, self._size, self._seed, epoch, first, count, *where)
        return indices

    def _outs(self, number: int, count: int) -> list[Array]:
        if not self._reuse:
            return self._empty(count)
        slot = number % (self._prefetch + 1)
        if slot not in self._buffers:
            self._buffers[slot] = self._empty(min(self._batch_size, self._size))
        return [buffer[:count] for buffer in self._buffers[slot]]

    def _empty(self, count: int) -> list[Array]:
        return [rows.empty((count, *shape), rows.dtype) for rows, shape in zip(self._rows, self._shapes, strict=True)]


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    words = f"dtype: expected float32 or float64, in the machine's own order of bytes, got {dtype!r}"
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        raise (ValueError if isinstance(dtype, str) else TypeError)(words) from None
    if found not in (np.float32, np.float64):  # equal only in their own order of bytes
        raise ValueError(words)
    return found


def _check_seed(seed: Any) -> int:
    if check_whole("seed", seed, 0) >= 1 << 64:
        raise ValueError(f"seed: expected a whole number below 2**64, got {seed!r}")
    return int(seed)
