"""Newton's method, damped: a shift makes the Hessian positive definite, backtracking makes the function fall.

J. Nocedal and S. J. Wright, "Numerical Optimization" (2006), section 3.4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradstep.containers import Array
from gradstep.solve.hessian import Hessian
from gradstep.solve.objective import CREEP, CREEPING, Objective, Point
from gradstep.solve.search import NOT_FINITE, STUCK, Search
from gradstep.solve.shifted import Shifted

DECREASE = 1e-4  # the share of what the slope promises that a step must bring
HALVINGS = 128
REACH = 2.0**20  # the longest step, in units of 1 and x: from where the function is flat it would be of any length
FARTHER = 16.0  # than a step that had to be shortened the next one may lead


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
    solver = Shifted(space.on_device)
    creeping, reach = 0, math.inf
    over = search.begin(point.f, point.largest)
    while not over:
        reach = min(reach, REACH * (1 + space.largest(point.x)))
        found = solver.solve(_matrix(hessian, point.x), point.jac, reach)
        if found is None:
            over = search.end(NOT_FINITE, f"hess is not finite in {space.dtype} at x, iteration {search.nit}")
            break
        with np.errstate(over="ignore"):  # in float32; no step along it then lowers fun
            found = found.astype(space.dtype, copy=False)
        space.run([(direction, [(-1.0, found)])])
        (slope, square), _ = space.run([], [((direction,), (point.jac, direction))])
        step = backtrack(search, point, direction, slope)
        if step < 1:
            solver.share = 1.0
        length = space.largest(direction)
        reach = FARTHER * step * length if step < 1 or length > 0.99 * reach else math.inf
        if step == 0:
            over = search.status != STUCK or search.stuck("no step along the direction lowers fun")
        else:
            over = search.moved(point.f, point.largest, step * math.sqrt(square), lambda: space.twin(point.x))
            creeping = creeping + 1 if step < 1 and not point.moves(step, direction, CREEP) else 0
            if CREEPING in (creeping, point.stale) and not over:
                over = search.stuck("steps change fun, or where they are shortened x, no more than rounding does")
    return search.result(point.x, point.jac, nhev=hessian.nhev)


def _matrix(hessian: Hessian, x: Array) -> Array:
    """Return the Hessian in the dtype of gradients: what is less than their rounding is no curvature of theirs."""
    matrix = hessian.matrix(x)
    if hasattr(matrix, "matvec"):
        raise TypeError(f"hess: method 'newton' needs a matrix, got {type(matrix).__name__}")
    with np.errstate(over="ignore"):
        return matrix.astype(x.dtype, copy=False)


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
