"""Newton's method, damped: a shift makes the Hessian positive definite, backtracking makes the function fall.

J. Nocedal and S. J. Wright, "Numerical Optimization" (2006), section 3.4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradstep.containers import Array
from gradstep.solve.hessian import Hessian
from gradstep.solve.objective import CREEP, Objective, Point
from gradstep.solve.search import NOT_FINITE, STUCK, Search

DECREASE = 1e-4  # the share of what the slope promises that a step must bring
HALVINGS = 128
CREEPING = 8  # shortened steps in a row, as beside a wall of NaN


def minimize(objective: Objective, search: Search, *, hessian: Hessian) -> Any:
    """Minimise from `objective.trial` on.

    Parameters
    ----------
    objective, search : Objective, Search
        What is minimised, and until when.
    hessian : Hessian
        Of the objective.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `gradstep.minimize` returns it.
    """
    if hessian.hess is None:
        raise ValueError("hess: method 'newton' needs one; 'newton-cg' does without")
    space = objective.space
    direction, point = space.vector(), Point(objective)
    point.keep(*point.evaluate())
    creeping = 0
    over = search.begin(point.f, point.largest)
    while not over:
        matrix = hessian.matrix(point.x)
        if hasattr(matrix, "matvec"):
            raise TypeError(f"hess: method 'newton' needs a matrix, got {type(matrix).__name__}")
        found = solve(matrix, point.jac, space.on_device)
        if found is None:
            over = search.end(NOT_FINITE, f"hess is not finite at x, iteration {search.nit}")
            break
        with np.errstate(over="ignore"):  # in float32; no step along it then lowers fun
            found = found.astype(space.dtype, copy=False)
        space.run([(direction, [(-1.0, found)])])
        (slope, square), _ = space.run([], [((direction,), (point.jac, direction))])
        step = backtrack(search, point, direction, slope)
        if step == 0:
            over = search.status != STUCK or search.stuck("no step along the direction lowers fun")
        else:
            over = search.moved(point.f, point.largest, step * math.sqrt(square), lambda: space.twin(point.x))
            creeping = creeping + 1 if step < 1 and not point.moves(step, direction, CREEP) else 0
            if creeping == CREEPING and not over:
                over = search.stuck("shortened steps change x no more than rounding does")
    return search.result(point.x, point.jac, nhev=hessian.nhev)


def backtrack(search: Search, point: Point, direction: Array, slope: float) -> float:
    """Halve the step from 1 on until the function falls enough, and take it; return the step, or 0 if there is none.

    Parameters
    ----------
    search : Search
        Limits the evaluations.
    point : Point
        Where from; it moves.
    direction : array
        Where to.
    slope : float
        Of the function along the direction.
    """
    step = 1.0
    for _ in range(HALVINGS):
        if search.spent() or not point.moves(step, direction, 0.25):
            return 0.0
        f, largest = point.look(step, direction)
        falls = f < point.f and f - point.f <= DECREASE * step * slope
        if math.isfinite(f) and math.isfinite(largest) and (falls or point.level(f, largest)):
            point.move(step, direction, f, largest)
            return step
        step /= 2
    return 0.0


def solve(matrix: Array, jac: Array, on_device: bool) -> Array | None:
    """Solve with the matrix, plus as small a multiple of the identity as makes it positive definite.

    Parameters
    ----------
    matrix, jac : array
        The Hessian and the gradient.
    on_device : bool
        Whether they are on a CUDA device.

    Returns
    -------
    array or None
        None if the matrix is not finite.
    """
    lapack = Device() if on_device else Host()
    scale = lapack.largest(matrix)
    if not math.isfinite(scale):
        return None
    least = 1e-3 * scale or 1.0  # less would follow the gradient's rounding where the matrix is singular
    lowest = lapack.lowest(matrix)
    shift = 0.0 if lowest > 0 else least - lowest
    while math.isfinite(shift):
        found = lapack.solve(matrix, shift, jac)
        if found is not None:
            return found
        shift = max(2 * shift, least)
    return None


class Host:
    """Cholesky's factorisation by SciPy."""

    def largest(self, matrix: Array) -> float:
        """Return the greatest magnitude of an element."""
        return float(np.abs(matrix).max(initial=0.0))

    def lowest(self, matrix: Array) -> float:
        """Return the lowest element of the diagonal."""
        return float(matrix.diagonal().min())

    def solve(self, matrix: Array, shift: float, jac: Array) -> Array | None:
        """Solve with the shifted matrix; None if it is not positive definite."""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        shifted = np.array(matrix, dtype=np.float64)
        shifted[np.diag_indices_from(shifted)] += shift
        try:
            factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        found = cho_solve(factor, jac.astype(np.float64), check_finite=False)
        return found if np.isfinite(found).all() else None


class Device:
    """Cholesky's factorisation by CuPy."""

    def largest(self, matrix: Array) -> float:
        """Return the greatest magnitude of an element."""
        return float(abs(matrix).max())

    def lowest(self, matrix: Array) -> float:
        """Return the lowest element of the diagonal."""
        return float(matrix.diagonal().min())

    def solve(self, matrix: Array, shift: float, jac: Array) -> Array | None:
        """Solve with the shifted matrix; None if it is not positive definite."""
        import cupy
        import cupyx
        from cupyx.scipy.linalg import solve_triangular

        shifted = matrix.astype(np.float64) + shift * cupy.eye(len(matrix))
        try:
            with cupyx.errstate(linalg="raise"):  # or a matrix that has none may leave anything
                factor = cupy.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            return None
        found = solve_triangular(factor, jac.astype(np.float64), lower=True)
        found = solve_triangular(factor, found, lower=True, trans=1)
        return found if bool(cupy.isfinite(found).all()) else None
