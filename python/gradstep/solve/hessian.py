"""The user's Hessian, as a matrix or as what multiplies a vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gradstep.containers import Array, is_cuda, shown
from gradstep.solve.objective import Objective, without_ones
from gradstep.solve.vectors import as_array


class Hessian:
    """Second derivatives at a point.

    Parameters
    ----------
    objective : Objective
        Whose they are.
    hess, hessp : callable, optional
        As `minimize` got them.
    """

    def __init__(self, objective: Objective, hess: Any, hessp: Any) -> None:
        for name, given in (("hess", hess), ("hessp", hessp)):
            if given is not None and not callable(given):
                raise ValueError(f"{name}: expected a callable or None, got {shown(given)}")
        self.objective, self.hess, self.hessp = objective, hess, hessp
        self.nhev = 0

    @property
    def given(self) -> bool:
        """Whether there is one, or differences of gradients take its place."""
        return self.hess is not None or self.hessp is not None

    def matrix(self, x: Array) -> Array:
        """Return the matrix at a vector, checked, on its device; or the linear operator that `hess` gave."""
        space = self.objective.space
        n = space.n
        self.nhev += 1
        found = self.hess(self._own(x), *self.objective.args)
        if hasattr(found, "matvec"):  # a linear operator
            return found
        if space.on_device:
            if not is_cuda(found):
                raise TypeError(f"hess: expected a CUDA array, got {type(found).__name__}")
            from gradstep import device

            found = device.view(found)
        else:
            found = as_array(found.toarray() if hasattr(found, "toarray") else found, "hess")
        if found.dtype.kind not in "fiu":
            raise TypeError(f"hess: expected {space.dtype}, got {found.dtype}")
        if without_ones(found.shape) not in (without_ones((n, n)), without_ones(space.shape * 2)):
            raise ValueError(f"hess: expected shape {(n, n)}, got {found.shape}")
        return found.reshape(n, n)

    def at(self, x: Array, jac: Array, spent: Callable[[], bool]) -> Callable[[Array], Array]:
        """Return what multiplies a vector by the Hessian at `x`; without one, differences of gradients do."""
        objective = self.objective
        if self.hessp is not None:
            return lambda v: self._product(self._own(x), self._own(v))
        if self.hess is not None:
            matrix = self.matrix(x)
            if hasattr(matrix, "matvec"):
                return lambda v: objective.vector_of(matrix.matvec(v), "hess")
            return partial(_multiply, matrix)
        return Differences(objective, x, jac, spent)

    def _own(self, vector: Array) -> Array:
        space = self.objective.space
        return space.shaped(space.twin(vector))

    def _product(self, x: Array, v: Array) -> Array:
        self.nhev += 1
        found: Array = self.objective.vector_of(self.hessp(x, v, *self.objective.args), "hessp")
        return found


class Differences:
    """The Hessian by differences of gradients, from a point to beside it.

    Parameters
    ----------
    objective : Objective
        Whose gradients they are.
    x, jac : array
        The point, and the gradient there.
    spent : callable
        Whether no further evaluation is allowed.
    """

    def __init__(self, objective: Objective, x: Array, jac: Array, spent: Callable[[], bool]) -> None:
        self.spent = spent
        self.objective, self.x, self.jac, self.product = objective, x, jac, objective.space.vector()
        self.scale = objective.gap * (1 + objective.space.largest(x))
        # Down to where rounding and truncation share what the shorter step leaves; the last is the other way.
        self.shares = [objective.gap ** (k / 6) for k in range(4)]
        self.shares.append(-self.shares[-1])

    def __call__(self, v: Array) -> Array:
        """Return the product with a vector; where no gradient beside the point is finite, one that is not."""
        objective, space = self.objective, self.objective.space
        reach = self.scale / space.largest(v)
        for k, share in enumerate(self.shares):
            step = share * reach
            space.run([(objective.trial, [(1.0, self.x), (step, v)])])
            _, g = objective.evaluate()
            combination = (self.product, [(1 / step, g), (-1 / step, self.jac)])
            _, largest = space.run([combination], largest=g)
            if math.isfinite(largest):
                self.shares = self.shares[min(k, len(self.shares) - 2) :]  # the next vector's step begins here
                break
            if self.spent():
                break
        return self.product


def _multiply(matrix: Array, v: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # told by the method, with a status
        return (matrix @ v).astype(v.dtype, copy=False)
