"""A network of dense layers: its weights in one vector, its passes in buffers that are used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import expit

from gradstep import _cpu
from gradstep.solve.vectors import Space

Floats = NDArray[Any]  # float32 or float64, the same throughout one network


def _tanh_slope(a: Floats) -> None:
    np.multiply(a, a, out=a)
    np.subtract(1, a, out=a)


def _logistic_slope(a: Floats) -> None:
    a -= a * a


# Each in place: the activation, and its derivative as a function of what the activation returned.
ACTIVATIONS: dict[str, tuple[Callable[[Floats], object], Callable[[Floats], object]]] = {
    "identity": (lambda z: None, lambda a: a.fill(1)),
    "logistic": (lambda z: expit(z, out=z), _logistic_slope),
    "tanh": (lambda z: np.tanh(z, out=z), _tanh_slope),
    "relu": (lambda z: np.maximum(z, 0, out=z), lambda a: np.greater(a, 0, out=a, casting="unsafe")),
}


def _squared(z: Floats, y: Floats) -> Floats:
    error = z - y
    losses: Floats = np.einsum("ij,ij->i", error, error) * 0.5
    return losses


def _logistic(z: Floats, y: Floats) -> Floats:
    losses: Floats = np.logaddexp(0, z - 2 * (y * z)).sum(axis=1)  # exact where it is tiny, for y is 0 or 1
    expit(z, out=z)
    return losses


def _softmax(z: Floats, y: Floats) -> Floats:
    z -= z.max(axis=1, keepdims=True)
    of_truth = np.einsum("ij,ij->i", z, y)
    np.exp(z, out=z)
    total = z.sum(axis=1)
    z /= total[:, None]
    losses: Floats = np.log(total) - of_truth
    return losses


# Each turns raw outputs into predictions, in place, and returns the loss of each row.
OUTPUTS = {"identity": _squared, "logistic": _logistic, "softmax": _softmax}


def _multiply(a: Any, b: Floats, out: Floats) -> None:
    if issparse(a):
        out[...] = a @ b
    else:
        np.matmul(a, b, out=out)


def forward(
    x: Any, coefs: Sequence[Floats], intercepts: Sequence[Floats], activation: str, layers: Iterable[Floats]
) -> Floats:
    """Run a network up to its raw outputs.

    Parameters
    ----------
    x : array or sparse matrix
        One sample a row.
    coefs, intercepts : sequence of array
        Of each layer.
    activation : str
        Of the hidden layers, one of `ACTIVATIONS`.
    layers : iterable of array
        Where the outputs of each layer go.

    Returns
    -------
    array
        The last of `layers`.
    """
    activate, _ = ACTIVATIONS[activation]
    for i, (coef, intercept, out) in enumerate(zip(coefs, intercepts, layers, strict=True), 1):
        _multiply(x, coef, out)
        np.add(out, intercept, out=out)
        if i < len(coefs):
            activate(out)
        x = out
    return out


class Network:
    """Weights, gradients, and buffers for the passes over a batch.

    Parameters
    ----------
    widths : sequence of int
        Features, units of each hidden layer, outputs.
    activation, output : str
        Of `ACTIVATIONS` and of `OUTPUTS`.
    dtype : dtype
        float32 or float64.
    intercept : bool
        Whether intercepts are trained; otherwise they stay as they are.
    """

    def __init__(self, widths: Sequence[int], activation: str, output: str, dtype: Any, intercept: bool = True) -> None:
        shapes: list[tuple[int, ...]] = list(pairwise(widths))
        coefs = sum(n * m for n, m in shapes)
        shapes += [(m,) for m in widths[1:]]
        size = sum(int(np.prod(shape)) for shape in shapes)
        weights, grads = np.zeros(size, dtype), np.empty(size, dtype)
        views, grad_views = _cut(weights, shapes), _cut(grads, shapes)
        depth, trained = len(widths) - 1, size if intercept else coefs
        self.coefs, self.intercepts = views[:depth], views[depth:]
        self.params = views if intercept else self.coefs
        self.param_grads = grad_views if intercept else grad_views[:depth]
        self.vector, self.gradient = weights[:trained], grads[:trained]
        self._decayed, self._decayed_grads = weights[:coefs], grads[:coefs]
        self._coef_grads, self._intercept_grads = grad_views[:depth], grad_views[depth:]
        self._space = Space(_cpu, 0, weights.dtype, weights.shape)
        self._activation, self._losses = activation, OUTPUTS[output]
        # Share of the samples' losses in the loss that is returned, not in its gradient: a mean, as scikit-learn's.
        self.told = 1 / widths[-1] if output == "identity" else 1.0
        self._buffers: dict[int, tuple[list[Floats], list[Floats], Floats]] = {}

    def loss_and_grads(self, x: Any, y: Floats, weight: Floats | None, total: float, decay: float) -> float:
        r"""Return the loss of a batch, and leave its gradient in `gradient`.

        .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \ell_i + \frac{\lambda}{2} \lVert W \rVert^2

        Parameters
        ----------
        x : array or sparse matrix
            One sample a row.
        y : array
            Targets in columns, as many as outputs.
        weight : array or None
            :math:`w`; None for ones.
        total : float
            Its sum.
        decay : float
            :math:`\lambda`, for coefficients and not for intercepts.

        Returns
        -------
        float
            The loss.
        """
        layers, deltas, ones = self._buffers_for(len(y))
        delta = forward(x, self.coefs, self.intercepts, self._activation, layers)
        losses = self._losses(delta, y)
        delta -= y  # the predictions until here
        if weight is None:
            delta /= total
            loss = self.told * float(losses.sum()) / total
        else:
            delta *= (weight / total)[:, None]
            loss = self.told * float(weight @ losses) / total
        self._backward(x, layers, deltas, ones)
        if decay:
            w, g = self._decayed, self._decayed_grads
            (square,), _ = self._space.run([(g, [(1.0, g), (decay, w)])], [((w,), (w,))])
            loss += 0.5 * decay * square
        return loss

    def _backward(self, x: Any, layers: list[Floats], deltas: list[Floats], ones: Floats) -> None:
        _, to_slope = ACTIVATIONS[self._activation]
        delta = layers[-1]
        for i in reversed(range(len(layers))):
            below = layers[i - 1] if i else x
            _multiply(below.T, delta, self._coef_grads[i])
            np.matmul(ones, delta, out=self._intercept_grads[i])  # half the time of a sum
            if i:
                delta = np.matmul(delta, self.coefs[i].T, out=deltas[i - 1])
                to_slope(below)
                delta *= below

    def _buffers_for(self, rows: int) -> tuple[list[Floats], list[Floats], Floats]:
        if rows not in self._buffers:  # the usual batch, and the last of an epoch
            dtype = self.vector.dtype
            layers, deltas = ([np.empty((rows, len(b)), dtype) for b in self.intercepts] for _ in range(2))
            self._buffers[rows] = layers, deltas[:-1], np.ones(rows, dtype)
        return self._buffers[rows]


def _cut(vector: Floats, shapes: Sequence[tuple[int, ...]]) -> list[Floats]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]
