"""The L-BFGS method to convergence, without bounds and with them."""

from __future__ import annotations

from typing import Any

from gradstep.containers import Array
from gradstep.solve.objective import Objective
from gradstep.solve.search import STUCK, Search

TRIAL, MOVED, FAILED = range(3)


class Memory:
    """The vectors that the method works on.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    maxcor : int
        How many pairs are remembered.
    maxls : int
        How often a line search may evaluate.
    """

    def __init__(self, objective: Objective, maxcor: int, maxls: int) -> None:
        space = objective.space
        self.x, self.gradient, self.rows = space.copy(space.start), space.vector(), space.rows(2 * (maxcor + 1))
        self.native = space.backend.Lbfgs(self.x, objective.trial, self.gradient, self.rows, maxcor, maxls)
        objective.hold(self.native.set_trial)


def minimize(objective: Objective, search: Search, *, maxcor: int, maxls: int) -> Any:
    """Minimise from `objective.trial` on.

    Parameters
    ----------
    objective, search : Objective, Search
        What is minimised, and until when.
    maxcor, maxls : int
        As in `Memory`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `gradstep.minimize` returns it.
    """
    memory = Memory(objective, maxcor, maxls)
    native = memory.native
    native.begin(*objective.evaluate())

    def x() -> Array:
        native.settle()
        return objective.space.copy(objective.space.shaped(memory.x))

    over = search.begin(native.f, native.largest)
    if not over:
        native.advance()
    while not over and not search.spent():
        task = native.tell(*objective.evaluate())
        if task == MOVED:
            over = search.moved(native.f, native.largest, native.step_norm, x)
        elif task == FAILED:
            over = not native.pairs and search.end(STUCK, "the line search found no better point: is jac right?")
            native.forget()
        if task != TRIAL and not over:
            native.advance()
    native.settle()
    return search.result(memory.x, memory.gradient)
