"""The figures that gradstep must reach, as ratios: `python bench/must_reach.py [--only NAME] [--json FILE]`.

Each figure runs in a process of its own, so that what one imports does not change another.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import learning
import neighbours
import numpy as np
import second_order
import update
import whole_step
from figure import MUST, Figure

import gradstep as gs

FIGURES = {
    f.__name__: f
    for f in (
        update.ceiling,
        update.plain_numpy,
        update.small_arrays,
        neighbours.neighbour,
        neighbours.neighbour_torch,
        neighbours.iteration,
        whole_step.clipping,
        whole_step.storage,
        whole_step.averaging,
        whole_step.many_clipped,
        second_order.lbfgs,
        second_order.lbfgs_torch,
        second_order.lbfgs_small,
        learning.sklearn_mlp,
    )
}


def measure(name: str, quick: bool) -> None:
    """Print each figure of that name as a line of JSON."""
    if name.endswith("_torch"):
        importlib.import_module("torch")
    for figure in FIGURES[name](quick):
        print(json.dumps(figure), flush=True)


def figures(name: str, quick: bool) -> Iterator[Figure]:
    """Figures of that name, measured in a process of their own."""
    # Some machines name an older kernel for BLAS; figures against NumPy want the one that fits.
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    command = [sys.executable, __file__, "--here", "--only", name, *(["--quick"] if quick else [])]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            yield Figure(*json.loads(line))
    if process.returncode:
        raise SystemExit(f"{name} failed")


def processor() -> str:
    """Model name, family and model number: virtual machines often hide the first."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
    name, family, model = (facts.get(key, "").strip("\t: ") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="which figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args.only[0], args.quick)
        return 0
    isa = gs.config.config().isa
    versions = f"{gs.get_num_threads()} threads, {isa}, NumPy {np.__version__}"
    print(f"{processor()}, {versions}, {datetime.date.today()}\n")
    print("| figure | reached | must | yes or no |\n| --- | --- | --- | --- |", flush=True)
    table = []
    for name in args.only:
        for figure in figures(name, args.quick):
            print(figure.row, flush=True)
            table.append(figure)
    if args.json:
        rows = [f._asdict() | {"must": MUST.get(f.key), "reached": f.reached} for f in table]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(figure.reached for figure in table) else 1


if __name__ == "__main__":
    sys.exit(main())
