"""The command ``gradstep``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gradstep
from gradstep.demo import EPOCHS, SETTINGS, run

FORMATS = (".png", ".svg", ".pdf")
OPTIMIZERS = tuple(SETTINGS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # or a broken pipe would show only after the last line of Python
    except KeyboardInterrupt:
        print("gradstep: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"gradstep: {error}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser, demo = _parsers()
    args = parser.parse_args(argv)
    if args.command == "info":
        gradstep.show_config()
        return 0
    if args.command == "demo":
        return _demo(demo, args)
    parser.print_help()
    return 2


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(prog="gradstep", description="Optimizer steps on NumPy arrays.")
    parser.add_argument("--version", action="version", version=gradstep.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("info", help="print version, instruction sets and threads")
    about = "train a small network on handwritten digits with each optimizer"
    demo = commands.add_parser("demo", help=about, description=about.capitalize() + ".")
    demo.add_argument(
        "--optimizer",
        action="append",
        type=_optimizer,
        metavar="NAME",
        help=f"one of {', '.join(OPTIMIZERS)}; may be repeated (default: all)",
    )
    demo.add_argument("--epochs", type=_at_least(1), default=EPOCHS, metavar="N", help="default: %(default)s")
    demo.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: %(default)s")
    picture = demo.add_mutually_exclusive_group()
    picture.add_argument(
        "--output", type=Path, default=Path("gradstep-demo.png"), metavar="FILE", help="default: %(default)s"
    )
    picture.add_argument("--no-plot", action="store_true", help="draw no picture")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    return parser, demo


def _demo(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    picture = None if args.no_plot else args.output
    if picture and picture.suffix.lower() not in FORMATS:
        endings = ", ".join(FORMATS)
        parser.error(f"argument --output: expected a name that ends in {endings}, got {str(picture)!r}")
    for option, path in (("--output", picture), ("--json", args.json)):
        if path and not _writable(path):
            parser.error(f"argument {option}: cannot write {str(path)!r}")
    names = list(dict.fromkeys(args.optimizer or OPTIMIZERS))
    return run(names, epochs=args.epochs, seed=args.seed, picture=picture, record=args.json)


def _optimizer(text: str) -> str:
    for name in OPTIMIZERS:
        if name.lower() == text.lower():
            return name
    raise argparse.ArgumentTypeError(f"expected one of {', '.join(OPTIMIZERS)}, got {text!r}")


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    return integer


def _writable(path: Path) -> bool:
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK)
