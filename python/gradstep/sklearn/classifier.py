"""What the classifiers share: labels, and probabilities."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import column_or_1d, validate_data

from gradstep.sklearn.network import Floats
from gradstep.sklearn.training import Self, Trained


class Classifier(ClassifierMixin, Trained):
    """Base of the classifiers: a column of targets for each class or label, one for two classes."""

    _multilabel: ClassVar = False

    def _output(self) -> str:
        return "softmax" if self._binarizer.y_type_ == "multiclass" else "logistic"

    def _read(self, X: Any, y: Any, first: bool, dtype: Any, classes: Any) -> tuple[Any, Floats]:
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=self._multilabel, dtype=dtype, reset=first)
        if first:
            check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        labels = unique_labels(y)
        if first:
            self._learn_classes(y, labels if classes is None else classes)
        if len(unseen := np.setdiff1d(labels, self.classes_)):
            raise ValueError(f"y: expected classes of {self.classes_}, got {unseen} too")
        return X, self._binarizer.transform(y).astype(X.dtype)

    def _learn_classes(self, y: Any, classes: Any) -> None:
        multilabel = type_of_target(y).startswith("multilabel")
        if len(classes) < 2 and not multilabel:
            raise ValueError(f"y: expected at least two classes, got one class, {classes[0]!r}")
        self._binarizer = LabelBinarizer().fit(y if multilabel else classes)
        self.classes_ = self._binarizer.classes_

    def _labels(self, columns: Floats, threshold: float) -> Any:
        return self._binarizer.inverse_transform(columns, threshold=threshold)

    def _merit(self, raw: Floats, y: Floats, weight: Floats | None) -> float:
        if not np.isfinite(raw).all():
            return float("nan")
        return float(accuracy_score(self._labels(y, 0.5), self._labels(raw, 0.0), sample_weight=weight))

    @available_if(Trained._first_order)
    def partial_fit(self: Self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, going on with the weights and the optimizer's state of the calls before.

        The samples of a call are taken for all there are: the penalty of one epoch is that of `fit` on them alone.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.
        y : array_like of shape (n_samples,) or (n_samples, n_labels)
            Their classes.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each sample.
        classes : array_like, optional
            All classes of all calls; the first one needs it.

        Returns
        -------
        self
            The estimator.
        """
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, incremental=True, classes=self.classes_)

    def predict(self, X: Any) -> Any:
        """Predict classes.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_labels)
            The most probable class of each, or of each label whether it is more probable than not.
        """
        return self._labels(self._raw(X), 0.0)

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        raw = self._raw(X)
        if self._output() == "softmax":
            return np.asarray(softmax(raw, axis=1))
        return np.asarray(expit(np.hstack([-raw, raw]) if raw.shape[1] == 1 else raw))

    def predict_log_proba(self, X: Any) -> Floats:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self._multilabel
        return tags
