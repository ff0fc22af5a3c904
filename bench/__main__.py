"""Measures gradstep against what memory allows, pure Python, NumPy and its peers; see bench/README.md."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import compare, machine, readme, report
from bench.contestants import PEERS, QUICK_PEERS
from bench.questions import NAMES
from bench.run import Run, answer, cases, measure


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    _what(top)
    top.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="QUESTION", help=f"of {', '.join(NAMES)}"
    )
    top.add_argument("--output", type=Path, default=Path("bench-run"), help="folder for run.json, report.md, pictures")
    top.add_argument(
        "--strict", action="store_true", help="exit with 1 if a figure is not reached, or of a whole run not measured"
    )
    commands = top.add_subparsers(dest="command", metavar="compare | readme | report")
    two = commands.add_parser("compare", help="say what changed between two runs, beyond noise")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    for name, help in (("readme", "write a run's table into README.md"), ("report", "write the report of a run again")):
        commands.add_parser(name, help=help).add_argument("run", type=Path)
    aside = commands.add_parser("answer")
    aside.add_argument("question", choices=NAMES)
    aside.add_argument("--seconds", type=float, default=math.inf)
    _what(aside)
    return top


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds: under two minutes")
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="PEER", help=f"of {', '.join(PEERS)}")


def main() -> int:
    """Run what was asked for."""
    args = parser().parse_args()
    if args.command == "answer":
        answer(args.question, args.quick, args.peers or PEERS, args.seconds)
    elif args.command == "compare":
        before, after = report.read(args.before), report.read(args.after)
        print(compare.text(before, after))
        return int(report.fails(after))
    elif args.command == "readme":
        readme.rewrite(args.run)
    elif args.command == "report":
        run = report.read(args.run)
        writable(args.run.parent)
        report.write(run, args.run.parent)
    else:
        return suite(args)
    return 0


def suite(args: argparse.Namespace) -> int:
    """Measure; what was measured until Ctrl-C, SIGTERM or the terminal's end is written, too."""
    args.only = tuple(dict.fromkeys(args.only))
    writable(args.output)
    run = Run(command(args), args.quick, machine.facts())
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(ending, signal.default_int_handler)
    try:
        with progress(sum(len(cases(question, args.quick)) for question in args.only)) as watch:
            measure(run, args.only, args.peers or (QUICK_PEERS if args.quick else PEERS), watch)
    except KeyboardInterrupt:
        run.interrupted = True
    run.save(args.output / "run.json")
    try:
        report.write(Run.load(args.output / "run.json"), args.output)
        report.show(run)
    except KeyboardInterrupt:  # by whom pictures take too long: `report` draws them
        return 130
    lacking = args.strict and (report.missed(run) or report.unmeasured(run))
    return 130 if run.interrupted else int(bool(report.fails(run) or lacking))


def writable(folder: Path) -> None:
    """Make a folder, and refuse one that nothing can be written to before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        for path in (folder / "run.json", folder / "report.md", *folder.glob("*.png")):
            if path.exists():
                path.open("a").close()
    except OSError as error:
        raise SystemExit(f"{folder}: expected a folder to write to: {error.strerror}") from None


def command(args: argparse.Namespace) -> str:
    """Return what decides about results; where they are written is nobody's business."""
    words = ["python -m bench", *(["--quick"] if args.quick else [])]
    words += ["--only", *args.only] if args.only != NAMES else []
    return " ".join([*words, *(["--peers", *args.peers] if args.peers else [])])


@contextmanager
def progress(cases: int) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Show a bar on a terminal, where rich is installed."""
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda question, told: None
        return
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=cases)

        def watch(question: str, told: dict[str, Any]) -> None:
            if measured := told.get("measured"):
                bar.update(task, advance=1, description=f"{question}: {measured['case']}"[:48])

        yield watch


if __name__ == "__main__":
    sys.exit(main())
