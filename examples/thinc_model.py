r"""A Thinc model trained by gradstep, on Thinc's own arrays.

Thinc keeps the parameters of a layer and their gradients in NumPy arrays, and backpropagation adds to the gradients.
gradstep updates the parameters in place, so that the model needs no notice of it, and with ``zero_grads=True`` clears
the gradients in the same pass over memory. A model is a tree of nodes: all of them are walked once to collect the
arrays, and after that a training step is one call.
"""

import numpy as np
from thinc.api import Relu, Softmax, chain, fix_random_seed

import gradstep as gs
from _shared import digits, panels, run


def arrays_of(model, get):
    """Return what `get` returns for each parameter of each node, such as its array, by a name."""
    return {
        f"{node.name}-{node.id}.{name}": get(node, name)
        for node in model.walk()
        for name in node.param_names
        if node.has_param(name)
    }


def main():
    images, others, y, truth = digits(0.8)
    X, X_test = (i.reshape(len(i), -1) / np.float32(16) for i in (images, others))
    fix_random_seed(0)
    model = chain(Relu(128), Relu(64), Softmax())
    model.initialize(X, np.eye(10, dtype=np.float32)[y])

    params = arrays_of(model, lambda node, name: node.get_param(name))
    batches = gs.data.minibatches(X, y, batch_size=32, epochs=20, seed=0)
    opt, losses = gs.AdamW(params, lr=gs.schedules.cosine(3e-3, steps=len(batches))), []
    before = (model.predict(X_test).argmax(axis=1) == truth).mean()
    for rows, labels in batches:
        p, backprop = model.begin_update(rows)
        at = np.arange(len(labels)), labels
        losses.append(-np.log(p[at]).mean())
        p[at] -= 1  # the gradient of the mean cross-entropy by the softmax's input, times the batch size
        backprop(p / len(labels))
        opt.step(arrays_of(model, lambda node, name: node.get_grad(name)), zero_grads=True)

    same = arrays_of(model, lambda node, name: node.get_param(name))
    after = (model.predict(X_test).argmax(axis=1) == truth).mean()
    print(f"arrays: {len(params)}, steps: {opt.steps}")
    print(f"still Thinc's own arrays: {all(np.shares_memory(params[name], same[name]) for name in params)}")
    print(f"accuracy: {before:.3f} before, {after:.3f} after")
    figure, (ax,) = panels(1)
    ax.plot(losses)
    ax.set(xlabel="step", ylabel="loss of the batch", yscale="log")
    return figure


if __name__ == "__main__":
    run(main)
