"""gradstep: optimizer update rules on NumPy arrays, in place, in one pass over memory, in one call.

Examples
--------
>>> import numpy as np
>>> import gradstep as gs
>>> x = np.array([10.0])
>>> opt = gs.GradientDescent(x, lr=0.1)
>>> for _ in range(100):
...     opt.step(2 * x)
>>> bool(np.isclose(x[0], 10 * 0.8**100))
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradstep import _cpu, convert, data, kernels, plot, schedules, tune
from gradstep.averages import EMA
from gradstep.config import Config, show_config
from gradstep.footprint import memory
from gradstep.group import Group
from gradstep.health import ArrayHealth, Health
from gradstep.lbfgs import LBFGS
from gradstep.loss_scaler import LossScaler
from gradstep.optimizer import Optimizer
from gradstep.rules import NAG, SGD, Adagrad, Adam, AdamW, GradientDescent, Momentum
from gradstep.solve.least_squares import least_squares
from gradstep.solve.minimize import minimize, scipy_method
from gradstep.threads import get_num_threads, set_num_threads
from gradstep.training import fit

if TYPE_CHECKING:
    from gradstep import sklearn as sklearn

__version__: str = _cpu.version


def __getattr__(name: str) -> Any:
    if name == "sklearn":  # the only part that needs it is imported when it is used
        return import_module("gradstep.sklearn")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*{*globals(), "sklearn"}]


__all__ = [
    "EMA",
    "LBFGS",
    "NAG",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ArrayHealth",
    "Config",
    "GradientDescent",
    "Group",
    "Health",
    "LossScaler",
    "Momentum",
    "Optimizer",
    "__version__",
    "convert",
    "data",
    "fit",
    "get_num_threads",
    "kernels",
    "least_squares",
    "memory",
    "minimize",
    "plot",
    "schedules",
    "scipy_method",
    "set_num_threads",
    "show_config",
    "tune",
]
