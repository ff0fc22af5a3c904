"""How images are varied, each time one is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradstep.containers import is_sequence
from gradstep.hyperparameters import NON_NEGATIVE, Range, check_flag, check_float, check_whole

FINITE: Range = (lambda x: abs(x) < float("inf"), "a finite number")
MOST_PIXELS = 1 << 30  # of a side: places are drawn in 32 bits


@dataclass(frozen=True)
class Augment:
    r"""How images are varied, anew each time one is drawn: for ``minibatches(..., augment=)``.

    An image of height :math:`H` becomes :math:`h` of its lines, from one that is drawn from :math:`-s` to
    :math:`H - h + s` on, each place as likely as another, with the crop's height :math:`h` and the shift :math:`s`;
    its width likewise. What lies outside is filled. It is then mirrored or not, and noise is added to each element.
    What is drawn depends on the seed, the epoch and the position of the image in it, and on nothing else.

    Parameters
    ----------
    flip : bool, default False
        Mirror half of the images, left to right.
    shift : int or two of int, default 0
        Greatest number of pixels by which they are moved, up or down and to either side.
    crop : two of int, optional
        Height and width of the result; those of the image by default.
    noise : float, default 0.0
        Standard deviation of normally distributed numbers that are added, for float32 and float64.
    fill : float, default 0.0
        What lies outside of the image, after it was standardised.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> images = np.ones((100, 8, 8), np.float32)
    >>> (batch,) = next(gs.data.minibatches(images, batch_size=10, seed=0, augment=gs.data.Augment(shift=1)))
    >>> batch.shape, sorted({float(image.sum()) for image in batch})
    ((10, 8, 8), [49.0, 56.0])
    """

    flip: bool = False
    shift: int | tuple[int, int] = 0
    crop: tuple[int, int] | None = None
    noise: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "flip": check_flag("flip", self.flip),
            "shift": _two("shift", self.shift, 0) if is_sequence(self.shift) else _two("shift", [self.shift] * 2, 0),
            "crop": None if self.crop is None else _two("crop", self.crop, 1),
            "noise": check_float("noise", NON_NEGATIVE, self.noise),
            "fill": check_float("fill", FINITE, self.fill),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def out_shape(self, shape: tuple[int, ...], label: str = "images") -> tuple[int, ...]:
        """Return the shape of a result, for images of a shape.

        Parameters
        ----------
        shape : tuple of int
            Height and width of an image, and its channels, if there is an axis of them.
        label : str
            What the images are called in messages.

        Returns
        -------
        tuple of int
            The same, for the result.

        Raises
        ------
        ValueError
            If it is not the shape of an image, or one too small for the crop.
        """
        if len(shape) not in (2, 3) or max(shape[:2]) > MOST_PIXELS:
            raise ValueError(f"{label}: expected images of shape (N, H, W) or (N, H, W, C), got rows of shape {shape}")
        size = shape[:2] if self.crop is None else self.crop
        for had, wanted, shift in zip(shape, size, self._shifts, strict=False):
            if wanted > had + 2 * shift:
                raise ValueError(f"crop: expected at most {shape[:2]} and twice the shift, got {self.crop}")
        return (*size, *shape[2:])

    @property
    def _shifts(self) -> tuple[int, int]:
        assert isinstance(self.shift, tuple)
        return self.shift

    def _apply(self, native: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Tell the native rows of images of this shape, which become arrays of this dtype."""
        with np.errstate(invalid="ignore", over="ignore"):
            fill = np.array(self.fill).astype(dtype)
        if not np.isfinite(fill) or (dtype.kind in "iub" and float(fill) != self.fill):
            raise ValueError(f"fill: expected a number of {dtype}, got {self.fill!r}")
        if self.noise and dtype not in (np.float32, np.float64):
            raise TypeError(f'noise: expected images of floats, got {dtype}; dtype="float32" makes them such')
        height, width, *_ = self.out_shape(shape)
        size = (*shape[:2], int(np.prod(shape[2:], dtype=np.int64)))
        native.augment(size, (height, width), self._shifts, self.flip, self.noise, fill.tobytes())


def _two(name: str, value: Any, least: int) -> tuple[int, int]:
    if not is_sequence(value) or len(value) != 2:
        raise TypeError(f"{name}: expected two whole numbers, got {value!r}")
    first, second = (check_whole(name, one, least) for one in value)
    if max(first, second) > MOST_PIXELS:
        raise ValueError(f"{name}: expected at most {MOST_PIXELS} pixels, got {value!r}")
    return first, second
