"""What nvcc makes of the kernels: the same roundings as on the CPU, wide accesses, no spills."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gradstep import _cpu

CUDA = Path(__file__).parents[1] / "csrc/cuda"
ARCHITECTURES = [75, 80, 86, 89, 90, 100, 120] if os.environ.get("GRADSTEP_EVERY_ARCHITECTURE") else [80]

SOURCES = sorted(path.name for path in CUDA.glob("*.cu"))

pytestmark = [
    pytest.mark.skipif(not CUDA.is_dir(), reason="the sources of csrc/cuda are not here"),
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed"),
]


def nvcc(name, out, *options):
    flags = ["-std=c++20", "-O3", "--fmad=false", "--expt-relaxed-constexpr"]
    command = ["nvcc", *flags, *options, str(CUDA / name), "-o", str(out)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


@functools.cache
def kernels():
    """Return the PTX of each kernel."""
    import tempfile

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:
            out = Path(folder, name + ".ptx")
            nvcc(name, out, "-ptx", "-arch=compute_80")
            for entry in re.split(r"\.entry ", out.read_text())[1:]:
                found[entry.partition("(")[0]] = entry
    return found


def test_every_rule_has_its_kernels():
    names = " ".join(kernels())
    for rule in _cpu.states:
        struct = "".join(part.capitalize() for part in rule.split("_"))
        struct = {"Sgd": "SGD", "Nag": "NAG", "Adamw": "AdamW"}.get(struct, struct)
        for letter in "fd":
            assert re.search(rf"sweep[A-Z0-9_]*{len(struct)}{struct}E{letter}E", names), (rule, letter)


def test_only_sums_of_products_of_floats_fuse():
    fused = {name: re.findall(r"\bfma\.\S+", text) for name, text in kernels().items()}
    fused = {name: found for name, found in fused.items() if found}
    assert fused
    for name, found in fused.items():
        assert re.search(r"survey_chunksIf|dot_tilesILi[123]Ef", name)
        assert set(found) == {"fma.rn.f64"}


def test_every_operation_rounds_to_nearest():
    rounded = 0
    for name, text in kernels().items():
        for operation in re.findall(r"\b(?:add|sub|mul|div|sqrt|rcp|rsqrt|mad)\.\S*f(?:32|64)\b", text):
            assert re.fullmatch(r"(add|sub|mul|div|sqrt|rcp)\.rn\.f(32|64)", operation), (name, operation)
            rounded += 1
    assert rounded > 500


def test_every_rule_moves_16_bytes_at_once():
    sweeps = {name: text for name, text in kernels().items() if "sweep" in name}
    assert len(sweeps) == 2 * len(_cpu.states)
    for name, text in sweeps.items():
        assert re.search(r"ld\.global(\.nc)?\.v4\.[bu]32", text), name
        assert re.search(r"st\.global\.v4\.[bu]32", text), name
    for name, text in kernels().items():
        if "survey_chunks" in name:
            assert re.search(r"ld\.global(\.nc)?\.v4\.[bu]32", text), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_spills(architecture, tmp_path):
    for name in SOURCES:
        code = f"arch=compute_{architecture},code=sm_{architecture}"
        told = nvcc(name, tmp_path / "out.cubin", "-cubin", "-gencode", code, "-Xptxas", "-v")
        spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", told)
        assert spills
        assert set(spills) == {("0", "0")}
