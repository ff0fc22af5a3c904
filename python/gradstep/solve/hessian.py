"""The user's Hessian, as a matrix or as what multiplies a vector."""

from __future__ import annotations

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

    def at(self, x: Array, jac: Array) -> Callable[[Array], Array]:
        """Return what multiplies a vector by the Hessian at `x`; without one, differences of gradients do."""
        objective, space = self.objective, self.objective.space
        if self.hessp is not None:
            return lambda v: self._product(self._own(x), self._own(v))
        if self.hess is not None:
            matrix = self.matrix(x)
            if hasattr(matrix, "matvec"):
                return lambda v: objective.vector_of(matrix.matvec(v), "hess")
            return partial(_multiply, matrix)
        scale = objective.gap * (1 + space.largest(x))
        product = space.vector()

        def differences(v: Array) -> Array:
            step = scale / space.largest(v)
            space.run([(objective.trial, [(1.0, x), (step, v)])])
            _, g = objective.evaluate()
            space.run([(product, [(1 / step, g), (-1 / step, jac)])])
            return product

        return differences

    def _own(self, vector: Array) -> Array:
        space = self.objective.space
        return space.shaped(space.twin(vector))

    def _product(self, x: Array, v: Array) -> Array:
        self.nhev += 1
        found: Array = self.objective.vector_of(self.hessp(x, v, *self.objective.args), "hessp")
        return found


def _multiply(matrix: Array, v: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # told by the method, with a status
        return (matrix @ v).astype(v.dtype, copy=False)
