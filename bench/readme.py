"""Writes a run's picture and figures into README.md, between two comments."""

from __future__ import annotations

import re
from pathlib import Path

from bench import ROOT, report
from bench.must import MUST, verdict
from bench.report import table
from bench.run import Run
from bench.samples import number

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
ROOFLINE, PICTURE = "GB/s of AdamW against bytes", "roofline.png"


def rewrite(path: Path, readme: Path = ROOT / "README.md") -> None:
    """Replace what stands between the comments."""
    run, folder = report.read(path), _folder(path, readme)
    why = refusal(run, path.parent)
    if why:
        raise SystemExit(f"{path}: expected a whole run, whose figures README.md can show: {why}")
    before, _, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme}: expected {BEGIN} and {END}")
    readme.write_text(f"{before}{BEGIN}\n{block(run, folder)}\n{END}{after}")


def refusal(run: Run, folder: Path) -> str:
    """Return why a run is not for README.md, if it is not."""
    reasons = {
        "it was interrupted": run.interrupted,
        f"it is of `{run.command}`": not run.is_whole,
        f"{', '.join(run.failures)} failed": run.failures,
        "it has no figures": not run.figures,
        f"{PICTURE} is not there": not (folder / PICTURE).exists(),
        "another package than the checkout's was measured": report.others(run),
    }
    return next((why for why, holds in reasons.items() if holds), "")


def _folder(path: Path, readme: Path) -> str:
    try:
        return path.resolve().parent.relative_to(readme.resolve().parent).as_posix()
    except ValueError:
        raise SystemExit(f"{path}: expected a run within {readme.resolve().parent}, which README.md can show") from None


def block(run: Run, folder: str) -> str:
    """Return the picture, the table, and where both come from."""
    facts, config = run.machine, run.machine["gradstep"]
    made = (
        f"Made by `{run.command}` on {facts['date'][:10]}, commit {facts['commit']}: {facts['processor']}, "
        f"{config['num_threads']} threads, {config['isa']}. [The whole report]({folder}/report.md)."
    )
    rows = [["what", "measured", "must be", "reached"]]
    for key, must in MUST.items():
        mine = [figure for figure in run.figures if figure.key == key]
        if mine:
            low, high = (number(pick(f.value for f in mine)) for pick in (min, max))
            measured = low if low == high else f"{low} to {high}"
            said = {verdict(figure) for figure in mine}
            worst = "**no**" if "NO" in said else min(said)  # few rounds sort before "yes"
            rows.append([must.what, measured, str(must), worst])
        else:
            rows.append([must.what, "not measured", str(must), "**no**"])
    parts = [f"![{ROOFLINE}]({folder}/{PICTURE})", table(rows), made]
    return "\n" + re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"
