r"""The four small programs: gradient descent, momentum, Nesterov and Adagrad, by hand and by gradstep.

All minimise :math:`f(x) = x^2`, whose gradient is :math:`g = 2x`, from :math:`x = 10` with :math:`\eta = 0.1` in 100
steps. Gradient descent multiplies x by :math:`1 - 2\eta = 0.8` in each step, so it ends at
:math:`10 \cdot 0.8^{100}`. Momentum with :math:`\beta = 0.9` overshoots and swings; Nesterov's form, which looks ahead
along the velocity, swings less; Adagrad's steps shrink like :math:`1 / \sqrt{\sum g^2}`, and it is far from done.

Each rule is written below as it stands in the literature, and gradstep's class beside it gives the same bits.
Newton's method, for which a quadratic function is solved in one step, and L-BFGS are drawn for comparison.
"""

from itertools import islice

import numpy as np

import gradstep as gs
from _shared import panels, run

START, ETA, BETA, EPS, STEPS = 10.0, 0.1, 0.9, 1e-8, 100


def gradient(x):
    return 2 * x


def gradient_descent(x):
    while True:
        yield x
        x = x - ETA * gradient(x)


def momentum(x):
    v = 0.0
    while True:
        yield x
        v = BETA * v - ETA * gradient(x)
        x = x + v


def nesterov(x):
    v = 0.0
    while True:
        yield x
        g = gradient(x)
        v = BETA * v - ETA * g
        x = x + (BETA * v - ETA * g)


def adagrad(x):
    s = 0.0
    while True:
        yield x
        g = gradient(x)
        s = s + g * g
        x = x - ETA * g / (np.sqrt(s) + EPS)


def with_gradstep(rule, x, **hyper):
    x = np.array([x])
    opt = rule(x, lr=ETA, **hyper)
    while True:
        yield x[0]
        opt.step(gradient(x))


METHODS = {
    "gradient descent": (gradient_descent, gs.GradientDescent, {}),
    "momentum": (momentum, gs.Momentum, {"momentum": BETA}),
    "Nesterov": (nesterov, gs.NAG, {"momentum": BETA}),
    "Adagrad": (adagrad, gs.Adagrad, {"eps": EPS}),
}


def course(xs):
    return np.array(list(islice(xs, STEPS + 1)))


def main():
    figure, (left, right) = panels()
    for name, (by_hand, rule, hyper) in METHODS.items():
        xs = course(by_hand(START))
        same = np.array_equal(xs, course(with_gradstep(rule, START, **hyper)))
        print(f"{name}: x = {xs[-1]:.17g} after {STEPS} steps, same bits: {same}")
        left.plot(xs, label=name)
        right.plot(np.abs(xs), label=name)
    print(f"10 * 0.8^100: {START * 0.8**STEPS:.17g}")
    for name, second in (("newton", {"hess": lambda x: 2 * np.eye(1)}), ("l-bfgs", {})):
        options = {"history": True}
        found = gs.minimize(lambda x: x @ x, [START], method=name, jac=gradient, options=options, **second)
        print(f"{name}: x = {found.x[0]:.3g}, steps: {found.nit}")
        left.plot(np.sqrt(found.history["fun"]), "o:", label=name)
    left.set(xlabel="step", ylabel="x", title="on the way to x = 0")
    right.set(xlabel="step", yscale="log", title="distance from the minimum")
    left.legend()
    return figure


if __name__ == "__main__":
    run(main)
