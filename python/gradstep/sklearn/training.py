"""What the estimators share: reading data, batches, epochs, and when training ends."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_non_negative, validate_data

from gradstep.containers import shown
from gradstep.footprint import NAMED
from gradstep.hyperparameters import PART, check, check_flag, check_float
from gradstep.optimizer import Optimizer
from gradstep.overlap import same_places
from gradstep.schedules import AMOUNT, COUNT, Kind, ReduceOnPlateau, constant, cosine, one_cycle, polynomial
from gradstep.sklearn.network import Floats, Network, forward
from gradstep.snapshot import loss_plateaus_of, plateaus_in
from gradstep.solve.minimize import minimize

WHOLE_BATCH = "l-bfgs"  # the one name that is no rule
WHERE_STALE = "reduce_on_plateau"
LEAST = 1e-6  # the rate at which a plateau ends training after all; scikit-learn's
# What a schedule's name makes of a learning rate and the number of steps of training.
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda lr, steps: constant(lr),
    "cosine": cosine,
    "one_cycle": one_cycle,
    "polynomial": polynomial,
    WHERE_STALE: lambda lr, steps: ReduceOnPlateau(lr, factor=0.2, patience=0),
}

Self = TypeVar("Self", bound="Trained")
Place: TypeAlias = tuple[int, str, int]  # of a plateau: its group, hyperparameter, and number in that
Making: TypeAlias = str | Callable[..., Optimizer]
Scheduling: TypeAlias = str | Callable[..., Callable[[int], float]]


class Data(NamedTuple):
    """Samples, targets in columns, and weights or None."""

    X: Any
    y: Any
    weight: Any

    def total(self) -> float:
        """Return the sum of the weights."""
        return float(len(self.y)) if self.weight is None else float(self.weight.sum())

    def weighed(self) -> Data:
        """Return the samples with weights above 0, so that those of 0 are as if they were not there."""
        if self.weight is None or self.weight.all():
            return self
        kept = np.flatnonzero(self.weight)
        return Data(*(a[kept] for a in self))


def _named(names: Sequence[str], otherwise: str, name: str, value: Any) -> Any:
    words = f"{name}: expected one of {', '.join(map(repr, names))}, or {otherwise}, got {value!r}"
    if not isinstance(value, str) and not callable(value):
        raise TypeError(words)
    if isinstance(value, str) and value not in names:
        raise ValueError(words)
    return value


OPTIMIZER = partial(_named, [*NAMED, WHOLE_BATCH], "a callable params -> Optimizer")
SCHEDULE = partial(_named, [*SCHEDULES], "a callable (lr, steps) -> schedule, or None")


def _called(words: str, function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call a user's function; that it does not take these arguments is told in words."""
    try:
        inspect.signature(function).bind(*args, **settings)
    except ValueError:  # what is compiled may have no signature
        pass
    except TypeError as error:
        raise TypeError(f"{words}: {error}") from error
    return function(*args, **settings)


def _batch_size(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{name}: expected 'auto' or a whole number of at least 1, got {value!r}")
        return value
    return COUNT(name, value)


def _batches(data: Data, size: int, rng: np.random.RandomState | None, order: Any) -> Iterator[Data]:
    """Give the batches of one epoch; those that are shuffled lie in buffers that the next batch overwrites.

    `order`, the rows, is shuffled in place, and so a shuffle of the order of the epoch before.
    """
    if rng is None:
        for i in range(0, len(order), size):
            yield Data(*(None if a is None else a[i : i + size] for a in data))
        return
    rng.shuffle(order)
    buffers = [None if a is None or issparse(a) else np.empty((size, *a.shape[1:]), a.dtype) for a in data]
    for i in range(0, len(order), size):
        rows = order[i : i + size]
        yield Data(*(_gather(a, rows, out) for a, out in zip(data, buffers, strict=True)))


def _gather(array: Any, rows: Any, out: Any) -> Any:
    if out is None:
        return None if array is None else array[rows]
    return np.take(array, rows, axis=0, out=out[: len(rows)], mode="clip")  # "raise" would copy once more


class Memory(NamedTuple):
    """What `partial_fit` goes on from: the state, and of each plateau what it was made as, and where it has come to."""

    state: dict[str, Any]
    plateaus: dict[Place, tuple[Any, dict[str, Any]]]


def _plateaus(optimizer: Optimizer) -> dict[Place, ReduceOnPlateau]:
    return {
        (i, name, k): plateau
        for i, group in enumerate(optimizer.groups)
        for name, value in group.items()
        for k, plateau in enumerate(plateaus_in(value))
    }


def _origin(plateau: ReduceOnPlateau) -> tuple[str, dict[str, Any]]:
    return repr(plateau), plateau.state_dict()


class _Patience:
    """Counts in a row the epochs whose merit, a score or minus a loss, is not above the best one by `tol`."""

    def __init__(self, tol: float, epochs: float) -> None:
        self.best, self.stale, self._tol, self._epochs = -math.inf, 0, tol, epochs

    def better(self, merit: float) -> bool:
        """Take note of a merit, and return whether it is the best."""
        self.stale = 0 if merit >= self.best + self._tol else self.stale + 1  # NaN is stale
        best = merit > self.best
        self.best = merit if best else self.best
        return best

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.stale > self._epochs


class Trained(BaseEstimator):
    """Base of the estimators: a network, trained by an optimizer of this package."""

    _optimizer_name: ClassVar = "optimizer"
    _kinds: ClassVar[dict[str, Kind]] = {
        "lr": lambda name, value: value if value is None else check(name, value),
        "schedule": lambda name, value: value if value is None else SCHEDULE(name, value),
        "batch_size": _batch_size,
        "max_iter": COUNT,
        "shuffle": check_flag,
        "tol": AMOUNT,
        "warm_start": check_flag,
        "verbose": lambda name, value: value if isinstance(value, Integral) else check_flag(name, value),
        "early_stopping": check_flag,
        "validation_fraction": lambda name, value: check_float(name, PART, value),
        "n_iter_no_change": lambda name, value: (
            value if isinstance(value, float) and value == math.inf else COUNT(name, value)
        ),
    }

    def _widths(self, features: int, outputs: int) -> list[int]:
        raise NotImplementedError

    def _start(self, network: Network, rng: np.random.RandomState) -> None:
        """Set the weights, zeros until then, that training begins with."""

    def _weights(self) -> tuple[Sequence[Floats], Sequence[Floats]]:
        """Return the coefficients and intercepts of each layer."""
        raise NotImplementedError

    def _publish(self, network: Network) -> None:
        """Set the attributes that hold them."""
        raise NotImplementedError

    def _decay(self, batch: float, total: float) -> float:
        r"""Return :math:`\lambda` of a batch from the sums of weights, its own and that of all data."""
        raise NotImplementedError

    def _read(self, X: Any, y: Any, first: bool, dtype: Any, classes: Any) -> tuple[Any, Floats]:
        """Return the samples, and their targets in columns."""
        raise NotImplementedError

    def _output(self) -> str:
        raise NotImplementedError

    def _merit(self, raw: Floats, y: Floats, weight: Floats | None) -> float:
        """Return the score of raw outputs against targets."""
        raise NotImplementedError

    def _weigh(self, y: Any, weight: Floats | None, incremental: bool) -> Floats | None:
        return weight

    def _split(self, data: Data, rng: np.random.RandomState, incremental: bool) -> tuple[Data, Data | None]:
        """Return what to train on, and what to score after each epoch."""
        if not self.early_stopping:
            return data, None
        if incremental:
            raise ValueError("early_stopping: expected False for partial_fit, got True")
        parts = train_test_split(
            *(a for a in data if a is not None),
            random_state=rng,
            test_size=self.validation_fraction,
            stratify=data.y if is_classifier(self) and data.y.shape[1] == 1 else None,
        )
        train, held = (Data(*side, *[None] * (data.weight is None)) for side in (parts[::2], parts[1::2]))
        if len(held.y) < 2:
            raise ValueError(
                f"validation_fraction: expected at least 2 samples to hold out, got {len(held.y)} of {len(data.y)}"
            )
        return train, held

    def fit(self: Self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to data.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples: float32 stays float32, anything else becomes float64.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each sample; one of 2 counts as two samples.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data are wrong, or the weights did not stay finite.
        """
        return self._fit(X, y, sample_weight)

    def _fit(self: Self, X: Any, y: Any, sample_weight: Any, *, incremental: bool = False, classes: Any = None) -> Self:
        given = self._check_parameters()
        first = not hasattr(self, "n_iter_") or not (self.warm_start or incremental)
        dtype = [np.float64, np.float32] if first else self._weights()[0][0].dtype
        X, targets = self._read(X, y, first, dtype, classes)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
            check_non_negative(sample_weight, "sample_weight")
        with np.errstate(over="ignore"):
            data = Data(X, targets, self._weigh(targets, sample_weight, incremental))
            total = data.total()
        least = float(np.finfo(X.dtype).tiny)
        if not least <= total < math.inf:
            name = "sample_weight" if getattr(self, "class_weight", None) is None else "sample_weight and class_weight"
            raise ValueError(f"{name}: expected a finite sum of at least {least:.3g}, got {total!r}")
        data = data.weighed()
        rng = check_random_state(self.random_state)
        network = self._network(data, first, rng)
        if first:
            self.t_ = 0
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self._memory: Memory | None = None
        with np.errstate(over="ignore", invalid="ignore"):  # told by the error below
            if given == WHOLE_BATCH:
                self._memory = None
                epochs = self._minimize(network, data)
            else:
                epochs = self._train(network, data, rng, incremental)
        if not np.isfinite(network.vector).all():
            raise ValueError("X, y: the weights did not stay finite; scale both, lower lr or set clip_norm")
        self.n_iter_: Any = epochs
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else math.nan
        self.best_loss_ = min(self.loss_curve_, default=None) if self.validation_scores_ is None else None
        self._publish(network)
        return self

    def _check_parameters(self) -> Any:
        for name, kind in self._kinds.items():
            kind(name, getattr(self, name))
        return OPTIMIZER(self._optimizer_name, getattr(self, self._optimizer_name))

    def _network(self, data: Data, first: bool, rng: np.random.RandomState) -> Network:
        widths = self._widths(data.X.shape[1], data.y.shape[1])
        network = Network(
            widths,
            getattr(self, "activation", "identity"),
            self._output(),
            data.X.dtype,
            getattr(self, "fit_intercept", True),
        )
        if first:
            self._start(network, rng)
            return network
        kept = (network.coefs, network.intercepts) if getattr(self, "fit_intercept", True) else (network.coefs,)
        for mine, known in zip(kept, self._weights(), strict=False):
            if [a.shape for a in mine] != [a.shape for a in known]:
                coefs, intercepts = self._weights()
                before = [*map(len, coefs), len(intercepts[-1])]
                name = "hidden_layer_sizes" if widths[1:-1] != before[1:-1] else "y"
                raise ValueError(f"{name}: expected layers of {before}, as fitted before, got {widths}")
            for a, b in zip(mine, known, strict=True):
                a[...] = b
        return network

    def _minimize(self, network: Network, data: Data) -> int:
        total = data.total()
        decay = self._decay(total, total)
        network.told = 1.0

        def loss_and_gradient(vector: Floats) -> tuple[float, Floats]:
            network.vector[...] = vector
            return network.loss_and_grads(*data, total, decay), network.gradient

        options = {
            "maxiter": self.max_iter,
            "gtol": self.tol,
            "ftol": 64 * sys.float_info.epsilon,
            "maxfun": sys.maxsize,
            "maxls": 50,
            "history": True,
            "disp": bool(self.verbose),
        }
        found = minimize(loss_and_gradient, network.vector, jac=True, options=options)
        network.vector[...] = found.x
        if not found.success:
            warnings.warn(f"{WHOLE_BATCH}: {found.message}", ConvergenceWarning, stacklevel=4)
        self.loss_curve_ += found.history["fun"].tolist()
        self.t_ += len(data.y) * found.nit
        return int(found.nit)

    def _train(self, network: Network, data: Data, rng: np.random.RandomState, incremental: bool) -> int:
        data, held = self._split(data, rng, incremental)
        optimizer, rate = self._make_optimizer(network, len(data.y))
        origins = {place: _origin(plateau) for place, plateau in _plateaus(optimizer).items()}
        if incremental and self._memory:
            self._recall(self._memory, optimizer)
        falling = rate if self.schedule == WHERE_STALE else None
        plateaus = [plateau for plateau in loss_plateaus_of(optimizer) if plateau is not falling]
        patience = _Patience(self.tol, self.n_iter_no_change)
        order, best, epoch = np.arange(len(data.y)), None, 0
        try:
            while epoch < (1 if incremental else self.max_iter) and not patience.over:
                epoch += 1
                loss = self._epoch(network, optimizer, data, rng, order)
                score = None if held is None else self._validate(network, held)
                self._note(epoch, len(order), loss, score)
                for plateau in plateaus:
                    plateau.report(loss)
                if patience.better(-loss if score is None else score) and held is not None:
                    best = network.vector.copy()
                if patience.over and falling is not None and falling(0) > LEAST:
                    falling.report(math.inf)
                    patience.stale = 0
            if not (incremental or patience.over):
                words = f"max_iter={self.max_iter} epochs were made, and training has not converged"
                warnings.warn(words, ConvergenceWarning, stacklevel=4)
        except KeyboardInterrupt:
            warnings.warn(f"training was interrupted in epoch {epoch}", stacklevel=4)
        if best is not None:
            network.vector[...] = best
        self.best_validation_score_ = None if held is None else patience.best
        if np.isfinite(network.vector).all():  # else the calls to come go on from before
            told = {place: (origins[place], one.state_dict()) for place, one in _plateaus(optimizer).items()}
            self._memory = Memory(optimizer.state_dict(), told)
        return epoch

    def _epoch(
        self, network: Network, optimizer: Optimizer, data: Data, rng: np.random.RandomState, order: Any
    ) -> float:
        """Train on each batch once, and return the mean of the losses."""
        size = self._batch(len(order))
        total = data.total()
        clip = {} if self.clip_norm is None else {"clip_norm": self.clip_norm}
        loss = 0.0
        for batch in _batches(data, size, rng if self.shuffle else None, order):
            share = batch.total()
            loss += share * network.loss_and_grads(*batch, share, self._decay(share, total))
            optimizer.step(network.param_grads, **clip)
        return loss / total

    def _batch(self, samples: int) -> int:
        return min(200 if isinstance(self.batch_size, str) else int(self.batch_size), samples)

    def _validate(self, network: Network, held: Data) -> float:
        score = self._merit(self._run(held.X, network.coefs, network.intercepts), held.y, held.weight)
        self.validation_scores_ = [*(self.validation_scores_ or []), score]
        return score

    def _note(self, epoch: int, samples: int, loss: float, score: float | None) -> None:
        self.loss_curve_.append(loss)
        self.t_ += samples
        if self.verbose:
            print(f"epoch {epoch}: loss {loss:.8f}" + ("" if score is None else f", score {score:.6f}"))

    def _make_optimizer(self, network: Network, samples: int) -> tuple[Optimizer, Any]:
        """Return the optimizer, and its rate where `lr` or `schedule` say it."""
        given = getattr(self, self._optimizer_name)
        make = NAMED[given] if isinstance(given, str) else given
        rate = self.lr if self.schedule is None else self._scheduled(make, network, samples)
        found = self._made(make, network, **({} if rate is None else {"lr": rate}))
        ours = rate if isinstance(self.schedule, str) else None  # others may be the user's
        held = [
            {name: value for name, value in group.items() if value is not ours and plateaus_in(value)}
            for group in found.groups
        ]
        if any(held):  # what plateaus are told is not to be seen outside
            copies = zip(found.groups, deepcopy(held), strict=True)
            found._set(tuple((group, {**group, **copied}) for group, copied in copies))
        return found, rate

    def _recall(self, memory: Memory, optimizer: Optimizer) -> None:
        """Let an optimizer go on from where the one of the call before was, with hyperparameters as they are now."""
        fresh = optimizer.state_dict()
        if (fresh["rule"], fresh["params"]) == (memory.state["rule"], memory.state["params"]):
            optimizer.load_state_dict({**memory.state, "groups": fresh["groups"]})
        for place, plateau in _plateaus(optimizer).items():
            origin, told = memory.plateaus.get(place, (None, {}))
            if origin == _origin(plateau):
                plateau.load_state_dict(told)

    def _made(self, make: Callable[..., Any], network: Network, **settings: Any) -> Optimizer:
        name = self._optimizer_name
        words = f"{name}: expected a callable ({', '.join(['params', *settings])}) -> Optimizer, got {make!r}"
        found = _called(words, make, network.params, **settings)
        if not isinstance(found, Optimizer):
            raise TypeError(f"{words}, which returned {shown(found)}")
        try:
            arrays = found._forest.flatten(network.params, "params")
        except (TypeError, ValueError):  # of groups, or of another container
            arrays = ()
        single = any(a is network.params for a in arrays)  # of one array, which takes anything for that
        if single or not same_places(arrays, found._arrays):
            raise ValueError(f"{name}: expected an Optimizer of the list of arrays that it is given, got {found!r}")
        return found

    def _scheduled(self, make: Callable[..., Any], network: Network, samples: int) -> Any:
        """Return the schedule of `lr` over all epochs."""
        given, steps = self.schedule, int(self.max_iter) * -(-samples // self._batch(samples))
        lr = self._made(make, network).groups[0]["lr"] if self.lr is None else self.lr
        if callable(lr):
            raise ValueError(f"schedule: expected None where lr is a schedule, {lr!r}, got {given!r}")
        if isinstance(given, str):
            return SCHEDULES[given](lr, steps)
        words = f"schedule: expected a callable (lr, steps) -> schedule, got {given!r}"
        found = _called(words, given, lr, steps=steps)
        if not callable(found):
            raise TypeError(f"{words}, which returned {found!r}")
        return found

    def _raw(self, X: Any) -> Floats:
        check_is_fitted(self, "n_iter_")
        coefs, intercepts = self._weights()
        X = validate_data(self, X, accept_sparse="csr", dtype=coefs[0].dtype, reset=False)
        return self._run(X, coefs, intercepts)

    def _columns(self, X: Any) -> Floats:
        """Return the raw outputs, a single one without its axis."""
        raw = self._raw(X)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def _run(self, X: Any, coefs: Sequence[Floats], intercepts: Sequence[Floats]) -> Floats:
        layers = (np.empty((X.shape[0], len(b)), b.dtype) for b in intercepts)
        return forward(X, coefs, intercepts, getattr(self, "activation", "identity"), layers)

    def _first_order(self) -> bool:
        given = getattr(self, self._optimizer_name)
        if given == WHOLE_BATCH:
            raise AttributeError(f"partial_fit: {self._optimizer_name}={given!r} takes all data at once")
        if self.schedule is not None:
            raise AttributeError(
                f"partial_fit: schedule={self.schedule!r} is one of all epochs of fit; lr may have one"
            )
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
