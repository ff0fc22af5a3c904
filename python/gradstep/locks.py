"""Locks that a forked child does not inherit locked."""

from __future__ import annotations

import os
import threading
import weakref


class Locked:
    """Base of what two threads may use at once: they are served one after the other, by `_lock`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _living.add(self)


_living: weakref.WeakSet[Locked] = weakref.WeakSet()


def _unlock_in_child() -> None:
    # A thread that was inside is not there in a forked child, and would hold its lock for ever.
    for one in _living:
        one._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)
