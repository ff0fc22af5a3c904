"""The seven rules as people write them in NumPy: the yardstick of the demo and the benchmarks.

Every line makes temporaries and takes several passes over memory, yet the bits are those of gradstep.
Hyperparameters stay Python floats: NumPy rounds each once, to the dtype of the array it meets, which must
have one dimension or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = dict[str, Array]


def power(beta: float, n: int) -> float:
    """Raise to a whole power by repeated squaring, the same on every machine.

    Parameters
    ----------
    beta : float
        The base.
    n : int
        The exponent, 0 or more.

    Returns
    -------
    float
        `beta` to the power `n`.

    Examples
    --------
    >>> power(0.5, 3)
    0.125
    """
    result = 1.0
    while n:
        if n & 1:
            result *= beta
        beta *= beta
        n >>= 1
    return result


class GradientDescent:
    """Gradient descent, and the loop over arrays that all rules share.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    weight_decay : float, default 0.0
        Coupled: added to the gradient.

    Examples
    --------
    >>> x = np.array([10.0])
    >>> GradientDescent(lr=0.1).step([x], [2 * x])
    >>> x
    array([8.])
    """

    states: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False

    def __init__(self, *, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = 0
        self._states: list[State] = []

    def step(self, params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Update every parameter in place.

        Parameters
        ----------
        params : sequence of arrays
            The same ones at every call.
        grads : sequence of arrays
            One for each parameter.
        """
        if not self.steps:
            self._states = [{name: np.zeros_like(p) for name in self.states} for p in params]
        self.steps += 1
        for p, g, state in zip(params, grads, self._states, strict=True):
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * p
            self.update(p, g, state)

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place.

        Parameters
        ----------
        p, g : array
            The parameter and its gradient, coupled weight decay added.
        state : dict of arrays
            What the rule remembers of `p`.
        """
        p -= self.lr * g


class SGD(GradientDescent):
    """Stochastic gradient descent with PyTorch's momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum, dampening : float, default 0.0
        Of the buffer.
    nesterov : bool, default False
        Nesterov's form.
    weight_decay : float, default 0.0
        Coupled: added to the gradient.
    """

    states = ("buf",)

    def __init__(
        self,
        *,
        lr: float = 0.01,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place; without momentum as gradient descent does."""
        if not self.momentum:
            return super().update(p, g, state)
        undamped = 1.0 if self.steps == 1 else 1 - self.dampening
        buf = state["buf"] = self.momentum * state["buf"] + undamped * g
        p -= self.lr * (g + self.momentum * buf if self.nesterov else buf)


class Momentum(GradientDescent):
    """Momentum, with the learning rate inside the velocity.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        How much of the velocity stays.
    weight_decay : float, default 0.0
        Coupled: added to the gradient.
    """

    states = ("v",)

    def __init__(self, *, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        self.momentum = momentum

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place."""
        v = state["v"] = self.momentum * state["v"] - self.lr * g
        p += v


class NAG(Momentum):
    """Nesterov's accelerated gradient, in Bengio's form; parameters as `Momentum`."""

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place."""
        v = state["v"] = self.momentum * state["v"] - self.lr * g
        p += self.momentum * v - self.lr * g


class Adagrad(GradientDescent):
    """Adagrad.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    eps : float, default 1e-8
        Added outside the root.
    weight_decay : float, default 0.0
        Coupled: added to the gradient.
    """

    states = ("s",)

    def __init__(self, *, lr: float = 0.01, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        self.eps = eps

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place."""
        s = state["s"] = state["s"] + g * g
        p -= self.lr * g / (np.sqrt(s) + self.eps)


class Adam(GradientDescent):
    """Adam.

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    betas : pair of float, default (0.9, 0.999)
        How much of the two running means stays.
    eps : float, default 1e-8
        Added outside the root.
    weight_decay : float, default 0.0
        Coupled: added to the gradient.
    """

    states = ("m", "v")

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay)
        self.betas = betas
        self.eps = eps

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place."""
        b1, b2 = self.betas
        fix1 = 1 / (1 - power(b1, self.steps))
        fix2 = 1 / (1 - power(b2, self.steps))
        m = state["m"] = b1 * state["m"] + (1 - b1) * g
        v = state["v"] = b2 * state["v"] + (1 - b2) * (g * g)
        p -= self.lr * (fix1 * m / (np.sqrt(fix2 * v) + self.eps))


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    betas : pair of float, default (0.9, 0.999)
        How much of the two running means stays.
    eps : float, default 1e-8
        Added outside the root.
    weight_decay : float, default 0.01
        Decoupled: parameters shrink by it, times `lr`.
    """

    decoupled = True

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p: Array, g: Array, state: State) -> None:
        """Update one parameter in place."""
        p *= 1 - self.lr * self.weight_decay
        super().update(p, g, state)
