r"""Newton and L-BFGS against gradient descent, on an ill-conditioned fit.

A polynomial :math:`p(t) = \sum_k w_k t^k` is fitted to noisy data by minimising :math:`f(w) = \frac{1}{2n} \lVert
Xw - y \rVert^2 + \frac{\lambda}{2} \lVert w \rVert^2`. The powers of t resemble each other, so the eigenvalues of the
Hessian :math:`H = X^T X / n + \lambda I` differ by a factor :math:`\kappa`, its condition number. Gradient descent
needs of the order of :math:`\kappa` steps for each digit, momentum, with its best rates, :math:`\sqrt\kappa`. L-BFGS
learns the curvature from the gradients it has seen; Newton knows it, and a quadratic takes it one step.
"""

import numpy as np

import gradstep as gs
from _shared import panels, run

DEGREE, RIDGE, LIMIT = 7, 1e-6, 20_000


def main():
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 100)
    y = np.sin(2 * np.pi * t) + 0.1 * rng.standard_normal(t.size)
    X = np.vander(t, DEGREE + 1, increasing=True)
    H = X.T @ X / t.size + RIDGE * np.eye(DEGREE + 1)
    least, most = np.linalg.eigvalsh(H)[[0, -1]]
    print(f"condition number: {most / least:.2g}")

    def loss_and_gradient(w):
        error = X @ w - y
        return (error @ error / t.size + RIDGE * w @ w) / 2, X.T @ error / t.size + RIDGE * w

    r = (np.sqrt(most) - np.sqrt(least)) / (np.sqrt(most) + np.sqrt(least))
    methods = {
        "gd": {"lr": 2 / (most + least)},
        "momentum": {
            "lr": 4 / (np.sqrt(most) + np.sqrt(least)) ** 2,
            "momentum": r**2,
        },  # Polyak's, best for quadratics
        "l-bfgs": {"ftol": 0.0},
        "newton": {},
    }
    found, start = {}, np.zeros(DEGREE + 1)
    for name, options in methods.items():
        options = {"history": True, "gtol": 1e-8, "maxiter": LIMIT, **options}
        hess = (lambda w: H) if name == "newton" else None
        found[name] = one = gs.minimize(loss_and_gradient, start, method=name, jac=True, hess=hess, options=options)
        error = np.linalg.norm(one.x - np.linalg.solve(H, X.T @ y / t.size))
        print(f"{name}: steps: {one.nit}, evaluations: {one.nfev}, distance: {error:.1g}, converged: {one.success}")

    figure, (left, right) = panels()
    gs.plot.convergence(found, ax=left)
    left.set_xscale("symlog")
    left.set(xlim=(0, None), title="f above its lowest; dashed: its gradient")
    left.legend(left.lines[::2], found, loc="lower left", bbox_to_anchor=(0.1, 0))  # dashes are told by the title
    right.plot(t, y, ".", color="grey")
    for name, one in found.items():
        right.plot(t, X @ one.x, label=name)
    right.set(xlabel="t", title=f"the fits, condition number {most / least:.1g}")
    right.legend(loc="lower left")
    return figure


if __name__ == "__main__":
    run(main)
