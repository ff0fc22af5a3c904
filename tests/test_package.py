"""The package as a whole: imports, configuration, instruction sets, symbols."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradstep as gs
from gradstep import _cpu
from gradstep.config import config
from script import run
from table import ISAS

ROOT = Path(__file__).parents[1]


def test_import_leaves_the_heavy_ones_out():
    run("import sys, gradstep; assert not {'cupy', 'scipy', 'matplotlib', 'sklearn', 'rich'} & set(sys.modules)")


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", gs.__version__)
    pyproject = ROOT / "pyproject.toml"
    if pyproject.exists():
        assert f'version = "{gs.__version__}"' in pyproject.read_text()


def test_show_config(capsys):
    shown = gs.show_config()
    printed = capsys.readouterr().out
    assert shown == config()
    assert printed == f"{shown}\n"
    for word in ("version", "compiler", "-ffp-contract=off", "isas built", "pool", "num threads", "cuda"):
        assert word in printed
    assert shown.isa in shown.isas_supported
    assert set(shown.isas_supported) <= set(shown.isas_built)


def test_a_cuda_array_without_a_device_is_one_clear_error():
    code = """
import gradstep as gs
class Array:
    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (64, False), "version": 3}
try:
    gs.Adam({"W": Array()})
except TypeError as error:
    print(error)
"""
    told = run(code, CUDA_VISIBLE_DEVICES="").stdout
    assert told.startswith("params['W']: expected a NumPy array, got a CUDA array; ")
    assert "no CUDA module" in told or "CUDA: " in told
    assert "Traceback" not in told


@pytest.mark.parametrize("isa", ISAS)
def test_each_instruction_set_can_be_forced(isa):
    run(f"import gradstep; assert gradstep.config.config().isa == {isa!r}", GRADSTEP_ISA=isa)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("GRADSTEP_ISA", "expected one of those this processor has"),
        ("GRADSTEP_THREADING", "expected pool or openmp"),
    ],
)
def test_an_unknown_setting_is_a_clear_error(variable, words):
    done = run("import gradstep", check=False, **{variable: "sse9"})
    assert done.returncode == 1
    assert f"ValueError: {variable}: {words}" in done.stderr
    assert "'sse9'" in done.stderr


@pytest.mark.parametrize("isa", _cpu.isas_built())
def test_no_instruction_set_shares_a_symbol(isa, tmp_path):
    """A weak symbol could be merged with another object's, and run AVX-512 code on an older processor."""
    source = ROOT / "csrc/cpu/sweep.cpp"
    if not (source.exists() and shutil.which("g++") and shutil.which("nm")):
        pytest.skip("needs a checkout, g++ and nm")
    flags = f"{_cpu.flags['common']} {_cpu.flags[isa]}".split()
    out = tmp_path / "sweep.o"
    command = ["g++", "-std=c++20", "-fPIC", "-fvisibility=hidden", *flags, f"-DGRADSTEP_ISA={isa}"]
    subprocess.run([*command, "-c", str(source), "-o", str(out)], check=True)
    lines = subprocess.run(["nm", str(out)], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split()[-2:] for line in lines]
    assert not [name for kind, name in symbols if kind in "VvWwu"]
    exported = [name for kind, name in symbols if kind.isupper() and kind != "U"]
    assert len(exported) == 1
    assert f"instruction_set_{isa}" in exported[0]


def test_rules_are_those_of_the_table():
    from table import ROWS

    named = {opt._native_rule(opt.groups) for opt in (row.make(np.ones(1)) for row in ROWS)}
    assert named | {"average", "copy"} == set(_cpu.states)


def test_public_names_are_documented():
    for name in gs.__all__:
        if name != "__version__":
            assert getattr(gs, name).__doc__, name


@pytest.mark.skipif(sys.version_info < (3, 13), reason="only there a Python without the GIL exists")
def test_the_module_does_not_switch_the_gil_on():
    enabled = "getattr(sys, '_is_gil_enabled', lambda: True)()"
    run(f"import sys, numpy; before = {enabled}; import gradstep; assert {enabled} == before")
