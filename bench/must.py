"""What the figures must reach."""

from __future__ import annotations

from typing import NamedTuple

from bench.case import Figure

LEAST_ROUNDS = 3  # of each case, unless no time is left; figures of fewer are not judged


class Must(NamedTuple):
    """A bound, and what README.md calls the figures under it."""

    what: str
    sense: str
    bound: float

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


MUST = {
    "ceiling": Must("one array of 2^25 elements, any rule: share of what memory allows", "at least", 0.90),
    "numpy AdamW": Must("AdamW on 10^7 elements: times faster than textbook NumPy", "at least", 8.0),
    "numpy state": Must("other rules with state on 10^7 elements: times faster than NumPy", "at least", 3.0),
    "numpy stateless": Must("rules without state on 10^7 elements: times faster than NumPy", "at least", 1.5),
    "fused": Must("1,000 arrays of 1,000 elements: of the time of PyTorch's fused AdamW", "at most", 0.08),
    "small": Must("one array of 100 elements: microseconds", "at most", 2.0),
    "step": Must("a step right after a matmul, of a single-threaded one as long after the last", "at most", 1.3),
    "step at once": Must("the same, of one at once, out of caches that are its own still", "at most", 1.3),
    "matmul": Must("a matmul right after a step, of one with no step before it", "at most", 1.1),
    "iteration 256": Must(
        "a NumPy MLP iteration, width 256, of that with the NumPy update, worst of 20 runs", "at most", 0.95
    ),
    "iteration 1024": Must(
        "a NumPy MLP iteration, width 1024, of that with the NumPy update, worst of 20 runs", "at most", 0.80
    ),
    "clipping": Must("AdamW with `clip_norm` on 2^25 elements, of AdamW alone", "at most", 1.22),
    "clipping torch": Must("the same, of PyTorch's `clip_grad_norm_` and fused AdamW", "at most", 0.9),
    "storage": Must("AdamW on bfloat16 and float16: share of what memory allows for its bytes", "at least", 0.80),
    "averaging": Must("AdamW with an EMA and `zero_grads`: of the time memory allows for its bytes", "at most", 1.15),
    "clipping many": Must("2,000 arrays of 256 elements with `clip_norm`, of PyTorch's two calls", "at most", 0.08),
    "lbfgs scipy": Must("L-BFGS, 10^6 variables: an iteration outside `fun`, of SciPy's", "at most", 0.125),
    "lbfgs torch": Must("the same, of PyTorch's with strong Wolfe", "at most", 0.7),
    "lbfgs memory": Must("the same, of what memory allows two passes over its rows", "at most", 1.35),
    "lbfgs single": Must("the same in float32, of float64", "at most", 0.55),
    "lbfgs 10000": Must("L-BFGS, 10,000 variables: an iteration outside `fun`, of SciPy's", "at most", 0.334),
    "lbfgs 10": Must("L-BFGS, 10 variables: an iteration outside `fun`, of SciPy's", "at most", 1.5),
    "gather float32": Must(
        "batches of 256 from 50,000 x 784 float32, standardised: times faster than NumPy", "at least", 2.5
    ),
    "gather uint8": Must("the same from uint8", "at least", 2.5),
    "moments": Must("`Standardizer.fit` on 10^6 x 50: times faster than scikit-learn's", "at least", 3.0),
    "mlp time": Must("`MLPClassifier((256, 128))` on digits: of the time of scikit-learn's", "at most", 0.9),
    "mlp accuracy": Must("the same: test accuracy, less scikit-learn's", "at least", -0.01),
    "cuda host": Must("the host's microseconds of AdamW over 1,000 CuPy gradients", "at most", 300.0),
}


def verdict(figure: Figure) -> str:
    """Return whether a figure's bound holds, or why that is not judged; nothing where it only compares."""
    must = MUST.get(figure.key)
    if must is None:
        return ""
    if figure.rounds is not None and figure.rounds < LEAST_ROUNDS:
        return f"{figure.rounds} round{'s' * (figure.rounds > 1)}: no judgement"
    return "yes" if (figure.value >= must.bound if must.sense == "at least" else figure.value <= must.bound) else "NO"
