r"""Schedules: hyperparameters that change from step to step.

A schedule is a callable of the number of calls of ``step`` made before this one (0 first) that returns a float.
Any float hyperparameter may be one: ``lr``, ``momentum``, ``weight_decay``, each of ``betas``. Those here are small
immutable objects that can be printed, compared, pickled and copied, and that depend on nothing but the number of
calls :math:`n`; only `ReduceOnPlateau` remembers what it was told. In every formula :math:`\eta_n` is the value at
call :math:`n`, and :math:`\eta` the argument ``value``.
"""

import copy
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

from gradstep import hyperparameters
from gradstep.hyperparameters import FRACTION, NON_NEGATIVE, Float, Range, ask, check_float, check_one, check_whole

__all__ = [
    "ReduceOnPlateau",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "join",
    "multi_step",
    "one_cycle",
    "polynomial",
    "step",
    "warmup",
]

# What an argument may be: a function of its name and value that returns it as it is to be kept, or raises.
Kind: TypeAlias = Callable[[str, Any], Any]


def _number(within: Range, check: Callable[[str, Range, Any], Any] = check_float) -> Kind:
    return lambda name, value: check(name, within, value)


def _one_of(*choices: str) -> Kind:
    def kind(name: str, value: Any) -> Any:
        words = f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}"
        if not isinstance(value, str):
            raise TypeError(words)
        if value not in choices:
            raise ValueError(words)
        return value

    return kind


def _each(kind: Kind, name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a list or tuple, got {value!r}")
    return tuple(kind(f"{name}[{i}]", item) for i, item in enumerate(value))


def _milestones(name: str, value: Any) -> tuple[int, ...]:
    calls = _each(COUNT, name, value)
    if any(a >= b for a, b in pairwise(calls)):
        raise ValueError(f"{name}: expected each above the one before, got {value!r}")
    return calls


AMOUNT = _number(NON_NEGATIVE)
POSITIVE = _number((lambda x: 0 < x < math.inf, "a finite number above 0"))
SHARE = _number(hyperparameters.SHARE)
METRIC = _number((lambda x: True, "a number"))
SCHEDULE = _number(NON_NEGATIVE, check_one)
WHOLE = partial(check_whole, least=0)
COUNT = partial(check_whole, least=1)


@dataclass(frozen=True)
class _Schedule:
    """A schedule: its fields are its arguments, of the kinds that a subclass names in its header."""

    _kinds: ClassVar[dict[str, Kind]] = {}

    def __init_subclass__(cls, **kinds: Kind) -> None:
        cls._kinds = kinds

    def __post_init__(self) -> None:
        for name, kind in self._kinds.items():
            object.__setattr__(self, name, kind(name, getattr(self, name)))

    def __call__(self, calls: int) -> float:
        if type(calls) is not int or calls < 0:  # asked at every step, so the usual case is checked quickly
            calls = WHOLE("calls", calls)
        return self._at(calls)

    def _at(self, calls: int) -> float:
        raise NotImplementedError


def _times_power(value: float, gamma: float, count: int) -> float:
    try:
        return value * gamma**count
    except OverflowError:
        return math.inf if value else 0.0


def _between(start: float, end: float, left: float) -> float:
    """Return `start` where `left` is 1, `end` where it is 0, both exactly."""
    return start * left + end * (1 - left)


def _half_wave(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class constant(_Schedule, value=AMOUNT):
    r"""The same value at every call.

    .. math:: \eta_n = \eta

    Parameters
    ----------
    value : float
        That value.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import gradstep as gs
    >>> gs.schedules.constant(0.1)(1000)
    0.1
    """

    value: float

    def _at(self, calls: int) -> float:
        return self.value


@dataclass(frozen=True)
class exponential(_Schedule, value=AMOUNT, gamma=AMOUNT, every=COUNT):
    r"""Decay by a constant factor, by default 1 % an epoch.

    .. math:: \eta_n = \eta\,\gamma^{\lfloor n / k \rfloor}

    With ``gamma`` above 1 it grows, as a search for a learning rate wants; what no float can hold is then `inf`,
    which an optimizer refuses.

    Parameters
    ----------
    value : float
        Value at the first call.
    gamma : float, default 0.99
        Factor :math:`\gamma`.
    every : int, default 1
        Calls :math:`k` from one multiplication to the next: the number of batches of an epoch, for a factor an epoch.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> x = np.array([8.0])
    >>> opt = gs.GradientDescent(x, lr=gs.schedules.exponential(0.5, gamma=0.5, every=2))
    >>> for _ in range(3):
    ...     opt.step(np.ones(1))
    >>> x, opt.lr
    (array([6.75]), 0.25)
    """

    value: float
    gamma: float = 0.99
    every: int = 1

    def _at(self, calls: int) -> float:
        return _times_power(self.value, self.gamma, calls // self.every)


@dataclass(frozen=True)
class step(_Schedule, value=AMOUNT, every=COUNT, gamma=AMOUNT):
    r"""Decay in rare, large steps; PyTorch's StepLR.

    .. math:: \eta_n = \eta\,\gamma^{\lfloor n / k \rfloor}

    The same as `exponential`, with the arguments and the default in which steps are usually thought of.

    Parameters
    ----------
    value : float
        Value at the first call.
    every : int
        Calls :math:`k` from one step to the next.
    gamma : float, default 0.1
        Factor :math:`\gamma`.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.step(0.8, every=10, gamma=0.5)
    >>> [lr(calls) for calls in (0, 9, 10, 20)]
    [0.8, 0.8, 0.4, 0.2]
    """

    value: float
    every: int
    gamma: float = 0.1

    def _at(self, calls: int) -> float:
        return _times_power(self.value, self.gamma, calls // self.every)


@dataclass(frozen=True)
class multi_step(_Schedule, value=AMOUNT, milestones=_milestones, gamma=AMOUNT):
    r"""Decay by a factor at each milestone; PyTorch's MultiStepLR.

    .. math:: \eta_n = \eta\,\gamma^{|\{m : m \le n\}|}

    Parameters
    ----------
    value : float
        Value at the first call.
    milestones : sequence of int
        The calls :math:`m` from which on there is one factor more, each above the one before.
    gamma : float, default 0.1
        Factor :math:`\gamma`.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.multi_step(0.8, [10, 15], gamma=0.5)
    >>> [lr(calls) for calls in (0, 9, 10, 15)]
    [0.8, 0.8, 0.4, 0.2]
    """

    value: float
    milestones: Sequence[int]
    gamma: float = 0.1

    def _at(self, calls: int) -> float:
        return _times_power(self.value, self.gamma, bisect_right(self.milestones, calls))


@dataclass(frozen=True)
class polynomial(_Schedule, value=AMOUNT, steps=COUNT, power=POSITIVE):
    r"""Decay to 0 as a power of what is left; PyTorch's PolynomialLR.

    .. math:: \eta_n = \eta\,\max(0, 1 - n / N)^p

    Parameters
    ----------
    value : float
        Value at the first call.
    steps : int
        Calls :math:`N` after which it is 0.
    power : float, default 1.0
        Power :math:`p`; 1 is a straight line.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.polynomial(0.8, 100, power=2)
    >>> [lr(calls) for calls in (0, 50, 100, 101)]
    [0.8, 0.2, 0.0, 0.0]
    """

    value: float
    steps: int
    power: float = 1.0

    def _at(self, calls: int) -> float:
        return float(self.value * (max(0, self.steps - calls) / self.steps) ** self.power)


@dataclass(frozen=True)
class inverse_sqrt(_Schedule, value=AMOUNT, warmup=COUNT):
    r"""Linear warm-up, then decay as the inverse square root of the step; the Transformer's.

    .. math:: \eta_n = \eta\,\min\left(\frac{t}{w}, \sqrt{\frac{w}{t}}\right), \quad t = n + 1

    The steps count from 1 here, as in the paper: the first call has :math:`\eta / w`, the call with
    :math:`n = w - 1` the largest value :math:`\eta`. The paper's own is that of
    :math:`\eta = (d_\text{model}\,w)^{-1/2}`.

    Parameters
    ----------
    value : float
        Largest value.
    warmup : int
        Calls :math:`w` of the warm-up.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    References
    ----------
    A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, L. Kaiser, I. Polosukhin, "Attention is
    all you need", NeurIPS 2017.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.inverse_sqrt(0.8, warmup=4)
    >>> [lr(calls) for calls in (0, 1, 3, 15)]
    [0.2, 0.4, 0.8, 0.4]
    """

    value: float
    warmup: int

    def _at(self, calls: int) -> float:
        count = calls + 1
        return self.value * min(count / self.warmup, math.sqrt(self.warmup / count))


@dataclass(frozen=True)
class cosine(_Schedule, value=AMOUNT, steps=COUNT, warmup=WHOLE, final=AMOUNT):
    r"""Half a cosine wave, from the value down to the final one, with a linear warm-up before it if wanted.

    .. math::

        \eta_n = \begin{cases}
            \eta\,(n + 1) / (w + 1) & n < w \\
            \eta_N + (\eta - \eta_N) \left(1 + \cos\left(\pi\,\frac{n - w}{N - w}\right)\right) / 2 & w \le n < N \\
            \eta_N & n \ge N
        \end{cases}

    The first call of a warm-up is not wasted on a value of 0, and the call with :math:`n = w` is the only one with the
    whole of :math:`\eta`. Without warm-up it is PyTorch's CosineAnnealingLR up to :math:`N`.

    Parameters
    ----------
    value : float
        Largest value.
    steps : int
        Calls :math:`N` after which the final value is reached, the warm-up included.
    warmup : int, default 0
        Calls :math:`w` of the warm-up, less than `steps`.
    final : float, default 0.0
        Final value :math:`\eta_N`.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.cosine(0.8, 103, warmup=3)
    >>> [round(lr(calls), 6) for calls in (0, 1, 2, 3, 53, 103, 1000)]
    [0.2, 0.4, 0.6, 0.8, 0.4, 0.0, 0.0]
    """

    value: float
    steps: int
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup >= self.steps:
            raise ValueError(f"warmup: expected less than steps={self.steps}, got {self.warmup}")

    def _at(self, calls: int) -> float:
        if calls < self.warmup:
            return self.value * ((calls + 1) / (self.warmup + 1))
        done = (min(calls, self.steps) - self.warmup) / (self.steps - self.warmup)
        return _between(self.value, self.final, _half_wave(done))


@dataclass(frozen=True)
class cosine_restarts(_Schedule, value=AMOUNT, first=COUNT, factor=COUNT, final=AMOUNT):
    r"""Half a cosine wave again and again; PyTorch's CosineAnnealingWarmRestarts.

    .. math:: \eta_n = \eta_\text{end} + (\eta - \eta_\text{end}) \left(1 + \cos(\pi\,j / T_i)\right) / 2

    :math:`j` is the number of calls since the last restart, :math:`T_0` = `first` and :math:`T_{i+1}` = `factor`
    :math:`T_i`. The final value itself is never reached, since a restart is there first.

    Parameters
    ----------
    value : float
        Value at the first call and at each restart.
    first : int
        Calls up to the first restart.
    factor : int, default 1
        How many times longer each wave is than the one before.
    final : float, default 0.0
        Value :math:`\eta_\text{end}` that each wave goes down to.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.cosine_restarts(0.8, 10, factor=2)
    >>> [round(lr(calls), 6) for calls in (0, 5, 10, 20, 30)]
    [0.8, 0.4, 0.8, 0.4, 0.8]
    """

    value: float
    first: int
    factor: int = 1
    final: float = 0.0

    def _at(self, calls: int) -> float:
        period = self.first
        if self.factor == 1:
            calls %= period
        while calls >= period:
            calls -= period
            period *= self.factor
        return _between(self.value, self.final, _half_wave(calls / period))


@dataclass(frozen=True)
class one_cycle(
    _Schedule,
    value=AMOUNT,
    steps=COUNT,
    pct_start=SHARE,
    div_factor=POSITIVE,
    final_div_factor=POSITIVE,
    anneal=_one_of("cos", "linear"),
):
    r"""One rise and one fall, to far below the start; the learning rate of PyTorch's OneCycleLR.

    With peak :math:`a = pN - 1`, last call :math:`b = N - 1`, and :math:`\eta_0 = \eta / d`:

    .. math::

        \eta_n = \begin{cases}
            \eta_0 + (\eta - \eta_0)\,r(n / a) & n \le a \\
            \eta + (\eta_0 / d' - \eta)\,r((n - a) / (b - a)) & a < n \le b \\
            \eta_b & n > b
        \end{cases}
        \qquad r(x) = \frac{1 - \cos \pi x}{2} \text{ or } x

    Parameters
    ----------
    value : float
        Value :math:`\eta` at the peak.
    steps : int
        Calls :math:`N` of the cycle.
    pct_start : float, default 0.3
        Share :math:`p` of them in which it rises; a share, in spite of the name it has in PyTorch.
    div_factor : float, default 25.0
        How many times, :math:`d`, the first value is below the peak.
    final_div_factor : float, default 1e4
        How many times, :math:`d'`, the last value is below the first.
    anneal : {"cos", "linear"}, default "cos"
        The form :math:`r` of rise and fall.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    References
    ----------
    L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    2019.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.one_cycle(1.0, 101, pct_start=0.5, div_factor=4, final_div_factor=2, anneal="linear")
    >>> [round(lr(calls), 3) for calls in (0, 25, 49, 50, 75, 100, 101)]
    [0.25, 0.629, 0.992, 0.991, 0.558, 0.125, 0.125]
    """

    value: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    anneal: Literal["cos", "linear"] = "cos"

    def _at(self, calls: int) -> float:
        first, last = self.value / self.div_factor, self.steps - 1
        peak = self.pct_start * self.steps - 1
        calls = min(calls, last)
        if calls <= peak:  # a peak at call 0 has no rise
            start, end, done = first, self.value, calls / peak if peak else 1.0
        else:
            start, end, done = self.value, first / self.final_div_factor, (calls - peak) / (last - peak)
        return _between(start, end, _half_wave(done) if self.anneal == "cos" else 1 - done)


@dataclass(frozen=True)
class warmup(_Schedule, value=SCHEDULE, steps=COUNT, start=SHARE):
    r"""Another schedule, multiplied by a factor that rises to 1; with a number, PyTorch's LinearLR.

    .. math:: \eta_n = \left(s + (1 - s) \min(1, n / w)\right) \eta(n)

    The schedule counts its calls from the first one, rise included. To let it begin after the rise, `join` them.

    Parameters
    ----------
    value : float or schedule
        What is multiplied, :math:`\eta(n)`.
    steps : int
        Calls :math:`w` of the rise.
    start : float, default 0.0
        First factor :math:`s`; with 0 the first step of an optimizer moves nothing.

    Raises
    ------
    TypeError, ValueError
        As `constant`; when called, also if the schedule returns no finite number of at least 0.

    References
    ----------
    P. Goyal, P. Dollár, R. Girshick, P. Noordhuis, L. Wesolowski, A. Kyrola, A. Tulloch, Y. Jia, K. He, "Accurate,
    large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.warmup(gs.schedules.step(0.8, every=100, gamma=0.5), 4, start=0.5)
    >>> [lr(calls) for calls in (0, 2, 4, 99, 100)]
    [0.4, 0.6000000000000001, 0.8, 0.8, 0.4]
    """

    value: Float
    steps: int
    start: float = 0.0

    def _at(self, calls: int) -> float:
        value = ask("value", NON_NEGATIVE, self.value, calls)
        return value * _between(self.start, 1.0, max(0, self.steps - calls) / self.steps)


@dataclass(frozen=True)
class join(_Schedule, schedules=partial(_each, SCHEDULE), milestones=_milestones):
    r"""One schedule after another, each counting from its own milestone; PyTorch's SequentialLR.

    .. math:: \eta_n = \eta^{(i)}(n - m_i), \quad m_i \le n < m_{i+1}, \quad m_0 = 0

    Parameters
    ----------
    schedules : sequence of schedules or float
        What comes one after another: :math:`\eta^{(0)}`, :math:`\eta^{(1)}` and so on.
    milestones : sequence of int
        The first call :math:`m_i` of each schedule but the first, each above the one before.

    Raises
    ------
    TypeError, ValueError
        As `constant`; when called, also if a schedule returns no finite number of at least 0.

    Examples
    --------
    >>> import gradstep as gs
    >>> lr = gs.schedules.join([0.1, gs.schedules.polynomial(0.8, 4), 0.1], [10, 13])
    >>> [lr(calls) for calls in (0, 9, 10, 11, 12, 13)]
    [0.1, 0.1, 0.8, 0.6000000000000001, 0.4, 0.1]
    """

    schedules: Sequence[Float]
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.schedules:
            raise ValueError("schedules: expected at least one, got none")
        if len(self.milestones) != len(self.schedules) - 1:
            raise ValueError(
                f"milestones: expected {len(self.schedules) - 1}, one less than there are schedules, "
                f"got {len(self.milestones)}"
            )

    def _at(self, calls: int) -> float:
        i = bisect_right(self.milestones, calls)
        since = calls - self.milestones[i - 1] if i else calls
        return ask(f"schedules[{i}]", NON_NEGATIVE, self.schedules[i], since)


@dataclass(frozen=True, eq=False)
class ReduceOnPlateau(
    _Schedule,
    value=AMOUNT,
    mode=_one_of("min", "max"),
    factor=_number(FRACTION),
    patience=WHOLE,
    threshold=AMOUNT,
    threshold_mode=_one_of("rel", "abs"),
    cooldown=WHOLE,
    minimum=AMOUNT,
):
    r"""A value that shrinks whenever a metric has stopped getting better; PyTorch's ReduceLROnPlateau with ``eps=0``.

    .. math:: \eta \leftarrow \max(\text{factor} \cdot \eta, \text{minimum})

    happens at the report with which more than `patience` ones in a row were bad: no better than the best by more than
    the threshold. It does not depend on the number of calls. NaN is bad.

    Parameters
    ----------
    value : float
        Value up to the first reduction.
    mode : {"min", "max"}, default "min"
        Whether a smaller metric is better, or a larger one.
    factor : float, default 0.1
        What the value is multiplied by.
    patience : int, default 10
        Bad reports in a row that are let pass.
    threshold : float, default 1e-4
        By how much a metric must be better than the best one to be good.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether the threshold is a share of the best metric, which suits positive ones only, or a difference.
    cooldown : int, default 0
        Reports after a reduction during which bad ones do not count.
    minimum : float, default 0.0
        Value that it never falls below.

    Raises
    ------
    TypeError, ValueError
        As `constant`.

    Examples
    --------
    >>> import numpy as np
    >>> import gradstep as gs
    >>> lr = gs.schedules.ReduceOnPlateau(0.8, factor=0.5, patience=1)
    >>> opt = gs.AdamW(np.zeros(3), lr=lr)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     lr.report(loss)
    >>> opt.lr
    0.4
    """

    value: float
    mode: Literal["min", "max"] = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    minimum: float = 0.0
    _state: dict[str, Any] = field(init=False, repr=False, default_factory=dict)

    _state_kinds: ClassVar[dict[str, Kind]] = {"value": AMOUNT, "best": METRIC, "bad": WHOLE, "cooldown": WHOLE}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum > self.value:
            raise ValueError(f"minimum: expected at most value={self.value!r}, got {self.minimum!r}")
        worst = math.inf if self.mode == "min" else -math.inf
        self._state.update(value=self.value, best=worst, bad=0, cooldown=0)

    def __copy__(self) -> "ReduceOnPlateau":
        return copy.deepcopy(self)  # a memory of its own

    def _at(self, calls: int) -> float:
        return float(self._state["value"])

    def report(self, metric: float) -> None:
        """Take note of a metric, and reduce the value if it is time.

        Parameters
        ----------
        metric : float
            What an evaluation found, such as the loss on held-out data.

        Raises
        ------
        TypeError
            If it is not a number.
        """
        metric, state = METRIC("metric", metric), self._state
        if self._is_better(metric, state["best"]):
            state.update(best=metric, bad=0)
        else:
            state["bad"] += 1
        if state["cooldown"]:
            state.update(cooldown=state["cooldown"] - 1, bad=0)
        if state["bad"] > self.patience:
            reduced = max(state["value"] * self.factor, self.minimum)
            state.update(value=reduced, bad=0, cooldown=self.cooldown)

    def _is_better(self, metric: float, best: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            return sign * metric > sign * best * (1 + sign * self.threshold)
        return sign * metric > sign * best + self.threshold

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, to be saved.

        Returns
        -------
        dict
            The present value, the best metric, and the numbers of bad reports in a row and of reports to cool down.
        """
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Parameters
        ----------
        state : mapping
            What `state_dict` returned, of this schedule or of one with the same arguments.

        Raises
        ------
        TypeError
            If it, or anything in it, is of the wrong type. Nothing was changed.
        ValueError
            If a key is missing or unknown, or a number is out of range. Nothing was changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a mapping, got {state!r}")
        if set(state) != set(self._state_kinds):
            raise ValueError(f"state: expected the keys {list(self._state_kinds)}, got {list(state)}")
        self._state.update({name: kind(f"state[{name!r}]", state[name]) for name, kind in self._state_kinds.items()})
