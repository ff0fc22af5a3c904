"""The demo's network: a 64-256-128-10 perceptron with backpropagation by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

WIDTHS = (64, 256, 128, 10)


def init(rng: np.random.Generator) -> list[Floats]:
    """Draw weights by He's rule; biases are zero.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the weights.

    Returns
    -------
    list of arrays
        Weights and biases of each layer in turn.
    """
    params: list[Floats] = []
    for n, m in pairwise(WIDTHS):
        weights = rng.standard_normal((n, m)) * np.sqrt(2 / n)
        params += [weights.astype(np.float32), np.zeros(m, np.float32)]
    return params


def forward(params: list[Floats], x: Floats) -> list[Floats]:
    """Run the network.

    Parameters
    ----------
    params : list of arrays
        As `init` made them.
    x : array
        One image a row.

    Returns
    -------
    list of arrays
        The input of each layer, and the logits last.
    """
    activations = [x]
    for weights, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
        activations.append(np.maximum(activations[-1] @ weights + bias, 0))
    return [*activations, activations[-1] @ params[-2] + params[-1]]


def loss_and_grads(params: list[Floats], x: Floats, y: Labels) -> tuple[float, list[Floats]]:
    """Return the mean cross-entropy and its gradients.

    Parameters
    ----------
    params : list of arrays
        As `init` made them.
    x, y : array
        One image a row, and its digit.

    Returns
    -------
    loss : float
        The mean over images.
    grads : list of arrays
        One for each parameter.
    """
    *inputs, logits = forward(params, x)
    log_p = _log_softmax(logits)
    delta = np.exp(log_p)
    delta[np.arange(len(y)), y] -= 1
    delta /= len(y)
    return _cross_entropy(log_p, y), _backward(params, inputs, delta)


def loss_and_accuracy(params: list[Floats], x: Floats, y: Labels) -> tuple[float, float]:
    """Return the mean cross-entropy and the share of images read right.

    Parameters
    ----------
    params : list of arrays
        As `init` made them.
    x, y : array
        One image a row, and its digit.

    Returns
    -------
    loss, accuracy : float
        Over all images.
    """
    logits = forward(params, x)[-1]
    return _cross_entropy(_log_softmax(logits), y), float(np.mean(logits.argmax(axis=1) == y))


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)  # exp cannot overflow
    log_p: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def _cross_entropy(log_p: Floats, y: Labels) -> float:
    return -float(log_p[np.arange(len(y)), y].mean())


def _backward(params: list[Floats], inputs: list[Floats], delta: Floats) -> list[Floats]:
    grads: list[Floats] = []
    for weights, x in zip(params[-2::-2], reversed(inputs), strict=True):
        grads = [x.T @ delta, delta.sum(axis=0), *grads]
        if x is not inputs[0]:
            delta = (delta @ weights.T) * (x > 0)
    return grads
