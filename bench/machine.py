"""Where a run was made: the machine, the versions, the flags, and how idle threads wait."""

from __future__ import annotations

import datetime
import importlib.util
import math
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
# What OpenMP runtimes say of it when they are asked; others are not.
POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# Starts an OpenMP runtime, which then displays what it is set to.
DISPLAYING = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).omp_get_max_threads()"
# Multiplies with an OpenBLAS, and says how long its threads were at work afterwards, until they slept.
SPINNING = """
import ctypes, sys, time
library = ctypes.CDLL(sys.argv[1])
names = [f"{before}cblas_sgemm{after}" for before in ("scipy_", "") for after in ("64_", "")]
sgemm = next(getattr(library, name) for name in names if hasattr(library, name))
n, one, a, b, c = ctypes.c_int64(600), ctypes.c_float(1), *((ctypes.c_float * 360000)() for _ in range(3))
for _ in range(2):
    sgemm(101, 111, 111, n, n, n, one, a, n, b, n, one, c, n)
spun = [time.process_time()]
for _ in range(25):
    time.sleep(0.02)
    spun.append(time.process_time())
    if spun[-1] - spun[-2] < 0.002:
        break
print(spun[-1] - spun[0])
"""
# csrc/cpu/pool.cpp: a std::atomic's wait, and the caller's spins before its own.
OWN_POLICIES = {
    "pool": "sleep at once; a caller that waits for them spins for some microseconds, then sleeps",
    "openmp": "as those of its OpenMP",
}
SOURCES = ("csrc", "CMakeLists.txt")  # of the native module
MODULES = ("numpy", "scipy", "numexpr", "numba", "torch", "jax", "optax", "deepspeed", "thinc", "sklearn", "cupy")


def facts() -> dict[str, Any]:
    """Collect what does not change while the suite runs."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": commit(),
        "installed": installed(),
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
    return _git("describe", "--always", "--dirty") or "unknown"


def installed() -> dict[str, Any]:
    """Return in what the installed package, which is what is measured, is not the checkout's."""
    there, here = Path(gs.__file__).parent, ROOT / "python" / "gradstep"
    names = sorted({path.relative_to(root).as_posix() for root in (there, here) for path in root.rglob("*.py")})
    native = importlib.util.find_spec("gradstep._cpu")
    return {
        "other files": [name for name in names if _bytes(there / name) != _bytes(here / name)],
        "older module": native is not None and Path(native.origin or "").stat().st_mtime < _changed(),
    }


def _changed() -> float:
    """Return when the native module's sources changed: in a clone files are new, and their commit tells."""
    files = [path for name in SOURCES for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_file()]
    newest = max((path.stat().st_mtime for path in files), default=-math.inf)
    committed = _git("log", "-1", "--format=%ct", "--", *SOURCES)
    return min(newest, float(committed)) if committed and not _git("status", "--porcelain", "--", *SOURCES) else newest


def _git(*words: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


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
    packages = metadata.packages_distributions()  # CuPy's is called after its CUDA
    names = (name for module in MODULES for name in dict.fromkeys(packages.get(module, ())))
    return {name: metadata.version(name) for name in names}


def pools() -> list[dict[str, Any]]:
    """Return the OpenMP and BLAS pools in this process and gradstep's, each with how its idle threads wait."""
    config = gs.config.config()
    own = {"user_api": "gradstep", "internal_api": "gradstep", "num_threads": config.num_threads}
    own["policy"] = OWN_POLICIES.get(config.threading, "unknown")
    try:
        import threadpoolctl
    except ImportError:
        return [own]
    kept = ("user_api", "internal_api", "prefix", "version", "num_threads", "threading_layer", "architecture")
    found = threadpoolctl.threadpool_info()
    return [{key: p[key] for key in kept if p.get(key)} | {"policy": policy(p)} for p in found] + [own]


def policy(pool: dict[str, Any]) -> str:
    """Return how idle threads of a pool wait: what OpenMP says itself, or what is seen of OpenBLAS."""
    if pool["user_api"] == "openmp":
        return _told(pool["filepath"])
    if (pool["internal_api"], pool.get("threading_layer")) == ("openblas", "pthreads"):
        return _seen(pool["filepath"], pool["num_threads"])
    return "as those of its OpenMP" if pool.get("threading_layer") == "openmp" else "unknown"


def _seen(library: str, threads: int) -> str:
    """Let an OpenBLAS work in another process, which tells how long its threads spin then: 0.4 s at most."""
    said = _aside(SPINNING, library).stdout
    if not said:
        return "unknown"
    milliseconds = float(f"{1e3 * float(said) / max(1, threads - 1):.1g}")
    return f"spin for some {milliseconds:g} ms, then sleep (seen after a matmul)"


def _told(library: str) -> str:
    """Load an OpenMP runtime in another process, as this one did, and return what it displays of its policy."""
    lines = _aside(DISPLAYING, library, OMP_DISPLAY_ENV="verbose").stderr.splitlines()
    named = [line.split("]")[-1].strip().replace("'", "").replace(" = ", "=") for line in lines]
    return ", ".join(line for line in named if line.startswith(POLICIES)) or "unknown"


def _aside(program: str, library: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-c", program, library]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


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
