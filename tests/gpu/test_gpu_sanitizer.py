"""The kernels under NVIDIA's compute-sanitizer: slow, so in a file of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from on_gpu import DRY_RUN, gpu

pytestmark = [*gpu, pytest.mark.skipif(DRY_RUN, reason="needs a real device")]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_compute_sanitizer(tool):
    if os.environ.get("GRADSTEP_IN_SANITIZER") or shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [
        "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "99",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
    ]
    tests = [str(Path(__file__).with_name(f"test_gpu_{name}.py")) for name in ("health", "averages")]
    chosen = ["-k", "test_facts and (AdamW or GradientDescent) or test_specification"]
    environment = {**os.environ, "GRADSTEP_IN_SANITIZER": "1"}
    done = subprocess.run([*command, *tests, *chosen], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
