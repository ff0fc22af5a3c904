"""How many threads a step may use."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path

from gradstep import _cpu

MOST_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Let large steps use up to `n` threads, in this whole process.

    Parameters
    ----------
    n : int
        From 1 to 1,024. It overrides ``OMP_NUM_THREADS``, the CPU affinity and the control group's limit, all of
        which count until this is called. In the ``openmp`` layer it is ``omp_set_num_threads`` too, which OpenMP
        understands for the calling thread alone.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    Examples
    --------
    >>> import gradstep as gs
    >>> before = gs.get_num_threads()
    >>> gs.set_num_threads(1)
    >>> gs.get_num_threads()
    1
    >>> gs.set_num_threads(before)
    """
    if isinstance(n, bool):
        raise TypeError(f"n: expected an integer, got {n}")
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"n: expected an integer, got {type(n).__name__}") from None
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"n: expected 1 to {MOST_THREADS}, got {count}")
    _cpu.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads a large step would use now.

    Returns
    -------
    int
        What `set_num_threads` or ``OMP_NUM_THREADS`` asked for; else the processors that CPU affinity and the
        control group leave to this process.

    Examples
    --------
    >>> import gradstep as gs
    >>> gs.get_num_threads() >= 1
    True
    """
    return _cpu.num_threads()


def from_environment(value: str | None) -> int | None:
    """Read the outermost level of OMP_NUM_THREADS; None where it asks for nothing that makes sense."""
    try:
        n = int((value or "").split(",")[0])
    except ValueError:
        return None
    return min(n, MOST_THREADS) if n >= 1 else None


def from_control_group(root: Path = Path("/")) -> int | None:
    """Processors that the CPU quota of this process's control group amounts to, None where there is no quota."""
    quotas = [quota for path in _group_folders(root) if (quota := _quota(path)) is not None]
    return max(1, math.ceil(min(quotas))) if quotas else None


def _group_folders(root: Path) -> list[Path]:
    # A quota may stand at any level above the process; inside a container the path may start elsewhere.
    folders = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup/cpu"
        else:
            continue
        below = base / path.lstrip("/")
        folders += [below, *(p for p in below.parents if p.is_relative_to(base))]
    return folders


def _quota(folder: Path) -> float | None:
    v2 = _read(folder / "cpu.max")
    quota, period = v2.split() if v2 else (_read(folder / f"cpu.cfs_{k}_us") for k in ("quota", "period"))
    try:
        value = float(quota or "") / float(period or "")
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return None
    return value if value > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _start() -> None:
    if (granted := from_control_group()) is not None:
        _cpu.set_granted_threads(granted)
    if asked := from_environment(os.environ.get("OMP_NUM_THREADS")):
        _cpu.set_num_threads(asked)  # before the layer is set: an OpenMP runtime reads the variable by itself
    _cpu.set_threading(os.environ.get("GRADSTEP_THREADING") or "pool")


_start()
