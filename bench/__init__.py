"""The bench suite: `python -m bench`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = "GRADSTEP_BENCH_SHARED"  # the variable that tells processes of one run where their common folder is
