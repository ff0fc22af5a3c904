"""Linear systems of symmetric matrices that may be indefinite or singular, solved by Cholesky's factorisation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradstep.containers import Array

SHIFT, SMALLER = 1e-3, 1 / 16  # of a singular matrix, relative to its greatest element; after each good step
ACCURACY = 1024 * float(np.finfo(np.float64).eps)  # of pivots, relative to the diagonal: what is less tells nothing


class Shifted:
    """Solves with a matrix plus as small a multiple of the identity as makes it positive definite.

    Of a singular one that multiple falls only as long as steps are good: a small one from the first would follow the
    rounding of gradients to wherever the function is level.

    Parameters
    ----------
    on_device : bool
        Whether arrays are on a CUDA device.

    Attributes
    ----------
    share : float
        Of SHIFT: what a singular matrix gets first. Whoever has to shorten a step sets it to 1 again.
    """

    def __init__(self, on_device: bool) -> None:
        self.lapack = Device() if on_device else Host()
        self.share = 1.0

    def solve(self, matrix: Array, jac: Array, reach: float) -> Array | None:
        """Return the solution, cut to a greatest magnitude; None if the matrix is not finite.

        Parameters
        ----------
        matrix, jac : array
            The Hessian and the gradient.
        reach : float
            That magnitude.
        """
        scale = self.lapack.largest(matrix)
        if not math.isfinite(scale):
            return None
        safe = SHIFT * scale or 1.0
        for shift in self._shifts(safe, max(self.share * safe, 2 * ACCURACY * scale), self.lapack.lowest(matrix)):
            found = self.lapack.solve(matrix, shift, jac)
            if found is not None:
                if 0 < shift < 2 * safe:
                    self.share = SMALLER * min(shift / safe, 1.0)
                return found * (reach / max(reach, self.lapack.largest(found)))
        return None

    def _shifts(self, safe: float, small: float, lowest: float) -> Iterator[float]:
        if lowest > 0:
            yield 0.0
        shift = small - min(lowest, 0.0) if lowest > -small else safe - lowest
        while math.isfinite(shift):
            yield shift
            shift = max(2 * shift, safe)


class Host:
    """Cholesky's factorisation by SciPy."""

    def largest(self, matrix: Array) -> float:
        """Return the greatest magnitude of an element."""
        return float(np.abs(matrix).max(initial=0.0))

    def lowest(self, matrix: Array) -> float:
        """Return the lowest element of the diagonal."""
        return float(matrix.diagonal().min())

    def solve(self, matrix: Array, shift: float, jac: Array) -> Array | None:
        """Solve with the shifted matrix; None if it is not positive definite, but for rounding."""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        shifted = np.array(matrix, dtype=np.float64)
        shifted[np.diag_indices_from(shifted)] += shift
        try:
            factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        if (factor[0].diagonal() ** 2 <= ACCURACY * matrix.diagonal()).any():
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
        """Solve with the shifted matrix; None if it is not positive definite, but for rounding."""
        import cupy
        import cupyx
        from cupyx.scipy.linalg import solve_triangular

        shifted = matrix.astype(np.float64) + shift * cupy.eye(len(matrix))
        try:
            with cupyx.errstate(linalg="raise"):  # or a matrix that has none may leave anything
                factor = cupy.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            return None
        if bool((factor.diagonal() ** 2 <= ACCURACY * matrix.diagonal()).any()):
            return None
        found = solve_triangular(factor, jac.astype(np.float64), lower=True)
        found = solve_triangular(factor, found, lower=True, trans=1)
        return found if bool(cupy.isfinite(found).all()) else None
