"""A run: each question in a process of its own, since what is loaded changes results; all of it in one JSON file."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import ROOT, SHARED, machine
from bench.case import Case, Figure, Measurement, Took
from bench.questions import ask
from bench.runner import Runner, play
from bench.work import wake_blas

QUICK = 90.0  # seconds that a quick run has for all questions
START = 3  # a process starts, and loads its libraries, in the time of so many cases
Watch = Callable[[str, dict[str, Any]], None]


@dataclass
class Run:
    """What was measured, where, and by which command."""

    command: str
    quick: bool
    machine: dict[str, Any]
    pools: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    interrupted: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything was asked, to the end."""
        return not (self.quick or self.interrupted or "--only" in self.command or "--peers" in self.command)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote, or say that it is no run."""
        try:
            known = json.loads(path.read_text(), parse_constant=_refuse)
            known["figures"] = [Figure(**f) for f in known["figures"]]
            known["measurements"] = [Measurement(**m) for m in known["measurements"]]
            return cls(**known)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}: expected the run.json of a run: {error}") from None

    def save(self, path: Path) -> None:
        """Write all of it; messages may name folders, which are nobody's business."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        path.write_text(text.replace(sys.prefix, "PREFIX").replace(str(ROOT), "CHECKOUT") + "\n")

    def take(self, question: str, told: dict[str, Any]) -> None:
        """Keep what a question's process says."""
        if "measured" in told:
            self.measurements.append(Measurement(**told["measured"]))
        elif "figure" in told:
            self.figures.append(Figure(**told["figure"]))
        elif "pools" in told:
            self.pools[question] = told["pools"]
        elif "failure" in told:
            self.failures[question] = told["failure"]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no time")


def answer(question: str, quick: bool, peers: Sequence[str], seconds: float) -> None:
    """Measure one question in this process, and tell of it in lines of JSON."""
    until = time.perf_counter() + seconds
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print is not for the reader of the lines

        def tell(**said: Any) -> None:
            print(json.dumps(said), file=out, flush=True)

        wake_blas()
        runner = Runner(quick, peers, until=until)
        for item in runner.answers(question, ask(question, quick)):
            tell(**{"measured" if isinstance(item, Measurement) else "figure": asdict(item)})
        tell(pools=machine.pools())


def cases(question: str, quick: bool) -> list[str]:
    """Return the names of a question's cases, by playing it without measuring."""
    played = play(ask(question, quick), lambda case: (case, Took({}, {}, ())))
    return [item.name for item in played if isinstance(item, Case)]


def ask_aside(
    question: str, quick: bool, peers: Sequence[str], seconds: float, shared: str
) -> Iterator[dict[str, Any]]:
    """Answer a question in a process of its own; yield what it tells, or how it failed. What it began ends with it."""
    environment = {k: v for k, v in os.environ.items() if k not in machine.UNSET} | {SHARED: shared, "TMPDIR": shared}
    command = [sys.executable, "-m", "bench", "answer", question, f"--seconds={seconds}"]
    command += [*(["--quick"] if quick else []), "--peers", *peers]
    aside: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True, "start_new_session": True}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **aside) as child,
    ):
        try:
            assert child.stdout
            for line in child.stdout:
                yield json.loads(line)
            if code := child.wait():
                errors.seek(0)
                ended = [f"ended by {signal.Signals(-code).name}"] if code < 0 else []  # SIGKILL where memory is out
                yield {"failure": "\n".join([*errors.read().splitlines()[-8:], *ended])}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)  # ninja passes it on to compilers, which have groups of their own
            child.kill()


def measure(run: Run, questions: Sequence[str], peers: Sequence[str], watch: Watch) -> None:
    """Ask one question after the other, which share the time there is; `watch` sees everything that is told."""
    until = time.perf_counter() + (QUICK if run.quick else math.inf)
    weights = [START + len(cases(question, run.quick)) for question in questions]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as shared:  # an ended build may still write there
        for k, question in enumerate(questions):
            seconds = (until - time.perf_counter()) * weights[k] / sum(weights[k:])
            for told in ask_aside(question, run.quick, peers, seconds, shared):
                run.take(question, told)
                watch(question, told)
