"""Where training stands in its data: batch by batch, epoch by epoch, from a saved position on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any

from gradstep.containers import is_array, kind_of
from gradstep.data.batches import Minibatches
from gradstep.hyperparameters import check_whole
from gradstep.state_dict import count

NONE = object()


class Passes:
    """Passes over a collection of batches."""

    def __init__(self, data: Iterable[Any], epochs: int) -> None:
        self._data, self.epochs = data, epochs
        self.epoch = self.batch = 0  # of the next batch
        self.batches_per_epoch = len(data) if isinstance(data, Sized) else None
        self._rest: Iterator[Any] = iter(())
        self._next: Any = NONE

    @property
    def left(self) -> bool:
        """Whether there are batches left."""
        return self.epoch < self.epochs

    def take(self) -> tuple[Any, ...]:
        """Return the next batch, as arguments."""
        if self._next is NONE:
            self._rest = islice(iter(self._data), self.batch, None)
            self._next = next(self._rest, NONE)
            if self._next is NONE:
                if self.batch == 0:
                    raise ValueError("data: expected at least one batch, got none")
                raise ValueError(f"data: expected more than {self.batch} batches in an epoch, got no more")
        return _arguments(self._next)

    def advance(self) -> bool:
        """Go on to the next batch; return whether an epoch has ended.

        Only now, when a batch is done with, is the next one made: it may overwrite the memory of the last.
        """
        self._next = next(self._rest, NONE)
        ended = self._next is NONE
        self.epoch, self.batch = (self.epoch + 1, 0) if ended else (self.epoch, self.batch + 1)
        return ended

    @property
    def position(self) -> int:
        """Which batch comes next, of its epoch."""
        return self.batch

    def give_back(self, position: int) -> None:
        """Let the batch that was at a position be the next one still: it is so until `advance`."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, saved: Any) -> None:
        """Go on from a position."""
        if not isinstance(saved, Mapping) or set(saved) != {"epoch", "batch"}:
            raise ValueError(f"data: expected an epoch and a batch, got {saved!r:.200}")
        self.epoch, self.batch = (count(f"data[{name!r}]", saved[name]) for name in ("epoch", "batch"))
        self._next = NONE


class Positioned:
    """The same of `Minibatches`, an iterator over all epochs that knows its position."""

    def __init__(self, data: Minibatches, epochs: int | None) -> None:
        self._data, self.epochs, self.batches_per_epoch = data, epochs, data.batches_per_epoch
        self.state_dict, self.load_state_dict = data.state_dict, data.load_state_dict

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._data.epoch

    @property
    def left(self) -> bool:
        """Whether there are batches left."""
        return self.batches_per_epoch > 0 and (self.epochs is None or self.epoch < self.epochs)

    def take(self) -> tuple[Any, ...]:
        """Return the next batch, as arguments."""
        return next(self._data)

    @property
    def position(self) -> int:
        """Which batch comes next, of all."""
        return self._data._given

    def give_back(self, position: int) -> None:
        """Let the batch that was at a position be the next one again."""
        self._data._go_back(position)

    def advance(self) -> bool:
        """Return whether an epoch has ended with the batch that was taken."""
        return self._data.batch == 0


def feed_of(data: Any, epochs: int | None) -> Passes | Positioned:
    """Check a user's data, and the number of epochs where it does not bring its own."""
    if isinstance(data, Minibatches):
        if None not in (epochs, data.epochs) and check_whole("epochs", epochs, 1) != data.epochs:
            raise ValueError(f"epochs: expected None, for data is {data.epochs} epochs long, got {epochs!r}")
        return Positioned(data, epochs if data.epochs is None else data.epochs)
    if is_array(data) or isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise TypeError(f"data: expected gradstep.data.minibatches(...) or a list of batches, got {kind_of(data)}")
    if iter(data) is data:
        raise TypeError(f"data: expected batches that can be gone through again, got an iterator: {kind_of(data)}")
    return Passes(data, check_whole("epochs", epochs, 1))


def _arguments(batch: Any) -> tuple[Any, ...]:
    return batch if isinstance(batch, tuple) else (batch,)
