"""The choice of hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradstep.containers import Container, kind_of
from gradstep.data.batches import Minibatches
from gradstep.feed import Passes, Positioned, feed_of
from gradstep.hyperparameters import FRACTION, Range, check_float, check_whole
from gradstep.optimizer import Optimizer
from gradstep.schedules import POSITIVE
from gradstep.snapshot import Snapshot, optimizer_on
from gradstep.solve.objective import pair, plain

__all__ = ["LRRange", "lr_range_test"]

ABOVE_ONE: Range = (lambda x: x > 1, "a number above 1")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LRRange:
    """What a range test found.

    Parameters
    ----------
    lrs, losses, smoothed : array
        Of each step: the learning rate, the loss before the step, and the smoothed loss.
    diverged : bool
        Whether the test ended before the greatest learning rate.
    suggestion : float or None
        A learning rate to begin with; None where the loss never fell.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([10.0])
    >>> found = gs.tune.lr_range_test(lambda x: (x[0] ** 2, 2 * x), x, [()], "gradient_descent", steps=50)
    >>> found.lrs.shape == found.losses.shape, found.diverged
    (True, True)
    """

    lrs: Floats = field(repr=False)
    losses: Floats = field(repr=False)
    smoothed: Floats = field(repr=False)
    diverged: bool
    suggestion: float | None


def lr_range_test(
    loss_and_grads: Callable[..., tuple[Any, Container]],
    params: Container,
    data: Iterable[Any],
    optimizer: Optimizer | type[Optimizer] | str,
    *,
    lr_min: float = 1e-6,
    lr_max: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    divergence: float = 4.0,
) -> LRRange:
    r"""Try learning rates from small to large, one a step, and watch the loss.

    Step :math:`i` of :math:`n` is made with

    .. math:: \eta_i = \eta_\text{min} \left(\frac{\eta_\text{max}}{\eta_\text{min}}\right)^{i / (n - 1)}

    in every group, and the losses :math:`\ell_i` before the steps are smoothed exponentially, without bias:

    .. math:: s_i = s_{i-1} + \frac{1 - \beta}{1 - \beta^{i+1}} (\ell_i - s_{i-1})

    The test ends early where :math:`s_i` is above :math:`b + (d - 1) |b|`, which is :math:`d b` for the positive
    lowest value :math:`b` so far, or not finite.

    Parameters
    ----------
    loss_and_grads : callable
        ``loss_and_grads(params, *batch)`` returns the loss, and the gradients in a container as `params`.
    params : container of arrays
        What `optimizer` was made with.
    data : Minibatches, or list of batches
        As for `gradstep.fit`; if it ends it is gone through again.
    optimizer : Optimizer, class or str
        As for `gradstep.fit`.
    lr_min, lr_max : float, default 1e-6 and 10.0
        Where the sweep begins and ends.
    steps : int, default 100
        Number of learning rates :math:`n`.
    smoothing : float, default 0.9
        :math:`\beta`, from 0 (none) to less than 1.
    divergence : float, default 4.0
        :math:`d`.

    Returns
    -------
    LRRange
        The course, for `gradstep.plot.lr_range`, and a suggestion.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or `loss_and_grads` does not return what it should.

    Notes
    -----
    The parameters, the optimizer's state, counts and hyperparameters, schedules too, and the position in Minibatches
    are left as they were, however the test ends: also by what `loss_and_grads` raises, or by Ctrl-C.

    The suggestion is a tenth of the learning rate with the lowest smoothed loss: where the loss still falls well,
    an order of magnitude below where it ceases to. The test is Smith's [1]_, who reads that place off the picture;
    the tenth is a rule of thumb. Choose `lr_min` so small that nothing happens yet.

    References
    ----------
    .. [1] L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, -2.0]
    >>> def loss_and_grads(w, X, y):
    ...     error = X @ w - y
    ...     return np.mean(error**2), 2 * X.T @ error / len(X)
    >>> w = np.zeros(2)
    >>> found = gs.tune.lr_range_test(loss_and_grads, w, [(X, y)], gs.SGD(w), lr_min=1e-4)
    >>> 0.01 < found.suggestion < 1, w
    (True, array([0., 0.]))
    """
    if not callable(loss_and_grads):
        raise TypeError(f"loss_and_grads: expected a callable, got {kind_of(loss_and_grads)}")
    lr_min, lr_max = POSITIVE("lr_min", lr_min), POSITIVE("lr_max", lr_max)
    if lr_max <= lr_min:
        raise ValueError(f"lr_max: expected more than lr_min={lr_min!r}, got {lr_max!r}")
    lrs = np.geomspace(lr_min, lr_max, check_whole("steps", steps, 2))
    smoothing = check_float("smoothing", FRACTION, smoothing)
    divergence = check_float("divergence", ABOVE_ONE, divergence)
    optimizer = optimizer_on(params, optimizer)
    feed = feed_of(data, None if isinstance(data, Minibatches) else 1)
    if not feed.left:
        raise ValueError("data: expected batches, got none that are left")
    course = _Course(smoothing, divergence)
    with _left_alone(optimizer, feed):
        for lr, batch in zip(lrs.tolist(), _endless(feed), strict=False):
            found, grads = pair(loss_and_grads(params, *batch), "loss_and_grads")
            if course.diverges(plain(found, "loss_and_grads")):
                break
            optimizer.lr = lr
            optimizer.step(grads)
    return course.result(lrs)


class _Course:
    """The losses so far, raw and smoothed, and the lowest."""

    def __init__(self, smoothing: float, divergence: float) -> None:
        self.smoothing, self.divergence = smoothing, divergence
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.lowest, self.diverged = math.inf, False

    def diverges(self, loss: float) -> bool:
        """Note a loss; return whether it is the last."""
        self.losses.append(loss)
        before = self.smoothed[-1] if self.smoothed else loss
        smooth = before + (1 - self.smoothing) / (1 - self.smoothing ** len(self.losses)) * (loss - before)
        self.smoothed.append(smooth)
        self.lowest = min(self.lowest, smooth)
        limit = self.lowest + (self.divergence - 1) * abs(self.lowest)
        self.diverged = not math.isfinite(smooth) or smooth > limit
        return self.diverged

    def result(self, lrs: Floats) -> LRRange:
        """Return what was found."""
        smoothed = np.array(self.smoothed)
        finite = np.where(np.isfinite(smoothed), smoothed, math.inf)
        at = int(finite.argmin())
        suggestion = float(lrs[at]) / 10 if finite[at] < finite[0] else None
        return LRRange(lrs[: smoothed.size].copy(), np.array(self.losses), smoothed, self.diverged, suggestion)


@contextmanager
def _left_alone(optimizer: Optimizer, feed: Passes | Positioned) -> Iterator[None]:
    """Let steps be made with other learning rates, and leave no trace of them."""
    snapshot, lr_array = Snapshot(optimizer, feed), optimizer.lr_array
    hypers = tuple((group, dict(group)) for group in optimizer.groups)
    before = snapshot.take()

    def put_back() -> None:
        optimizer._set(hypers)
        optimizer.lr_array = lr_array
        snapshot.put_back(*before)

    try:
        optimizer.lr_array = None  # it would be read in the place of `lr`
        yield
    finally:
        try:
            put_back()
        except KeyboardInterrupt:
            put_back()
            raise


def _endless(feed: Passes | Positioned) -> Iterator[tuple[Any, ...]]:
    begin = feed.state_dict()
    while True:
        while feed.left:
            yield feed.take()
            feed.advance()
        feed.load_state_dict(begin)
