"""The plain training loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradstep.averages import EMA
from gradstep.containers import Container, is_sequence, kind_of
from gradstep.feed import feed_of
from gradstep.hyperparameters import LIMIT, NON_NEGATIVE, check_choice, check_flag, check_float, check_whole
from gradstep.loss_scaler import LossScaler
from gradstep.optimizer import PROPAGATE, Optimizer
from gradstep.progress import bar
from gradstep.snapshot import History, Snapshot, loss_plateaus_of, optimizer_on
from gradstep.solve.objective import pair, plain
from gradstep.states import restore_all, to_host

__all__ = ["FitResult", "FitStep", "History", "fit"]


@dataclass(frozen=True, eq=False)
class FitStep:
    """What callbacks of `gradstep.fit` are told after each step.

    Parameters
    ----------
    epoch, step : int
        Numbers of the epoch and of the step, from 0: ``history.loss[step]`` is `loss`.
    loss, lr : float
        The loss before the step, and the learning rate of it.
    epoch_ended : bool
        Whether it was the last step of its epoch; then ``history.epoch_loss[epoch]`` is there.
    params : container of arrays
        As given to `fit`.
    optimizer : Optimizer
        What makes the steps.
    history : History
        The course up to here; it goes on.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> def show(step):
    ...     if step.epoch_ended:
    ...         print(step.epoch, step.step, step.loss, step.lr)
    >>> w = np.array([4.0])
    >>> result = gs.fit(lambda w: (w[0] ** 2, 2 * w), w, [()], gs.SGD(w, lr=0.25), epochs=2, callbacks=[show])
    0 0 16.0 0.25
    1 1 4.0 0.25
    """

    epoch: int
    step: int
    loss: float
    lr: float
    epoch_ended: bool
    params: Container = field(repr=False)
    optimizer: Optimizer = field(repr=False)
    history: History = field(repr=False)


@dataclass(frozen=True, eq=False)
class FitResult:
    """How training went.

    Parameters
    ----------
    success : bool
        False if the loss was not finite, or `validate` returned NaN.
    converged : bool
        Whether it ended by `gtol` or `patience`.
    message : str
        Why it ended.
    best_epoch : int or None
        The epoch, from 0, with the lowest monitored value; None if there was none.
    params : container of arrays
        As given to `fit`.
    optimizer : Optimizer
        What made the steps.
    history : History
        The course.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = np.array([4.0])
    >>> result = gs.fit(lambda w: (w[0] ** 2, 2 * w), w, [()], gs.SGD(w, lr=0.25), epochs=3)
    >>> result
    FitResult(success=True, converged=False, message='The data were gone through, epochs=3', best_epoch=2)
    >>> result.epochs, result.steps
    (3, 3)
    """

    success: bool
    converged: bool
    message: str
    best_epoch: int | None
    params: Container = field(repr=False)
    optimizer: Optimizer = field(repr=False)
    history: History = field(repr=False)

    @property
    def epochs(self) -> int:
        """Number of epochs that were completed."""
        return len(self.history.epoch_loss)

    @property
    def steps(self) -> int:
        """Number of steps made."""
        return len(self.history.loss)


def fit(
    loss_and_grads: Callable[..., tuple[Any, Container]],
    params: Container,
    data: Iterable[Any],
    optimizer: Optimizer | type[Optimizer] | str,
    *,
    epochs: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    nonfinite: str = PROPAGATE,
    zero_grads: bool = False,
    average: EMA | None = None,
    health: bool = False,
    scaler: LossScaler | None = None,
    validate: Callable[[Container], Any] | None = None,
    tol: float = 0.0,
    patience: int | None = None,
    restore_best: bool = False,
    gtol: float | None = None,
    callbacks: Iterable[Callable[[FitStep], object]] = (),
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
) -> FitResult:
    r"""Train: a step of the optimizer for each batch, epoch by epoch, until one of the ends below.

    Schedules live in the optimizer. After each epoch a value is monitored, the smaller the better: what `validate`
    returns, or without it the mean loss :math:`\frac{1}{n} \sum_i \ell_i` of the epoch's steps. Every
    `ReduceOnPlateau` among the optimizer's hyperparameters is told it.

    Parameters
    ----------
    loss_and_grads : callable
        ``loss_and_grads(params, *batch)`` returns the loss, and the gradients in a container as `params`.
    params : container of arrays
        What `optimizer` was made with; updated in place.
    data : Minibatches, or list of batches
        `gradstep.data.minibatches`, which bring their epochs and their order; or any collection of batches that can
        be gone through again. A batch is a tuple of arguments, or one array.
    optimizer : Optimizer, class or str
        One made with `params`; or such as ``gs.AdamW`` or ``"adamw"``, to be made with its defaults.
    epochs : int, optional
        Passes over `data`, where that does not bring its own.
    clip_norm, clip_value, nonfinite, zero_grads, average, health : optional
        As for ``optimizer.step``; callbacks find ``step.optimizer.health``.
    scaler : LossScaler, optional
        ``loss_and_grads(params, *batch, scale=...)`` then returns the loss as it is, and the gradients of the loss
        multiplied by `scale`. Steps whose gradients overflow are skipped.
    validate : callable, optional
        ``validate(params)`` returns the value to monitor, such as the loss on held-out data; of the averages within
        ``average.swapped()``.
    tol : float, default 0.0
        A value is better only if it is lower than the best by more than that.
    patience : int, optional
        Training ends after that many epochs in a row that were no better.
    restore_best : bool, default False
        Leave the parameters of the best epoch, not the last, once training has ended, however it did.
    gtol : float, optional
        Training ends after a step whose gradients, of one batch, had a global norm of at most that.
    callbacks : sequence of callables
        Each is called with a `FitStep` after each step; ``StopIteration`` ends training.
    progress : bool, optional
        Show a progress bar: by default on terminals only, if True wherever rich finds it can, if False never.
        Without the package rich there is none.
    checkpoint : path-like, optional
        A file that holds all that training changes. If it is there, training goes on from it, to the same bits and
        the same history as if it had never stopped; so call `fit` with the same arguments. Batches of a list are
        counted, so they have to come in the same order each time.
    checkpoint_every : int, optional
        Write it after every so many steps, besides at the end.

    Returns
    -------
    FitResult
        Why training ended, and its course, for `gradstep.plot.history`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or if the file is damaged or of other training; nothing
        was changed. Or if `loss_and_grads` or `validate` do not return what they should.
    FloatingPointError
        If `nonfinite` is "raise" and a gradient is not finite.
    OSError
        If the file cannot be read or written.

    Notes
    -----
    A loss that is not finite ends training, after the step that `nonfinite` allows. What a callback or
    `loss_and_grads` raises, and Ctrl-C, come through, with the parameters as the last step left them, the file as
    it was last written, and Minibatches before the batch whose step was not made.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, -2.0]
    >>> def loss_and_grads(params, X, y):
    ...     error = X @ params["w"] - y
    ...     return np.mean(error**2), {"w": 2 * X.T @ error / len(X)}
    >>> params = {"w": np.zeros(2)}
    >>> batches = [(X[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50)]
    >>> result = gs.fit(loss_and_grads, params, batches, gs.SGD(params, lr=0.1), epochs=100, gtol=1e-6)
    >>> result.converged, result.epochs < 100, params["w"].round(3)
    (True, True, array([ 1., -2.]))
    """
    _refuse_others(loss_and_grads=loss_and_grads, validate=validate, average=average, scaler=scaler)
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value), ("gtol", gtol)):
        if limit is not None:
            check_float(name, LIMIT, limit)
    for name, number in (("patience", patience), ("checkpoint_every", checkpoint_every)):
        if number is not None:
            check_whole(name, number, 1)
    if check_choice("nonfinite", nonfinite, ("propagate", "skip", "raise")) != PROPAGATE and scaler is not None:
        raise ValueError(f'nonfinite: expected "propagate" with a scaler, which skips, got {nonfinite!r}')
    if progress is not None:
        check_flag("progress", progress)
    optimizer = optimizer_on(params, optimizer)
    if average is not None:
        average._joins(optimizer._arrays)
    snapshot = Snapshot(optimizer, feed_of(data, epochs), average, scaler)
    loss_plateaus_of(optimizer)
    norm = math.inf if clip_norm is None and gtol is not None else clip_norm
    options: dict[str, Any] = {"clip_norm": norm, "clip_value": clip_value, "average": average}
    for name, flag in (("zero_grads", zero_grads), ("health", health)):
        options[name] = check_flag(name, flag) or None
    if scaler is None and nonfinite != PROPAGATE:
        options["nonfinite"] = nonfinite
    loop = _Loop(
        snapshot,
        loss_and_grads,
        params,
        {name: value for name, value in options.items() if value is not None},
        validate,
        _callables(callbacks),
        check_float("tol", NON_NEGATIVE, tol),
        patience,
        check_flag("restore_best", restore_best),
        gtol,
    )
    path = _path(checkpoint, checkpoint_every)
    if path is not None and path.exists():
        snapshot.load(path)
        loop.recall()
    elif not snapshot.feed.left:
        raise ValueError("data: expected batches, got none that are left")
    return loop.run(path, checkpoint_every, progress)


class _Best:
    """The lowest value so far, and its epoch; none: -1."""

    def __init__(self, tol: float) -> None:
        self.tol, self.value, self.epoch = tol, math.inf, -1

    def beaten(self, value: float, epoch: int) -> bool:
        better = value < self.value - self.tol
        if better:
            self.value, self.epoch = value, epoch
        return better


@dataclass
class _Loop:
    snapshot: Snapshot
    loss_and_grads: Callable[..., tuple[Any, Container]]
    params: Container
    options: Mapping[str, Any]  # of each step of the optimizer
    validate: Callable[[Container], Any] | None
    callbacks: tuple[Callable[[FitStep], object], ...]
    tol: float
    patience: int | None
    restore_best: bool
    gtol: float | None

    def __post_init__(self) -> None:
        self.optimizer, self.history, self.best = self.snapshot.optimizer, self.snapshot.history, _Best(self.tol)

    def recall(self) -> None:
        """Find the best epoch of a history that was read."""
        history = self.history
        for epoch, values in enumerate(zip(history.epoch_loss, history.validation, strict=True)):
            self.best.beaten(values[self.validate is not None], epoch)

    def run(self, path: Path | None, every: int | None, progress: bool | None) -> FitResult:
        feed, stopped = self.snapshot.feed, False
        total = feed.epochs * feed.batches_per_epoch if feed.epochs and feed.batches_per_epoch else None
        with bar(progress, total) as show:
            while (end := self.end(stopped)) is None:
                step = self.step()
                stopped = self.stops(step)
                show(step.step + 1, f"epoch {step.epoch + 1}, loss {step.loss:.4g}")
                if path is not None and every and (step.step + 1) % every == 0:
                    self.snapshot.save(path)
        if path is not None:
            self.snapshot.save(path)
        if self.restore_best and self.snapshot.best:
            restore_all(self.optimizer._arrays, self.snapshot.best)
        best = self.best.epoch if self.best.epoch >= 0 else None
        return FitResult(*end, best, self.params, self.optimizer, self.history)

    def end(self, stopped: bool) -> tuple[bool, bool, str] | None:
        """Return success, convergence and message, or None to go on: all but a stop can be told from the history."""
        history = self.history
        if history.loss and not math.isfinite(history.loss[-1]):
            return False, False, f"The loss of step {len(history.loss) - 1} is not finite: {history.loss[-1]}"
        if self.validate is not None and history.validation and math.isnan(history.validation[-1]):
            return False, False, f"validate returned NaN after epoch {len(history.validation) - 1}"
        if self.gtol is not None and history.grad_norm and history.grad_norm[-1] <= self.gtol:
            return True, True, f"Converged: the norm of the gradients is at most gtol={self.gtol:g}"
        if self.patience is not None and len(history.epoch_loss) - 1 - self.best.epoch >= self.patience:
            return True, True, f"Converged: no better in {self.patience} epochs than in epoch {self.best.epoch}"
        if not self.snapshot.feed.left:
            return True, False, f"The data were gone through, epochs={self.snapshot.feed.epochs}"
        return (True, False, "A callback ended it") if stopped else None

    def step(self) -> FitStep:
        feed, scaler, lr, epoch = self.snapshot.feed, self.snapshot.scaler, self.optimizer.lr, self.snapshot.feed.epoch
        scale = {"scale": scaler.factor} if scaler else {}
        steps, position = self.optimizer.steps, feed.position
        try:
            batch = feed.take()
            found, grads = pair(self.loss_and_grads(self.params, *batch, **scale), "loss_and_grads")
            loss = plain(found, "loss_and_grads")
            if scaler:
                scaler.step(self.optimizer, grads, **self.options)
            else:
                self.optimizer.step(grads, **self.options)
        except BaseException:  # Ctrl-C too
            if self.optimizer.steps == steps:
                feed.give_back(position)
            raise
        self.history.loss.append(loss)
        self.history.lr.append(lr)
        norm = self.optimizer.grad_norm if "clip_norm" in self.options else None
        self.history.grad_norm.append(math.nan if norm is None else norm)
        ended = feed.advance() and math.isfinite(loss)
        if ended:
            self.end_epoch()
        step = len(self.history.loss) - 1
        return FitStep(epoch, step, loss, lr, ended, self.params, self.optimizer, self.history)

    def end_epoch(self) -> None:
        history = self.history
        losses = history.loss[history.epoch_end[-1] if history.epoch_end else 0 :]
        mean = sum(losses) / len(losses)
        value = math.nan if self.validate is None else plain(self.validate(self.params), "validate")
        history.epoch_loss.append(mean)
        history.validation.append(value)
        history.epoch_end.append(len(history.loss))
        monitored = mean if self.validate is None else value
        for plateau in self.snapshot.plateaus:
            plateau.report(monitored)
        if self.best.beaten(monitored, len(history.epoch_loss) - 1) and self.restore_best:
            self.snapshot.best = [to_host(a) for a in self.optimizer._arrays]

    def stops(self, step: FitStep) -> bool:
        try:
            for callback in self.callbacks:
                callback(step)
        except StopIteration:
            return True
        return False


def _refuse_others(*, average: Any, scaler: Any, **functions: Any) -> None:
    for name, value, kind in (("average", average, EMA), ("scaler", scaler, LossScaler)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}: expected {kind.__name__} or None, got {kind_of(value)}")
    for name, function in functions.items():
        if not callable(function) and not (name == "validate" and function is None):
            raise TypeError(f"{name}: expected a callable, got {kind_of(function)}")


def _callables(callbacks: Any) -> tuple[Callable[[FitStep], object], ...]:
    if not is_sequence(callbacks):
        raise TypeError(f"callbacks: expected a list of callables, got {kind_of(callbacks)}")
    for i, callback in enumerate(callbacks):
        if not callable(callback):
            raise TypeError(f"callbacks[{i}]: expected a callable, got {kind_of(callback)}")
    return tuple(callbacks)


def _path(checkpoint: Any, every: int | None) -> Path | None:
    if checkpoint is None:
        if every is not None:
            raise ValueError(f"checkpoint_every: expected None without checkpoint, got {every!r}")
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint: expected a path, got {checkpoint!r}")
    path = Path(os.fsdecode(checkpoint))
    if not path.parent.is_dir():  # better now than after the first epoch
        raise FileNotFoundError(f"checkpoint: expected a file in a folder that exists, got {str(checkpoint)!r}")
    return path
