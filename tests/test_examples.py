"""Every script in examples/ runs without a warning, writes its picture, and shows what it is there to show."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))  # none beside an installed package
NEEDS = {"hips_autograd": "autograd", "thinc_model": "thinc"}


class Said(dict):
    """What was printed, lines of `key: value`; and the numbers of one."""

    def numbers(self, key):
        return [float(n) for n in re.findall(r"(?<![\w^])[-+]?\d+\.?\d*(?:e[-+]?\d+)?|nan", self[key])]

    def number(self, key):
        return self.numbers(key)[0]


def four_methods(said):
    assert all(
        said[name].endswith("same bits: True") for name in ("gradient descent", "momentum", "Nesterov", "Adagrad")
    )
    assert math.isclose(said.number("gradient descent"), 10 * 0.8**100, rel_tol=1e-12)
    assert said.numbers("newton")[1] == 1


def batch_sizes(said):
    epochs = [said.numbers(name)[1] for name in ("stochastic", "mini-batch of 32", "batch")]
    assert epochs[0] < epochs[1] < epochs[2] / 5


def vanishing_exploding(said):
    rows = {name: said.numbers(name) for name in said if name.startswith("a = ")}
    ratios = {name: row[0] for name, row in rows.items()}
    assert ratios["a = 0.8"] < 1e-5 < 0.1 < ratios["a = sqrt(2), clipped"] < 10 < 100 < ratios["a = 1.8"]
    *_, before, after, _ = rows["a = 1.8"]
    assert math.isfinite(before)
    assert math.isnan(after)
    *_, before, after, _ = rows["a = 1.8, clipped"]
    assert after < before / 2
    assert rows["a = sqrt(2), clipped"][-1] > 75
    assert said.number("zeros in float16, loss times 1") == 100
    assert said.number("zeros in float16, loss times 65536") < 20


def learning_rate(said):
    best, accuracy = said.numbers("best")
    assert 0.1 < said.numbers("range test")[-1] / best < 10
    assert accuracy > 0.9


def ill_conditioned(said):
    steps = {name: said.number(name) for name in ("newton", "l-bfgs", "momentum", "gd")}
    assert steps["newton"] == 1
    assert steps["l-bfgs"] < 1000 < steps["momentum"] < steps["gd"]
    assert [name for name in steps if said[name].endswith("converged: False")] == ["gd"]


def image_classifier(said):
    (_, without), (plain, averaged) = map(said.numbers, ("without augmentation", "with augmentation"))
    assert without + 0.005 < averaged
    assert plain < averaged


def text_classifier(said):
    assert said.number("accuracy") > 0.9
    assert said.number("accuracy of the most frequent subpackage") < 0.5


def recommender(said):
    found = [said.number(f) for f in ("noise", "matrix factorisation", "means of users and items", "global mean")]
    assert found == sorted(found)
    assert found[1] < 1.15 * found[0]


def hips_autograd(said):
    for name, tolerance in (("length", 0.01), ("damping", 0.03)):
        found, truth = said.numbers(name)
        assert math.isclose(found, truth, rel_tol=tolerance)


def thinc_model(said):
    assert said["still Thinc's own arrays"] == "True"
    before, after = said.numbers("accuracy")
    assert before < 0.3 < 0.9 < after


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_and_shows(name, tmp_path):
    for package in ("matplotlib", "sklearn", "threadpoolctl", *filter(None, [NEEDS.get(name)])):
        pytest.importorskip(package)
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    globals()[name](Said(line.split(": ", 1) for line in done.stdout.splitlines()))


@pytest.mark.skipif(not SCRIPTS, reason="only a checkout has the examples")
def test_readme_lists_them():
    listed = re.findall(r"^\| `python examples/(\w+)\.py`", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == SCRIPTS
