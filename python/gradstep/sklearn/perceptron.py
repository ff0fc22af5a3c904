"""Multi-layer perceptrons, to classify and for regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d, validate_data

from gradstep.hyperparameters import Float, check_choice
from gradstep.schedules import AMOUNT, COUNT, Kind
from gradstep.sklearn.classifier import Classifier
from gradstep.sklearn.network import ACTIVATIONS, Floats, Network
from gradstep.sklearn.training import Making, Scheduling, Self, Trained


def _hidden(name: str, value: Any) -> list[int]:
    sizes = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return [COUNT(name, size) for size in sizes]


class Perceptron(Trained):
    """Base of the perceptrons: what they have before their outputs."""

    _kinds: ClassVar[dict[str, Kind]] = {
        **Trained._kinds,
        "hidden_layer_sizes": _hidden,
        "activation": lambda name, value: check_choice(name, value, list(ACTIVATIONS)),
        "alpha": AMOUNT,
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        optimizer: Making = "adam",
        lr: Float | None = None,
        schedule: Scheduling | None = None,
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        clip_norm: float | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.clip_norm = clip_norm

    def _widths(self, features: int, outputs: int) -> list[int]:
        return [features, *_hidden("hidden_layer_sizes", self.hidden_layer_sizes), outputs]

    def _start(self, network: Network, rng: np.random.RandomState) -> None:
        factor = 2.0 if self.activation == "logistic" else 6.0  # Glorot and Bengio, AISTATS 2010
        for coef, intercept in zip(network.coefs, network.intercepts, strict=True):
            bound = np.sqrt(factor / sum(coef.shape))
            coef[...] = rng.uniform(-bound, bound, coef.shape)
            intercept[...] = rng.uniform(-bound, bound, intercept.shape)

    def _weights(self) -> tuple[Sequence[Floats], Sequence[Floats]]:
        return self.coefs_, self.intercepts_

    def _publish(self, network: Network) -> None:
        self.coefs_, self.intercepts_ = network.coefs, network.intercepts
        self.n_layers_, self.n_outputs_ = len(network.coefs) + 1, network.coefs[-1].shape[1]
        self.out_activation_ = self._output()

    def _decay(self, batch: float, total: float) -> float:
        return float(self.alpha) / batch


class MLPClassifier(Classifier, Perceptron):
    r"""A network of dense layers that tells classes apart; scikit-learn's, with the optimizers of this package.

    It minimises the cross-entropy, of a softmax for more than two classes, of a sigmoid for two and for each label
    of a multilabel target, with a penalty. For a batch of weights :math:`w_i`:

    .. math:: \frac{1}{\sum_i w_i} \left( \sum_i w_i \ell(f(x_i), y_i) + \frac{\alpha}{2} \lVert W \rVert^2 \right)

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; none for an empty one.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Of the hidden layers.
    optimizer : str, type or callable, default "adam"
        The name of a rule: "gd", "sgd", "momentum", "nag", "adagrad", "adam" or "adamw"; or a callable that makes
        an `Optimizer` of parameters, coefficients of all layers and then intercepts: a class, or one with
        hyperparameters, such as ``functools.partial(gs.AdamW, weight_decay=0.1)``. Or "l-bfgs", which is
        `gradstep.minimize` on all samples at once.
    lr : float, schedule or None
        Learning rate; None for the default of the rule. A schedule is a callable of the number of steps;
        a copy of a ``ReduceOnPlateau`` is told the loss of each epoch. "l-bfgs" has none.
    schedule : str, callable or None
        How `lr`, a number then, changes over the steps of `max_iter` epochs: "constant", "cosine", "one_cycle",
        "polynomial", or "reduce_on_plateau": where training would end for want of progress it goes on at a fifth
        of the rate, down to 1e-6 (scikit-learn's "adaptive"); or a callable that makes a schedule of the rate and
        the keyword `steps`, such as ``functools.partial(gs.schedules.cosine, warmup=100)``. "l-bfgs" has none, and
        there is no `partial_fit` with one: a schedule as `lr` does not need to know the last step.
    alpha : float, default 1e-4
        Strength of the penalty, as scikit-learn has it: each batch has all of it.
    batch_size : int or "auto"
        Samples of a batch, at most all there are; "auto" is 200. "l-bfgs" takes all.
    max_iter : int, default 200
        Limit of epochs, or of iterations of "l-bfgs".
    shuffle : bool, default True
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        Source of the first weights, of what is held out, and of the order.
    tol : float, default 1e-4
        See `n_iter_no_change`; for "l-bfgs" the greatest component of the gradient that ends it.
    verbose : bool, default False
        Print the loss of each epoch; of "l-bfgs", how it ended.
    warm_start : bool, default False
        Begin `fit` with the weights of the one before.
    early_stopping : bool, default False
        Hold out samples, score on them after each epoch, and keep the weights of the best one. "l-bfgs" does not.
    validation_fraction : float, default 0.1
        Share of the samples that is held out.
    n_iter_no_change : int or infinity, default 10
        Training ends after more than that many epochs in a row without a loss, or score, better than the best by
        `tol`.
    clip_norm : float, optional
        Greatest global norm of a batch's gradient.

    Attributes
    ----------
    coefs_, intercepts_ : list of array
        Of each layer: of shape (units below, units), and (units,).
    classes_ : array of shape (n_classes,)
        The classes.
    loss_, best_loss_ : float
        Loss with its penalty: mean over the last epoch, and the least; `best_loss_` is None with `early_stopping`.
    loss_curve_ : list of float
        One for each epoch or iteration.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracies on what was held out; None without `early_stopping`.
    n_iter_, t_ : int
        Number of epochs or iterations of the last call, and of samples seen in all.
    n_layers_, n_outputs_ : int
        Number of layers, those of input and output too, and of outputs.
    out_activation_ : str
        "softmax" or "logistic".
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where `X` has such.

    Examples
    --------
    >>> import gradstep as gs
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> lr = gs.schedules.exponential(0.01, gamma=0.99)
    >>> model = gs.sklearn.MLPClassifier(64, optimizer="adamw", lr=lr, tol=1e-3, random_state=0)
    >>> model.fit(X[::2] / 16, y[::2]).score(X[1::2] / 16, y[1::2]) > 0.9
    True
    """

    _multilabel: ClassVar = True


class MLPRegressor(RegressorMixin, Perceptron):
    r"""A network of dense layers for regression; scikit-learn's, with the optimizers of this package.

    It minimises half the squared error, with a penalty. For a batch of weights :math:`w_i`:

    .. math:: \frac{1}{2 \sum_i w_i}
        \left( \sum_i w_i \lVert f(x_i) - y_i \rVert^2 + \alpha \lVert W \rVert^2 \right)

    The losses that are told are means over outputs, as scikit-learn's; those of "l-bfgs" the sums that it minimises.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; none for an empty one.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Of the hidden layers.
    optimizer : str, type or callable, default "adam"
        The name of a rule: "gd", "sgd", "momentum", "nag", "adagrad", "adam" or "adamw"; or a callable that makes
        an `Optimizer` of parameters, coefficients of all layers and then intercepts: a class, or one with
        hyperparameters, such as ``functools.partial(gs.AdamW, weight_decay=0.1)``. Or "l-bfgs", which is
        `gradstep.minimize` on all samples at once.
    lr : float, schedule or None
        Learning rate; None for the default of the rule. A schedule is a callable of the number of steps;
        a copy of a ``ReduceOnPlateau`` is told the loss of each epoch. "l-bfgs" has none.
    schedule : str, callable or None
        How `lr`, a number then, changes over the steps of `max_iter` epochs: "constant", "cosine", "one_cycle",
        "polynomial", or "reduce_on_plateau": where training would end for want of progress it goes on at a fifth
        of the rate, down to 1e-6 (scikit-learn's "adaptive"); or a callable that makes a schedule of the rate and
        the keyword `steps`, such as ``functools.partial(gs.schedules.cosine, warmup=100)``. "l-bfgs" has none, and
        there is no `partial_fit` with one: a schedule as `lr` does not need to know the last step.
    alpha : float, default 1e-4
        Strength of the penalty, as scikit-learn has it: each batch has all of it.
    batch_size : int or "auto"
        Samples of a batch, at most all there are; "auto" is 200. "l-bfgs" takes all.
    max_iter : int, default 200
        Limit of epochs, or of iterations of "l-bfgs".
    shuffle : bool, default True
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        Source of the first weights, of what is held out, and of the order.
    tol : float, default 1e-4
        See `n_iter_no_change`; for "l-bfgs" the greatest component of the gradient that ends it.
    verbose : bool, default False
        Print the loss of each epoch; of "l-bfgs", how it ended.
    warm_start : bool, default False
        Begin `fit` with the weights of the one before.
    early_stopping : bool, default False
        Hold out samples, score on them after each epoch, and keep the weights of the best one. "l-bfgs" does not.
    validation_fraction : float, default 0.1
        Share of the samples that is held out.
    n_iter_no_change : int or infinity, default 10
        Training ends after more than that many epochs in a row without a loss, or score, better than the best by
        `tol`.
    clip_norm : float, optional
        Greatest global norm of a batch's gradient.

    Attributes
    ----------
    coefs_, intercepts_ : list of array
        Of each layer: of shape (units below, units), and (units,).
    loss_, best_loss_ : float
        Loss with its penalty: mean over the last epoch, and the least; `best_loss_` is None with `early_stopping`.
    loss_curve_ : list of float
        One for each epoch or iteration.
    validation_scores_, best_validation_score_ : list of float, float
        Values of R² on what was held out; None without `early_stopping`.
    n_iter_, t_ : int
        Number of epochs or iterations of the last call, and of samples seen in all.
    n_layers_, n_outputs_ : int
        Number of layers, those of input and output too, and of outputs.
    out_activation_ : str
        "identity".
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where `X` has such.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> X = np.linspace(-2, 2, 200)[:, None]
    >>> y = np.sin(2 * X[:, 0])
    >>> model = gs.sklearn.MLPRegressor(20, "tanh", optimizer="l-bfgs", max_iter=500, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    def _output(self) -> str:
        return "identity"

    def _read(self, X: Any, y: Any, first: bool, dtype: Any, classes: Any) -> tuple[Any, Floats]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True, dtype=dtype, reset=first
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y.reshape(len(y), -1).astype(X.dtype)

    def _merit(self, raw: Floats, y: Floats, weight: Floats | None) -> float:
        return float(r2_score(y, raw, sample_weight=weight)) if np.isfinite(raw).all() else float("nan")

    @available_if(Trained._first_order)
    def partial_fit(self: Self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on with the weights and the optimizer's state of the calls before.

        The samples of a call are taken for all there are: the penalty of one epoch is that of `fit` on them alone.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each sample.

        Returns
        -------
        self
            The estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Floats:
        """Predict targets.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype of the weights.
        """
        return self._columns(X)
