r"""The choice of the learning rate: by a range test, and by grid search with cross-validation.

A range test makes one short sweep, in which the learning rate :math:`\eta` grows from step to step, and watches the
loss: too small, and it hardly falls; too large, and it soars. It takes a hundred steps, leaves parameters and optimizer
as they were, and suggests a place to begin. Grid search trains to the end with each of some learning rates, on four
fifths of the data five times, and scores what was held out. It costs much more, and is about what one wants: the
accuracy on data not seen. Both look at networks of one shape, for handwritten digits, and the same optimizer.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradstep as gs
from _shared import digits, panels, run
from gradstep.mlp import init, loss_and_grads

RATES = np.geomspace(1e-5, 1, 6)


def main():
    images, others, y, truth = digits(0.6)
    X, X_test = (i.reshape(len(i), -1) for i in (images, others))

    params = init(np.random.default_rng(0))
    scale = gs.data.Standardizer().fit(X)
    batches = gs.data.minibatches(X, y, batch_size=64, seed=0, standardize=scale)
    swept = gs.tune.lr_range_test(loss_and_grads, params, batches, gs.Adam(params))
    lowest = swept.lrs[swept.smoothed.argmin()]
    print(f"range test: loss lowest at {lowest:.1e}, so begin with {swept.suggestion:.1e}")

    network = gs.sklearn.MLPClassifier((256, 128), optimizer="adam", batch_size=64, max_iter=8, tol=0, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few epochs are enough to compare
        search = GridSearchCV(model, {"mlpclassifier__lr": RATES}).fit(X, y)
    for rate, score in zip(RATES, search.cv_results_["mean_test_score"], strict=True):
        print(f"cross-validation, learning rate {rate:.0e}: accuracy {score:.3f}")
    best = search.best_params_["mlpclassifier__lr"]
    print(f"best: {best:.0e}, accuracy on test images: {search.score(X_test, truth):.3f}")

    figure, (left, right) = panels(sharex=True)
    gs.plot.lr_range(swept, ax=left).set_ylabel("loss of the batch")
    right.errorbar(RATES, search.cv_results_["mean_test_score"], search.cv_results_["std_test_score"], fmt="o-")
    right.axvline(swept.suggestion, color="black", linestyle=":", label="suggestion of the range test")
    right.set(xlabel="learning rate", ylabel="accuracy, cross-validated", xscale="log", ylim=(0, 1))
    right.legend()
    return figure


if __name__ == "__main__":
    run(main)
