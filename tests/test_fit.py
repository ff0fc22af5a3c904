"""The training loop: what it does at each step, when it ends, and that it goes on to the same bits after a kill."""

import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradstep as gs
from gradstep import checkpoint
from gradstep.data import Minibatches, minibatches
from gradstep.training import FitStep
from script import run
from table import FORMATS, IDS, ROWS
from test_rules import same
from test_whole_step import randoms

S = gs.schedules


def linear(n=60, dtype="f8", noise=0.0):
    """Rows of a linear fit, fresh parameters, and the loss of some rows."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 3)).astype(dtype)
    y = (X @ np.array([1.0, -2.0, 3.0], dtype) + 0.5 + noise * rng.normal(size=n)).astype(dtype)

    def loss_and_grads(p, X, y):
        error = X @ p["w"] + p["b"] - y
        return np.mean(error**2), {"w": 2 * X.T @ error / len(X), "b": 2 * error.mean(keepdims=True)[0]}

    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}, (X, y), loss_and_grads


def cut(arrays, size):
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, len(arrays[0]), size)]


class TestLoop:
    @pytest.mark.parametrize("positioned", [False, True])
    def test_it_is_the_loop_that_a_user_would_write(self, positioned):
        params, (X, y), fun = linear()
        theirs = {k: p.copy() for k, p in params.items()}
        make = lambda: minibatches(X, y, batch_size=7, epochs=3, seed=0)  # noqa: E731
        data = make() if positioned else cut((X, y), 7)
        lr = S.exponential(0.1, gamma=0.9)
        result = gs.fit(
            fun, params, data, gs.AdamW(params, lr=lr), epochs=None if positioned else 3, clip_norm=2.0, clip_value=1.5
        )
        opt, losses, norms, lrs = gs.AdamW(theirs, lr=lr), [], [], []
        for batch in make() if positioned else data * 3:
            loss, grads = fun(theirs, *batch)
            losses.append(loss)
            lrs.append(opt.lr)
            opt.step(grads, clip_norm=2.0, clip_value=1.5)
            norms.append(opt.grad_norm)
        for k in params:
            same(params[k], theirs[k])
        history = result.history
        assert (history.loss, history.grad_norm, history.lr) == (losses, norms, lrs)
        assert history.epoch_end == [9, 18, 27]
        assert history.epoch_loss == [sum(losses[i : i + 9]) / 9 for i in (0, 9, 18)]
        assert np.isnan(history.validation).all()
        assert (result.success, result.converged, result.message) == (
            True,
            False,
            "The data were gone through, epochs=3",
        )
        assert (result.epochs, result.steps, result.optimizer.steps) == (3, 27, 27)
        assert result.params is params

    def test_no_norm_is_taken_unasked(self):
        params, arrays, fun = linear()
        result = gs.fit(fun, params, [arrays], "sgd", epochs=2)
        assert np.isnan(result.history.grad_norm).all()
        assert result.optimizer.grad_norm is None

    @pytest.mark.parametrize("rule", ["adamw", gs.AdamW])
    def test_a_rule_by_name_or_class(self, rule):
        params, arrays, fun = linear()
        result = gs.fit(fun, params, cut(arrays, 10), rule, epochs=2)
        assert type(result.optimizer) is gs.AdamW
        assert result.optimizer.steps == 12
        assert params["w"].any()

    def test_batches_of_one_array_and_of_nothing(self):
        w, seen = np.zeros(2), []

        def fun(w, *batch):
            seen.append(batch)
            return 0.0, np.zeros(2)

        a = np.ones(2)
        gs.fit(fun, w, [a, (a, a), ()], "sgd", epochs=1)
        assert [len(batch) for batch in seen] == [1, 2, 0]

    def test_groups(self):
        a, b = np.array([1.0]), np.array([1.0])
        groups = [{"params": [a], "lr": 0.5}, {"params": {"b": b}}]
        gs.fit(lambda p: (0.0, [[np.ones(1)], {"b": np.ones(1)}]), groups, [()], gs.SGD(groups, lr=0.25), epochs=1)
        assert (a[0], b[0]) == (0.5, 0.75)

    def test_a_buffer_that_the_next_batch_overwrites(self):
        class Reused:
            def __iter__(self):
                buffer = np.empty(1)
                for value in (1.0, 2.0, 3.0):
                    buffer[:] = value
                    yield buffer

        seen = []
        gs.fit(lambda w, x: (seen.append(x[0]) or 0.0, np.zeros(1)), np.ones(1), Reused(), "sgd", epochs=2)
        assert seen == [1.0, 2.0, 3.0] * 2

    def test_an_average(self):
        params, arrays, fun = linear()
        theirs = {k: p.copy() for k, p in params.items()}
        mine, other = gs.EMA(params, 0.5), gs.EMA(theirs, 0.5)
        gs.fit(fun, params, cut(arrays, 10), gs.SGD(params, lr=0.1), epochs=2, average=mine)
        opt = gs.SGD(theirs, lr=0.1)
        for batch in cut(arrays, 10) * 2:
            opt.step(fun(theirs, *batch)[1], average=other)
        same(np.array(mine.averages["w"]), np.array(other.averages["w"]))
        assert mine.calls == 12

    def test_a_scaler_skips_what_overflows(self):
        w, scaler, scales = np.ones(2, "f2"), gs.LossScaler(init_scale=2.0**17), []

        def fun(w, scale):
            scales.append(scale)
            with np.errstate(over="ignore"):
                return 0.5 * float(w @ w), (w.astype("f4") * scale).astype("f2")

        result = gs.fit(fun, w, [()], gs.SGD(w, lr=0.5), epochs=4, scaler=scaler, gtol=0.0)
        assert scales == [2.0**17, 2.0**16, 2.0**15, 2.0**15]
        assert (result.optimizer.steps, result.optimizer.skipped) == (2, 2)
        assert w.tolist() == [0.25, 0.25]
        assert result.history.grad_norm[-1] == np.sqrt(0.5)

    def test_results_and_steps_can_be_compared(self):
        seen, results = [], []
        for w in (np.ones(3), np.ones(3)):
            results.append(gs.fit(lambda w: (w @ w, 2 * w), w, [()], "sgd", epochs=1, callbacks=[seen.append]))
        for one, other in (seen, results):
            assert one == one
            assert one != other
            assert len({one, other}) == 2

    def test_callbacks_are_told_each_step(self):
        params, arrays, fun = linear()
        opt, seen = gs.SGD(params, lr=S.step(0.1, every=3, gamma=0.5)), []

        def callback(step):
            assert step.params is params
            assert step.optimizer is opt
            assert len(step.history.loss) == step.step + 1
            assert step.history.loss[step.step] == step.loss
            assert len(step.history.epoch_loss) == step.epoch + step.epoch_ended
            seen.append((step.epoch, step.step, step.lr, step.epoch_ended))

        gs.fit(fun, params, cut(arrays, 30), opt, epochs=2, callbacks=[callback])
        assert seen == [(0, 0, 0.1, False), (0, 1, 0.1, True), (1, 2, 0.1, False), (1, 3, 0.05, True)]
        assert isinstance(FitStep, type)

    def test_a_callback_stops(self):
        params, arrays, fun = linear()

        def callback(step):
            if step.step == 3:
                raise StopIteration

        result = gs.fit(fun, params, cut(arrays, 10), "sgd", epochs=5, callbacks=[callback])
        assert (result.steps, result.epochs, result.optimizer.steps) == (4, 0, 4)
        assert (result.success, result.converged, result.message) == (True, False, "A callback ended it")
        assert result.best_epoch is None

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, StopIteration])
    def test_what_is_raised_comes_through(self, error):
        params, arrays, fun = linear()
        steps, after = itertools.count(), []

        def interrupted(p, *batch):
            if next(steps) == 5:
                raise error
            return fun(p, *batch)

        with pytest.raises(error):
            gs.fit(
                interrupted,
                params,
                cut(arrays, 10),
                "sgd",
                epochs=5,
                callbacks=[lambda step: after.append(step.params["w"].copy())],
            )
        assert len(after) == 5
        same(params["w"], after[-1])

    @pytest.mark.parametrize("prefetch", [0, 1, 3])
    def test_an_interrupt_while_a_batch_is_taken_skips_none(self, prefetch, monkeypatch):
        data, w = minibatches(np.arange(12.0), batch_size=2, epochs=2, seed=0, prefetch=prefetch), np.zeros(1)
        taken, opt = Minibatches.__next__, gs.SGD(w)
        calls = itertools.count()

        def interrupted(batches):
            batch = taken(batches)
            if next(calls) == 3:
                raise KeyboardInterrupt
            return batch

        monkeypatch.setattr(Minibatches, "__next__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gs.fit(lambda w, x: (1.0, np.ones(1)), w, data, opt)
        assert (opt.steps, data.epoch, data.batch) == (3, 0, 3)
        assert gs.fit(lambda w, x: (1.0, np.ones(1)), w, data, opt).steps == 9

    @pytest.mark.parametrize("prefetch", [0, 2])
    @pytest.mark.parametrize("failure", ["loss", "interrupt", "shape", "gradient"])
    def test_minibatches_go_on_with_the_batch_whose_step_was_not_made(self, failure, prefetch):
        w, seen = np.ones(1), []
        data = minibatches(np.arange(12.0), batch_size=2, epochs=2, seed=0, prefetch=prefetch)

        def fun(w, x):
            seen.append(x.tolist())
            if len(seen) != 9:
                return 1.0, np.ones(1)
            if failure in ("loss", "interrupt"):
                raise KeyboardInterrupt if failure == "interrupt" else RuntimeError
            return 1.0, np.ones(2) if failure == "shape" else np.full(1, np.nan)

        with pytest.raises((KeyboardInterrupt, RuntimeError, ValueError, FloatingPointError)):
            gs.fit(fun, w, data, "sgd", nonfinite="raise")
        assert (data.epoch, data.batch) == (1, 2)
        assert gs.fit(fun, w, data, "sgd").steps == 4
        expected = [x.tolist() for (x,) in minibatches(np.arange(12.0), batch_size=2, epochs=2, seed=0)]
        assert seen == expected[:9] + expected[8:]

    def test_what_a_plateau_is_told(self):
        w = np.ones(1)
        plateau, decay = S.ReduceOnPlateau(0.4, factor=0.5, patience=0), S.ReduceOnPlateau(0.1, factor=0.5, patience=1)
        twice = S.join([S.warmup(plateau, steps=1, start=1.0)], [])
        opt = gs.SGD(w, lr=twice, weight_decay=decay, momentum=twice)
        found = iter([3.0, 3.0, 2.0, np.nan])
        result = gs.fit(lambda w: (1.0, np.zeros(1)), w, [()] * 2, opt, epochs=4, validate=lambda w: next(found))
        assert result.history.lr == [0.4] * 4 + [0.2] * 4
        assert plateau.state_dict() == {"value": 0.1, "best": 2.0, "bad": 0, "cooldown": 0}
        assert decay.state_dict() == {"value": 0.1, "best": 2.0, "bad": 1, "cooldown": 0}


class TestEnds:
    def test_converged_by_the_norm(self):
        params, arrays, fun = linear()
        result = gs.fit(fun, params, [arrays], gs.SGD(params, lr=0.2), epochs=1000, gtol=1e-3)
        norms = result.history.grad_norm
        assert result.converged
        assert "gtol=0.001" in result.message
        assert norms[-1] <= 1e-3 < norms[-2]

    def test_infinite_clip_norm_clips_nothing(self):
        w = np.zeros(1)
        gs.fit(lambda w: (0.0, np.full(1, 1e6)), w, [()], gs.SGD(w, lr=1.0), epochs=1, gtol=0.0)
        assert w[0] == -1e6

    @pytest.mark.parametrize("validated", [False, True])
    def test_patience_and_the_best(self, validated):
        w, values = np.zeros(1), [5.0, 4.0, 3.95, 3.0, 3.2, 2.95, np.nan, 1.0]
        course = iter(values)

        def fun(w):
            return (0.0 if validated else next(course)), -np.ones(1)

        options = {"validate": lambda w: np.float32(next(course))} if validated else {}
        common = {"epochs": 8, "tol": 0.1, "patience": 3, **options}
        if not validated:
            values[6] = 3.5
            course = iter(values)
        result = gs.fit(fun, w, [()], gs.SGD(w, lr=1.0), restore_best=True, **common)
        assert (result.epochs, result.best_epoch, result.converged) == (7, 3, not validated)  # NaN ends it too
        assert ("NaN after epoch 6" if validated else "3 epochs") in result.message
        assert w[0] == 4.0  # as after epoch 3
        monitored = result.history.validation if validated else result.history.epoch_loss
        assert np.allclose(monitored, values[:7], equal_nan=True)

        course, w[:] = iter(values), 0
        gs.fit(fun, w, [()], gs.SGD(w, lr=1.0), **common)
        assert w[0] == 7.0

    @pytest.mark.parametrize("policy", ["propagate", "skip"])
    def test_a_loss_that_is_not_finite(self, policy):
        w, validated = np.ones(1), []

        def fun(w, x):
            return x, np.array([x])

        result = gs.fit(
            fun,
            w,
            [1.0, np.nan],
            gs.SGD(w, lr=0.5),
            epochs=3,
            nonfinite=policy,
            validate=lambda w: validated.append(1) or 0.0,
        )
        assert (result.success, result.converged, result.steps, result.epochs) == (False, False, 2, 0)
        assert result.message == "The loss of step 1 is not finite: nan"
        assert np.isnan(w[0]) if policy == "propagate" else w[0] == 0.5
        assert not validated

    def test_raise(self):
        w = np.ones(1)
        with pytest.raises(FloatingPointError, match="grads"):
            gs.fit(lambda w: (1.0, np.array([np.inf])), w, [()], "sgd", epochs=1, nonfinite="raise")
        assert w[0] == 1.0

    def test_minibatches_that_are_part_gone(self):
        params, (X, y), fun = linear()
        data = minibatches(X, y, batch_size=20, epochs=2, seed=0)
        next(data)
        result = gs.fit(fun, params, data, "sgd", epochs=2)
        assert result.history.epoch_end == [2, 5]
        with pytest.raises(ValueError, match="data: expected batches, got none that are left"):
            gs.fit(fun, params, data, "sgd")


class Run:
    """Training with everything in it, made afresh each time from the same seeds."""

    def __init__(self, row, name, positioned=True, **more):
        rng = np.random.default_rng(5)
        whole = randoms(rng, (6, 4), name)
        self.params = {"a": randoms(rng, 5, name), "b": whole[1:, ::2], "none": randoms(rng, 0, name)}
        rows = rng.normal(size=(23, 5))
        self.data = minibatches(rows, batch_size=4, epochs=4, seed=9) if positioned else cut((rows,), 4)
        self.plateau = S.ReduceOnPlateau(0.05, factor=0.5, patience=0)
        decay = S.cosine(0.1, steps=20)
        self.opt = row.make(
            self.params, **{**row.hypers, "lr": self.plateau, "weight_decay": decay, "master_weights": True}
        )
        self.ema = gs.EMA(self.params, lambda calls: min(0.9, (1 + calls) / (10 + calls)))
        judge = np.random.default_rng(6).normal(size=10)
        self.more = {"epochs": None if positioned else 4, "restore_best": True, "clip_norm": 1.0, "average": self.ema}
        self.more |= {"nonfinite": "skip", "validate": lambda p: abs(complex(p["a"][0]) - judge[self.opt.steps % 10])}
        self.more |= more
        self.stops_at, self.seen, self.result = None, 0, None

    def loss_and_grads(self, p, rows):
        if self.stops_at is not None and self.opt.steps + self.opt.skipped == self.stops_at:
            self.stop()
        self.seen += 1
        center = rows.mean(axis=0)
        wide = {k: np.asarray(v).astype("c16" if v.dtype.kind == "c" else "f8") for k, v in p.items()}
        errors = {"a": wide["a"] - center, "b": wide["b"] - center[:, None], "none": wide["none"]}
        grads = {k: e.astype(p[k].dtype) for k, e in errors.items()}
        if self.seen % 7 == 0:
            grads["none"] = None
        return sum(np.sum(np.abs(e) ** 2) for e in errors.values()), grads

    def stop(self):
        raise RuntimeError("stopped")

    def fit(self, path=None):
        checkpoint = {} if path is None else {"checkpoint": path, "checkpoint_every": 5}
        self.result = gs.fit(self.loss_and_grads, self.params, self.data, self.opt, **checkpoint, **self.more)
        return self

    def equals(self, other):
        for k in self.params:
            same(self.params[k].copy(), other.params[k].copy())
            same(np.array(self.ema.averages[k]), np.array(other.ema.averages[k]))
        for name, arrays in self.opt.state.items():
            for k, mine in arrays.items():
                if mine is not None:
                    same(np.array(mine), np.array(other.opt.state[name][k]))
        mine, theirs = vars(self.result.history), vars(other.result.history)
        assert repr(mine) == repr(theirs)
        assert self.result.message == other.result.message
        assert self.result.best_epoch == other.result.best_epoch
        assert self.plateau.state_dict() == other.plateau.state_dict()
        assert (self.ema.calls, self.opt.steps, self.opt.lr) == (other.ema.calls, other.opt.steps, other.opt.lr)
        return True


@pytest.mark.parametrize(("name", "positioned"), [("float32", False), *((name, True) for name in FORMATS)])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_resumes_to_the_same_bits(tmp_path, row, name, positioned):
    whole = Run(row, name, positioned).fit()
    assert whole.result.epochs == 4
    assert whole.plateau(0) < 0.05
    path = tmp_path / "run.npz"
    for stops_at, first in ((13, 0), (18, 10)):  # the first in the third epoch, of six batches
        parted = Run(row, name, positioned)
        parted.stops_at = stops_at
        with pytest.raises(RuntimeError, match="stopped"):
            parted.fit(path)
        assert parted.seen == stops_at - first
    parted = Run(row, name, positioned).fit(path)
    assert parted.seen == 24 - 15
    assert parted.equals(whole)
    again = Run(row, name, positioned).fit(path)
    assert again.seen == 0
    assert again.equals(whole)


def test_a_resumed_run_of_one_that_ended_early_ends_as_early(tmp_path):
    whole = Run(ROWS[0], "float32", patience=1).fit(tmp_path / "a")
    assert whole.result.converged
    assert whole.result.epochs < 4
    again = Run(ROWS[0], "float32", patience=1).fit(tmp_path / "a")
    assert again.seen == 0
    assert again.equals(whole)
    parted = Run(ROWS[0], "float32", patience=1)
    parted.stops_at = whole.result.steps - 2
    with pytest.raises(RuntimeError, match="stopped"):
        parted.fit(tmp_path / "b")
    assert Run(ROWS[0], "float32", patience=1).fit(tmp_path / "b").equals(whole)


def test_the_other_ends_are_found_in_the_file_too(tmp_path):
    w, calls = np.ones(1), []

    def fun(w, fail):
        calls.append(1)
        return np.inf if fail else 1.0, w.copy()

    for name, data, more in (("a", [False], {"gtol": 0.3}), ("b", [False, True], {})):
        w[:] = 1
        first = gs.fit(fun, w, data, gs.SGD(w, lr=0.5), epochs=9, checkpoint=tmp_path / name, **more)
        left, done = w.copy(), len(calls)
        second = gs.fit(fun, w, data, gs.SGD(w, lr=0.5), epochs=9, checkpoint=tmp_path / name, **more)
        assert len(calls) == done
        assert first.message == second.message
        assert first.converged == second.converged == (name == "a")
        same(w, left)


def test_stopped_by_a_callback_it_goes_on(tmp_path):
    def stop(step):
        if step.step == 7:
            raise StopIteration

    whole = Run(ROWS[3], "float64").fit()
    first = Run(ROWS[3], "float64", callbacks=[stop]).fit(tmp_path / "c")
    assert first.result.steps == 8
    assert Run(ROWS[3], "float64").fit(tmp_path / "c").equals(whole)


def test_more_epochs_of_a_list(tmp_path):
    path = tmp_path / "c"
    Run(ROWS[3], "float64", positioned=False, epochs=2).fit(path)
    assert Run(ROWS[3], "float64", positioned=False).fit(path).equals(Run(ROWS[3], "float64", positioned=False).fit())


def test_a_scaler_resumes(tmp_path):
    def fun(w, scale):
        with np.errstate(over="ignore"):
            return 1.0, (w.astype("f4") * scale).astype("f2")

    def train(epochs):
        w, scaler = np.ones(2, "f2"), gs.LossScaler(2.0**18, growth_interval=3)
        opt = gs.SGD(w, lr=0.01)
        gs.fit(fun, w, [()], opt, epochs=epochs, scaler=scaler, checkpoint=tmp_path / f"{epochs > 9}", tol=0)
        return w, scaler.state_dict()

    (tmp_path / "False").unlink(missing_ok=True)
    train(6)
    (tmp_path / "False").rename(tmp_path / "True")
    parted = train(12)
    (tmp_path / "True").unlink()
    whole = train(12)
    same(parted[0], whole[0])
    assert parted[1] == whole[1]


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import test_fit
test_fit.child(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
"""


def child(path, row, name, stops_at):
    """Train until `stops_at` calls were made, and die."""
    made = Run(ROWS[row], name)
    made.stops_at, made.stop = stops_at, lambda: os.kill(os.getpid(), signal.SIGKILL)
    made.fit(path)


@pytest.mark.parametrize(("row", "name"), [(2, "float32"), (6, "bfloat16"), (7, "complex64"), (10, "float64")])
def test_killed_it_goes_on_to_the_same_bits(tmp_path, row, name):
    path = tmp_path / "run.npz"
    for stops_at in (13, 22):
        command = [sys.executable, "-W", "error", "-c", CHILD, str(Path(__file__).parent)]
        done = subprocess.run([*command, str(path), str(row), name, str(stops_at)], timeout=120)
        assert done.returncode == -signal.SIGKILL
        assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    resumed = Run(ROWS[row], name).fit(path)
    assert resumed.seen == 4
    assert resumed.equals(Run(ROWS[row], name).fit())


def state_of(run):
    """All that a refused file must leave alone."""
    arrays = [*run.params.values(), *run.ema.averages.values()]
    arrays += [a for held in run.opt.state.values() for a in held.values() if a is not None]
    counts = run.opt.steps, run.ema.calls, getattr(run.data, "state_dict", dict)(), run.plateau.state_dict()
    return [np.array(a).tobytes() for a in arrays], counts, [dict(g) for g in run.opt.groups]


class TestFilesThatAreRefused:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "run.npz"
        made = Run(ROWS[8], "float32")
        made.stops_at = 13
        with pytest.raises(RuntimeError, match="stopped"):
            made.fit(path)
        return path

    def refused(self, path, words, made=None):
        made = made or Run(ROWS[8], "float32")
        before, content = state_of(made), path.read_bytes()
        with pytest.raises(ValueError, match=words) as caught:
            made.fit(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert state_of(made) == before
        assert made.seen == 0
        assert path.read_bytes() == content

    def test_damaged(self, path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        self.refused(path, "not a whole checkpoint")
        path.write_bytes(b"PK")
        self.refused(path, "not a whole checkpoint")

    def test_of_an_optimizer_alone(self, path):
        Run(ROWS[8], "float32").opt.save(path)
        self.refused(path, "expected a checkpoint of gradstep.fit")

    def test_of_another_rule_or_format(self, path):
        self.refused(path, "rule: expected nag, got 'adam'", Run(ROWS[6], "float32"))
        self.refused(path, r"params\['a'\]: expected float64 of shape \(5,\)", Run(ROWS[8], "float64"))

    def test_of_other_data(self, path):
        self.refused(path, "data: expected an epoch and a batch", Run(ROWS[8], "float32", positioned=False))
        made = Run(ROWS[8], "float32")
        made.data = minibatches(np.arange(3.0), batch_size=4, epochs=4)
        self.refused(path, r"saved\['size'\]: expected 3", made)

    def test_with_an_average_or_scaler_or_without(self, path):
        self.refused(path, "average: ", Run(ROWS[8], "float32", average=None))
        made = Run(ROWS[8], "float32", scaler=gs.LossScaler(), nonfinite="propagate")
        self.refused(path, "scaler: ", made)

    def change(self, path, facts=None, arrays=None, drop=()):
        was, held = checkpoint.read(path)
        held = {k: v for k, v in {**held, **(arrays or {})}.items() if k not in drop}
        checkpoint.write(path, {k: v for k, v in {**was, **(facts or {})}.items() if k not in drop}, held)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"facts": {"fit": 2}}, "version 1"),
            ({"drop": ["data"]}, "'data'"),
            ({"drop": ["params/0"]}, "expected 3 arrays, got 2"),
            ({"drop": ["average/1"]}, "expected 3 arrays, got 2"),
            ({"drop": ["optimizer/exp_avg/0"]}, r"state\['exp_avg'\]\['a'\]"),
            ({"drop": ["history/lr"]}, "history: expected"),
            ({"arrays": {"history/lr": np.zeros(3)}}, "history: expected"),
            ({"arrays": {"params/0": np.zeros(6, "f4")}}, r"params\['a'\]: expected float32 of shape \(5,\)"),
            ({"arrays": {"best/1": np.zeros(6, "f4")}}, r"best\['b'\]: expected float32 of shape \(5, 2\)"),
            ({"facts": {"plateaus": "[]"}}, "an optimizer with 0 ReduceOnPlateau, got 1"),
            ({"facts": {"plateaus": '[{"value": 1, "best": Infinity, "bad": -1, "cooldown": 0}]'}}, "'bad'"),
            ({"facts": {"plateaus": 3}}, "JSON"),
            ({"facts": {"data": {"epoch": 0}}}, "expected what state_dict"),
            ({"facts": {"average": -1}}, "'calls'"),
        ],
    )
    def test_forged(self, path, change, words):
        self.change(path, **change)
        self.refused(path, words)

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match=str(tmp_path)):
            Run(ROWS[8], "float32").fit(tmp_path)


class TestErrors:
    def refused(self, error, words, *given, **options):
        params, arrays, fun = linear()
        arguments = [fun, params, [arrays], gs.SGD(params)]
        for i, value in enumerate(given):
            arguments[i] = value if value is not None else arguments[i]
        if not {"epochs", "data"} & set(options):
            options["epochs"] = 1
        with pytest.raises(error, match=words):
            gs.fit(*arguments, **options)
        assert not params["w"].any()

    @pytest.mark.parametrize(
        ("error", "words", "options"),
        [
            (TypeError, "epochs: expected a whole number of at least 1, got None", {"epochs": None}),
            (ValueError, "epochs: expected a whole number of at least 1, got 0", {"epochs": 0}),
            (ValueError, "clip_norm: expected a number of at least 0, got -1.0", {"clip_norm": -1}),
            (TypeError, "clip_value: expected a number", {"clip_value": "1"}),
            (ValueError, "gtol: expected a number of at least 0, got nan", {"gtol": float("nan")}),
            (ValueError, "nonfinite: expected one of 'propagate', 'skip', 'raise', got 'stop'", {"nonfinite": "stop"}),
            (TypeError, "average: expected EMA or None, got float", {"average": 0.9}),
            (TypeError, "scaler: expected LossScaler or None, got float", {"scaler": 8.0}),
            (ValueError, 'nonfinite: expected "propagate" with a scaler', {"scaler": gs.LossScaler(), "nonfinite": "skip"}),
            (TypeError, "validate: expected a callable, got float", {"validate": 0.5}),
            (ValueError, "tol: expected a finite number of at least 0, got -1.0", {"tol": -1}),
            (ValueError, "patience: expected a whole number of at least 1, got 0", {"patience": 0}),
            (TypeError, "restore_best: expected True or False, got 1", {"restore_best": 1}),
            (TypeError, "callbacks: expected a list of callables, got function", {"callbacks": lambda step: None}),
            (TypeError, r"callbacks\[1\]: expected a callable, got int", {"callbacks": [print, 3]}),
            (TypeError, "progress: expected True or False, got 'yes'", {"progress": "yes"}),
            (TypeError, "checkpoint: expected a path, got 3", {"checkpoint": 3}),
            (FileNotFoundError, "checkpoint: expected a file in a folder that exists", {"checkpoint": "no/such/file"}),
            (ValueError, "checkpoint_every: expected None without checkpoint, got 5", {"checkpoint_every": 5}),
            (TypeError, "checkpoint_every: expected a whole number", {"checkpoint": "x", "checkpoint_every": 2.5}),
        ],
    )  # fmt: skip
    def test_options(self, error, words, options):
        self.refused(error, words, **options)

    @pytest.mark.parametrize(
        ("error", "words", "data"),
        [
            (TypeError, "data: expected gradstep.data.minibatches.* got ndarray", np.ones((3, 3))),
            (TypeError, "data: expected .* got int", 3),
            (TypeError, "data: expected .* got dict", {"a": 1}),
            (TypeError, "data: expected batches that can be gone through again, got an iterator: generator", (x for x in [])),
            (ValueError, "data: expected at least one batch, got none", []),
        ],
    )  # fmt: skip
    def test_data(self, error, words, data):
        self.refused(error, words, None, None, data)

    def test_epochs_of_minibatches(self):
        _, (X, y), _ = linear()
        data = minibatches(X, y, batch_size=5, epochs=3, seed=0)
        self.refused(ValueError, "epochs: expected None, for data is 3 epochs long, got 2", None, None, data, epochs=2)

    def test_params_and_optimizer(self):
        params, (X, y), fun = linear()
        others = {k: p.copy() for k, p in params.items()}
        words = "params: expected the arrays that optimizer was made with"
        self.refused(ValueError, words, None, None, None, gs.SGD(others))
        self.refused(ValueError, words, None, None, None, gs.SGD(others["w"]))
        self.refused(
            ValueError, "optimizer: expected an optimizer class or one of .* got 'sgdm'", None, None, None, "sgdm"
        )
        self.refused(TypeError, "optimizer: expected an optimizer class or one of", None, None, None, 0.1)
        self.refused(TypeError, "optimizer: .* got LBFGS", None, None, None, gs.LBFGS(others))
        self.refused(TypeError, "params: expected an array", None, 3)
        self.refused(TypeError, "loss_and_grads: expected a callable, got float", 1.0)
        with pytest.raises(ValueError, match="average: expected an EMA of this optimizer's parameters"):
            gs.fit(pytest.fail, params, [(X, y)], "sgd", epochs=1, average=gs.EMA(others))
        highest = S.ReduceOnPlateau(0.1, mode="max")
        with pytest.raises(ValueError, match='optimizer: expected schedules with mode="min"'):
            gs.fit(fun, params, [(X, y)], gs.SGD(params, lr=highest), epochs=1)

    @pytest.mark.parametrize(
        ("error", "words", "found"),
        [
            (TypeError, "loss_and_grads: expected to return the loss and gradients, got float", 1.0),
            (TypeError, "loss_and_grads: expected to return a number, got str", ("1", {})),
            (TypeError, r"loss_and_grads: expected to return a number, got float64 of shape \(2,\)", (np.ones(2), {})),
            (ValueError, "grads: expected the keys of params, missing 'b'", (1.0, {"w": np.ones(3)})),
        ],
    )
    def test_what_loss_and_grads_returns(self, error, words, found):
        self.refused(error, words, lambda *_: found)

    def test_what_validate_returns(self):
        params, arrays, fun = linear()
        with pytest.raises(TypeError, match="validate: expected to return a number, got NoneType"):
            gs.fit(fun, params, [arrays], "sgd", epochs=1, validate=lambda p: None)

    def test_a_list_that_has_become_shorter(self, tmp_path):
        path = tmp_path / "c"
        made = Run(ROWS[0], "float32", positioned=False)
        made.stops_at = 5
        with pytest.raises(RuntimeError, match="stopped"):
            made.fit(path)
        made = Run(ROWS[0], "float32", positioned=False)
        made.data = made.data[:5]
        with pytest.raises(ValueError, match="data: expected more than 5 batches in an epoch"):
            made.fit(path)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_a_loss_of_any_format(name):
    loss = randoms(np.random.default_rng(0), (), name)
    w = np.ones(1)
    history = gs.fit(lambda w: (loss, np.zeros(1)), w, [()], "sgd", epochs=1).history
    assert history.loss == [float(loss)]
    assert type(history.loss[0]) is float


class TestProgress:
    CODE = """
        import sys
        {before}
        import numpy as np
        import gradstep as gs
        w = np.ones(1)
        gs.fit(lambda w: (1.0, w.copy()), w, [(), ()], "sgd", epochs=3, progress={progress})
        print("rich" in sys.modules, file=sys.__stdout__)
    """
    TERMINAL = "sys.stdout.isatty = lambda: True"
    NOWHERE = "sys.stdout = None"
    BARE = "sys.stdout = type('Bare', (), {'write': sys.stdout.write, 'flush': sys.stdout.flush})()"
    WITHOUT = "sys.modules['rich'] = sys.modules['rich.progress'] = None; sys.stdout.isatty = lambda: True"

    @pytest.mark.parametrize(
        ("before", "progress", "shown"),
        [
            ("", None, False),
            ("", False, False),
            ("", True, False),
            (NOWHERE, None, False),
            (BARE, None, False),
            (TERMINAL, None, True),
            (TERMINAL, False, False),
            (WITHOUT, None, False),
            (WITHOUT, True, False),
        ],
    )
    def test_only_where_it_is_wanted_and_there_is_rich(self, before, progress, shown):
        done = run(self.CODE.format(before=before, progress=progress), TERM="xterm", COLUMNS="80")
        *drawn, last = done.stdout.splitlines()
        assert last.endswith(str(shown or progress is True or before == self.WITHOUT))  # rich was asked
        assert ("epoch 3, loss 1" in "".join(drawn) + last) == shown
        assert ("6/6" in done.stdout) == shown
        assert not done.stderr


class TestPlot:
    def test_history(self):
        figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
        params, arrays, fun = linear()
        first = gs.fit(fun, params, cut(arrays, 20), "sgd", epochs=2)
        second = gs.fit(fun, params, cut(arrays, 20), "sgd", epochs=2, validate=lambda p: 0.5)
        ax = gs.plot.history({"first": first, "second": second}, ax=figure.Figure().subplots())
        lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
        assert list(lines) == [
            "first: loss",
            "first: mean of the epoch",
            "second: loss",
            "second: mean of the epoch",
            "second: validation",
        ]
        assert lines["first: loss"] == [[i + 1, loss] for i, loss in enumerate(first.history.loss)]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("steps", "loss")
        assert lines["second: validation"] == [[3, 0.5], [6, 0.5]]
        with pytest.raises(TypeError, match=r"result\['a'\]: expected what gradstep.fit returned, got int"):
            gs.plot.history({"a": 3})
        with pytest.raises(TypeError, match=r"result: expected what gradstep\.fit returned, got int"):
            gs.plot.history(3)


def test_gradients_are_zeroed_and_health_is_seen():
    w, grad, seen = np.array([4.0]), np.empty(1), []

    def loss_and_grads(w):
        grad[...] = 2 * w
        return float(w[0] ** 2), grad

    watch = [lambda step: seen.append([row.max_abs for row in step.optimizer.health])]
    gs.fit(loss_and_grads, w, [()], gs.SGD(w, lr=0.25), epochs=2, zero_grads=True, health=True, callbacks=watch)
    assert seen == [[8.0], [4.0]]
    assert not grad.any()
    for name in ("zero_grads", "health"):
        with pytest.raises(TypeError, match=name):
            gs.fit(loss_and_grads, w, [()], "sgd", epochs=1, **{name: 1})


def test_validation_that_is_nan_ends_it():
    w = np.ones(2)
    result = gs.fit(lambda w: (w @ w, 2 * w), w, [()], "gd", epochs=5, validate=lambda w: math.nan, patience=2)
    assert (result.success, result.converged, result.epochs) == (False, False, 1)
    assert result.message == "validate returned NaN after epoch 0"
