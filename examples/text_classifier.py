r"""A text classifier: it tells which subpackage of SciPy a function is from, by the words of its docstring.

Each docstring becomes a vector of weights of its words, "tf-idf": :math:`x_{dw} = n_{dw} (\ln \frac{1 + D}{1 + D_w} +
1)`, scaled to unit length, where word w occurs :math:`n_{dw}` times in text d, and in :math:`D_w` of the D texts.
Softmax regression finds the subpackage. The vectors are sparse, so the batches are of row numbers, and the model takes
the rows.

The names of the subpackages are struck out first. What remains is not quite fair, as docstrings of one subpackage are
often made from one template: most of all of the distributions in ``scipy.stats``.
"""

import importlib
import re

import numpy as np
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

import gradstep as gs
from _shared import panels, run

PACKAGES = ["fft", "integrate", "interpolate", "linalg", "ndimage", "optimize"]
PACKAGES += ["signal", "sparse", "spatial", "special", "stats"]


def docstrings():
    """Return texts, and the number of the subpackage of each."""
    names = re.compile(r"\b(scipy|np|numpy|" + "|".join(PACKAGES) + r")\b")
    found = {}
    for label, package in enumerate(PACKAGES):
        module = importlib.import_module(f"scipy.{package}")
        for name in module.__all__:
            text = getattr(module, name).__doc__
            if text and callable(getattr(module, name)):
                found.setdefault(names.sub("", text), label)
    return list(found), np.array(list(found.values()))


def loss_and_grads(params, X, y):
    scores = X @ params["W"] + params["b"]
    log_p = log_softmax(scores, axis=1)
    delta = (np.exp(log_p) - np.eye(len(PACKAGES), dtype=np.float32)[y]) / len(y)
    return -log_p[np.arange(len(y)), y].mean(), {"W": X.T @ delta, "b": delta.sum(axis=0)}


def main():
    texts, labels = docstrings()
    train, test, y, truth = train_test_split(texts, labels, test_size=0.3, random_state=0, stratify=labels)
    vectorizer = TfidfVectorizer(min_df=10, stop_words="english", dtype=np.float32)
    X, X_test = vectorizer.fit_transform(train), vectorizer.transform(test)
    words = vectorizer.get_feature_names_out()
    params = {"W": np.zeros((len(words), len(PACKAGES)), np.float32), "b": np.zeros(len(PACKAGES), np.float32)}
    batches = gs.data.minibatches(np.arange(len(y)), batch_size=32, epochs=30, seed=0)
    opt = gs.AdamW(params, lr=0.03, weight_decay=0.1)
    gs.fit(lambda params, rows: loss_and_grads(params, X[rows], y[rows]), params, batches, opt)
    predicted = (X_test @ params["W"] + params["b"]).argmax(axis=1)
    print(f"docstrings: {len(train)} to train, {len(test)} to test, {len(words)} words")
    print(f"accuracy: {np.mean(predicted == truth):.3f}")
    print(f"accuracy of the most frequent subpackage: {np.mean(truth == np.bincount(y).argmax()):.3f}")
    for label in map(PACKAGES.index, ("optimize", "signal", "stats")):
        best = params["W"][:, label].argsort()[::-1][:6]
        print(f"words for {PACKAGES[label]}: {', '.join(words[best])}")

    figure, (ax,) = panels(1)
    figure.set_size_inches(8, 7)
    display = ConfusionMatrixDisplay.from_predictions
    display(truth, predicted, display_labels=PACKAGES, ax=ax, cmap="Blues", xticks_rotation="vertical", colorbar=False)
    return figure


if __name__ == "__main__":
    run(main)
