"""The rules as functions: the same bits as the optimizers."""

import inspect
import re

import numpy as np
import pytest

import gradstep as gs
from table import FORMATS, IDS, ROWS
from test_rules import same
from test_whole_step import randoms


def kernel_of(row):
    return getattr(gs.kernels, row.cls.rule)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_same_bits_as_the_optimizer(rng, row, name):
    start = [randoms(rng, s, name) for s in [(5, 7), (0,), (2000,), ()]]
    mine, theirs = [p.copy() for p in start], [p.copy() for p in start]
    kernel = kernel_of(row)
    opt = row.make(theirs)
    wide = [np.float32 if p.dtype.itemsize == 2 else p.dtype for p in start]
    count = len(inspect.signature(kernel).parameters) - len(opt.groups[0]) - 3
    states = [[np.zeros_like(p, dtype=w) for p, w in zip(start, wide, strict=True)] for _ in range(count)]
    for step in range(1, 6):
        grads = [randoms(rng, p.shape, name) for p in start]
        kernel(mine, grads, *states, step=step, **row.hypers)
        opt.step(grads)
    for p, q in zip(mine, theirs, strict=True):
        same(p, q)
    for state, arrays in zip(opt.state.values(), states, strict=False):
        for a, b in zip(state, arrays, strict=True):
            same(a, b)


def test_one_array():
    p, v = np.array([1.0]), np.array([0.5])
    gs.kernels.momentum(p, np.array([1.0]), v, lr=0.5, momentum=0.5)
    assert (p[0], v[0]) == (0.75, -0.25)


def test_without_momentum_no_buffer_is_needed_and_one_that_is_given_stays():
    p, q, buffer = np.array([1.0]), np.array([1.0]), np.array([np.nan])
    gs.kernels.sgd(p, np.array([1.0]), lr=0.5)
    gs.kernels.sgd(q, np.array([1.0]), buffer, lr=0.5, step=2)
    assert (p[0], q[0]) == (0.5, 0.5)
    assert np.isnan(buffer[0])


def test_signature_and_name():
    assert str(inspect.signature(gs.kernels.adam)) == (
        "(p, g, exp_avg, exp_avg_sq, /, *, step=1, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, "
        "maximize=False) -> None"
    )
    assert {row.cls.rule for row in ROWS} == set(gs.kernels.__all__)


a, b, c = np.ones(2), np.ones(2), np.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda k: k.adam(a, b, c), TypeError, "adam: expected 2 states (exp_avg, exp_avg_sq), got 1"),
        (lambda k: k.gradient_descent(a, b, c), TypeError, "gradient_descent: expected 0 states (none), got 1"),
        (lambda k: k.momentum(a, b, c, betas=(0, 0)), TypeError, "momentum: unknown hyperparameter 'betas'"),
        (lambda k: k.momentum(a, b, c, lr=-1.0), ValueError, "lr: expected a finite number of at least 0"),
        (lambda k: k.momentum(a, b, c, lr=lambda n: 1.0), TypeError, "lr: expected a number, got a schedule"),
        (lambda k: k.sgd(a, b, c, nesterov=True), ValueError, "nesterov: expected momentum above 0"),
        (lambda k: k.momentum(a, b, c, step=0), ValueError, "step: expected a whole number of at least 1, got 0"),
        (lambda k: k.momentum(a, b, c, step=1.0), TypeError, "step: "),
        (lambda k: k.momentum(a, b, c, step=1 << 62), ValueError, "step: expected a whole number below 2**62"),
        (lambda k: k.sgd(a, b, momentum=0.9), TypeError, "sgd: expected 1 states (momentum_buffer), got 0"),
        (lambda k: k.momentum(a, b, a), ValueError, "share memory"),
        (lambda k: k.momentum([a], [b], c), TypeError, "velocity: expected a sequence of 1 arrays, got ndarray"),
        (lambda k: k.momentum([a], [b, b], [c]), ValueError, "g: expected 1 arrays, got 2"),
        (lambda k: k.momentum([], [], []), ValueError, "p: expected at least one array, got 0"),
        (lambda k: k.momentum([1.0], [b], [c]), TypeError, "p[0]: expected a NumPy array, got float"),
        (
            lambda k: k.momentum(a, b, np.ones(3)),
            ValueError,
            "velocity: expected float64 of shape (2,), writeable and dense",
        ),
        (lambda k: k.momentum(a, b, np.ones(2, "f4")), ValueError, "order of axes, got float32 of shape (2,)"),
        (
            lambda k: k.momentum(a, b, np.ones(4)[::2]),
            ValueError,
            "velocity: expected float64 of shape (2,), writeable and dense",
        ),
        (lambda k: k.momentum(a, np.ones(3), c), ValueError, "g: expected float64 of shape (2,)"),
        (lambda k: k.momentum(a, None, c), TypeError, "g: expected an array, got None"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call(gs.kernels)
    assert a.tolist() == b.tolist() == c.tolist() == [1.0, 1.0]


def test_numbers_of_numpy_are_counts():
    p, q = np.ones(3), np.ones(3)
    gs.kernels.adam(p, np.ones(3), np.zeros(3), np.zeros(3), step=np.int64(3))
    gs.kernels.adam(q, np.ones(3), np.zeros(3), np.zeros(3), step=3)
    same(p, q)
