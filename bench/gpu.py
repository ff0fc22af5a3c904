"""AdamW on a GPU: against CuPy expressions, a CuPy kernel an array, PyTorch's fused optimizer, and a device copy.

`python bench/gpu.py --output FOLDER` writes gpu.json (every sample) and gpu.md (the table). Contestants take turns,
round by round; each turn is some steps between two events of the stream, after one that is not counted; a result is
the median of a step. Before anything is timed, what each contestant computes is compared with gradstep's on the CPU.
A contestant that cannot run is a row that says why, and so is every row where there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contestants import floats

import gradstep as gs

LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.01
STEPS, ROUNDS, SECONDS, CLIP = 10, 21, 10.0, 1.0  # a workload has so many rounds, or seconds


@dataclass(frozen=True)
class Workload:
    """Arrays of some sizes, and whether their norm is clipped."""

    name: str
    sizes: tuple[int, ...]
    clip: bool = False
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        """What one step of AdamW reads and writes at least; a norm reads the gradients once more."""
        short = np.dtype(self.dtype).itemsize
        return sum(self.sizes) * (3 * short + 16 + (short if self.clip else 0))


WORKLOADS = [
    Workload("one array of 2^25", (2**25,)),
    Workload("one array of 2^25, clip_norm", (2**25,), clip=True),
    Workload("one float16 array of 2^25", (2**25,), dtype="float16"),
    Workload("1,000 arrays of 1,000", (1000,) * 1000),
    Workload("2,000 arrays of 256, clip_norm", (256,) * 2000, clip=True),
    Workload("100 arrays of 10 to 10^6", tuple(int(10 ** (1 + 5 * i / 99)) for i in range(100))),
]


@dataclass
class Contestant:
    """A call that makes one step, and the parameters that it changes, to be compared."""

    step: Callable[[], object]
    params: list[Any] = field(default_factory=list)


def gradstep(work: Workload, params: list[Any], grads: list[Any], cp: Any) -> Contestant:
    opt = gs.AdamW(params, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    more = {"clip_norm": CLIP} if work.clip else {}
    return Contestant(lambda: opt.step(grads, **more), params)


def _clip_factor(work: Workload, grads: list[Any], cp: Any) -> Any:
    if not work.clip:
        return np.float32(1)
    total = sum(cp.vdot(g, g) for g in grads)
    return cp.minimum(np.float32(1), np.float32(CLIP) / (cp.sqrt(total) + np.float32(1e-6)))


def _array_by_array(work: Workload, params: list[Any], grads: list[Any], cp: Any, update: Any) -> Contestant:
    """Step as CuPy users write it: `update(p, g, m, v, factor, fix1, fix2)` for each array."""
    states = [(cp.zeros(p.shape, np.float32), cp.zeros(p.shape, np.float32)) for p in params]
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        factor = _clip_factor(work, grads, cp)
        fix1, fix2 = (np.float32(1 / (1 - beta**count)) for beta in BETAS)
        for p, g, (m, v) in zip(params, grads, states, strict=True):
            update(p, g, m, v, factor, fix1, fix2)

    return Contestant(step, params)


def cupy_expressions(work: Workload, params: list[Any], grads: list[Any], cp: Any) -> Contestant:
    def update(p: Any, grad: Any, m: Any, v: Any, factor: Any, fix1: Any, fix2: Any) -> None:
        g = grad.astype(np.float32) * factor
        w = p.astype(np.float32) * np.float32(1 - LR * DECAY)
        m[...] = np.float32(BETAS[0]) * m + np.float32(1 - BETAS[0]) * g
        v[...] = np.float32(BETAS[1]) * v + np.float32(1 - BETAS[1]) * (g * g)
        p[...] = w - np.float32(LR) * (fix1 * m / (cp.sqrt(fix2 * v) + np.float32(EPS)))

    return _array_by_array(work, params, grads, cp, update)


def cupy_kernel(work: Workload, params: list[Any], grads: list[Any], cp: Any) -> Contestant:
    kernel = cp.ElementwiseKernel(
        "T grad, float32 factor, float32 fix1, float32 fix2",
        "T p, float32 m, float32 v",
        f"""
        float g = float(grad) * factor, w = float(p) * {1 - LR * DECAY:.9g}f;
        m = {BETAS[0]:.9g}f * m + {1 - BETAS[0]:.9g}f * g;
        v = {BETAS[1]:.9g}f * v + {1 - BETAS[1]:.9g}f * (g * g);
        p = T(w - {LR:.9g}f * (fix1 * m / (sqrtf(fix2 * v) + {EPS:.9g}f)));
        """,
        "adamw",
    )

    def update(p: Any, g: Any, m: Any, v: Any, factor: Any, fix1: Any, fix2: Any) -> None:
        kernel(g, factor, fix1, fix2, p, m, v)

    return _array_by_array(work, params, grads, cp, update)


def torch_fused(work: Workload, params: list[Any], grads: list[Any], cp: Any) -> Contestant:
    torch = importlib.import_module("torch")
    if work.dtype != "float32":
        raise RuntimeError("its states would have 16 bits too")
    tensors = [torch.as_tensor(p, device="cuda").requires_grad_() for p in params]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.as_tensor(g, device="cuda")
    kept = [t.grad.clone() for t in tensors] if work.clip else []
    opt = torch.optim.AdamW(tensors, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, fused=True)

    def step() -> None:
        if work.clip:
            torch._foreach_copy_([t.grad for t in tensors], kept)  # clipping has changed them: not part of the work
            torch.nn.utils.clip_grad_norm_(tensors, CLIP, foreach=True)
        opt.step()

    return Contestant(step, tensors)


def device_copy(work: Workload, params: list[Any], grads: list[Any], cp: Any) -> Contestant:
    source, target = (cp.empty(work.nbytes // 2, np.uint8) for _ in range(2))
    return Contestant(lambda: target.data.copy_from_device_async(source.data, source.nbytes, cp.cuda.Stream.null))


CONTESTANTS = {
    "gradstep": gradstep,
    "CuPy expressions": cupy_expressions,
    "CuPy ElementwiseKernel an array": cupy_kernel,
    "PyTorch fused": torch_fused,
    "device copy of as many bytes": device_copy,
}


@functools.lru_cache(maxsize=1)
def start(work: Workload) -> tuple[list[np.ndarray], list[np.ndarray]]:
    dtype = np.dtype(work.dtype)
    sizes = list(enumerate(work.sizes))
    return [floats(n, i).astype(dtype) for i, n in sizes], [floats(n, i + 1).astype(dtype) for i, n in sizes]


def check(name: str, work: Workload, contestant: Contestant, cp: Any) -> None:
    """Compare three steps with gradstep on the CPU: the same bits, or nearly where another computes."""
    if not contestant.params:
        return
    params, grads = [a.copy() for a in start(work)[0]], start(work)[1]
    opt = gs.AdamW(params, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    for _ in range(3):
        opt.step(grads, **({"clip_norm": CLIP} if work.clip else {}))
        contestant.step()
    cp.cuda.Device().synchronize()
    for mine, theirs in zip(params, contestant.params, strict=True):
        found = theirs.get() if hasattr(theirs, "get") else theirs.detach().cpu().numpy()
        if name == "gradstep":
            assert found.tobytes() == mine.tobytes(), f"{name}: other bits than on the CPU, {work.name}"
        tolerance = 1e-5 if work.dtype == "float32" else 2e-3
        assert np.allclose(found.astype("f8"), mine.astype("f8"), rtol=tolerance, atol=tolerance), (name, work.name)


def measure(work: Workload, quick: bool, cp: Any) -> dict[str, Any]:
    """Return the samples of each contestant in seconds a step, or why there are none."""
    results: dict[str, Any] = {}
    ready: dict[str, Contestant] = {}
    for name, make in CONTESTANTS.items():
        params, grads = ([cp.asarray(a) for a in arrays] for arrays in start(work))
        try:
            ready[name] = make(work, params, grads, cp)
            check(name, work, ready[name], cp)
        except Exception as error:  # CuPy's are of many kinds; the others are still worth measuring
            ready.pop(name, None)
            results[name] = f"not measured: {type(error).__name__}: {error}".replace("\n", " ")
    samples: dict[str, list[float]] = {name: [] for name in ready}
    until = time.monotonic() + (3 if quick else SECONDS)
    for k in range(ROUNDS):
        if k >= 3 and time.monotonic() > until:
            break
        for name, contestant in ready.items():
            contestant.step()
            begin, end = cp.cuda.Event(), cp.cuda.Event()
            begin.record()
            for _ in range(STEPS):
                contestant.step()
            end.record()
            end.synchronize()
            samples[name].append(cp.cuda.get_elapsed_time(begin, end) / 1e3 / STEPS)
    return {**results, **samples}


def device() -> tuple[Any, str, str]:
    """Return CuPy and the device's name, or None and why there is none."""
    try:
        cp = importlib.import_module("cupy")
        cuda = importlib.import_module("gradstep._cuda")
        return cp, cuda.devices()[0], ""
    except (ImportError, RuntimeError, IndexError) as error:
        return None, "", f"{error}"


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| workload | contestant | microseconds a step | of gradstep's | of the copy's speed |",
        "|" + " --- |" * 5,
    ]
    for work in WORKLOADS:
        rows = results.get(work.name, dict.fromkeys(CONTESTANTS, "not measured: no time was left"))
        middle = {name: statistics.median(r) for name, r in rows.items() if isinstance(r, list)}
        for name in CONTESTANTS:
            if name not in middle:
                lines.append(f"| {work.name} | {name} | {rows[name]} | | |")
                continue
            took, copy = (
                f"{ratio:.2f}" if reference in middle else ""
                for reference, ratio in (
                    ("gradstep", middle[name] / middle.get("gradstep", math.inf)),
                    ("device copy of as many bytes", middle.get("device copy of as many bytes", 0) / middle[name]),
                )
            )
            lines.append(f"| {work.name} | {name} | {middle[name] * 1e6:.1f} | {took} | {copy} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path())
    args = parser.parse_args()
    cp, name, why = device()
    nothing = dict.fromkeys(CONTESTANTS, f"not measured: {why}")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    results: dict[str, dict[str, Any]] = {}
    facts = {"device": name or "none", "date": today, "gradstep": gs.__version__, "results": results}
    args.output.mkdir(parents=True, exist_ok=True)
    for work in WORKLOADS:  # written after each, for a run that is cut
        results[work.name] = measure(work, args.quick, cp) if cp else nothing
        text = f"{name or 'No GPU'}, {today}, AdamW\n\n{table(results)}\n"
        (args.output / "gpu.json").write_text(json.dumps(facts, indent=1))
        (args.output / "gpu.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
