"""What the check of instruction counts decides; nothing is counted here."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

MICRO = Path(__file__).parent.parent / "bench" / "micro"
pytestmark = pytest.mark.skipif(not MICRO.exists(), reason="only a checkout has the benchmarks")
FACTS = {"python": "CPython 3.11.7, GCC 12.2.0", "numpy": "2.4.6", "machine": "x86_64", "compiler": "GNU 12.2.0"}
KEY = "CPython 3.11, NumPy 2.4, x86_64, GNU 12"


@pytest.fixture
def check(monkeypatch, tmp_path, capsys):
    """Return a function that runs the script where calls take `now`, and what it printed; it has a baseline.json."""
    monkeypatch.syspath_prepend(str(MICRO))
    script = import_module("instructions")
    monkeypatch.setattr(script, "BASELINES", tmp_path / "baseline.json")
    monkeypatch.setattr(script, "environment", lambda: FACTS)

    def run(*arguments, now, baseline=None, **replaced):
        if baseline is not None:
            script.BASELINES.write_text(json.dumps(baseline))
        monkeypatch.setattr(script, "counted", lambda names: {"reference": 1000, **now})
        for name, value in replaced.items():
            monkeypatch.setattr(script, name, value)
        monkeypatch.setattr(sys, "argv", ["instructions.py", "--only", "step_one", "step_ten", *arguments])
        return script.main(), capsys.readouterr().out

    run.script = script
    yield run
    for name in ("instructions", "workloads"):
        sys.modules.pop(name, None)


def baseline(reference=1000, key=KEY, **counts):
    return {key: {**FACTS, "instructions": {"reference": reference, **counts}}}


@pytest.mark.parametrize(
    ("now", "status", "verdict"),
    [(10_510, 1, "ROSE"), (10_500, 0, ""), (10_490, 0, ""), (9_510, 0, ""), (9_000, 0, "fell")],
)
def test_a_rise_of_more_than_5_percent_fails(check, now, status, verdict):
    known = baseline(step_one=10_000, step_ten=500)
    found, text = check("--check", now={"step_one": now, "step_ten": 500}, baseline=known)
    assert found == status
    assert f"| step_one | 10,000 | {now:,} | {now / 10_000 - 1:+.1%} | {verdict} |" in text
    assert "| step_ten | 500 | 500 | +0.0% |  |" in text


def test_a_rise_is_not_outweighed_by_a_fall(check):
    known = baseline(step_one=10_000, step_ten=10_000)
    assert check("--check", now={"step_one": 10_600, "step_ten": 5_000}, baseline=known)[0] == 1


def test_a_call_without_a_count_fails(check):
    found, text = check("--check", now={"step_one": 1, "step_ten": 2}, baseline=baseline(step_one=1))
    assert found == 1
    assert "| step_ten |  | 2 |  | NOTHING TO COMPARE WITH |" in text


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({}, f"there is no baseline for {KEY}"),
        (baseline(key="CPython 3.12, NumPy 2.4, x86_64, GNU 12", step_one=1), f"there is no baseline for {KEY}"),
        (baseline(reference=1011, step_one=1), "of another build: reference takes 1,011 instructions there and 1,000"),
    ],
)
@pytest.mark.parametrize(("before", "status"), [(100, 0), (90, 1)])
def test_another_environment_is_compared_with_the_code_of_the_baseline(check, known, why, before, status):
    asked = []

    def counted_at(revision, names):
        asked.append((revision, names))
        return {"reference": 1000, "step_one": before, "step_ten": 100}

    found, text = check(
        "--check",
        now={"step_one": 100, "step_ten": 100},
        baseline=known,
        baseline_revision=lambda: "abc",
        counted_at=counted_at,
    )
    assert found == status
    assert why in text
    assert "compared with abc, built here" in text
    assert asked == [("abc", ["reference", "step_one", "step_ten"])]


@pytest.mark.parametrize("said", ["true", ""], ids=["shallow", "no repository"])
def test_another_environment_without_history_fails(check, said):
    with pytest.raises(SystemExit, match="nothing to compare with: needs a clone with all its history"):
        check("--check", now={"step_one": 1, "step_ten": 1}, git=lambda *arguments: said)


def test_the_baseline_of_nearly_the_same_reference_counts(check):
    known = baseline(reference=1009, step_one=100, step_ten=100)
    assert check("--check", now={"step_one": 110, "step_ten": 100}, baseline=known)[0] == 1


def test_update_writes_what_a_check_passes_with(check):
    now = {"step_one": 100, "step_ten": 100}
    older = baseline(step_one=1, step_ten=1, kernel=7, removed=5)
    assert check("--update", now=now, baseline=older)[0] == 0
    entry = json.loads(check.script.BASELINES.read_text())[KEY]
    assert entry == {**FACTS, "instructions": {"reference": 1000, "kernel": 7, **now}}
    found, text = check("--check", now=now)
    assert found == 0
    assert "ROSE" not in text


def test_update_keeps_other_environments_until_the_code_changes(check):
    now, elsewhere = {"step_one": 100, "step_ten": 100}, baseline(key="CPython 3.12", step_one=1)
    check("--update", now=now, baseline=elsewhere)
    assert json.loads(check.script.BASELINES.read_text()).keys() == {KEY, "CPython 3.12"}
    check("--update", now=now)
    assert json.loads(check.script.BASELINES.read_text()).keys() == {KEY}


def test_counts_are_differences_averaged_over_layouts(check, tmp_path):
    for i, (layout, calls, total) in enumerate(
        [(0, 0, 999), (0, 3, 130), (0, 6, 160), (1, 0, 9), (1, 3, 50), (1, 6, 110)]
    ):
        dump = f"version: 1\ndesc: Trigger: Client Request: step_one {layout} {calls}\nfn=(1)\n0 {total}\n\ntotals: {total}\n"
        (tmp_path / f"77.{i + 1}").write_text(dump)
    (tmp_path / "77").write_text("totals: 5\n")
    (tmp_path / "requests.so").write_bytes(b"\xff")
    assert check.script.read(tmp_path) == {"step_one": 15}
