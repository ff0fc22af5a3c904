"""Thinc's optimizers."""

from __future__ import annotations

from functools import partial

from thinc.api import SGD, Adam

from bench.case import Absent, Contestant
from bench.contestants.gradstep_ import refilled
from bench.work import Work, complete


def optimizer(work: Work) -> Contestant:
    """Call it for each array, as Thinc's models do."""
    if work.surrounded or work.dtype != "float32":
        raise Absent("was given the plain rule on float32 only")
    h = complete(work.spec.hypers)
    plain = {"grad_clip": 0.0, "use_averages": False, "L2_is_weight_decay": True, "L2": h["weight_decay"]}
    expected = None
    if work.spec.cls in ("Adam", "AdamW"):
        b1, b2 = h["betas"]
        opt = Adam(h["lr"], beta1=b1, beta2=b2, eps=h["eps"], **plain)
        # It adds eps before the bias of the squares is corrected.
        expected = partial(work.expected, eps=lambda t: h["eps"] / (1 - b2**t) ** 0.5)
    elif work.rule in ("GradientDescent", "SGD"):
        opt = SGD(h["lr"], **plain)
    else:
        raise Absent("Thinc has no such rule")
    params = work.params()
    grads, fill = refilled(work)  # it zeroes them

    def step() -> None:
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            opt((k, "W"), p, g)

    tolerance = 4e-6  # it decays weights after the step, not before
    return Contestant(step, lambda: params, fill, copies=work.nbytes_of_params, tolerance=tolerance, expected=expected)
