"""Batches that a thread beside the caller's makes before they are asked for."""

from __future__ import annotations

import atexit
import os
import traceback
import weakref
from _thread import LockType, allocate_lock, start_new_thread
from queue import SimpleQueue
from typing import Any, Protocol


class Maker(Protocol):
    """Whose batches they are."""

    def _make(self, number: int) -> Any: ...


class Ahead:
    """The batches of a maker, made in order by one thread, which knows it weakly and ends with it.

    Ctrl-C, which may come anywhere in the caller's thread, leaves nothing taken that somebody waits for. So there are
    no futures and no `threading.Thread` here: their conditions are taken in Python. One thread at a time takes batches.
    """

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._ordered = 0  # up to which number, where there are batches
        self._thread: tuple[int, Orders] | None = None  # of which process, and what it is told

    def drop(self) -> None:
        """Forget what was made and ordered."""
        dropped, self._batches = self._batches, {}
        for batch in dropped.values():
            batch.wanted = False

    def take(self, maker: Maker, number: int, until: int) -> Any:
        """Return a batch, or raise what making it raised; those after it were ordered then, too.

        Parameters
        ----------
        maker : Maker
            The same one always.
        number : int
            Which one. What was ordered is dropped where it is not among it.
        until : int
            The first one that is not to be ordered yet.
        """
        orders = self._orders(maker)
        if orders is None:
            return maker._make(number)
        if number not in self._batches:
            self.drop()
            self._ordered = number
        self._order(number + 1, orders)
        batch = self._batches[number]
        batch.wait()
        self._order(until, orders)
        del self._batches[number]
        return batch.content() or maker._make(number)

    def _order(self, until: int, orders: Orders) -> None:
        while self._ordered < until:
            batch = self._batches[self._ordered] = Batch(self._ordered)
            orders.put(batch)
            self._ordered += 1  # last, or Ctrl-C leaves one that nobody makes

    def _orders(self, maker: Maker) -> Orders | None:
        """Return what takes orders; None where no thread starts any more, as at the program's end."""
        if self._thread is None or self._thread[0] != os.getpid():  # the thread is not there in a forked child
            self.drop()
            orders: Orders = SimpleQueue()
            try:
                start_new_thread(_work, (orders, weakref.ref(maker, lambda _: orders.put(None))))
            except RuntimeError:
                return None
            self._thread = os.getpid(), orders
        return None if _ending else self._thread[1]


class Batch:
    """A batch that is made unless nobody wants it any more.

    Parameters
    ----------
    number : int
        Which one.
    """

    def __init__(self, number: int) -> None:
        self.number, self.wanted = number, True
        self._over = False
        self._content: Any = None
        self._error: BaseException | None = None
        self._taken = allocate_lock()
        self._taken.acquire()

    def make(self, maker: weakref.ref[Maker]) -> None:
        """Make it, in the thread for that."""
        if self.wanted and not _ending:
            self._content, self._error = _tried(maker, self.number)
        if self._error is not None:
            traceback.clear_frames(self._error.__traceback__)  # which would keep the data until somebody takes it
        self._over = True
        self._taken.release()

    def wait(self) -> None:
        """Return once it is over."""
        if not self._over:  # or Ctrl-C came when the lock was just acquired, which nobody releases then
            self._taken.acquire()

    def content(self) -> Any:
        """Return the batch, or raise what making it raised; None where the program ended before."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._content
        finally:
            del error  # whose traceback refers to this frame, and to the data


Orders = SimpleQueue[Batch | None]
_running: dict[Orders, LockType] = {}
_ending = False


def _tried(maker: weakref.ref[Maker], number: int) -> tuple[Any, BaseException | None]:
    found = maker()
    try:
        return None if found is None else found._make(number), None
    except BaseException as error:  # the caller's to handle
        return None, error


def _work(orders: Orders, maker: weakref.ref[Maker]) -> None:
    running = _running[orders] = allocate_lock()
    with running:
        while (batch := orders.get()) is not None:
            batch.make(maker)
            del batch  # it would be kept until the next one is ordered
        del _running[orders]


def _end() -> None:
    # A thread that is in native code when the interpreter ends would take the process with it.
    global _ending
    _ending = True
    for orders, running in _running.copy().items():
        orders.put(None)
        running.acquire()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
