"""Newton's method without a matrix: conjugate gradients, cut short within a trust region.

T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM Journal on
Numerical Analysis 20 (1983), 626-637.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradstep.containers import Array
from gradstep.solve.hessian import Hessian
from gradstep.solve.objective import CREEP, CREEPING, Objective, Point
from gradstep.solve.search import NOT_FINITE, Search
from gradstep.solve.vectors import Space

WIDEST, NARROWEST = 1e10, 1e-14  # of the region, relative to its first radius, and to x


def minimize(objective: Objective, search: Search, *, hessian: Hessian) -> Any:
    """Minimise from `objective.trial` on.

    Parameters
    ----------
    objective, search : Objective, Search
        What is minimised, and until when.
    hessian : Hessian
        Of the objective; without `hess` and `hessp` its products come from differences of gradients.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `gradstep.minimize` returns it.
    """
    space = objective.space
    point, inner = Point(objective), Inner(space)
    point.keep(*point.evaluate())
    over = search.begin(point.f, point.largest)
    radius = max(1.0, 1024 * float(np.finfo(space.dtype).eps) * space.largest(point.x))  # to be told from rounding
    widest = WIDEST * radius
    while not over:
        product = hessian.at(point.x, point.jac, search.spent)
        promised, square = inner.solve(product, point.jac, point.largest, radius, search.spent)
        if search.spent():
            over = True
        elif not math.isfinite(promised):
            what = "a product of the Hessian is" if hessian.given else "gradients beside x, for differences, are"
            over = search.end(NOT_FINITE, f"{what} not finite, iteration {search.nit}")
        elif promised <= 0:
            over = search.stuck("the gradient shows no direction of descent")
        else:
            norm = math.sqrt(square)
            taken, ratio = _try(point, inner.step, promised)
            if ratio < 0.25:
                radius = 0.25 * norm
            elif ratio > 0.75 and norm > 0.99 * radius:
                radius = min(2 * radius, widest)
            if taken:
                over = search.moved(point.f, point.largest, norm, lambda: space.twin(point.x))
                if point.stale == CREEPING and not over:
                    over = search.stuck("steps change fun no more than rounding does")
            elif radius <= NARROWEST * (1 + space.largest(point.x)) and not point.moves(1.0, inner.step, CREEP, 1.0):
                over = search.stuck("no step within the trust region lowers fun")
    return search.result(point.x, point.jac, nhev=hessian.nhev)


def _try(point: Point, step: Array, promised: float) -> tuple[bool, float]:
    """Evaluate after a step; take it if the function falls. Return whether, and how much of the promise it kept."""
    f, largest = point.look(1.0, step)
    if not (math.isfinite(f) and math.isfinite(largest)):
        return False, -math.inf
    ratio = 1.0 if point.level(f, largest) else (point.f - f) / promised
    if ratio <= 1e-4:
        return False, ratio
    point.move(1.0, step, f, largest)
    return True, ratio


class Inner:
    """Steihaug's conjugate gradients, with the vectors that they need.

    Parameters
    ----------
    space : Space
        Where they live.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.step, self.residual, self.along = (space.vector() for _ in range(3))

    def solve(
        self, product: Any, jac: Array, largest: float, radius: float, spent: Callable[[], bool]
    ) -> tuple[float, float]:
        """Minimise the quadratic model within the region, to `step`.

        Parameters
        ----------
        product : callable
            Multiplies a vector by the Hessian.
        jac : array
            The gradient.
        largest : float
            Its greatest magnitude.
        radius : float
            Of the region.
        spent : callable
            Whether no further evaluation is allowed, which ends it.

        Returns
        -------
        tuple of float
            By how much the model falls, and the square of the step's norm.
        """
        space, step, residual, along = self.space, self.step, self.residual, self.along
        # Residuals and directions in units of the gradient, which may be too great or too small to square.
        unit = 2.0 ** max(math.frexp(largest)[1] - 1, int(np.finfo(space.dtype).minexp))
        begin = [(step, [(0.0, jac)]), (residual, [(1 / unit, jac)]), (along, [(-1 / unit, jac)])]
        (square,), _ = space.run(begin, [((residual,), (residual,))])
        enough = min(0.5, math.sqrt(unit * math.sqrt(square))) * math.sqrt(square)
        fallen = step_step = step_along = 0.0
        along_along = square
        for _ in range(2 * space.n):
            if spent():
                break
            times = product(along)
            curvature = space.dot(along, times)
            if not math.isfinite(curvature):
                return math.nan, 0.0
            length = unit * square / curvature if curvature > 0 else math.inf
            if length == math.inf or step_step + length * (2 * step_along + length * along_along) >= radius * radius:
                length = _to_edge(step_step, step_along, along_along, radius)
                space.run([(step, [(1.0, step), (length, along)])])
                return unit * (fallen + length * square) - 0.5 * length * length * curvature, radius * radius
            fallen += 0.5 * length * square
            changes = [(step, [(1.0, step), (length, along)]), (residual, [(1.0, residual), (length / unit, times)])]
            (next_square, step_step), _ = space.run(changes, [((residual,), (residual,)), ((step,), (step,))])
            if math.sqrt(next_square) <= enough:
                break
            share, square = next_square / square, next_square
            turn = [(along, [(-1.0, residual), (share, along)])]
            (along_along, step_along), _ = space.run(turn, [((along,), (along, step))])
        return unit * fallen, step_step


def _to_edge(step_step: float, step_along: float, along_along: float, radius: float) -> float:
    """How far it is along a direction to the edge of the region."""
    if along_along == 0:  # too short to square
        return 0.0
    rest = radius * radius - step_step
    root = math.sqrt(step_along * step_along + along_along * max(rest, 0.0))
    return rest / (step_along + root) if step_along > 0 else (root - step_along) / along_along
