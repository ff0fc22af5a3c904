"""The range test: its course by the formula, its end, its suggestion, and that it leaves no trace."""

import dataclasses

import numpy as np
import pytest

import gradstep as gs
from gradstep.data import minibatches
from gradstep.snapshot import Snapshot
from table import FORMATS, IDS, ROWS
from test_rules import same
from test_whole_step import randoms

S = gs.schedules


def square(w):
    return np.sum(w**2), 2 * w


def noisy(w, x):
    error = w - x.mean()
    return np.mean(error**2), 2 * error / error.size


def test_the_course_is_that_of_the_formula(rng):
    w = rng.normal(size=5)
    found = gs.tune.lr_range_test(
        noisy, w, [(x,) for x in rng.normal(size=(7, 3))], "momentum", lr_min=1e-4, lr_max=1.0, steps=30, smoothing=0.8
    )
    rng = np.random.default_rng(0)
    theirs, opt, mean = rng.normal(size=5), None, 0.0
    batches = rng.normal(size=(7, 3))
    opt = gs.Momentum(theirs)
    for i in range(30):
        lr = 1e-4 * (1.0 / 1e-4) ** (i / 29)
        assert found.lrs[i] == pytest.approx(lr, rel=1e-14)
        loss, grads = noisy(theirs, batches[i % 7])
        mean = 0.8 * mean + (1 - 0.8) * loss
        assert found.losses[i] == pytest.approx(loss, rel=1e-12)
        assert found.smoothed[i] == pytest.approx(mean / (1 - 0.8 ** (i + 1)), rel=1e-12)
        opt.lr = lr
        opt.step(grads)
    assert found.lrs[0] == 1e-4
    assert found.lrs[-1] == 1.0
    assert not found.diverged


def test_divergence_ends_it():
    w = np.full(3, 10.0)
    found = gs.tune.lr_range_test(square, w, [()], "sgd", smoothing=0.0)
    assert found.diverged
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) < 100
    assert found.losses[-1] > 4 * found.losses.min()
    assert (found.losses[:-1] <= 4 * np.minimum.accumulate(found.losses[:-1])).all()
    longer = gs.tune.lr_range_test(square, w, [()], "sgd", smoothing=0.0, divergence=1e6)
    assert len(longer.lrs) > len(found.lrs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_it(bad):
    losses = iter([5.0, 4.0, 3.0, bad, 1.0])
    found = gs.tune.lr_range_test(lambda w: (next(losses), np.zeros(1)), np.ones(1), [()], "sgd", smoothing=0.5)
    assert found.diverged
    assert len(found.lrs) == 4
    assert not np.isfinite(found.smoothed[-1])
    assert found.suggestion == found.lrs[2] / 10


def test_negative_losses_do_not_diverge_at_once():
    losses = iter([-1.0, -2.0, -1.5, 3.9, 4.1])
    found = gs.tune.lr_range_test(
        lambda w: (next(losses), np.zeros(1)), np.ones(1), [()], "sgd", smoothing=0.0, divergence=4
    )
    assert found.losses.tolist() == [-1.0, -2.0, -1.5, 3.9, 4.1]  # above -2 + 3 * 2
    assert found.diverged


def test_the_suggestion():
    w = np.full(3, 10.0)
    found = gs.tune.lr_range_test(square, w, [()], gs.SGD(w, lr=3.0))
    assert found.suggestion == found.lrs[found.smoothed.argmin()] / 10
    assert 0.01 < found.suggestion < 1  # where it converges
    losses = iter(range(1, 200))
    assert gs.tune.lr_range_test(lambda w: (next(losses), np.zeros(3)), w, [()], "sgd").suggestion is None


def everything(opt, params):
    arrays = [a for held in opt.state.values() for a in held.values() if a is not None]
    counts = opt.steps, opt.skipped, opt._plan.counts, opt._plan.calls, opt.grad_norm
    return [np.array(a).tobytes() for a in [*params.values(), *arrays]], counts, [dict(g) for g in opt.groups]


@pytest.mark.parametrize("end", ["done", "diverged", KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_it_leaves_no_trace(rng, row, name, end):
    whole = randoms(rng, (6, 4), name)
    params = {"a": randoms(rng, 5, name), "b": whole[1:, ::2], "still": randoms(rng, 2, name)}
    schedule, plateau = S.cosine(0.01, steps=9), S.ReduceOnPlateau(0.01, mode="max")
    opt = row.make(params, **{**row.hypers, "lr": plateau, "weight_decay": schedule, "master_weights": True})
    data = minibatches(np.arange(30.0), batch_size=4, epochs=3, seed=1)
    calls = []

    def fun(p, x):
        calls.append(x)
        if len(calls) == 20 and isinstance(end, type):
            raise end
        loss = 1e9 if len(calls) == 25 and end == "diverged" else 1.0
        return loss, {k: None if k == "still" else randoms(rng, v.shape, name) for k, v in p.items()}

    next(data)
    opt.step(fun(params, 0)[1], clip_norm=1.0)
    before, position, around = everything(opt, params), data.state_dict(), whole[0].copy()
    calls.clear()
    if isinstance(end, type):
        with pytest.raises(end):
            gs.tune.lr_range_test(fun, params, data, opt, lr_max=0.1)
    else:
        found = gs.tune.lr_range_test(fun, params, data, opt, lr_max=0.1)
        assert found.diverged == (end == "diverged")
        assert len(found.lrs) == (25 if found.diverged else 100)
        for i in range(23, len(calls)):  # of 24 batches the first was gone
            assert np.array_equal(calls[i], calls[i - 23])
    assert everything(opt, params) == before
    assert opt.groups[0]["lr"] is plateau
    assert opt.groups[0]["weight_decay"] is schedule
    assert data.state_dict() == position
    same(whole[0].copy(), around)


def test_an_interrupt_while_things_are_put_back_changes_nothing(monkeypatch):
    w, put_back = np.ones(3), Snapshot.put_back
    opt = gs.Adam(w)
    interrupts = [KeyboardInterrupt()]

    def interrupted(self, *state):
        if interrupts:
            raise interrupts.pop()
        put_back(self, *state)

    monkeypatch.setattr(Snapshot, "put_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gs.tune.lr_range_test(lambda w: (1.0, np.ones(3)), w, [()], opt)
    assert (w.tolist(), opt.steps) == ([1.0] * 3, 0)


def test_schedules_may_be_dataclasses_of_any_kind():
    @dataclasses.dataclass
    class Own:
        value: float
        inner: object = None
        later: float = dataclasses.field(init=False)

        def __call__(self, calls):
            return self.value if self.inner is self else self.inner(calls)

    once = Own(0.25)
    once.inner = once
    plateau = S.ReduceOnPlateau(0.5, factor=0.5, patience=0, threshold=10)
    for lr, after in ((once, 0.25), (Own(0.0, plateau), 0.0625)):
        w = np.ones(1)
        opt = gs.SGD(w, lr=lr)
        gs.tune.lr_range_test(lambda w: (1.0, np.ones(1)), w, [()], opt)
        gs.fit(lambda w: (1.0, np.ones(1)), w, [()], opt, epochs=3)
        assert opt.groups[0]["lr"](3) == after


def test_each_group_has_the_same_learning_rate_and_gets_its_own_back():
    a, b = np.ones(1), np.ones(1)
    groups = [{"params": [a], "lr": 0.5}, {"params": [b], "lr": S.constant(0.25)}]
    opt = gs.SGD(groups, lr=0.5)
    seen = []

    def fun(groups):
        seen.append((a[0], b[0]))
        return 1.0, [[np.ones(1)], [np.ones(1)]]

    found = gs.tune.lr_range_test(fun, groups, [()], opt, steps=10)
    assert seen[3] == pytest.approx((1 - found.lrs[:3].sum(),) * 2, rel=1e-12)
    assert [group["lr"] for group in opt.groups] == [0.5, S.constant(0.25)]


def test_training_after_it_is_training_without_it(rng):
    X = rng.normal(size=(40, 3))

    def fun(w, x):
        return np.sum((w - x.mean(axis=0)) ** 2), 2 * (w - x.mean(axis=0))

    ends = []
    for tested in (False, True):
        w = np.ones(3)
        opt = gs.AdamW(w, lr=S.cosine(0.1, steps=30))
        ema = gs.EMA(w, 0.9)
        data = minibatches(X, batch_size=10, epochs=4, seed=0)
        opt.step(fun(w, *next(data))[1], average=ema)
        if tested:
            gs.tune.lr_range_test(fun, w, data, opt)
        gs.fit(fun, w, data, opt, average=ema)
        ends.append((w, np.array(ema.averages)))
    for one, other in zip(*ends, strict=True):
        same(one, other)


def test_what_was_found_is_short_to_read_and_can_be_compared():
    found, other = (gs.tune.lr_range_test(square, np.ones(3), [()], "sgd") for _ in range(2))
    assert repr(found) == f"LRRange(diverged=True, suggestion={found.suggestion!r})"
    assert found == found
    assert found != other
    assert len({found, other}) == 2


def test_a_failed_start_changes_nothing():
    w = np.ones(3)
    opt = gs.SGD(w, lr=0.5)
    with pytest.raises(ValueError, match="grads: expected float64 of shape"):
        gs.tune.lr_range_test(lambda w: (1.0, np.ones(2)), w, [()], opt)
    assert (opt.lr, opt.steps) == (0.5, 0)


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "words", "options"),
        [
            (ValueError, "lr_min: expected a finite number above 0, got 0.0", {"lr_min": 0}),
            (TypeError, "lr_max: expected a finite number above 0, got '1'", {"lr_max": "1"}),
            (ValueError, "lr_max: expected more than lr_min=0.5, got 0.5", {"lr_min": 0.5, "lr_max": 0.5}),
            (ValueError, "steps: expected a whole number of at least 2, got 1", {"steps": 1}),
            (TypeError, "steps: expected a whole number of at least 2, got 9.5", {"steps": 9.5}),
            (ValueError, "smoothing: expected a number from 0 up to, but not, 1, got 1.0", {"smoothing": 1}),
            (ValueError, "divergence: expected a number above 1, got 1.0", {"divergence": 1}),
        ],
    )
    def test_options(self, error, words, options):
        w = np.ones(2)
        with pytest.raises(error, match=words):
            gs.tune.lr_range_test(square, w, [()], gs.SGD(w), **options)

    def test_others(self):
        w = np.ones(2)
        with pytest.raises(TypeError, match="loss_and_grads: expected a callable, got int"):
            gs.tune.lr_range_test(3, w, [()], "sgd")
        with pytest.raises(TypeError, match=r"data: expected .* got ndarray"):
            gs.tune.lr_range_test(square, w, w, "sgd")
        with pytest.raises(ValueError, match="data: expected at least one batch, got none"):
            gs.tune.lr_range_test(square, w, [], "sgd")
        with pytest.raises(ValueError, match="params: expected the arrays that optimizer was made with"):
            gs.tune.lr_range_test(square, w, [()], gs.SGD(w.copy()))
        with pytest.raises(TypeError, match="loss_and_grads: expected to return the loss and gradients"):
            gs.tune.lr_range_test(np.sum, w, [()], "sgd")
        data = minibatches(w, batch_size=2, epochs=1, seed=0)
        next(data)
        with pytest.raises(ValueError, match="data: expected batches, got none that are left"):
            gs.tune.lr_range_test(square, w, data, "sgd")
        with pytest.raises(TypeError, match="result: expected what lr_range_test returned, got ndarray"):
            gs.plot.lr_range(w)


class TestPlot:
    def test_lr_range(self):
        figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
        w = np.ones(3)
        found = gs.tune.lr_range_test(square, w, [()], "sgd")
        ax = gs.plot.lr_range(found, ax=figure.Figure().subplots())
        losses, smoothed, suggested = (line.get_xydata() for line in ax.lines)
        assert losses.tolist() == np.column_stack([found.lrs, found.losses]).tolist()
        assert smoothed.tolist() == np.column_stack([found.lrs, found.smoothed]).tolist()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss")
        assert suggested[0, 0] == found.suggestion
        none = gs.tune.lr_range_test(lambda w: (1.0, w), w, [()], "sgd")
        assert len(gs.plot.lr_range(none, ax=figure.Figure().subplots()).lines) == 2
