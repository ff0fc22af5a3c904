"""What this build is, and what it found on this machine."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from gradstep import _cpu

# As for an unknown GRADSTEP_ISA: said at import, before anything runs on the wrong code.
_cpu.set_isa(os.environ.get("GRADSTEP_ISA") or _cpu.isas_supported()[0])


@dataclass(frozen=True)
class Config:
    """What `show_config` tells.

    Parameters
    ----------
    version : str
        Version of gradstep.
    compiler : str
        What built it.
    flags : dict of str
        Flags of all kernels ("common") and of each instruction set.
    isas_built, isas_supported : list of str
        Instruction sets compiled in, and those of them that this processor has; the widest first.
    isa : str
        The one in use; the environment variable ``GRADSTEP_ISA`` forces one.
    threading : str
        The thread layer, "pool" or "openmp", as ``GRADSTEP_THREADING`` says.
    num_threads : int
        Threads that a large step would use now.
    cuda : str
        Whether the CUDA module was built, with which version and for which architectures, and which driver and devices
        it finds, or why none.

    Examples
    --------
    >>> import gradstep as gs
    >>> info = gs.show_config()  # doctest: +ELLIPSIS
    version         ...
    >>> info.isa in info.isas_supported
    True
    """

    version: str
    compiler: str
    flags: dict[str, str]
    isas_built: list[str]
    isas_supported: list[str]
    isa: str
    threading: str
    num_threads: int
    cuda: str

    def __str__(self) -> str:
        rows = []
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                value = "; ".join(f"{key}: {text or '(none more)'}" for key, text in value.items())
            elif isinstance(value, list):
                value = ", ".join(value)
            rows.append(f"{name.replace('_', ' '):<15} {value}")
        return "\n".join(rows)


def config() -> Config:
    """Collect the configuration."""
    return Config(
        version=_cpu.version,
        compiler=_cpu.compiler,
        flags=dict(_cpu.flags),
        isas_built=_cpu.isas_built(),
        isas_supported=_cpu.isas_supported(),
        isa=_cpu.isa(),
        threading=_cpu.threading(),
        num_threads=_cpu.num_threads(),
        cuda=_cuda_text(),
    )


def _cuda_text() -> str:
    try:
        from gradstep import _cuda
    except ImportError as error:
        return f"module not built ({error})"
    text = f"module built with CUDA {_version(_cuda.cuda_version)} for {_cuda.architectures}"
    try:
        devices = _cuda.devices()
    except RuntimeError as error:
        return f"{text}; no device: {error}"
    return f"{text}; driver up to CUDA {_version(_cuda.driver_version())}; devices: {', '.join(devices)}"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def show_config() -> Config:
    """Print version, compiler, instruction sets, threads and the CUDA module; return them too.

    Returns
    -------
    Config
        The same facts as attributes.

    Examples
    --------
    >>> import gradstep as gs
    >>> config = gs.show_config()  # doctest: +ELLIPSIS
    version         ...
    >>> config.isa in config.isas_supported
    True
    """
    found = config()
    print(found)
    return found
