"""L-BFGS for training loops: parameters in containers, several iterations a step."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradstep.backend import checked, copy_plan, device_of
from gradstep.containers import Array, Container, Forest
from gradstep.hyperparameters import NON_NEGATIVE, check_float
from gradstep.overlap import refuse_overlap
from gradstep.schedules import COUNT
from gradstep.solve import lbfgs
from gradstep.solve.objective import number, pair
from gradstep.solve.search import Callback, Search
from gradstep.solve.vectors import Space
from gradstep.state_dict import Checkpointed, check_state, count
from gradstep.states import on_host


class LBFGS(Checkpointed):
    r"""L-BFGS on the arrays of a model, for a loss that is the same function throughout a step.

    Each `step` makes up to `maxiter` iterations of :math:`\theta \mathrel{+}= \alpha d` with
    :math:`d = -H g`, where :math:`H` is estimated from the last `maxcor` pairs of steps and changes of the gradient
    [1]_, and :math:`\alpha` satisfies the strong Wolfe conditions. The pairs are kept from one step to the next:
    `state` holds "directions" and "changes" of the gradient, with a leading axis over the slots.

    Parameters
    ----------
    params : array, sequence of arrays or mapping of arrays
        Updated in place: all float64 (or complex128), or none. 16-bit arrays are rounded to their format at each
        evaluation.
    maxiter : int, default 20
        Most iterations of a step.
    maxcor : int, default 10
        Pairs that are remembered: two vectors each, as large as all parameters.
    maxls : int, default 20
        Most evaluations of a line search.
    gtol, ftol : float, default 1e-5 and 2.2e-9
        A step ends early where no component of the gradient is greater than `gtol`, or the relative change of the
        loss in an iteration at most `ftol`; with 0, where it does not change at all.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range. Nothing was changed.

    References
    ----------
    .. [1] D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
       Mathematical Programming 45 (1989), 503-528.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> params = {"a": np.array([5.0, -3.0]), "b": np.array(2.0)}
    >>> def loss_and_grads(p):
    ...     loss = 3 * np.sum(p["a"] ** 2) + (p["b"] - 1) ** 2
    ...     return loss, {"a": 6 * p["a"], "b": 2 * (p["b"] - 1)}
    >>> opt = gs.LBFGS(params)
    >>> loss = opt.step(loss_and_grads)
    >>> opt.converged, bool(loss < 1e-6), round(float(params["b"]), 4)
    (True, True, 1.0)
    """

    _kernel = "lbfgs"

    def __init__(
        self,
        params: Container,
        *,
        maxiter: int = 20,
        maxcor: int = 10,
        maxls: int = 20,
        gtol: float = 1e-5,
        ftol: float = 1e7 * sys.float_info.epsilon,
    ) -> None:
        super().__init__()
        self.maxiter = COUNT("maxiter", maxiter)
        self.maxcor, self.maxls = lbfgs.count("maxcor", "maxcor", maxcor), lbfgs.count("maxls", "maxls", maxls)
        self.gtol, self.ftol = check_float("gtol", NON_NEGATIVE, gtol), check_float("ftol", NON_NEGATIVE, ftol)
        self._forest = Forest([params], False)
        labels = self._forest.labels
        backend, self._arrays = checked(self._forest.arrays([params]), labels)
        refuse_overlap(self._arrays, [f"params{label}" for label in labels], "")
        self._params = params
        dtype = self._common_dtype()
        self._reals = [a.size * (2 if a.dtype.kind == "c" else 1) for a in self._arrays]
        space = Space(backend, device_of(self._arrays), dtype, (sum(self._reals),))
        self._space = space
        self._x, self._trial, self._told, self._gradient = (space.vector() for _ in range(4))
        self._rows = space.rows(2 * (self.maxcor + 1))
        zeros = np.zeros(space.n, dtype)
        for row in self._rows:  # what checkpoints hold of pairs that are not there yet
            space.from_host(row, zeros)
        self.native = backend.Lbfgs(self._x, self._trial, self._gradient, self._rows, self.maxcor, self.maxls)
        self._gather_x, self._gather_trial, self._gather_told = (
            self._copier(self._parts(vector), what)
            for vector, what in ((self._x, "params"), (self._trial, "params"), (self._told, "grads"))
        )
        self._scatter = self._copier(self._arrays, "trial")
        self.nfev, self._steps, self._last = 0, 0, (math.nan, False, "")
        self._loss_and_grads: Callable[[Container], tuple[Any, Container]] | None = None

    def step(self, loss_and_grads: Callable[[Container], tuple[Any, Container]]) -> float:
        """Make up to `maxiter` iterations on one function.

        Parameters
        ----------
        loss_and_grads : callable
            ``loss_and_grads(params)`` returns the loss and the gradients, in a container as `params`, with the
            parameters as they are then: they hold each point that is tried. A gradient of None is one of zeros. It is
            called at least once.

        Returns
        -------
        float
            The loss where the parameters were left.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If what it returns is not of the right type or shape, or if it calls `step`. Whatever it raises, the
            parameters are left at the last point that an iteration ended at.
        """
        if not callable(loss_and_grads):
            raise TypeError(f"loss_and_grads: expected a callable, got {type(loss_and_grads).__name__}")
        with self._lock:
            self._refuse_within()
            checked(self._arrays, self._forest.labels)  # none may have become read-only
            self._gather_x.step(self._arrays)
            self._gather_trial.step(self._arrays)
            self._loss_and_grads = loss_and_grads
            search = Search(self, Callback(None), gtol=self.gtol, ftol=self.ftol, maxiter=self.maxiter, what="the loss")
            try:
                lbfgs.run(self, search, lambda: self._x)
            finally:
                self.native.settle()
                self._scatter.step(self._parts(self._x))
                self._steps += search.nit
                self._loss_and_grads = None
                self._last = search.f, search.status == 0, search.message
            return search.f

    def evaluate(self) -> tuple[Any, Array]:
        """Evaluate at the trial; for the native method.

        Returns
        -------
        tuple
            The loss, and the gradients as one vector.
        """
        self._scatter.step(self._parts(self._trial))
        self.nfev += 1
        assert self._loss_and_grads is not None
        found, grads = pair(self._loss_and_grads(self._params), "loss_and_grads")
        loss = number(found, self._space, "loss_and_grads")
        told = self._forest.flatten(grads, "grads")
        if any(g is None for g in told):
            self._space.from_host(self._told, np.zeros(self._space.n))
        self._gather_told.step(told)
        return loss, self._told

    @property
    def steps(self) -> int:
        """Number of iterations made."""
        return self._steps

    @property
    def loss(self) -> float:
        """The loss where the last step ended; NaN before any."""
        return self._last[0]

    @property
    def converged(self) -> bool:
        """Whether the last step ended because the loss has converged."""
        return self._last[1]

    @property
    def message(self) -> str:
        """Why the last step ended."""
        return self._last[2]

    def __repr__(self) -> str:
        return f"LBFGS({len(self._arrays)} arrays, maxiter={self.maxiter!r}, maxcor={self.maxcor!r})"

    def _refuse_within(self) -> None:
        if self._loss_and_grads is not None:
            raise RuntimeError("LBFGS: expected to be left alone within its own loss_and_grads")

    def _common_dtype(self) -> np.dtype[Any]:
        doubles = {a.dtype.name in ("float64", "complex128") for a in self._arrays}
        if len(doubles) > 1:
            raise TypeError("params: expected all of them in double precision, or none")
        return np.dtype(np.float64 if doubles.pop() else np.float32)

    def _parts(self, vector: Array) -> tuple[Array, ...]:
        """Return views of a vector, or of rows of vectors, one in the shape of each parameter."""
        parts, at = [], 0
        for a, n in zip(self._arrays, self._reals, strict=True):
            part = vector[..., at : at + n]
            if a.dtype.kind == "c":
                part = part.view(np.dtype(f"c{2 * self._space.dtype.itemsize}"))
            parts.append(part.reshape((*vector.shape[:-1], *a.shape)))
            at += n
        return tuple(parts)

    def _memory(self) -> dict[str, tuple[Array, ...]]:
        slots = self.maxcor + 1
        return {"directions": self._parts(self._rows[:slots]), "changes": self._parts(self._rows[slots:])}

    def _copier(self, targets: tuple[Array, ...], source: str) -> Any:
        return copy_plan(self._space.backend, targets, self._forest.labels, source)

    def _facts(self) -> dict[str, Any]:
        pairs, lengths, sy, yy, first = self.native.history
        history = {"pairs": pairs, "lengths": lengths, "sy": sy, "yy": yy, "first": first}
        return {"steps": self._steps, "history": history}

    def _restore(self, facts: Mapping[str, Any], state: Mapping[str, tuple[Array | None, ...]]) -> None:
        self._refuse_within()
        mine, memory = self._facts()["history"], self._memory()
        steps = count("steps", facts.get("steps"))
        check_state(memory, state, self._forest.labels, [1] * len(self._arrays))
        history = facts.get("history")
        if not isinstance(history, Mapping) or set(history) != set(mine):
            raise ValueError(f"history: expected {', '.join(mine)}, got {history!r:.200}")
        try:
            if not isinstance(history["first"], bool):
                raise ValueError(f"first: expected a bool, got {history['first']!r}")
            self.native.history = tuple(history[name] for name in mine)
        except ValueError as error:
            raise ValueError(f"history: {error}") from None
        except TypeError:
            raise ValueError("history: expected lists of numbers") from None
        slots, n = self.maxcor + 1, self._space.n
        values = np.empty((2, slots, n), self._space.dtype)
        for side, name in zip(values, memory, strict=True):
            for part, there in zip(self._parts(side), state[name], strict=True):
                part[...] = on_host(there)
        for row, value in zip(self._rows, values.reshape(2 * slots, n), strict=True):
            self._space.from_host(row, value)
        self._steps = steps
