r"""The optimizers: one class a rule.

In every formula :math:`\theta` is a parameter and :math:`g` its gradient. With ``maximize=True`` g is negated
first; a coupled ``weight_decay`` :math:`\lambda` then adds :math:`\lambda\theta` to it. Operations are rounded
one by one in the order written, in the arrays' own dtype, so every machine gives the same bits.

Arrays are float32, float64, float16, bfloat16 (of ml_dtypes), complex64 or complex128, in NumPy's own byte order,
aligned and writeable; any shape and any strides. 16-bit elements are widened to float32, updated and rounded to
nearest even; real and imaginary part of a complex number are each a real element. States have the dtype of their
parameter, float32 for 16-bit ones, and its order of axes. Any float hyperparameter may be a schedule: a callable
of the number of calls of ``step`` made before (0 first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradstep.containers import Container
from gradstep.group import Group
from gradstep.hyperparameters import Float, label_in
from gradstep.optimizer import Optimizer

Betas = tuple[Float, Float]


class GradientDescent(Optimizer):
    r"""Gradient descent.

    .. math:: \theta \leftarrow \theta - \eta g

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 0.01
        Learning rate :math:`\eta`.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError
        If an argument, array or dtype is of the wrong type.
    ValueError
        If a hyperparameter is out of range, or an array is read-only, unaligned or shares memory with another.

    References
    ----------
    A. Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([10.0])
    >>> gs.GradientDescent(x, lr=0.1).step(2 * x)
    >>> x
    array([8.])
    """

    rule = "gradient_descent"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 0.01,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )


class SGD(Optimizer):
    r"""Stochastic gradient descent, with PyTorch's momentum.

    .. math::

        b &\leftarrow \mu b + (1 - \tau) g \quad (\text{at an array's first step } b \leftarrow g) \\
        \theta &\leftarrow \theta - \eta b \quad (\text{with nesterov } \theta - \eta (g + \mu b))

    The learning rate stands outside the buffer: `Momentum` has it inside, and they differ once it changes. With
    ``momentum=0`` no state is kept, and the rule is that of `GradientDescent`; a step for which a schedule of
    :math:`\mu` returns 0 is one of that rule, and leaves the buffer as it is.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 0.01
        Learning rate :math:`\eta`.
    momentum : float or schedule, default 0.0
        :math:`\mu`.
    dampening : float or schedule, default 0.0
        :math:`\tau`; counts only with momentum.
    nesterov : bool, default False
        Nesterov's form; needs momentum, and no dampening.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError
        If an argument, array or dtype is of the wrong type.
    ValueError
        If a hyperparameter is out of range, hyperparameters do not go together, or an array is read-only,
        unaligned or shares memory with another.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> w = {"W": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    >>> opt = gs.SGD(w, lr=0.5, momentum=0.9)
    >>> opt.step({"W": np.ones((2, 2), np.float32), "b": None})
    >>> w["W"]
    array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)
    """

    rule = "sgd"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 0.01,
        momentum: Float = 0.0,
        dampening: Float = 0.0,
        nesterov: bool = False,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            nesterov=nesterov,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )

    @classmethod
    def _native_rule(cls, groups: Sequence[Mapping[str, Any]]) -> str:
        return cls.rule if any(group["momentum"] != 0 for group in groups) else GradientDescent.rule

    @staticmethod
    def _check(values: Mapping[str, Any], at: str = "", given: Mapping[str, Any] | None = None) -> None:
        momentum, dampening = values["momentum"], values["dampening"]
        still = (given or values)["momentum"] == 0  # that of a schedule may pass through 0
        damped = dampening != 0 and not callable(dampening)  # what a schedule returns is checked at its step
        if values["nesterov"] and (still or damped):
            raise ValueError(
                f"{label_in(at, 'nesterov')}: expected momentum above 0 and no dampening, "
                f"got momentum={momentum!r}, dampening={dampening!r}"
            )

    def _set(self, changes: tuple[tuple[Group, dict[str, Any]], ...]) -> None:
        for group, values in changes:
            if self._kernel != self.rule and values["momentum"] != 0:
                label = label_in(group._at, "momentum")
                raise ValueError(f"{label}: expected 0, since the optimizer was made without it and keeps no buffer")
        super()._set(changes)


class Momentum(Optimizer):
    r"""Momentum, with the learning rate inside the velocity.

    .. math::

        v &\leftarrow \beta v - \eta g \\
        \theta &\leftarrow \theta + v

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 0.01
        Learning rate :math:`\eta`.
    momentum : float or schedule, default 0.9
        :math:`\beta`.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError, ValueError
        As `GradientDescent`.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([10.0])
    >>> opt = gs.Momentum(x, lr=0.125, momentum=0.5)
    >>> for _ in range(2):
    ...     opt.step(2 * x)
    >>> x, opt.state["velocity"]
    (array([4.375]), array([-3.125]))
    """

    rule = "momentum"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 0.01,
        momentum: Float = 0.9,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )


class NAG(Optimizer):
    r"""Nesterov's accelerated gradient, in Bengio's form: g is taken at the looked-ahead parameters.

    .. math::

        v &\leftarrow \beta v - \eta g \\
        \theta &\leftarrow \theta + (\beta v - \eta g)

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 0.01
        Learning rate :math:`\eta`.
    momentum : float or schedule, default 0.9
        :math:`\beta`.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError, ValueError
        As `GradientDescent`.

    References
    ----------
    Y. Bengio, N. Boulanger-Lewandowski, R. Pascanu, "Advances in optimizing recurrent networks", ICASSP 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([8.0])
    >>> gs.NAG(x, lr=0.125, momentum=0.5).step(2 * x)
    >>> x
    array([5.])
    """

    rule = "nag"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 0.01,
        momentum: Float = 0.9,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )


class Adagrad(Optimizer):
    r"""Adagrad: each element's rate falls with the squares of its gradients.

    .. math::

        s &\leftarrow s + g^2 \\
        \theta &\leftarrow \theta - \eta g / (\sqrt{s} + \epsilon)

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 0.01
        Learning rate :math:`\eta`.
    eps : float or schedule, default 1e-8
        :math:`\epsilon`, outside the root.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError, ValueError
        As `GradientDescent`.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([1.0, 1.0])
    >>> gs.Adagrad(x, lr=0.5, eps=0.0).step(np.array([4.0, -0.1]))
    >>> x
    array([0.5, 1.5])
    """

    rule = "adagrad"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 0.01,
        eps: Float = 1e-8,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, eps=eps, weight_decay=weight_decay, maximize=maximize, master_weights=master_weights
        )


class Adam(Optimizer):
    r"""Adam: a rate for each element from running means of its gradient and of its square.

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta &\leftarrow \theta - \eta \, \hat m / (\sqrt{\hat v} + \epsilon),
        \quad \hat m = m / (1 - \beta_1^t), \; \hat v = v / (1 - \beta_2^t)

    where t counts the steps of the array itself.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 1e-3
        Learning rate :math:`\eta`.
    betas : two of float or schedule, default (0.9, 0.999)
        :math:`\beta_1` and :math:`\beta_2`.
    eps : float or schedule, default 1e-8
        :math:`\epsilon`, outside the root.
    weight_decay : float or schedule, default 0.0
        Coupled: :math:`g \leftarrow g + \lambda\theta`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError, ValueError
        As `GradientDescent`.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([1.0, 1.0])
    >>> gs.Adam(x, lr=0.5, eps=0.0).step(np.array([4.0, -0.1]))
    >>> x.round(6)
    array([0.5, 1.5])
    """

    rule = "adam"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: Float = 1e-8,
        weight_decay: Float = 0.0,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    .. math:: \theta \leftarrow (1 - \eta\lambda) \theta, \text{ then the step of } \texttt{Adam}

    Parameters
    ----------
    params : array, sequence of arrays, mapping of arrays, or sequence of group dicts
        Of any shape and strides; float32, float64, float16, bfloat16, complex64 or complex128. Updated in place;
        references are kept, never copies. States have the same shapes and dtypes, float32 for 16-bit parameters.
    lr : float or schedule, default 1e-3
        Learning rate :math:`\eta`.
    betas : two of float or schedule, default (0.9, 0.999)
        :math:`\beta_1` and :math:`\beta_2`.
    eps : float or schedule, default 1e-8
        :math:`\epsilon`, outside the root.
    weight_decay : float or schedule, default 0.01
        Decoupled, :math:`\lambda`.
    maximize : bool, default False
        Go up the gradient instead of down.
    master_weights : bool, default False
        Keep a float32 copy of 16-bit parameters, ``state["master"]``, update that, and write it out rounded.

    Raises
    ------
    TypeError, ValueError
        As `GradientDescent`.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([1.0, 1.0])
    >>> gs.AdamW(x, lr=0.5, eps=0.0, weight_decay=0.1).step(np.array([4.0, -0.1]))
    >>> x.round(6)
    array([0.45, 1.45])
    """

    rule = "adamw"

    def __init__(
        self,
        params: Container,
        *,
        lr: Float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: Float = 1e-8,
        weight_decay: Float = 0.01,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
            master_weights=master_weights,
        )
