"""Columns with mean 0 and variance 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gradstep import _cpu
from gradstep.containers import Array
from gradstep.data.rows import REAL, Rows, float_dtype, plain
from gradstep.hyperparameters import check_flag

Floats = npt.NDArray[np.float64]
FAR = 4  # standard deviations from the mean: what is subtracted on the way must not be further off
ROUNDING = 2.0**-40  # of it: the mean of a constant column is no further off


class Standardizer:
    r"""Standardises columns: :math:`z = (x - \mu) / \sigma`, with the mean and standard deviation of each.

    The moments are found in one pass over memory, in double, with the same bits whatever the number of threads and
    the device: chunks of rows, less the mean of the first, are summed up while they are in cache, and joined by the
    formulae of Chan et al. [1]_; once more, less a better number, where the first rows are far from the others.
    Rows may have any shape; each of their elements is a column.

    Parameters
    ----------
    with_mean : bool, default True
        Subtract the mean.
    with_std : bool, default True
        Divide by the standard deviation; columns that are constant stay as they are.

    Attributes
    ----------
    mean_, var_, scale_ : numpy.ndarray of float64
        Of each column: mean, variance (over n), and what is divided by; None before `fit`. `scale_` is None without
        `with_std`.
    n_samples_seen_ : int or numpy.ndarray of int
        How many rows there were; of each column, how many numbers, where some were NaN.

    Raises
    ------
    TypeError
        If an argument is no bool.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
       sample variances", COMPSTAT 1982.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> X = np.array([[1.0, 10.0], [3.0, 10.0]])
    >>> standardizer = gs.data.Standardizer().fit(X)
    >>> standardizer.mean_, standardizer.scale_
    (array([ 2., 10.]), array([1., 1.]))
    >>> standardizer.transform(X)
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean, self.with_std = check_flag("with_mean", with_mean), check_flag("with_std", with_std)
        self._forget()

    @classmethod
    def of(cls, mean: Any, scale: Any) -> Standardizer:
        """Return one with a mean and scale that are known.

        Parameters
        ----------
        mean, scale : array_like
            Numbers for all columns alike, or arrays that broadcast to the shape of a row, such as one of the channels.

        Returns
        -------
        Standardizer
            As if it had been fitted.

        Raises
        ------
        TypeError, ValueError
            If they are no finite numbers, or a scale is 0.

        Examples
        --------
        >>> import numpy as np
        >>> import gradstep as gs
        >>> gs.data.Standardizer.of(0, 255).transform(np.array([[0, 51, 255]], np.uint8))
        array([[0. , 0.2, 1. ]], dtype=float32)
        """
        made = cls()
        made.mean_, made.scale_ = _numbers("mean", mean), _numbers("scale", scale)
        with np.errstate(divide="ignore", over="ignore"):
            if not np.isfinite(1 / made.scale_).all():
                raise ValueError(f"scale: expected numbers whose inverse is finite, got {scale!r}")
        try:
            np.broadcast_shapes(made.mean_.shape, made.scale_.shape)
        except ValueError:
            words = f"expected a shape that goes with {made.mean_.shape}, that of mean, got {made.scale_.shape}"
            raise ValueError(f"scale: {words}") from None
        with np.errstate(over="ignore"):
            made.var_ = made.scale_**2
        return made

    def fit(self, X: Any, y: object = None) -> Standardizer:
        """Find the moments of the columns; those known before are forgotten.

        Parameters
        ----------
        X : array_like
            Rows of real numbers. NaN are left out.
        y : object, optional
            Not used; for scikit-learn's pipelines.

        Returns
        -------
        Standardizer
            This one.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If there are no rows, or numbers whose moments are not finite. Nothing was changed.
        """
        return self._join(X, None)

    def partial_fit(self, X: Any, y: object = None) -> Standardizer:
        """Join further rows to those seen before.

        Parameters
        ----------
        X : array_like
            Rows of real numbers, of the same shape. NaN are left out.
        y : object, optional
            Not used.

        Returns
        -------
        Standardizer
            This one.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If rows are of another shape, there are none, or their moments are not finite. Nothing was changed.
        """
        return self._join(X, self._moments)

    def fit_transform(self, X: Any, y: object = None) -> Array:
        """Fit to rows, and return them standardised.

        Parameters
        ----------
        X : array_like
            Rows of real numbers.
        y : object, optional
            Not used.

        Returns
        -------
        array
            As `transform` does.

        Raises
        ------
        TypeError, ValueError
            As `fit` does.
        """
        return self.fit(X).transform(X)

    def transform(self, X: Any, *, copy: bool = True) -> Array:
        """Return standardised rows.

        Parameters
        ----------
        X : array_like
            Rows of the shape that was fitted. NaN stay.
        copy : bool, default True
            False: write them into `X`, an array of float32 or float64.

        Returns
        -------
        array
            On the device of `X`: float32 for float32 and for numbers of at most 16 bits, else float64.

        Raises
        ------
        TypeError, ValueError
            If `X` is of another shape, or cannot be written to in place. Nothing was changed.
        """
        return self._applied(X, copy)

    def inverse_transform(self, X: Any, *, copy: bool = True) -> Array:
        """Return rows as they were before they were standardised, but for rounding.

        Parameters
        ----------
        X : array_like
            Rows as `transform` returned them.
        copy : bool, default True
            False: write them into `X`, an array of float32 or float64.

        Returns
        -------
        array
            As `transform` does.

        Raises
        ------
        TypeError, ValueError
            If `X` is of another shape, or cannot be written to in place. Nothing was changed.
        """
        return self._applied(X, copy, inverse=True)

    def get_params(self, deep: bool = True) -> dict[str, bool]:
        """Return the arguments that it was made with; for scikit-learn's `clone`.

        Parameters
        ----------
        deep : bool, default True
            Not used.

        Returns
        -------
        dict
            Of names and values.
        """
        return {"with_mean": self.with_mean, "with_std": self.with_std}

    def set_params(self, **params: Any) -> Standardizer:
        """Set arguments that it was made with; for scikit-learn's grid search. What was fitted stays.

        Parameters
        ----------
        **params : bool
            `with_mean` and `with_std`.

        Returns
        -------
        Standardizer
            This one.

        Raises
        ------
        TypeError, ValueError
            If one is no bool, or there is no such argument. Nothing was changed.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(f"{name}: expected with_mean or with_std")
            check_flag(name, value)
        for name, value in params.items():
            setattr(self, name, bool(value))
        if self._moments is not None:
            self._tell()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self.mean_ is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # whoever asks has it

        given = InputTags(one_d_array=True, three_d_array=True, allow_nan=True)
        kept = TransformerTags(preserves_dtype=["float64", "float32"])
        return Tags(None, TargetTags(required=False), kept, input_tags=given)

    def __repr__(self) -> str:
        return f"Standardizer(with_mean={self.with_mean}, with_std={self.with_std})"

    def _forget(self) -> None:
        self.mean_: Floats | None = None
        self.var_: Floats | None = None
        self.scale_: Floats | None = None
        self.n_samples_seen_: Any = 0
        self._near: Floats = np.zeros(())
        self._moments: Floats | None = None  # of each column less `_near`: count, mean and sum of squares

    def _join(self, X: Any, before: Floats | None) -> Standardizer:
        rows = Rows(plain(X, "X"), "X")
        if not rows.is_number:
            raise TypeError(f"X: expected {REAL}, got {rows.dtype}")
        if rows.n == 0:
            raise ValueError("X: expected at least one row, got none")
        if before is not None and before.shape[:-1] != rows.shape:
            raise ValueError(f"X: expected rows of shape {before.shape[:-1]}, got {rows.shape}")
        near = _near(rows, None if before is None else (self._near, before[..., 0] == 0))
        moments = self._moments_less(near, rows, before)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(moments[..., 1])
            far = (off > FAR * np.sqrt(moments[..., 2] / moments[..., 0])) & (off > ROUNDING * np.abs(near))
        if far.any():  # the first rows were unlike the others, which lose digits when that is subtracted
            near = np.where(far, near + moments[..., 1], near)
            moments = self._moments_less(near, rows, before)
        if not np.isfinite(moments).all():
            raise ValueError("X: expected finite numbers or NaN, got infinity or numbers too large")
        self._near, self._moments = near, moments
        self._tell()
        return self

    def _moments_less(self, near: Floats, rows: Rows, before: Floats | None) -> Floats:
        moments: Floats = rows.moments(near)
        if before is None:
            return moments
        before = before.copy()
        before[..., 1] += self._near - near
        return _joined(before, moments)

    def _tell(self) -> None:
        moments = self._moments
        assert moments is not None
        count = moments[..., 0]
        some = np.where(count > 0, count, np.nan)
        self.mean_, self.var_ = self._near + moments[..., 1] + 0 * some, moments[..., 2] / some
        self.scale_ = None
        if self.with_std:
            eps = np.finfo(np.float64).eps
            with np.errstate(over="ignore"):
                constant = self.var_ <= count * eps * self.var_ + (count * self.mean_ * eps) ** 2
            self.scale_ = np.sqrt(np.where(constant, 1.0, self.var_))
        whole = count.astype(np.int64)
        self.n_samples_seen_ = int(whole.flat[0]) if whole.size and (whole == whole.flat[0]).all() else whole

    def _columns_of(self, rows: Rows) -> tuple[Floats, Floats]:
        # What is subtracted from rows, and what they are then multiplied by.
        if self.mean_ is None:
            raise ValueError("Standardizer: expected a fitted one; call fit first")
        if self._moments is not None and rows.shape != self._moments.shape[:-1]:
            raise ValueError(f"{rows.label}: expected rows of shape {self._moments.shape[:-1]}, got {rows.shape}")
        shift = self.mean_ if self.with_mean else np.zeros_like(self.mean_)
        return shift, np.ones_like(shift) if self.scale_ is None or not self.with_std else 1 / self.scale_

    def _applied(self, X: Any, copy: bool, inverse: bool = False) -> Array:
        array = plain(X, "X")
        rows = Rows(array, "X")
        shift, factor = self._columns_of(rows)
        if inverse:
            with np.errstate(over="ignore"):
                shift, factor = -shift * factor, 1 / factor
        dtype = float_dtype(rows.dtype)
        out = array
        if check_flag("copy", copy):
            out = rows.empty((rows.n, *rows.shape), dtype)
        else:
            _refuse_unless_written(X, array, rows, dtype)
        rows.standardise(dtype, shift, factor)
        rows.native.gather(0, 0, 0, rows.n, None, out, rows.stream)
        return out


def _near(rows: Rows, known: tuple[Floats, Any] | None) -> Floats:
    """Return a number near those of each column: the mean of its first rows, of all where these are NaN.

    `known` are those found before, and the columns that had no number yet.
    """
    near, unseen = known or (np.zeros(rows.shape), np.ones(rows.shape, bool))
    for most in (_cpu.chunk_rows, None):
        if unseen.any():
            found = rows.moments(near, most)
            near = np.where(unseen, found[..., 1], near)
            unseen = unseen & (found[..., 0] == 0)
    return near


def _joined(a: Floats, b: Floats) -> Floats:
    # As csrc/rows.h does.
    count, delta = a[..., 0] + b[..., 0], b[..., 1] - a[..., 1]
    share = b[..., 0] / np.where(count > 0, count, 1)
    with np.errstate(over="ignore", invalid="ignore"):  # told by the caller
        squares = a[..., 2] + b[..., 2] + delta * delta * (a[..., 0] * share)
    both = np.stack((count, a[..., 1] + delta * share, squares), -1)
    return np.where(a[..., :1] == 0, b, np.where(b[..., :1] == 0, a, both))


def _refuse_unless_written(X: Any, array: Array, rows: Rows, dtype: np.dtype[Any]) -> None:
    if array.dtype != dtype:
        raise TypeError(f"X: expected float32 or float64 to write to, got {array.dtype}")
    rows.backend.check(X, "X", "")
    if not array.flags.c_contiguous:
        raise ValueError("X: expected a C-contiguous array to write to")


def _numbers(name: str, value: Any) -> Floats:
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {value!r}") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers, got {value!r}")
    return found
