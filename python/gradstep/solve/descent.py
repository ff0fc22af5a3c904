"""First-order rules, step by step until the function has converged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradstep.containers import Array
from gradstep.optimizer import Optimizer
from gradstep.solve.objective import Objective
from gradstep.solve.search import NOT_FINITE, Search


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
    space = objective.space
    x, before, after, move, jac, spare = (space.vector() for _ in range(6))
    space.run([(x, [(1.0, objective.trial)]), (after, [(1.0, x)])])
    try:
        optimizer = rule(x, **hypers)
    except (TypeError, ValueError) as error:
        raise type(error)(f"options: {error}") from None
    f, largest = _evaluate(objective, jac)
    over = search.begin(f, largest)
    while not over:
        optimizer.step(jac)
        before, after = after, before
        steps = [(move, [(1.0, x), (-1.0, before)]), (after, [(1.0, x)]), (objective.trial, [(1.0, x)])]
        (square,), _ = space.run(steps, [((move,), (move,))])
        f, largest = _evaluate(objective, spare)
        if math.isfinite(f) and math.isfinite(largest):
            jac, spare = spare, jac
            over = search.moved(f, largest, math.sqrt(square), lambda: space.copy(space.shaped(x)))
        else:
            over = search.end(
                NOT_FINITE, f"fun or its gradient is not finite after a step from x, iteration {search.nit}: lower lr"
            )
            space.run([(x, [(1.0, before)])])
    return search.result(x, jac)


def _evaluate(objective: Objective, jac: Array) -> tuple[float, float]:
    """Evaluate, keep the gradient, and return the value and the greatest magnitude in the gradient."""
    f, g = objective.evaluate()
    _, largest, value = objective.space.verbs.run([(jac, [(1.0, g)])], [], jac, f)
    return value, largest
