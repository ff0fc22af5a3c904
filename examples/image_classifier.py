r"""An image classifier, with and without augmentation, and with averaged parameters.

A network of two hidden layers reads handwritten digits, having seen few of them. It soon knows those by heart:
its loss on them is close to 0, and teaches nothing more. Augmentation moves every image by up to a pixel and adds
noise, anew each time it is drawn; what the images say is the same, and the network reads others better. The moving
average of the parameters, :math:`a \leftarrow d a + (1 - d) \theta`, is what is used in the end.

Images are gathered, standardised and augmented in one pass. Pixels share one mean and one standard deviation:
neighbours stay comparable when they are moved.
"""

import numpy as np

import gradstep as gs
from _shared import digits, panels, run
from gradstep.mlp import init, loss_and_accuracy, loss_and_grads

TRAIN, EPOCHS, SEEDS = 200, 200, 3


def flat(images):
    return images.reshape(len(images), -1)


def train(images, labels, test, seed, augment):
    """Return the history, and the accuracy on test images of the parameters and of their averages."""
    params = init(np.random.default_rng(seed))
    scale = gs.data.Standardizer.of(images.mean(), images.std())
    batches = gs.data.minibatches(
        images, labels, batch_size=50, epochs=EPOCHS, seed=seed, standardize=scale, augment=augment
    )
    ema = gs.EMA(params, decay=0.99)
    opt = gs.AdamW(params, lr=3e-3)
    result = gs.fit(lambda params, X, y: loss_and_grads(params, flat(X), y), params, batches, opt, average=ema)
    X, y = flat(scale.transform(test[0])), test[1]
    plain = loss_and_accuracy(params, X, y)[1]
    with ema.swapped():
        return result, plain, loss_and_accuracy(params, X, y)[1]


def main():
    figure, (left, right) = panels()
    wrong = {}
    for name, augment in (("without", None), ("with", gs.data.Augment(shift=1, noise=0.3))):
        scores = []
        for seed in range(SEEDS):
            images, others, labels, truth = digits(TRAIN, seed)
            result, *accuracies = train(images, labels, (others, truth), seed, augment)
            scores.append(accuracies)
        wrong[name] = 1 - np.array(scores)
        plain, averaged = np.mean(scores, axis=0)
        print(f"{name} augmentation: accuracy {plain:.4f}, averaged parameters {averaged:.4f}")
        left.plot(result.history.epoch_loss, label=f"{name} augmentation")
        right.plot([name] * SEEDS, wrong[name][:, 1], "o")
    left.set(xlabel="epoch", ylabel="mean loss of the epoch", yscale="log")
    left.legend()
    right.set(xlabel="augmentation", ylabel=f"share read wrongly, {SEEDS} seeds", ylim=0, xlim=(-1, 2))
    return figure


if __name__ == "__main__":
    run(main)
