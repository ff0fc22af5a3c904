r"""Vanishing and exploding gradients in a network of 30 layers: seen, and mended.

What reaches layer l from above is a product over layers, :math:`\delta_l = (W_{l+1}^T \delta_{l+1}) \odot
\varphi'(z_l)`, and the gradients are :math:`\partial J / \partial b_l = \delta_l` and :math:`\partial J / \partial
W_l = \delta_l x_l^T`. With weights of standard deviation :math:`a / \sqrt{n}` and rectified units each factor
multiplies the norm by about :math:`a / \sqrt 2`: from layer 30 to layer 1 it vanishes for a = 0.8, explodes for
a = 1.8, and stays for He's :math:`a = \sqrt 2`. ``step(health=True)`` tells the norm for each array and step.

Clipping, :math:`g \leftarrow g \min(1, c / \lVert g \rVert)`, keeps what explodes finite, and its loss comes down; He's
weights let the network learn. In float16, gradients that have vanished are zeros, unless the loss is multiplied by a
factor, as a `LossScaler` does, and the gradients are divided by it in float32.
"""

from itertools import islice

import numpy as np

import gradstep as gs
from _shared import digits, panels, run
from gradstep.mlp import loss_and_accuracy, loss_and_grads

LAYERS, WIDTH, STEPS, TOO_SMALL = 30, 64, 300, 0.8
SHOWN = {f"params['b{layer}']" for layer in (1, 10, 20, 30)}


def init(gain, seed=0):
    """Return a network from 64 pixels to 10 digits, whose weights have the standard deviation gain / sqrt(n)."""
    rng = np.random.default_rng(seed)
    params = {}
    for layer in range(1, LAYERS + 1):
        shape = WIDTH, WIDTH if layer < LAYERS else 10
        params[f"W{layer}"] = (gain / np.sqrt(WIDTH) * rng.standard_normal(shape)).astype(np.float32)
        params[f"b{layer}"] = np.zeros(shape[1], np.float32)
    return params


def gradients(params, X, y):
    loss, grads = loss_and_grads(list(params.values()), X, y)
    return loss, dict(zip(params, grads, strict=True))


def train(gain, X, y, **clipping):
    """Return what was seen in each step, the loss before and after, and the accuracy."""
    params = init(gain)
    opt, seen = gs.Momentum(params, lr=0.01), []
    before, _ = loss_and_accuracy(list(params.values()), X, y)
    with np.errstate(over="ignore", invalid="ignore"):
        for batch in islice(gs.data.minibatches(X, y, batch_size=64, epochs=None, seed=0), STEPS):
            _, grads = gradients(params, *batch)
            opt.step(grads, health=True, **clipping)
            seen.append(opt.health)
        return seen, before, *loss_and_accuracy(list(params.values()), X, y)


def share_of_zeros(scale, X, y):
    """Return how much of the first layer's gradient is zero in float16, where the loss is multiplied by `scale`."""
    params = init(TOO_SMALL)
    _, grads = gradients(params, X, y)
    half = {name: (scale * g).astype(np.float16) for name, g in grads.items()}
    opt = gs.Momentum(params)
    gs.LossScaler(init_scale=scale).step(opt, half, health=True)
    return opt.health["W1"].zeros


def main():
    images, _, y, _ = digits(0.8)
    X = images.reshape(len(images), -1)
    X = gs.data.Standardizer().fit(X).transform(X)
    runs = {
        "a = 0.8": (TOO_SMALL, {}),
        "a = 1.8": (1.8, {}),
        "a = 1.8, clipped": (1.8, {"clip_norm": 1.0}),
        "a = sqrt(2), clipped": (np.sqrt(2), {"clip_norm": 1.0}),
    }
    figure, axes = panels(len(runs), rows=2, sharex=True, sharey="row")
    for pair, (name, (gain, clipping)) in zip(axes.T, runs.items(), strict=True):
        seen, before, after, accuracy = train(gain, X, y, **clipping)
        first, last = (seen[0][layer].norm for layer in ("b1", "b30"))
        print(f"{name}: gradient times {first / last:.1e} from layer 30 to 1", end="; ")
        print(f"loss {before:.3g}, trained {after:.3g}, accuracy {accuracy:.1%}")
        pair[0].set_title(name)
        shown = [gs.Health(row for row in health if row.name in SHOWN) for health in seen]
        gs.plot.health(shown, axes=pair)
        lost = next(
            (step for step, health in enumerate(seen) if not np.isfinite([row.norm for row in health]).all()), None
        )
        if lost is not None:
            pair[1].get_legend().remove()  # a ratio is nowhere finite
            for ax in pair:
                ax.text(0.5, 0.5, f"not finite from step {lost} on", ha="center", transform=ax.transAxes)
    axes[0, 0].set_ylim(1e-12, 1e12)
    axes[1, 0].set_ylim(1e-5, 10)
    for scale in (1.0, 65536.0):
        print(f"zeros in float16, loss times {scale:g}: {share_of_zeros(scale, X, y):.1%}")
    return figure


if __name__ == "__main__":
    run(main)
