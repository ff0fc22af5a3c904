r"""Batch against mini-batch against stochastic gradient descent, on real data.

The gradient of the mean loss over n samples, :math:`g = \frac{1}{|B|} \sum_{i \in B} \nabla \ell_i(\theta)`, is exact
where the batch B is all of them, and noisy but :math:`n / |B|` times cheaper where it is a part, drawn without
replacement. A step costs more the larger the batch, but not in proportion, for what a step costs besides is the same.
So single samples reach a given loss in the fewest epochs, passes over the data, and mini-batches in the least time.

The model is softmax regression on handwritten digits, with standardised inputs. The less noise, the larger the learning
rate may be: each method has one that suits it, which decays by 0.99 an epoch.
"""

from itertools import pairwise
from time import perf_counter

import numpy as np

import gradstep as gs
from _shared import digits, panels, run
from gradstep.mlp import loss_and_accuracy, loss_and_grads

METHODS = {"batch": (None, 1.0, 200), "mini-batch of 32": (32, 0.3, 30), "stochastic": (1, 0.03, 6)}
GOAL = 0.1


def train(X, y, batch_size, rate, epochs):
    """Return the loss over all of the data after each epoch, and the seconds of training up to there."""
    params = [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]
    scaler = gs.data.Standardizer().fit(X)
    batches = gs.data.minibatches(X, y, batch_size=batch_size, epochs=epochs, seed=0, standardize=scaler)
    lr = gs.schedules.exponential(rate, gamma=0.99, every=batches.batches_per_epoch)
    standardised, clock = scaler.transform(X), []

    def validate(params):
        clock.append(perf_counter())
        loss, _ = loss_and_accuracy(params, standardised, y)
        clock.append(perf_counter())
        return loss

    clock.append(perf_counter())
    result = gs.fit(loss_and_grads, params, batches, gs.GradientDescent(params, lr=lr), validate=validate)
    seconds = np.cumsum([end - start for start, end in list(pairwise(clock))[::2]])
    return np.array(result.history.validation), seconds


def main():
    images, _, y, _ = digits(0.8)
    X = images.reshape(len(images), -1)
    figure, axes = panels(sharey=True)
    for name, settings in METHODS.items():
        losses, seconds = train(X, y, *settings)
        at = np.flatnonzero(losses <= GOAL)[0]
        print(f"{name}: loss {GOAL} after {at + 1} epochs, {seconds[at]:.3f} s")
        axes[0].plot(range(1, len(losses) + 1), losses, label=name)
        axes[1].plot(seconds, losses, label=name)
    axes[0].set(xlabel="epochs", xscale="log", ylabel="loss over all training data", yscale="log")
    axes[1].set(xlabel="seconds", xscale="log")
    axes[0].legend()
    return figure


if __name__ == "__main__":
    run(main)
