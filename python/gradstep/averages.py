"""Moving averages of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from gradstep import hyperparameters
from gradstep.backend import checked
from gradstep.containers import Array, Container, Forest
from gradstep.group import split_groups
from gradstep.locks import Locked
from gradstep.overlap import refuse_overlap, same_places
from gradstep.states import assign, check_like, copies_of, restore, to_host, zeros_like


class _Swapped(Locked):
    """The averages that are in the place of their parameters: at most one of each parameter."""

    def __init__(self) -> None:
        super().__init__()
        self._averages: WeakSet[EMA] = WeakSet()

    def add(self, average: EMA) -> None:
        with self._lock:
            self.refuse(average)
            self._averages.add(average)

    def remove(self, average: EMA) -> None:
        with self._lock:
            self._averages.discard(average)

    def __bool__(self) -> bool:
        return bool(self._averages)

    def refuse(self, average: EMA) -> None:
        """Raise a ValueError if a parameter of this average holds an average, of its own or of another."""
        with self._lock:
            for other in self._averages:
                if other is average:
                    raise ValueError("EMA: expected parameters, but the averages are swapped in")
                try:
                    refuse_overlap([*average._arrays, *other._arrays], [*average._forest.labels, *other._forest.labels])
                except ValueError:
                    raise ValueError("EMA: expected parameters, but those of another EMA are swapped in") from None


_swapped = _Swapped()


class EMA(Locked):
    r"""Exponential moving average of parameters.

    .. math:: a \leftarrow d a + (1 - d) \theta

    starting from the parameters as they are. ``opt.step(grads, average=ema)`` updates it in the same pass over
    memory as the parameters; `update` does it alone, with the same bits.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        As given to the optimizer. References are kept.
    decay : float or schedule, default 0.999
        :math:`d`, from 0 to 1; a schedule is a callable of the number of updates asked for
        before, skipped ones included.

    Raises
    ------
    TypeError, ValueError
        As an optimizer's constructor.

    References
    ----------
    B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control
    and Optimization 30, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = np.array([1.0])
    >>> opt, ema = gs.SGD(w, lr=1.0), gs.EMA(w, decay=0.5)
    >>> opt.step(np.array([2.0]), average=ema)
    >>> w, ema.averages
    (array([-1.]), array([0.]))
    >>> with ema.swapped():
    ...     print(w)
    [0.]
    >>> w
    array([-1.])
    """

    def __init__(self, params: Container, decay: hyperparameters.Float = 0.999) -> None:
        super().__init__()
        self._decay = hyperparameters.check("decay", decay)
        containers, _, grouped = split_groups(params, None)
        self._forest = Forest(containers, grouped)
        labels = self._forest.labels
        backend, self._arrays = checked(self._forest.arrays(containers), labels)
        refuse_overlap(self._arrays, labels)
        self._averages = zeros_like(self._arrays, 3)
        assign(self._averages, self._arrays)
        n = len(labels)
        self._plan = backend.Plan("average", self._averages, (), (None,) * n, [0] * n, labels, ["average", "params"])
        self._calls = 0
        self._aside: list[Array] | None = None

    def update(self) -> None:
        """Move the averages once towards the parameters as they are."""
        with self._lock:
            self._move(self._joins(self._arrays))

    def swap_in(self) -> None:
        """Write the averages into the parameters, and set those aside.

        Raises
        ------
        ValueError
            If the averages are in already, or those of another EMA, or a parameter has become read-only. Nothing was
            changed.
        """
        with self._lock:
            checked(self._arrays, self._forest.labels)
            _swapped.add(self)
            try:
                self._aside = copies_of(self._arrays)
            except BaseException:
                _swapped.remove(self)
                raise
            assign(self._arrays, self._averages)

    def swap_out(self) -> None:
        """Write the parameters that were set aside back.

        Raises
        ------
        ValueError
            If the averages are not in.
        """
        with self._lock:
            if self._aside is None:
                raise ValueError("EMA: expected averages that were swapped in")
            checked(self._arrays, self._forest.labels)
            assign(self._arrays, self._aside)
            self._aside = None
            _swapped.remove(self)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Swap the averages in for a ``with`` block, and out after it.

        Yields
        ------
        None
            Nothing: the parameters hold the averages meanwhile.
        """
        self.swap_in()
        try:
            yield
        finally:
            self.swap_out()

    @property
    def averages(self) -> Container:
        """The live averages in a container as `params`; float32 for 16-bit parameters."""
        return self._forest.unflatten(self._averages)

    @property
    def calls(self) -> int:
        """Number of updates asked for, those included that a step has skipped."""
        return self._calls

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the averages take."""
        return sum(a.nbytes for a in self._averages)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the averages, and the number of calls.

        Returns
        -------
        dict
            "averages" holds arrays in a container as `params`, "calls" the number.
        """
        with self._lock:
            averages = self._forest.unflatten([to_host(a) for a in self._averages])
            return {"averages": averages, "calls": self._calls}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Copy what `state_dict` gave into this average.

        Parameters
        ----------
        saved : mapping
            Of an average of the same parameters.

        Raises
        ------
        ValueError
            If names, shapes or dtypes are others. Nothing was changed.
        """
        with self._lock:
            if not isinstance(saved, Mapping) or set(saved) != {"averages", "calls"}:
                raise ValueError("saved: expected what EMA.state_dict() gave")
            try:
                arrays = self._forest.flatten(saved["averages"], "saved['averages']")
            except TypeError as e:
                raise ValueError(str(e)) from None
            for mine, array, label in zip(self._averages, arrays, self._forest.labels, strict=True):
                check_like(f"saved['averages']{label}", mine, array)
            calls = saved["calls"]
            if isinstance(calls, bool) or not isinstance(calls, int) or calls < 0:
                raise ValueError(f"saved['calls']: expected a number of at least 0, got {calls!r}")
            for mine, array in zip(self._averages, arrays, strict=True):
                restore(mine, array)
            self._calls = calls

    def __repr__(self) -> str:
        return f"EMA({len(self._averages)} arrays, decay={self._decay!r}, calls={self._calls})"

    def __reduce__(self) -> str:
        raise TypeError("EMA: an average holds references to its parameters, and no copy of it would")

    def _joins(self, arrays: Sequence[Array]) -> float:
        """Return the decay of the next update, of these parameters."""
        if not same_places(arrays, self._arrays):
            raise ValueError("average: expected an EMA of this optimizer's parameters, in their order")
        if _swapped:
            _swapped.refuse(self)
        return float(hyperparameters.evaluate("decay", self._decay, self._calls))

    def _move(self, decay: float) -> None:
        self._plan.set_hypers(0, {"decay": decay, "weight_decay": 0.0, "maximize": False})
        self._plan.step(self._arrays)
        self._calls += 1
