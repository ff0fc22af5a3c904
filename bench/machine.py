"""Where a run was made: the machine, the versions, the flags, and how idle threads wait."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import gradstep as gs
from bench import ROOT

# What decides how threads of other pools wait, and how many there are.
PREFIXES = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "GRADSTEP_", "NUMBA_", "NUMEXPR_", "XLA_", "TORCH_")
# Some machines name an older kernel for OpenBLAS: figures against NumPy want the one that fits.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
PACKAGES = ("numpy", "scipy", "numexpr", "numba", "torch", "jax", "optax", "deepspeed", "thinc", "scikit-learn", "cupy")


def facts() -> dict[str, Any]:
    """Collect what does not change while the suite runs."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": commit(),
        "processor": processor(),
        "caches": caches(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": f"{_kilobytes('/proc/meminfo', 'MemTotal') / 2**20:.1f} GiB",
        "kernel": platform.platform(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "transparent huge pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": sys.version.split()[0],
        "versions": versions(),
        "gradstep": asdict(gs.config.config()),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(PREFIXES)},
        "unset for the run": [name for name in UNSET if name in os.environ],
    }


def commit() -> str:
    """Return the commit of the checkout, and whether it has changes."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Model name, family and model number: virtual machines often hide the first."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    known = dict(line.split("\t", 1) for line in lines if "\t" in line)
    name, family, model = (known.get(key, "").strip("\t: ") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})" if family else platform.processor()


def caches() -> dict[str, int]:
    """Return bytes of each data cache that the first processor sees."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (_first_line(str(index / name)) for name in ("type", "level", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = int(size.rstrip("K")) * 1024
    return found


def versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def pools() -> list[dict[str, Any]]:
    """Return the OpenMP and BLAS pools in this process."""
    try:
        import threadpoolctl
    except ImportError:
        return []
    kept = ("user_api", "internal_api", "prefix", "version", "num_threads", "threading_layer", "architecture")
    return [{key: pool[key] for key in kept if pool.get(key)} for pool in threadpoolctl.threadpool_info()]


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().split("\n")[0]
    except OSError:
        return "unknown"


def _kilobytes(path: str, key: str) -> float:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return float("nan")
    return next(float(line.split()[1]) for line in lines if line.startswith(key))
