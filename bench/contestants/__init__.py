"""The contestants that make steps, a file for each peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module

from bench.case import Contestant
from bench.work import Work

# Name -> module here, and the function of a `Work` in it that makes the contestant.
TABLE = {
    "gradstep": ("gradstep_", "step"),
    "ceiling": ("ceiling", "all_threads"),
    "ceiling, 1 thread": ("ceiling", "one_thread"),
    "pure Python": ("python_", "loops"),
    "NumPy": ("numpy_", "textbook"),
    "NumPy out=": ("numpy_", "with_out"),
    "numexpr": ("numexpr_", "expressions"),
    "Numba": ("numba_", "loops"),
    "PyTorch fused": ("torch_", "fused"),
    "PyTorch foreach": ("torch_", "foreach"),
    "PyTorch loop": ("torch_", "loop"),
    "JAX optax": ("jax_", "optax_jitted"),
    "DeepSpeed": ("deepspeed_", "cpu_adam"),
    "Thinc": ("thinc_", "optimizer"),
}

# Words by which `--peers` knows them, here and in questions; a quick run leaves those out that take long to load.
PEERS = ("python", "numpy", "numexpr", "numba", "torch", "jax", "deepspeed", "thinc", "scipy", "scikit-learn", "cupy")
QUICK_PEERS = tuple(peer for peer in PEERS if peer not in ("jax", "deepspeed", "thinc", "numba"))


def peer_of(name: str) -> str | None:
    """Return the word for whose contestant it is; None for ours, ceilings and what is only compared."""
    own = name.startswith(("gradstep", "ceiling"))
    return None if own else next((peer for peer in PEERS if peer in name.lower()), None)


def contestants(work: Work, names: Iterable[str] = TABLE) -> dict[str, Callable[[], Contestant]]:
    """Return what makes the named contestants; their libraries are imported then, and not before."""
    return {name: partial(_make, *TABLE[name], work) for name in names}


def _make(module: str, function: str, work: Work) -> Contestant:
    made: Contestant = getattr(import_module(f"bench.contestants.{module}"), function)(work)
    return made
