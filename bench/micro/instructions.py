"""Instructions of one call of each workload under callgrind, which a noisy machine cannot blur.

`python bench/micro/instructions.py` prints them; `--check` exits with 1 where one rose by more than 5 % above the
baseline, `--update` writes the baseline, `--against REVISION` builds a revision and compares with that.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BASELINES = HERE / "baseline.json"
ALLOWED = 5  # percent that a count may rise
ALIKE = 0.01  # of the reference, between two builds of one version of the interpreter
REFERENCE = "reference"  # the workload without gradstep
SETTINGS = {"PYTHONHASHSEED": "0", "GRADSTEP_ISA": "baseline", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

Counts = dict[str, int]


class Row(NamedTuple):
    """Instructions of one call of a workload, now and, where known, before."""

    name: str
    before: int | None
    now: int

    @property
    def verdict(self) -> str:
        """What is to be said; that of a failure is in capitals."""
        if self.before is None:
            return "NOTHING TO COMPARE WITH"
        percent = 100 * self.now - 100 * self.before
        return "ROSE" if percent > ALLOWED * self.before else "fell" if percent < -ALLOWED * self.before else ""

    @property
    def line(self) -> str:
        """A line of the table."""
        before, change = "", ""
        if self.before is not None:
            before, change = f"{self.before:,}", f"{self.now / self.before - 1:+.1%}"
        return f"| {self.name} | {before} | {self.now:,} | {change} | {self.verdict} |"


def environment() -> dict[str, str]:
    """Return what counts depend on beside the sources."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        "numpy": importlib.import_module("numpy").__version__,
        "machine": platform.machine(),
        "compiler": importlib.import_module("gradstep._cpu").compiler,
    }


def key_of(facts: Mapping[str, str]) -> str:
    """Name an environment: of versions major and minor, of the compiler major."""
    python, numpy = (re.sub(r"^(\D*\d+\.\d+).*", r"\1", facts[of]) for of in ("python", "numpy"))
    return f"{python}, NumPy {numpy}, {facts['machine']}, {facts['compiler'].partition('.')[0]}"


def fitting(baselines: Mapping[str, Any], key: str, reference: int) -> tuple[Counts, str]:
    """Return the baseline for an environment, or none and why."""
    if key not in baselines:
        return {}, f"there is no baseline for {key}"
    counts: Counts = baselines[key]["instructions"]
    if abs(reference / counts[REFERENCE] - 1) > ALIKE:
        builds = f"{counts[REFERENCE]:,} instructions there and {reference:,} here"
        return {}, f"the baseline for {key} is of another build: {REFERENCE} takes {builds}"
    return counts, ""


def settings(package: Path | None) -> dict[str, str]:
    """Return the environment to count in, where a package elsewhere comes first."""
    path = os.pathsep.join(filter(None, (str(package or ""), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADSTEP_"))}
    return {**kept, **SETTINGS, "PYTHONPATH": path}


def counted(names: Sequence[str], package: Path | None = None) -> Counts:
    """Return instructions of one call of each workload; of one that fails in a package elsewhere, none."""
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/requests.so"
        compiler = os.environ.get("CXX", "g++").split()
        subprocess.run([*compiler, "-shared", "-fPIC", str(HERE / "requests.cpp"), "-o", library], check=True)
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/%p"]
        command += [sys.executable, str(HERE / "counter.py"), library, *names]
        done = subprocess.run(command, env=settings(package), stdout=subprocess.PIPE, text=True)
        origin = done.stdout.strip()
        if package and not origin.startswith(str(package)):
            raise SystemExit(f"{origin} hides {package}: is gradstep installed as editable?")
        if done.returncode and not package:
            raise SystemExit("a workload failed")
        return read(Path(folder))


def read(folder: Path) -> Counts:
    """Return instructions of one call, of the dumps in a folder: the mean over layouts."""
    totals: dict[str, dict[str, dict[int, int]]] = {}
    for dump in folder.glob("*.*"):
        text = dump.read_text() if dump.suffix[1:].isdigit() else ""
        if found := re.search(r"^desc: Trigger: Client Request: (\w+) (\d+) (\d+)$", text, re.M):
            name, layout, calls = found.groups()
            total = text.rpartition("totals: ")[2]
            totals.setdefault(name, {}).setdefault(layout, {})[int(calls)] = int(total)
    return {name: round(statistics.fmean(map(of_one_call, layouts.values()))) for name, layouts in totals.items()}


def of_one_call(totals: Mapping[int, int]) -> float:
    """Return what a call adds: what was done around the calls is in both totals."""
    _, few, many = sorted(totals)
    return (totals[many] - totals[few]) / (many - few)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def baseline_revision() -> str:
    """Return the commit that wrote the baselines: its sources are what they count."""
    if git("rev-parse", "--is-shallow-repository") != "false":
        raise SystemExit("nothing to compare with: needs a clone with all its history, or `--update` before the change")
    return git("log", "-1", "--format=%H", "--", str(BASELINES))


@contextmanager
def built(revision: str) -> Iterator[Path]:
    """Yield a folder with the package of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        sources, package = Path(folder, "sources"), Path(folder, "package")
        sources.mkdir()
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE)
        if archive.returncode:
            raise SystemExit(f"--against {revision}: expected a revision of this repository")
        subprocess.run(["tar", "-x", "-C", str(sources)], input=archive.stdout, check=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(package), str(sources)]
        subprocess.run(command, env={**os.environ, "SKBUILD_CMAKE_DEFINE": "GRADSTEP_CUDA=OFF"}, check=True)
        yield package


def counted_at(revision: str, names: Sequence[str]) -> Counts:
    with built(revision) as package:
        return counted(names, package)


def written(baselines: Mapping[str, Any], facts: dict[str, str], counts: Counts) -> dict[str, Any]:
    """Return the baselines with one more; one that is replaced takes the others with it, which are of older code."""
    key = key_of(facts)
    others = {} if key in baselines else baselines
    return {**others, key: {**facts, "instructions": counts}}


def main() -> int:
    known = [*importlib.import_module("workloads").WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the baseline; exit with 1 on a rise")
    what.add_argument("--update", action="store_true", help="write the baseline")
    what.add_argument("--against", metavar="REVISION", help="build a revision and compare with that")
    args = parser.parse_args()
    names = [REFERENCE, *args.only]
    facts, baselines = environment(), json.loads(BASELINES.read_text()) if BASELINES.exists() else {}
    now = counted(names)
    before, why = fitting(baselines, key_of(facts), now[REFERENCE])
    if args.update:
        kept = {name: n for name, n in before.items() if name in known}
        entries = written(baselines, facts, {**kept, **now})
        BASELINES.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    revision = args.against or (baseline_revision() if args.check and why else "")
    if why:
        print(why)
    if revision:
        print(f"compared with {revision}, built here", flush=True)
        before = counted_at(revision, names)
    print("| one call | before | now | change | |\n| --- | --- | --- | --- | --- |")
    rows = [Row(name, before.get(name), now[name]) for name in names]
    print("\n".join(row.line for row in rows))
    failed = any(row.verdict.isupper() for row in rows)
    return int(failed and (args.check or bool(args.against)))


if __name__ == "__main__":
    sys.exit(main())
