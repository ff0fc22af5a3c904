"""Dynamic loss scaling, for gradients in float16."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from gradstep.containers import Container
from gradstep.hyperparameters import PART, SCALE, Range, check_float, check_whole
from gradstep.optimizer import Optimizer

GROWTH: Range = (lambda x: 1 < x < float("inf"), "a finite number above 1")


class LossScaler:
    r"""Multiplies the loss so that small gradients do not vanish in float16, and adapts the factor.

    A step whose gradients overflow is skipped, and the factor is multiplied by `backoff_factor`; after
    `growth_interval` steps in a row without overflow it is multiplied by `growth_factor`.

    Parameters
    ----------
    init_scale : float, default 65536.0
        The factor to begin with.
    growth_factor : float, default 2.0
        Above 1.
    backoff_factor : float, default 0.5
        Between 0 and 1.
    growth_interval : int, default 2000
        Steps without overflow before the factor grows.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    References
    ----------
    P. Micikevicius et al., "Mixed precision training", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = np.ones(2, np.float16)
    >>> opt, scaler = gs.SGD(w, lr=0.5), gs.LossScaler(init_scale=1024.0)
    >>> scaler.step(opt, np.array([1024.0, 0.5], np.float16))  # gradients of scaler.scale(loss)
    True
    >>> w
    array([0.5, 1. ], dtype=float16)
    >>> scaler.step(opt, np.array([np.inf, 0.0], np.float16)), scaler.factor
    (False, 512.0)
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._factor = check_float("init_scale", SCALE, init_scale)
        self._growth_factor = check_float("growth_factor", GROWTH, growth_factor)
        self._backoff_factor = check_float("backoff_factor", PART, backoff_factor)
        self._growth_interval = check_whole("growth_interval", growth_interval, 1)
        self._good = 0

    @property
    def factor(self) -> float:
        """What the loss is multiplied by now."""
        return self._factor

    def scale(self, loss: Any) -> Any:
        """Multiply a loss, or the gradient that backpropagation begins with, by the factor.

        Parameters
        ----------
        loss : number or array
            It is left as it is.

        Returns
        -------
        number or array
            The product, in the dtype of `loss`; float32 for a single 16-bit number, which could not hold it.

        Raises
        ------
        TypeError
            If it is neither.
        """
        dtype = getattr(loss, "dtype", None)
        if dtype is None and (isinstance(loss, bool) or not isinstance(loss, Real)):
            raise TypeError(f"loss: expected a number or an array, got {type(loss).__name__}")
        if not isinstance(dtype, np.dtype) or dtype.kind in "iub":  # tensors of other packages keep their own
            return loss * self._factor
        if dtype.itemsize > 2:
            return loss * dtype.type(self._factor)
        scaled = loss.astype("float32") * np.float32(self._factor)  # float16 holds no factor above 65504
        return scaled if loss.ndim == 0 else scaled.astype(dtype)

    def step(self, opt: Optimizer, grads: Container, **options: Any) -> bool:
        """Step with the gradients of the scaled loss, or skip the step if one is not finite; adapt the factor.

        Parameters
        ----------
        opt : Optimizer
            The optimizer.
        grads : container of arrays
            As for ``opt.step``.
        **options
            Other arguments of ``opt.step``; `grad_scale` and `nonfinite` are the scaler's.

        Returns
        -------
        bool
            Whether the update was made.

        Raises
        ------
        TypeError, ValueError
            As ``opt.step``; the factor stays as it is then.
        """
        for name in ("grad_scale", "nonfinite"):
            if name in options:
                raise TypeError(f"{name}: is the scaler's to set")
        if not isinstance(opt, Optimizer):
            raise TypeError(f"opt: expected an Optimizer with gradients to scale back, got {type(opt).__name__}")
        skipped = opt.skipped
        opt.step(grads, grad_scale=self._factor, nonfinite="skip", **options)
        applied = opt.skipped == skipped
        self._adapt(applied)
        return applied

    def _adapt(self, applied: bool) -> None:
        if not applied:
            self._factor, self._good = max(self._factor * self._backoff_factor, 2.0**-126), 0
            return
        self._good += 1
        if self._good >= self._growth_interval:
            self._factor, self._good = min(self._factor * self._growth_factor, 2.0**126), 0

    def state_dict(self) -> dict[str, Any]:
        """Return the factor and the number of steps since it last changed.

        Returns
        -------
        dict
            With the keys "factor" and "good".
        """
        return {"factor": self._factor, "good": self._good}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Parameters
        ----------
        saved : mapping
            With the keys "factor" and "good".

        Raises
        ------
        TypeError, ValueError
            If it is nothing of the kind. Nothing was changed.
        """
        if not isinstance(saved, Mapping) or set(saved) != {"factor", "good"}:
            raise ValueError("saved: expected what LossScaler.state_dict() gave")
        factor = check_float("saved['factor']", SCALE, saved["factor"])
        self._factor, self._good = factor, check_whole("saved['good']", saved["good"], 0)

    def __repr__(self) -> str:
        return f"LossScaler(factor={self._factor!r})"
