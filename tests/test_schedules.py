"""Schedules: what they return, alone, beside PyTorch's, and inside optimizers; what they refuse; how they are drawn."""

import copy
import dataclasses
import inspect
import math
import pickle
import re

import numpy as np
import pytest

import gradstep as gs
from gradstep import schedules as s
from script import run

HUGE = 2**62
AMOUNT = "expected a finite number of at least 0, got"
POSITIVE = "expected a finite number above 0, got"
SHARE = "expected a number from 0 to 1, got"
COUNT = "expected a whole number of at least 1, got"
WHOLE = "expected a whole number of at least 0, got"


def twice(calls):
    return 2.0 * calls


# One of each, with its repr and its value after so many calls that only the limit is left.
EACH = [
    (s.constant(0.5), "constant(value=0.5)", 0.5),
    (s.exponential(0.5), "exponential(value=0.5, gamma=0.99, every=1)", 0.0),
    (s.step(1, 30), "step(value=1.0, every=30, gamma=0.1)", 0.0),
    (s.multi_step(0.5, [3, 5]), "multi_step(value=0.5, milestones=(3, 5), gamma=0.1)", 0.5 * 0.1**2),
    (s.polynomial(0.5, 100), "polynomial(value=0.5, steps=100, power=1.0)", 0.0),
    (s.inverse_sqrt(0.5, 4), "inverse_sqrt(value=0.5, warmup=4)", 0.5 * 2 / 2**31),
    (s.cosine(1e-3, steps=100, final=1e-5), "cosine(value=0.001, steps=100, warmup=0, final=1e-05)", 1e-5),
    (s.cosine_restarts(0.5, 4), "cosine_restarts(value=0.5, first=4, factor=1, final=0.0)", 0.5),
    (
        s.one_cycle(0.5, np.int64(100)),
        "one_cycle(value=0.5, steps=100, pct_start=0.3, div_factor=25.0, final_div_factor=10000.0, anneal='cos')",
        0.5 / 25 / 1e4,
    ),
    (
        s.warmup(s.constant(np.float32(0.5)), 10),
        "warmup(value=constant(value=0.5), steps=10, start=0.0)",
        0.5,
    ),
    (
        s.join((1, s.step(0.5, 2), twice), [3, 8]),
        f"join(schedules=(1.0, step(value=0.5, every=2, gamma=0.1), {twice!r}), milestones=(3, 8))",
        2.0 * (HUGE - 8),
    ),
    (
        s.ReduceOnPlateau(0.5),
        "ReduceOnPlateau(value=0.5, mode='min', factor=0.1, patience=10, threshold=0.0001, threshold_mode='rel', "
        "cooldown=0, minimum=0.0)",
        0.5,
    ),
]
IDS = [type(schedule).__name__ for schedule, *_ in EACH]
each = pytest.mark.parametrize("schedule", [schedule for schedule, *_ in EACH], ids=IDS)


def test_each_public_name_is_here_and_checks_each_of_its_arguments():
    assert sorted(IDS) == sorted(s.__all__)
    for name in s.__all__:
        cls = getattr(s, name)
        assert list(cls._kinds) == list(inspect.signature(cls).parameters), name


@pytest.mark.parametrize(("schedule", "shown"), [row[:2] for row in EACH], ids=IDS)
def test_repr(schedule, shown):
    assert repr(schedule) == shown


@pytest.mark.parametrize(("schedule", "limit"), [row[::2] for row in EACH], ids=IDS)
def test_a_huge_number_of_calls(schedule, limit):
    assert schedule(HUGE) == pytest.approx(limit, rel=1e-15, abs=0)


@each
def test_values_are_floats(schedule):
    assert {type(schedule(calls)) for calls in (0, 1, np.int64(2), 3, 50, HUGE)} == {float}
    assert schedule(np.int64(7)) == schedule(7)


@each
@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(schedule, clone):
    other = clone(schedule)
    assert repr(other) == repr(schedule)
    assert [other(calls) for calls in range(120)] == [schedule(calls) for calls in range(120)]


@each
def test_immutable(schedule):
    name = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, name, 1.0)


def test_equal_arguments_make_equal_schedules():
    assert s.cosine(1, 10) == s.cosine(1.0, np.int32(10))
    assert s.cosine(1, 10) != s.cosine(1, 11)
    assert len({s.step(1, 10), s.step(1, 10), s.exponential(1, 0.1, 10)}) == 2


@pytest.mark.parametrize(
    ("calls", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError), (None, TypeError)]
)
@each
def test_bad_calls(schedule, calls, error):
    with pytest.raises(error, match=f"^calls: {WHOLE} {re.escape(repr(calls))}$"):
        schedule(calls)


# Values that can be written down.


def values(schedule, *calls):
    return [schedule(n) for n in calls]


def near(expected):
    return pytest.approx(expected, rel=1e-14, abs=1e-17)


def test_exponential():
    assert values(s.exponential(2.0), 0, 1, 100) == near([2, 2 * 0.99, 2 * 0.99**100])
    assert values(s.exponential(1.0, 0.5, every=10), 0, 9, 10, 19, 20) == [1, 1, 0.5, 0.5, 0.25]
    assert values(s.exponential(1.0, 0.0), 0, 1, HUGE) == [1, 0, 0]
    assert values(s.exponential(1e-6, 10.0), 0, 6, HUGE) == near([1e-6, 1, math.inf])
    assert s.exponential(0.0, 10.0)(HUGE) == 0


def test_steps():
    assert values(s.step(1.0, 3, 0.5), 0, 2, 3, 5, 6) == [1, 1, 0.5, 0.5, 0.25]
    assert values(s.multi_step(1.0, (2, 5), 0.5), 0, 1, 2, 4, 5, 500) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert values(s.multi_step(1.0, ()), 0, HUGE) == [1, 1]


def test_polynomial():
    assert values(s.polynomial(1.0, 4), 0, 1, 3, 4, 5) == [1, 0.75, 0.25, 0, 0]
    assert values(s.polynomial(1.0, 4, power=0.5), 0, 3, 4, HUGE) == [1, 0.5, 0, 0]


def test_inverse_sqrt_is_that_of_the_transformer():
    width, warmup = 512, 40
    lr = s.inverse_sqrt((width * warmup) ** -0.5, warmup)
    paper = [width**-0.5 * min(t**-0.5, t * warmup**-1.5) for t in range(1, 300)]
    assert values(lr, *range(299)) == near(paper)
    assert max(paper) == near(lr(warmup - 1))


def test_cosine():
    assert values(s.cosine(1.0, 4), 0, 1, 2, 3, 4, 5) == near([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0, 0])
    assert values(s.cosine(1.0, 7, warmup=3, final=0.2), 0, 1, 2, 3, 5, 7, 8) == near(
        [0.25, 0.5, 0.75, 1, 0.6, 0.2, 0.2]
    )
    assert values(s.cosine(0.2, 4, final=1.0), 0, 2, 4, 5) == near([0.2, 0.6, 1, 1])
    assert values(s.cosine(0.3, 10, final=0.1), 0, 10, HUGE) == [0.3, 0.1, 0.1]  # the ends are exact
    assert s.cosine(1.0, HUGE)(HUGE // 2) == near(0.5)


def test_cosine_restarts():
    assert values(s.cosine_restarts(1.0, 4, final=0.2), 0, 2, 4, 6, 4000) == near([1, 0.6, 1, 0.6, 1])
    starts = [0, 3, 9, 21, 3 * (2**60 - 1)]
    assert values(s.cosine_restarts(1.0, 3, factor=2), *starts) == [1] * len(starts)
    assert all(value < 1e-15 for value in values(s.cosine_restarts(1.0, 3, 2), 3 * (2**60 - 1) - 1))
    assert values(s.cosine_restarts(1.0, 4, factor=3), 2, 10, 34) == near([0.5] * 3)


def test_one_cycle():
    lr = s.one_cycle(1.0, 20, pct_start=0.5, div_factor=4, final_div_factor=2)
    assert values(lr, 0, 9, 19, 20, HUGE) == near([0.25, 1, 0.125, 0.125, 0.125])
    lr = s.one_cycle(1.0, 22, pct_start=0.5, div_factor=4, final_div_factor=2, anneal="linear")
    assert values(lr, 0, 5, 10) == near([0.25, 0.625, 1])
    assert values(s.one_cycle(1.0, 10, pct_start=0.1), 0, 9) == near([1, 4e-6])  # the first call is the peak
    assert values(s.one_cycle(1.0, 10, pct_start=1), 9, 10) == [1, 1]
    assert s.one_cycle(1.0, 1)(0) == near(4e-6)
    assert s.one_cycle(1.0, 1, pct_start=1)(0) == 1


def test_warmup():
    assert values(s.warmup(1.0, 4), 0, 1, 2, 4, 5) == [0, 0.25, 0.5, 1, 1]
    assert values(s.warmup(2.0, 4, start=0.5), 0, 2, 4, HUGE) == [1, 1.5, 2, 2]
    assert values(s.warmup(twice, 4), 0, 1, 2, 4, 5) == [0, 0.5, 2, 8, 10]
    assert values(s.warmup(0.7, 3, start=1), 0, 1, 2, 3) == [0.7] * 4


def test_join():
    lr = s.join([0.5, s.warmup(1.0, 2), twice], (2, 5))
    assert values(lr, *range(8)) == [0.5, 0.5, 0, 0.5, 1, 0, 2, 4]
    assert s.join([3], [])(HUGE) == 3
    assert s.join([lr, 9], [7])(6) == lr(6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, "x", None])
def test_what_a_composed_schedule_returns_is_checked(bad):
    error = ValueError if isinstance(bad, float) else TypeError
    words = "expected a finite number of at least 0, the schedule returned for call {}: " + re.escape(repr(bad))
    with pytest.raises(error, match=f"^value: {words.format(3)}$"):
        s.warmup(lambda calls: bad, 5)(3)
    with pytest.raises(error, match=rf"^schedules\[1\]: {words.format(1)}$"):
        s.join([1, lambda calls: bad], [2])(3)


# Reports.


def feed(schedule, *metrics):
    shown = []
    for metric in metrics:
        schedule.report(metric)
        shown.append(schedule(0))
    return shown


def test_plateau():
    lr = s.ReduceOnPlateau(1.0, factor=0.5, patience=2, minimum=0.2)
    assert feed(lr, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2]
    assert lr(HUGE) == 0.2


def test_plateau_counts_nan_as_bad():
    assert feed(s.ReduceOnPlateau(1.0, factor=0.5, patience=1), math.nan, 1.0, math.nan, math.nan, 0.5) == [
        1,
        1,
        1,
        0.5,
        0.5,
    ]
    lr = s.ReduceOnPlateau(1.0, factor=0.5, patience=0, mode="max")
    assert feed(lr, math.nan, 1.0, math.nan, 2.0) == [0.5, 0.5, 0.25, 0.25]
    assert lr.state_dict()["best"] == 2


def test_plateau_cools_down():
    lr = s.ReduceOnPlateau(1.0, factor=0.5, patience=0, cooldown=2)
    assert feed(lr, 1, 1, 1, 1, 1) == [1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "good", "bad"),
    [("min", "rel", 8.9, 9.0), ("max", "rel", 11.1, 11.0), ("min", "abs", 9.8, 9.9), ("max", "abs", 10.2, 10.1)],
)
def test_plateau_threshold(mode, threshold_mode, good, bad):
    for metric, value in ((good, 1.0), (bad, 0.5)):
        lr = s.ReduceOnPlateau(1.0, mode, 0.5, 0, 0.1, threshold_mode)
        assert feed(lr, 10, metric) == [1, value]


def test_plateau_goes_on_from_its_state():
    metrics = np.random.default_rng(0).random(60)
    lr = s.ReduceOnPlateau(1.0, factor=0.9, patience=1, cooldown=3)
    feed(lr, *metrics[:30])
    saved = lr.state_dict()
    again = s.ReduceOnPlateau(1.0, factor=0.9, patience=1, cooldown=3)
    again.load_state_dict(saved)
    others = copy.deepcopy(lr), pickle.loads(pickle.dumps(lr)), again
    assert all(other.state_dict() == saved for other in others)
    expected = feed(lr, *metrics[30:])
    assert expected[-1] < saved["value"]
    assert saved["value"] < 1
    assert all(other(0) == saved["value"] for other in others)  # they share nothing
    assert all(feed(other, *metrics[30:]) == expected for other in others)


GOOD_STATE = s.ReduceOnPlateau(1.0).state_dict()


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (3, TypeError, "state: expected a mapping, got 3"),
        ({}, ValueError, "state: expected the keys ['value', 'best', 'bad', 'cooldown'], got []"),
        ({**GOOD_STATE, "x": 1}, ValueError, "got ['value', 'best', 'bad', 'cooldown', 'x']"),
        ({**GOOD_STATE, "value": -1}, ValueError, f"state['value']: {AMOUNT} -1"),
        ({**GOOD_STATE, "best": "x"}, TypeError, "state['best']: expected a number, got 'x'"),
        ({**GOOD_STATE, "bad": 1.5}, TypeError, f"state['bad']: {WHOLE} 1.5"),
        ({**GOOD_STATE, "value": 0.1, "cooldown": -1}, ValueError, f"state['cooldown']: {WHOLE} -1"),
    ],
)
def test_a_bad_state_changes_nothing(bad, error, words):
    lr = s.ReduceOnPlateau(1.0)
    with pytest.raises(error) as e:
        lr.load_state_dict(bad)
    assert words in str(e.value)
    assert lr.state_dict() == GOOD_STATE


@pytest.mark.parametrize("bad", ["1", None, True, [1.0], 1j])
def test_a_bad_metric_changes_nothing(bad):
    lr = s.ReduceOnPlateau(1.0)
    with pytest.raises(TypeError, match=f"^metric: expected a number, got {re.escape(repr(bad))}$"):
        lr.report(bad)
    assert lr.state_dict() == GOOD_STATE


def test_metrics_of_numpy():
    lr = s.ReduceOnPlateau(1.0)
    for metric in (np.float32(3), np.array(2.0), np.int64(1)):
        lr.report(metric)
        assert lr.state_dict()["best"] == metric


# What is refused.

NUMBERS = [  # name -> what makes the schedule, and what it expects there
    (lambda x: s.constant(x), "value", AMOUNT),
    (lambda x: s.exponential(x), "value", AMOUNT),
    (lambda x: s.exponential(1, x), "gamma", AMOUNT),
    (lambda x: s.step(x, 1), "value", AMOUNT),
    (lambda x: s.step(1, 1, x), "gamma", AMOUNT),
    (lambda x: s.multi_step(x, [1]), "value", AMOUNT),
    (lambda x: s.multi_step(1, [1], x), "gamma", AMOUNT),
    (lambda x: s.polynomial(x, 1), "value", AMOUNT),
    (lambda x: s.polynomial(1, 1, x), "power", POSITIVE),
    (lambda x: s.inverse_sqrt(x, 1), "value", AMOUNT),
    (lambda x: s.cosine(x, 1), "value", AMOUNT),
    (lambda x: s.cosine(1, 1, final=x), "final", AMOUNT),
    (lambda x: s.cosine_restarts(x, 1), "value", AMOUNT),
    (lambda x: s.cosine_restarts(1, 1, final=x), "final", AMOUNT),
    (lambda x: s.one_cycle(x, 1), "value", AMOUNT),
    (lambda x: s.one_cycle(1, 1, pct_start=x), "pct_start", SHARE),
    (lambda x: s.one_cycle(1, 1, div_factor=x), "div_factor", POSITIVE),
    (lambda x: s.one_cycle(1, 1, final_div_factor=x), "final_div_factor", POSITIVE),
    (lambda x: s.warmup(x, 1), "value", AMOUNT),
    (lambda x: s.warmup(1, 1, x), "start", SHARE),
    (lambda x: s.join([1, x], [1]), "schedules[1]", AMOUNT),
    (lambda x: s.ReduceOnPlateau(x), "value", AMOUNT),
    (lambda x: s.ReduceOnPlateau(1, factor=x), "factor", "expected a number from 0 up to, but not, 1, got"),
    (lambda x: s.ReduceOnPlateau(1, threshold=x), "threshold", AMOUNT),
    (lambda x: s.ReduceOnPlateau(1, minimum=x), "minimum", AMOUNT),
]
WHOLES = [
    (lambda x: s.exponential(1, every=x), "every", COUNT),
    (lambda x: s.step(1, x), "every", COUNT),
    (lambda x: s.multi_step(1, [5, x]), "milestones[1]", COUNT),
    (lambda x: s.polynomial(1, x), "steps", COUNT),
    (lambda x: s.inverse_sqrt(1, x), "warmup", COUNT),
    (lambda x: s.cosine(1, x), "steps", COUNT),
    (lambda x: s.cosine(1, 10, x), "warmup", WHOLE),
    (lambda x: s.cosine_restarts(1, x), "first", COUNT),
    (lambda x: s.cosine_restarts(1, 1, x), "factor", COUNT),
    (lambda x: s.one_cycle(1, x), "steps", COUNT),
    (lambda x: s.warmup(1, x), "steps", COUNT),
    (lambda x: s.join([1, 2], [x]), "milestones[0]", COUNT),
    (lambda x: s.ReduceOnPlateau(1, patience=x), "patience", WHOLE),
    (lambda x: s.ReduceOnPlateau(1, cooldown=x), "cooldown", WHOLE),
]
CHOICES = [
    (lambda x: s.one_cycle(1, 1, anneal=x), "anneal", "expected 'cos' or 'linear', got"),
    (lambda x: s.ReduceOnPlateau(1, x), "mode", "expected 'min' or 'max', got"),
    (lambda x: s.ReduceOnPlateau(1, threshold_mode=x), "threshold_mode", "expected 'rel' or 'abs', got"),
]
SEQUENCES = [
    (lambda x: s.multi_step(1, x), "milestones", "expected a list or tuple, got"),
    (lambda x: s.join([1, 2], x), "milestones", "expected a list or tuple, got"),
    (lambda x: s.join(x, [1]), "schedules", "expected a list or tuple, got"),
]


def bad_arguments():
    for make, name, words in NUMBERS:
        yield from ((make, name, words, bad, TypeError) for bad in ("1", None, True, np.True_, 1j, [1.0]))
        yield from ((make, name, words, bad, ValueError) for bad in (-0.5, math.nan, math.inf))
        if words == POSITIVE:
            yield make, name, words, 0.0, ValueError
        if words == SHARE:
            yield make, name, words, 1.5, ValueError
    for make, name, words in WHOLES:
        yield from ((make, name, words, bad, TypeError) for bad in ("1", None, True, np.True_, 1.0, [1]))
        yield from ((make, name, words, bad, ValueError) for bad in ((-1, 0) if words == COUNT else (-1,)))
    for make, name, words in CHOICES:
        yield from ((make, name, words, bad, TypeError) for bad in (None, 1))
        yield make, name, words, "other", ValueError
    for make, name, words in SEQUENCES:
        yield from ((make, name, words, bad, TypeError) for bad in (1, None, "12", {1}))


@pytest.mark.parametrize(("make", "name", "words", "bad", "error"), list(bad_arguments()))
def test_bad_arguments(make, name, words, bad, error):
    with pytest.raises(error, match=f"^{re.escape(f'{name}: {words} {bad!r}')}$"):
        make(bad)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: s.multi_step(1, [5, 5]), "milestones: expected each above the one before, got [5, 5]"),
        (lambda: s.join([1, 2, 3], [5, 4]), "milestones: expected each above the one before, got [5, 4]"),
        (lambda: s.join([], []), "schedules: expected at least one, got none"),
        (lambda: s.join([1, 2], []), "milestones: expected 1, one less than there are schedules, got 0"),
        (lambda: s.cosine(1, 10, warmup=10), "warmup: expected less than steps=10, got 10"),
        (lambda: s.ReduceOnPlateau(0.1, minimum=0.2), "minimum: expected at most value=0.1, got 0.2"),
        (lambda: s.ReduceOnPlateau(0.1, factor=1), "factor: expected a number from 0 up to, but not, 1, got 1.0"),
    ],
)
def test_arguments_that_do_not_go_together(make, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        make()


# Inside optimizers.


@pytest.mark.parametrize(
    ("cls", "hypers"),
    [
        (
            gs.AdamW,
            {
                "lr": s.cosine(1e-2, 20, warmup=5),
                "weight_decay": s.warmup(s.step(0.1, 10), 5, start=0.5),
                "betas": (s.join([0.8, s.cosine(0.8, 8, final=0.95)], [10]), s.constant(0.99)),
                "eps": s.exponential(1e-6, 0.5),
            },
        ),
        (gs.Adam, {"lr": s.one_cycle(1e-2, 25), "betas": (0.9, s.multi_step(0.99, [7], 0.9))}),
        (
            gs.SGD,
            {"lr": s.inverse_sqrt(0.1, 4), "momentum": s.cosine(0.5, 30, final=0.9), "dampening": s.constant(0.1)},
        ),
        (gs.NAG, {"lr": s.polynomial(0.1, 40, 2.0), "momentum": s.warmup(0.9, 9, start=0.1)}),
        (gs.Adagrad, {"lr": s.cosine_restarts(0.1, 7, 2), "weight_decay": s.exponential(0.1, every=3)}),
    ],
)
def test_a_step_uses_what_the_schedule_says(rng, cls, hypers):
    def at(calls):
        return {
            name: tuple(p(calls) if callable(p) else p for p in h) if isinstance(h, tuple) else h(calls)
            for name, h in hypers.items()
        }

    start = rng.normal(size=50)
    scheduled, by_hand = start.copy(), start.copy()
    mine, theirs = cls(scheduled, **hypers), cls(by_hand, **at(0))
    for calls in range(30):
        for name, value in at(calls).items():
            theirs.groups[0][name] = value
        assert mine.lr == at(calls)["lr"]
        g = rng.normal(size=50)
        mine.step(g)
        theirs.step(g)
        assert scheduled.tobytes() == by_hand.tobytes()
    assert not np.allclose(scheduled, start)


def test_a_plateau_inside_an_optimizer():
    lr = s.ReduceOnPlateau(0.5, factor=0.5, patience=0)
    x = np.zeros(1)
    opt = gs.GradientDescent(x, lr=lr)
    for loss in (1.0, 1.0, 0.5):
        opt.step(-np.ones(1))
        lr.report(loss)
    assert x[0] == 0.5 + 0.5 + 0.25


def test_a_value_too_large_is_refused_by_the_optimizer():
    opt = gs.GradientDescent(np.zeros(1), lr=s.exponential(1e300, 1e10))
    opt.step(np.zeros(1))
    with pytest.raises(ValueError, match=r"^lr: .* the schedule returned for call 1: inf$"):
        opt.step(np.zeros(1))


# Beside PyTorch.


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def theirs(torch, value, make, count):
    """Return the first `count` learning rates of the scheduler that `make` makes."""
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=value)
    scheduler = make(torch.optim.lr_scheduler, opt)
    rates = []
    for i in range(count):
        rates.append(scheduler.get_last_lr()[0])
        opt.step()
        if i < count - 1:
            scheduler.step()
    return rates


# Ours, theirs, and how many calls are compared.
PARITY = [
    (s.exponential(0.3), lambda t, o: t.ExponentialLR(o, 0.99), 400),
    (s.exponential(0.3, 1.01), lambda t, o: t.ExponentialLR(o, 1.01), 400),
    *((s.step(0.3, k, g), lambda t, o, k=k, g=g: t.StepLR(o, k, g), 400) for k, g in [(1, 0.9), (7, 0.5), (100, 0.1)]),
    *(
        (s.multi_step(0.3, m, g), lambda t, o, m=m, g=g: t.MultiStepLR(o, m, g), 400)
        for m, g in [([], 0.1), ([1], 0.5), ([30, 31, 200], 0.1), ([399], 2.0)]
    ),
    *(
        (s.polynomial(0.3, n, p), lambda t, o, n=n, p=p: t.PolynomialLR(o, n, p), 400)
        for n, p in [(300, 1.0), (300, 2.0), (7, 0.5), (500, 0.9)]
    ),
    *(
        (s.cosine(0.3, n, final=f), lambda t, o, n=n, f=f: t.CosineAnnealingLR(o, n, f), n + 1)
        for n, f in [(300, 0.0), (300, 0.01), (1, 0.1), (7, 0.0), (100, 0.5)]
    ),
    *(
        (s.cosine_restarts(0.3, n, k, f), lambda t, o, n=n, k=k, f=f: t.CosineAnnealingWarmRestarts(o, n, k, f), 400)
        for n, k, f in [(50, 1, 0.0), (1, 1, 0.0), (10, 2, 0.01), (3, 3, 0.5), (7, 2, 0.0)]
    ),
    *(
        (
            s.one_cycle(0.3, n, p, d, e, a),
            lambda t, o, n=n, p=p, d=d, e=e, a=a: t.OneCycleLR(
                o, 0.3, n, pct_start=p, div_factor=d, final_div_factor=e, anneal_strategy=a, cycle_momentum=False
            ),
            n,
        )
        for a in ("cos", "linear")
        for n, p, d, e in [
            (300, 0.3, 25.0, 1e4),
            (300, 0.0, 25.0, 1e4),
            (301, 0.45, 3.0, 0.5),
            (7, 0.5, 1.0, 10.0),
            (64, 1.0, 9.0, 2.0),
        ]
    ),
    *(
        (s.warmup(0.3, n, f), lambda t, o, n=n, f=f: t.LinearLR(o, f, total_iters=n), 400)
        for n, f in [(5, 1 / 3), (300, 1e-3), (1, 0.5), (10, 1.0)]
    ),
    (
        s.warmup(s.exponential(0.3, 0.97), 40, 0.1),
        lambda t, o: t.ChainedScheduler([t.LinearLR(o, 0.1, total_iters=40), t.ExponentialLR(o, 0.97)]),
        300,
    ),
    (
        s.join([s.warmup(0.3, 20, 0.1), s.cosine(0.3, 200)], [20]),
        lambda t, o: t.SequentialLR(o, [t.LinearLR(o, 0.1, total_iters=20), t.CosineAnnealingLR(o, 200)], [20]),
        220,
    ),
    (
        s.join([0.3, s.step(0.3, 9, 0.7), s.polynomial(0.3, 50)], [20, 99]),
        lambda t, o: t.SequentialLR(o, [t.ConstantLR(o, 1.0), t.StepLR(o, 9, 0.7), t.PolynomialLR(o, 50)], [20, 99]),
        300,
    ),
]


@pytest.mark.parametrize(("ours", "make", "count"), PARITY, ids=[repr(row[0]) for row in PARITY])
def test_equals_torch(torch, ours, make, count):
    """To 1e-12 of each value; where PyTorch's own sums have lost digits of a small one, to 1e-15 of the largest."""
    value = 0.3
    assert [ours(calls) for calls in range(count)] == pytest.approx(
        theirs(torch, value, make, count), rel=1e-12, abs=1e-15 * value
    )


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(
    ("factor", "patience", "threshold", "cooldown", "minimum"),
    [(0.1, 10, 1e-4, 0, 0.0), (0.9, 1, 0.05, 3, 0.02), (0.5, 0, 0.0, 1, 1e-3)],
)
def test_plateau_equals_torch(torch, rng, mode, threshold_mode, factor, patience, threshold, cooldown, minimum):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    settings = {"mode": mode, "factor": factor, "patience": patience, "threshold": threshold, "cooldown": cooldown}
    settings["threshold_mode"] = threshold_mode
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, min_lr=minimum, eps=0, **settings)
    ours = s.ReduceOnPlateau(0.3, minimum=minimum, **settings)
    trend = np.linspace(2, 1, 300) if mode == "min" else np.linspace(1, 2, 300)
    metrics = trend + 0.05 * rng.normal(size=300)
    metrics[::17] = math.nan
    rates = []
    for metric in metrics:
        peer.step(metric)
        ours.report(metric)
        rates.append(ours(0))
        assert rates[-1] == opt.param_groups[0]["lr"]
        assert ours.state_dict()["bad"] == peer.num_bad_epochs
    assert len(set(rates)) > 2


# Pictures.


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")
    matplotlib.use(before)


def test_plot_of_one(pyplot):
    lr = s.cosine(0.1, 50, warmup=5)
    ax = gs.plot.schedule(lr, 60)
    assert pyplot.get_fignums() == [ax.figure.number]
    (line,) = ax.lines
    assert list(line.get_xdata()) == list(range(60))
    assert list(line.get_ydata()) == [lr(calls) for calls in range(60)]
    assert ax.get_xlabel() == "calls"
    assert ax.get_legend() is None
    ax.figure.canvas.draw()


def test_plot_of_several_in_given_axes(pyplot):
    _, axes = pyplot.subplots(1, 2)
    ax = gs.plot.schedule({"a": twice, "b": 0.5}, 4, ax=axes[1])
    assert ax is axes[1]
    assert not axes[0].lines
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 2, 4, 6], [0.5] * 4]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert not gs.plot.schedule({}, 4, ax=axes[0]).lines


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("x", 3), TypeError, f"schedule: {AMOUNT} 'x'"),
        (({"a": 1, "b": -1}, 3), ValueError, f"schedule['b']: {AMOUNT} -1.0"),
        (
            ({"a": lambda calls: math.nan}, 3),
            ValueError,
            "schedule['a']: expected a finite number of at least 0, the schedule returned for call 0: nan",
        ),
        ((1, 0), ValueError, f"steps: {COUNT} 0"),
        ((1, 2.0), TypeError, f"steps: {COUNT} 2.0"),
    ],
)
def test_plot_refuses_before_it_draws(pyplot, arguments, error, words):
    with pytest.raises(error, match=f"^{re.escape(words)}$"):
        gs.plot.schedule(*arguments)
    assert not pyplot.get_fignums()


def test_plot_without_matplotlib_says_what_to_install():
    done = run(
        """
        import sys
        sys.modules["matplotlib"] = None
        import gradstep as gs
        gs.plot.schedule(1.0, 3)
        """,
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError: gradstep.plot needs matplotlib" in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("pip install 'gradstep[demo]'\n")


def test_a_copy_of_a_plateau_has_a_memory_of_its_own():
    one = s.ReduceOnPlateau(0.8, factor=0.5, patience=0)
    one.report(1.0)
    other = copy.copy(one)
    other.report(2.0)
    assert (one(0), other(0)) == (0.8, 0.4)
