"""The command `gradstep`, and the demo it runs."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest

import gradstep as gs
from gradstep import cli, demo, mlp, textbook

pytest.importorskip("rich")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

KEYS = ["optimizer", "test_accuracy", "final_loss", "step_seconds", "numpy_step_seconds", "bit_equal"]
PLAIN = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS")}


def gradstep(*args, cwd, **options):
    command = [sys.executable, "-W", "error", "-m", "gradstep", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=PLAIN, **options)


def main_after(code, *args, cwd):
    """Run main in a process where `code` ran first."""
    code = f"import sys\n{code}\nfrom gradstep.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=PLAIN)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """One run of everything, one epoch each."""
    folder = tmp_path_factory.mktemp("demo")
    done = gradstep("demo", "--epochs", 1, "--json", "results.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"{gs.__version__}\n"


def test_no_command_prints_help(capsys):
    assert cli.main([]) == 2
    out = capsys.readouterr().out
    assert "info" in out
    assert "demo" in out


def test_info(capsys, tmp_path):
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().out.startswith(f"version         {gs.__version__}\n")
    assert gradstep("info", cwd=tmp_path).stdout.startswith("version ")


def test_info_imports_nothing_heavy(tmp_path):
    code = """
import atexit
heavy = {"rich", "matplotlib", "sklearn"}
atexit.register(lambda: print(sorted(heavy & set(sys.modules))))
"""
    assert main_after(code, "info", cwd=tmp_path).stdout.endswith("[]\n")


def test_broken_pipe_is_quiet(tmp_path):
    for args in (["info"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "gradstep", *args]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60)
        os.close(writer)
        assert done.returncode in (0, 1)  # argparse keeps an unbuffered one to itself
        assert done.stderr == b""


def test_json(full):
    records = json.loads((full[0] / "results.json").read_text())
    assert [r["optimizer"] for r in records] == list(demo.SETTINGS)
    for record in records:
        assert list(record) == KEYS
        assert record["bit_equal"] is True
        assert 0.5 < record["test_accuracy"] <= 1
        assert 0 < record["final_loss"] < 2
        assert min(record["step_seconds"], record["numpy_step_seconds"]) > 0


def test_plain_lines(full):
    out = full[1].stdout
    assert full[1].stderr == ""
    assert "\x1b" not in out
    assert "…" not in out
    header, *rows = out.splitlines()
    assert all(column in header for column in demo.COLUMNS)
    assert [row.split()[0] for row in rows[:7]] == list(demo.SETTINGS)
    assert all(row.endswith("yes") and len(row) == len(header) for row in rows[:7])
    assert rows[7:] == ["Wrote results.json", "Wrote gradstep-demo.png"]


def test_picture(full):
    from matplotlib.image import imread

    height, width, _ = imread(full[0] / "gradstep-demo.png").shape
    assert width > height > 500


def test_no_plot_and_chosen_optimizers(tmp_path):
    chosen = ["--optimizer", "adamw", "--optimizer", "SGD", "--optimizer", "AdamW"]
    done = gradstep("demo", "--epochs", 1, "--no-plot", "--json", "r.json", *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert [r["optimizer"] for r in json.loads((tmp_path / "r.json").read_text())] == ["AdamW", "SGD"]


def test_other_output(tmp_path):
    args = ["--epochs", 1, "--optimizer", "nag", "--output", "p.svg"]
    assert gradstep("demo", *args, cwd=tmp_path).returncode == 0
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_seed_settles_the_numbers(tmp_path):
    def numbers(seed):
        args = ["--epochs", 1, "--seed", seed, "--optimizer", "adam", "--no-plot", "--json", "r.json"]
        assert gradstep("demo", *args, cwd=tmp_path).returncode == 0
        (record,) = json.loads((tmp_path / "r.json").read_text())
        return record["test_accuracy"], record["final_loss"]

    assert numbers(1) == pytest.approx(numbers(1), rel=1e-3)
    assert numbers(1) != pytest.approx(numbers(2), rel=1e-3)


def test_terminal_gets_bar_and_table(tmp_path):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "gradstep", "demo", "--epochs", "1", "--no-plot", "--optimizer", "adam"]
    environment = {**PLAIN, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=follower, stderr=follower, cwd=tmp_path, env=environment) as process:
        os.close(follower)
        out = b""
        try:
            while chunk := os.read(leader, 4096):
                out += chunk
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(leader)
    text = out.decode()
    assert process.returncode == 0, text
    assert "\x1b[" in text
    assert "100%" in text
    assert "accuracy" in text


@pytest.mark.parametrize(("module", "distribution"), demo.EXTRAS.items())
def test_missing_extra(module, distribution, tmp_path):
    done = main_after(f"sys.modules[{module.partition('.')[0]!r}] = None", "demo", "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"needs {distribution} " in done.stderr
    assert done.stderr.endswith("pip install 'gradstep[demo]'\n")
    assert done.stderr.count("\n") == 1


def test_no_plot_needs_no_matplotlib(tmp_path):
    args = ["demo", "--epochs", "1", "--no-plot", "--optimizer", "sgd"]
    assert main_after("sys.modules['matplotlib'] = None", *args, cwd=tmp_path).returncode == 0


def test_interrupt_while_training(tmp_path):
    # A shell that starts things in the background has them ignore the signal.
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gradstep.cli import main
sys.exit(main(["demo", "--epochs", "100000"]))
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, env=PLAIN, **pipes) as process:
        assert process.stdout.readline().startswith("optimizer")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "gradstep: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["rich", "sklearn.datasets", "matplotlib.figure"])
def test_interrupt_while_importing(module, tmp_path):
    code = f"""
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""
    done = main_after(code, "demo", "--epochs", "1", "--optimizer", "adam", cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "gradstep: interrupted\n"


def test_interrupt_that_an_import_swallows(tmp_path):
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "sklearn.datasets":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Interrupt())
"""
    done = main_after(code, "demo", "--epochs", "1", "--optimizer", "adam", cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "gradstep: interrupted\n"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--epochs", "0"], "argument --epochs: expected 1 or more, got 0"),
        (["--epochs", "two"], "argument --epochs: expected an integer, got 'two'"),
        (["--seed", "-1"], "argument --seed: expected 0 or more, got -1"),
        (["--optimizer", "lion"], "argument --optimizer: expected one of GradientDescent, SGD, "),
        (["--output", "nowhere/p.png"], "argument --output: cannot write 'nowhere/p.png'"),
        (
            ["--output", "p.gif"],
            "argument --output: expected a name that ends in .png, .svg, .pdf, got",
        ),
        (["--output", "p.png", "--no-plot"], "argument --no-plot: not allowed with argument --output"),
        (["--json", "nowhere/r.json"], "argument --json: cannot write 'nowhere/r.json'"),
        (["--json", "."], "argument --json: cannot write '.'"),
    ],
)
def test_bad_options(args, complaint, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "run", lambda *_, **__: pytest.fail("the demo ran"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", *args])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_gradients(rng):
    params = [p.astype(np.float64) for p in mlp.init(rng)]
    x, y = rng.random((5, 64)), rng.integers(0, 10, 5)
    _, grads = mlp.loss_and_grads(params, x, y)
    direction = [rng.standard_normal(p.shape) for p in params]
    ahead, behind = (
        mlp.loss_and_accuracy([p + h * d for p, d in zip(params, direction, strict=True)], x, y)[0]
        for h in (1e-6, -1e-6)
    )
    slope = sum(np.vdot(g, d) for g, d in zip(grads, direction, strict=True))
    assert (ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "hypers"),
    [
        *demo.SETTINGS.items(),
        ("GradientDescent", {"weight_decay": 0.1}),
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("NAG", {"weight_decay": 0.1}),
        ("Adagrad", {"weight_decay": 0.1}),
        ("Adam", {"weight_decay": 0.1, "betas": (0.8, 0.95)}),
    ],
)
def test_textbook_has_our_bits(name, hypers, dtype, rng):
    params = [rng.standard_normal(shape).astype(dtype) for shape in ((40, 30), (30,))]
    copies = [p.copy() for p in params]
    ours, plain = getattr(gs, name)(params, **hypers), getattr(textbook, name)(**hypers)
    for _ in range(20):
        grads = [rng.standard_normal(p.shape).astype(dtype) for p in params]
        ours.step(grads)
        plain.step(copies, grads)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(params, copies, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam_reads_digits(name):
    result = demo.train(name, digits=demo.load(0), epochs=demo.EPOCHS, seed=0)
    assert result.test_accuracy >= 0.97
    assert result.bit_equal
