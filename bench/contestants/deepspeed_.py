"""DeepSpeed's Adam for the CPU, compiled by `python -m bench.contestants.deepspeed_`, which takes minutes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import deepspeed
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.ops.op_builder import CPUAdamBuilder
from torch.utils.cpp_extension import _get_build_directory, get_default_build_root

from bench.case import Absent, Contestant
from bench.work import Work


def builds() -> Path:
    """Return where this environment's builds are: another's, or other versions', would be compiled anew in a run."""
    own = f"{sys.prefix}, {torch.__version__}, {deepspeed.__version__}"
    return Path(get_default_build_root(), f"gradstep-bench-{hashlib.sha256(own.encode()).hexdigest()[:12]}")


os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(builds()))


def cpu_adam(work: Work) -> Contestant:
    """Step all parameters."""
    if work.spec.cls not in ("Adam", "AdamW") or work.surrounded or work.dtype != "float32":
        raise Absent("DeepSpeed's CPU Adam is Adam and AdamW, here on float32")
    if not compiled():
        raise Absent("not compiled yet: `python -m bench.contestants.deepspeed_` does it, in minutes")
    if (_folder() / "lock").exists():  # for which PyTorch would wait without end
        raise Absent("its compiler was ended, or is at work: if not, remove `lock` from PyTorch's folder of extensions")
    params = [torch.from_numpy(p).requires_grad_() for p in work.params()]
    for p, g in zip(params, work.grads(), strict=True):
        p.grad = torch.from_numpy(g)
    opt = DeepSpeedCPUAdam(params, **work.spec.hypers, adamw_mode=work.spec.cls == "AdamW")
    return Contestant(opt.step, lambda: [p.detach().numpy() for p in params])


def compiled() -> bool:
    """Whether its first use is over."""
    return (_folder() / f"{CPUAdamBuilder.NAME}.so").exists()


def _folder() -> Path:
    return Path(_get_build_directory(CPUAdamBuilder.NAME, False))


if __name__ == "__main__":
    CPUAdamBuilder().load()
