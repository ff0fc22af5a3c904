"""First-order rules, step by step until the function has converged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from inspect import signature
from typing import Any

from gradstep.optimizer import Optimizer
from gradstep.solve.objective import Objective, Point
from gradstep.solve.search import NOT_FINITE, Search


def defaults(rule: type[Optimizer]) -> dict[str, Any]:
    """Return the hyperparameters of a rule, with their defaults."""
    return {name: p.default for name, p in signature(rule).parameters.items() if p.kind is p.KEYWORD_ONLY}


def minimize(rule: type[Optimizer], objective: Objective, search: Search, *, hypers: Mapping[str, Any]) -> Any:
    """Minimise from `objective.trial` on, by steps of a rule.

    Parameters
    ----------
    rule : type
        Class of the optimizer.
    objective, search : Objective, Search
        What is minimised, and until when.
    hypers : mapping
        Hyperparameters of the rule.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `gradstep.minimize` returns it.
    """
    space, point = objective.space, Point(objective)
    x, before, after, move = point.x, space.vector(), space.twin(point.x), space.vector()
    try:
        optimizer = rule(x, **hypers)
    except (TypeError, ValueError) as error:
        raise type(error)(f"options: {error}") from None
    point.keep(*point.evaluate())
    over = search.begin(point.f, point.largest)
    while not over:
        optimizer.step(point.jac)
        before, after = after, before
        steps = [(move, [(1.0, x), (-1.0, before)]), (after, [(1.0, x)]), (objective.trial, [(1.0, x)])]
        (square,), _ = space.run(steps, [((move,), (move,))])
        f, largest = point.evaluate()
        if math.isfinite(f) and math.isfinite(largest):
            point.keep(f, largest)
            over = search.moved(f, largest, math.sqrt(square), lambda: space.twin(x))
        else:
            over = search.end(
                NOT_FINITE, f"fun or its gradient is not finite after a step from x, iteration {search.nit}: lower lr"
            )
            space.run([(x, [(1.0, before)])])
    return search.result(x, point.jac)
