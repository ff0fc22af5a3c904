"""Logistic regression: a network without hidden layers, from weights of zero."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_non_negative

from gradstep.containers import shown
from gradstep.hyperparameters import Float, check_flag, check_float
from gradstep.schedules import Kind
from gradstep.sklearn.classifier import Classifier
from gradstep.sklearn.network import Floats, Network
from gradstep.sklearn.training import Making, Scheduling, Trained


def _strength(name: str, value: Any) -> float:
    return check_float(name, (lambda x: x > 0, "a number above 0"), value)


def _class_weight(name: str, value: Any) -> Any:
    if not (value is None or isinstance(value, Mapping) or (isinstance(value, str) and value == "balanced")):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name}: expected a dict, 'balanced' or None, got {shown(value)}")
    return value


class LogisticRegression(Classifier):
    r"""Logistic regression, of two classes or, by softmax, of more.

    .. math:: \min_{W, b} \; C \sum_i w_i \ell(x_i W + b, y_i) + \tfrac{1}{2} \lVert W \rVert^2

    where :math:`\ell` is the cross-entropy. "l-bfgs" finds the minimum itself; a first-order rule goes over batches,
    and each batch has its share of the penalty.

    Parameters
    ----------
    solver : str, type or callable, default "l-bfgs"
        "l-bfgs", which is `gradstep.minimize`; the name of a rule: "gd", "sgd", "momentum", "nag", "adagrad", "adam"
        or "adamw"; or a callable that makes an `Optimizer` of parameters: a class, or one with hyperparameters
        such as ``functools.partial(gs.SGD, momentum=0.9)``.
    C : float, default 1.0
        Inverse strength of the penalty; infinity for none.
    fit_intercept : bool, default True
        Whether there is :math:`b`, on which there is no penalty.
    class_weight : dict, "balanced" or None
        Factor of the weight of each class's samples: class -> factor, or inverse to how often each occurs.
    lr : float, schedule or None
        Learning rate; None for the default of the rule. A schedule is a callable of the number of steps;
        a copy of a ``ReduceOnPlateau`` is told the loss of each epoch. "l-bfgs" has none.
    schedule : str, callable or None
        How `lr`, a number then, changes over the steps of `max_iter` epochs: "constant", "cosine", "one_cycle",
        "polynomial", or "reduce_on_plateau": where training would end for want of progress it goes on at a fifth
        of the rate, down to 1e-6 (scikit-learn's "adaptive"); or a callable that makes a schedule of the rate and
        the keyword `steps`, such as ``functools.partial(gs.schedules.cosine, warmup=100)``. "l-bfgs" has none, and
        there is no `partial_fit` with one: a schedule as `lr` does not need to know the last step.
    batch_size : int or "auto"
        Samples of a batch, at most all there are; "auto" is 200. "l-bfgs" takes all.
    max_iter : int, default 100
        Limit of iterations; of epochs with a first-order rule.
    tol : float, default 1e-4
        "l-bfgs" ends where no component of the gradient of the mean loss is above it; a rule where the loss has
        not got better by it for more than `n_iter_no_change` epochs; with `early_stopping` the score.
    n_iter_no_change : int, default 10
        See `tol`.
    shuffle : bool, default True
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        Source of what is held out, and of the order.
    clip_norm : float, optional
        Greatest global norm of a batch's gradient.
    early_stopping : bool, default False
        Hold out samples, score on them after each epoch, and keep the weights of the best one. "l-bfgs" does not.
    validation_fraction : float, default 0.1
        Share of the samples that is held out.
    warm_start : bool, default False
        Begin `fit` with the weights of the one before.
    verbose : bool, default False
        Print the loss of each epoch; of "l-bfgs", how it ended.

    Attributes
    ----------
    coef_ : array of shape (1, n_features) or (n_classes, n_features)
        :math:`W^T`; one row for two classes.
    intercept_ : array of shape (1,) or (n_classes,)
        :math:`b`.
    classes_ : array of shape (n_classes,)
        The classes.
    n_iter_ : array of shape (1,)
        Number of iterations or epochs.
    loss_, best_loss_ : float
        Mean loss with its penalty, of the last epoch, and the least; `best_loss_` is None with `early_stopping`.
    loss_curve_ : list of float
        One for each iteration or epoch.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracies on what was held out; None without `early_stopping`.
    t_ : int
        Number of samples seen.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where `X` has such.

    Examples
    --------
    >>> import gradstep as gs
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = gs.sklearn.LogisticRegression(C=0.1).fit(X, y)
    >>> model.coef_.shape, round(model.score(X, y), 2)
    ((3, 4), 0.96)
    """

    _optimizer_name: ClassVar = "solver"
    _kinds: ClassVar[dict[str, Kind]] = {
        **Trained._kinds,
        "C": _strength,
        "fit_intercept": check_flag,
        "class_weight": _class_weight,
    }

    def __init__(
        self,
        solver: Making = "l-bfgs",
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        lr: Float | None = None,
        schedule: Scheduling | None = None,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        shuffle: bool = True,
        random_state: Any = None,
        clip_norm: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.solver = solver
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.lr = lr
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.random_state = random_state
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose

    def decision_function(self, X: Any) -> Floats:
        """Return how much speaks for each class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_classes)
            The log-odds of ``classes_[1]`` for two classes; what goes into the softmax for more.
        """
        return self._columns(X)

    def _widths(self, features: int, outputs: int) -> list[int]:
        return [features, outputs]

    def _weights(self) -> tuple[Sequence[Floats], Sequence[Floats]]:
        return [self.coef_.T], [self.intercept_]

    def _publish(self, network: Network) -> None:
        self.coef_ = np.ascontiguousarray(network.coefs[0].T)
        self.intercept_ = network.intercepts[0]
        self.n_iter_ = np.array([self.n_iter_], np.int32)

    def _decay(self, batch: float, total: float) -> float:
        strength = float(self.C) * total
        if not strength > sys.float_info.min:
            raise ValueError(f"C, sample_weight: expected a product above {sys.float_info.min:.0e}, got {strength!r}")
        return 1 / strength

    def _weigh(self, y: Floats, weight: Floats | None, incremental: bool) -> Floats | None:
        if self.class_weight is None:
            return weight
        classes = np.arange(len(self.classes_))
        codes = y[:, 0].astype(int) if y.shape[1] == 1 else y.argmax(axis=1)
        weight = np.ones(len(y), y.dtype) if weight is None else weight
        if self.class_weight != "balanced":
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
            check_non_negative(factors, "class_weight")
        elif incremental:
            raise ValueError(
                "class_weight: expected a dict or None for partial_fit, which sees no whole, got 'balanced'"
            )
        else:
            sums = np.bincount(codes, weight, len(classes))
            factors = np.divide(sums.sum(), len(classes) * sums, out=np.zeros(len(classes)), where=sums > 0)
        weighed: Floats = weight * factors.astype(y.dtype)[codes]
        return weighed
