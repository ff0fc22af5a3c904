"""
gradstep on the CPU.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
__all__: list[str]
class Plan:
    """
    Arrays that step together, their states and their counts.
    """
    def __init__(self, rule: str, params: tuple[typing.Any, ...], states: tuple[typing.Any, ...], masters: tuple[typing.Any, ...], groups: collections.abc.Sequence[typing.SupportsIndex], keys: tuple[typing.Any, ...], arguments: collections.abc.Sequence[str]) -> None:
        ...
    def health(self) -> tuple[bool, list[tuple[int, float, float, int, int, int, float, float]]]:
        ...
    def set_averages(self, averages: tuple[typing.Any, ...]) -> None:
        ...
    def set_counts(self, steps: typing.SupportsIndex, skipped: typing.SupportsIndex, counts: collections.abc.Sequence[typing.SupportsIndex]) -> None:
        ...
    def set_hypers(self, group: typing.SupportsIndex, values: dict[str, typing.Any]) -> None:
        ...
    def set_lr(self, lr: typing.Any) -> None:
        ...
    @typing.overload
    def step(self, grads: tuple[typing.Any, ...]) -> bool:
        ...
    @typing.overload
    def step(self, grads: tuple[typing.Any, ...], clip_norm: typing.SupportsFloat | typing.SupportsIndex, clip_value: typing.SupportsFloat | typing.SupportsIndex, grad_scale: typing.SupportsFloat | typing.SupportsIndex, nonfinite: str, zero_grads: bool, health: bool, average_decay: typing.SupportsFloat | typing.SupportsIndex) -> bool:
        ...
    @property
    def calls(self) -> int:
        ...
    @property
    def counts(self) -> list[int]:
        ...
    @property
    def grad_norm(self) -> float | None:
        ...
    @property
    def skipped(self) -> int:
        ...
    @property
    def steps(self) -> int:
        ...
class Vectors:
    """
    Linear algebra on vectors of equal length.
    """
    def __init__(self, device: typing.SupportsIndex = 0) -> None:
        ...
    def run(self, combinations: list[typing.Any], products: list[typing.Any], largest: typing.Any = None, scalar: typing.Any = 0.0) -> tuple[list[float], float, float]:
        """
        Linear combinations in order, then products, in one pass over memory.
        """
class Lbfgs:
    """
    The L-BFGS method, as a dialogue.
    """
    def __init__(self, x: typing.Any, trial: typing.Any, gradient: typing.Any, rows: typing.Any, maxcor: typing.SupportsIndex, maxls: typing.SupportsIndex) -> None:
        ...
    def advance(self) -> bool:
        ...
    def begin(self, f: typing.Any, g: typing.Any) -> None:
        ...
    def forget(self) -> None:
        ...
    def set_trial(self, trial: typing.Any) -> None:
        ...
    def settle(self) -> None:
        ...
    def tell(self, f: typing.Any, g: typing.Any) -> int:
        ...
    @property
    def f(self) -> float:
        ...
    @property
    def history(self) -> tuple[list[int], list[float], list[float], list[float], bool]:
        ...
    @history.setter
    def history(self, arg1: tuple[collections.abc.Sequence[typing.SupportsIndex], collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], bool]) -> None:
        ...
    @property
    def largest(self) -> float:
        ...
    @property
    def pairs(self) -> int:
        ...
    @property
    def square(self) -> float:
        ...
    @property
    def step_norm(self) -> float:
        ...
class Rows:
    """
    The rows of one array, and what becomes of them.
    """
    def __init__(self, array: typing.Any, shape: collections.abc.Sequence[typing.SupportsIndex], strides: collections.abc.Sequence[typing.SupportsIndex], itemsize: typing.SupportsIndex, number: str, device: typing.SupportsIndex) -> None:
        ...
    def augment(self, size: tuple[typing.SupportsIndex, typing.SupportsIndex, typing.SupportsIndex], out_size: tuple[typing.SupportsIndex, typing.SupportsIndex], shift: tuple[typing.SupportsIndex, typing.SupportsIndex], flip: bool, noise: typing.SupportsFloat | typing.SupportsIndex, fill: bytes) -> None:
        ...
    def convert(self, result: str, shift: typing.Any, shift_low: typing.Any, factor: typing.Any) -> None:
        ...
    def gather(self, seed: typing.SupportsIndex, epoch: typing.SupportsIndex, position: typing.SupportsIndex, count: typing.SupportsIndex, indices: typing.Any, out: typing.Any, stream: typing.SupportsIndex) -> None:
        ...
    def moments(self, near: typing.Any, stream: typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
        ...
def check(array: typing.Any, argument: str, key: typing.Any, written: bool = True) -> None:
    """
    Raises a TypeError or ValueError unless `array` is one that a step can read, and update if `written`.
    """
def isa() -> str:
    """
    The one in use.
    """
def isas_built() -> list[str]:
    """
    The instruction sets compiled in, the widest first.
    """
def isas_supported() -> list[str]:
    """
    Those of them that this processor has.
    """
def lbfgs_within(lower: typing.Any, upper: typing.Any, x: typing.Any, trial: typing.Any, gradient: typing.Any, rows: typing.Any, maxcor: typing.SupportsIndex, maxls: typing.SupportsIndex, precision: typing.SupportsFloat | typing.SupportsIndex) -> Lbfgs:
    """
    An Lbfgs of float64 vectors that keeps x within bounds.
    """
def num_threads() -> int:
    """
    How many threads a large step would use now.
    """
def select(order: str, n: typing.SupportsIndex, seed: typing.SupportsIndex, epoch: typing.SupportsIndex, position: typing.SupportsIndex, count: typing.SupportsIndex, indices: typing.Any, device: typing.SupportsIndex, stream: typing.SupportsIndex) -> None:
    ...
def set_grain(part_tiles: typing.SupportsIndex, thread_elements: typing.SupportsIndex) -> None:
    """
    How many tiles a thread claims at once, and how many elements are worth a thread.
    """
def set_granted_threads(n: typing.SupportsIndex) -> None:
    ...
def set_isa(name: str) -> None:
    ...
def set_num_threads(n: typing.SupportsIndex) -> None:
    ...
def set_threading(name: str) -> None:
    ...
def threading() -> str:
    """
    The thread layer in use.
    """
chunk_rows: int
compiler: str
flags: dict[str, str]
most_epochs: int
numbers: list[str]
states: dict[str, list[str]]
tile_elements: int
version: str
