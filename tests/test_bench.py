"""The bench suite's own arithmetic: turns, checks, comparisons, the README's block."""

import importlib
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import gradstep as gs
from gradstep import textbook

pytest.importorskip("bench", reason="only a checkout has bench/")
from bench import __main__ as program
from bench import compare, machine, pictures, readme, report
from bench.__main__ import parser
from bench.case import PLACES, Absent, Case, Contestant, Figure, Measurement, Took, Wrong, sample
from bench.contestants import TABLE, ceiling, contestants, minimisers, numpy_, peer_of
from bench.must import MUST, verdict
from bench.questions import NAMES, ask, beside_blas, beyond_steps, gpu
from bench.questions.many_arrays import gpt2, resnet50
from bench.run import Run, ask_aside, cases
from bench.runner import Runner, play
from bench.samples import of_rounds, rate
from bench.work import CLIP, RULES, Work

OURS = ("gradstep", "NumPy", "NumPy out=", "pure Python")


class Clock:
    """Time that passes only where someone works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def runner(clock):
    return Runner(clock=clock, sleep=lambda seconds: None, processors=lambda: None)


def taking(clock, seconds, **more):
    return lambda: Contestant(partial(clock.work, seconds), **more)


def test_every_sample_is_kept(runner, clock):
    makers = {
        "a": taking(clock, 0.5),
        "b": lambda: Contestant(lambda: 7.0, timed=True),
    }
    done = runner.measure("q", Case("case", makers, rounds=4, seconds=1e9))
    assert done.samples == {"a": [0.5] * 4, "b": [7.0] * 4}
    assert not done.absent


def test_short_calls_are_repeated_within_a_sample(runner, clock):
    calls = []

    def call():
        calls.append(1)
        clock.work(1e-6)

    done = runner.measure("q", Case("case", {"a": lambda: Contestant(call)}, rounds=1, warm=0))
    assert done.samples["a"] == [pytest.approx(1e-6)]
    assert len(calls) >= 200


def test_as_many_calls_warm_as_are_counted(runner, clock):
    costs = [2.5e-3] * 2 + [9e-3] * 4 + [2e-3] * 4  # two tell how many are enough
    done = runner.measure("q", Case("case", {"a": lambda: Contestant(lambda: clock.work(costs.pop(0)))}, rounds=1))
    assert done.samples["a"] == [pytest.approx(2e-3)]
    assert not costs


def test_contestants_take_turns_and_each_comes_first(runner):
    order = []
    makers = {
        name: partial(lambda name: Contestant(lambda: order.append(name) or 1.0, timed=True), name) for name in "abc"
    }
    runner.measure("q", Case("case", makers, rounds=3, warm=0))
    assert "".join(order) == "abcbcacab"


def test_preparation_is_not_timed_and_comes_before_each_call(runner, clock):
    said = []

    def call():
        said.append("call")
        clock.work(0.5)

    made = Contestant(call, before=lambda: said.append("before") or clock.work(100.0))
    done = runner.measure("q", Case("case", {"a": lambda: made}, rounds=1, warm=2))
    assert done.samples["a"] == [0.5]
    assert said == ["before", "call"] * 3


def test_time_that_is_over_ends_rounds_and_runs(runner, clock):
    done = runner.measure("q", Case("case", {"a": taking(clock, 1.0)}, rounds=100, seconds=10.0))
    assert 3 <= len(done.samples["a"]) < 10
    runner.until = clock()
    clock.work(1)
    assert runner.measure("q", Case("late", {"a": taking(clock, 1.0)})).absent == {"a": "no time was left"}


def test_a_wrong_result_is_refused_before_anything_is_timed(runner, clock):
    right, wrong = np.ones(3), np.array([1.0, 1.0, 1.1])
    calls = []
    bad = Contestant(lambda: calls.append(1), lambda: [wrong])
    makers = {"good": taking(clock, 1.0, result=lambda: [right]), "bad": lambda: bad}
    done = runner.measure("q", Case("case", makers, lambda: [np.ones(3)], rounds=2))
    assert list(done.samples) == ["good"]
    assert done.absent["bad"].startswith("WRONG: result 0 is 0.1 off")
    assert len(calls) == 1  # of the check


def test_not_a_number_is_wrong_too(runner):
    made = Contestant(lambda: None, lambda: [np.array([np.nan])])
    done = runner.measure("q", Case("case", {"a": lambda: made}, lambda: [np.zeros(1)]))
    assert done.absent["a"].startswith("WRONG")


def test_a_missing_peer_is_a_row_that_says_so(runner, clock):
    def missing():
        raise ModuleNotFoundError("No module named 'peer'")

    def refusing():
        raise Absent("has no such rule")

    def failing():
        raise RuntimeError("broken\nin many lines")

    makers = {"gradstep": taking(clock, 1.0), "peer": missing, "other": refusing, "third": failing}
    done = runner.measure("threads", Case("case", makers, rounds=1))
    reasons = {
        "peer": "not installed: No module named 'peer'",
        "other": "has no such rule",
        "third": "failed: RuntimeError: broken",
    }
    assert done.absent == reasons
    run = run_of([done])
    for name, why in reasons.items():
        assert f"| {name} | {why} | all |" in report.markdown(run, {})


def test_where_nobody_can_take_part_there_are_no_rounds(runner):
    def missing():
        raise Absent("no GPU")

    runner.processors = pytest.fail
    done = runner.measure("gpu", Case("case", {"gradstep": missing}))
    assert done.absent == {"gradstep": "no GPU"}
    assert not done.rounds
    assert "not compared" not in compare.text(run_of([done]), run_of([done]))


@pytest.mark.parametrize("other", [{"hidden_layer_sizes": (256, 64)}, {"batch_size": 256}, {"alpha": 0.5}])
def test_an_estimator_that_learns_otherwise_is_wrong(other, monkeypatch):
    pytest.importorskip("sklearn")
    case = next(beyond_steps.estimator(quick=True))
    fits = {"gradstep": case.contestants["gradstep"]}
    case = replace(case, contestants=fits, rounds=1, rest=0.0)
    made = gs.sklearn.MLPClassifier
    assert not Runner().measure("q", case).absent
    monkeypatch.setattr(gs.sklearn, "MLPClassifier", lambda **given: made(**(given | other)))
    assert Runner().measure("q", case).absent["gradstep"].startswith("WRONG")


def test_only_peers_that_were_asked_for(runner, clock):
    runner.peers = ("torch",)
    names = ("gradstep", "ceiling, reading", "PyTorch fused", "NumPy out=", "no update")
    done = runner.measure("q", Case("case", dict.fromkeys(names, taking(clock, 1.0)), rounds=1))
    assert set(done.samples) == {"gradstep", "ceiling, reading", "PyTorch fused", "no update"}
    assert peer_of("gradstep, as PyTorch") is None


def test_runs_have_new_contestants_and_the_worst_counts(runner):
    times = iter([1.0, 3.0, 2.0])

    def make():
        took = next(times)
        return Contestant(lambda: took, timed=True)

    def question():
        makers = {"a": make, "b": lambda: Contestant(lambda: 2.0, timed=True)}
        took = yield Case("case", makers, rounds=2, runs=3)
        yield Figure("worst", max(took.ratios_of_runs("a", "b")))
        yield Figure("middle", took.ratio("a", "b"))
        yield Figure("not measured", took.ratio("a", "nobody"))

    measured, worst, middle = runner.answers("q", question())
    assert measured.samples["a"] == [1.0, 1.0, 3.0, 3.0, 2.0, 2.0]
    assert (worst.value, middle.value) == (1.5, 1.0)


def test_runs_that_time_cut_are_told_apart(runner, clock):
    slow = iter([True, False])

    def make():
        took = 2.0 if next(slow) else 1.0
        return Contestant(lambda: clock.work(took**9) or took, timed=True)  # the first takes its run's seconds

    def question():
        makers = {"a": make, "b": lambda: Contestant(lambda: 1.0, timed=True)}
        took = yield Case("case", makers, rounds=12, runs=2, seconds=100.0, warm=0)
        yield Figure("worst", max(took.ratios_of_runs("a", "b")))
        yield Figure("least", min(took.ratios_of_runs("a", "b")))

    measured, worst, least = runner.answers("q", question())
    assert measured.rounds == [3, 12]
    assert (worst.value, least.value) == (2.0, 1.0)


def test_a_ratio_is_that_of_the_middle_run():
    took = Took({"a": [1.0, 1.0, 9.0, 9.0, 9.0, 9.0], "b": [1.0, 1.0, 9.0, 9.0, 1.0, 1.0]}, {"a": 8, "b": 2}, [2, 2, 2])
    assert took.ratio("a", "b") == 1.0
    assert took.ratio_per_byte("a", "b") == 0.25
    turns = Took({"a": [1.0, 2.0, 2.0], "b": [1.0, 1.0, 2.0]}, {}, [3])  # medians of each are 2 and 1
    assert turns.ratio("a", "b") == 1.0
    assert np.isnan(took.ratio("a", "nobody"))
    assert np.isnan(took.ratio("a", "b", "nobody"))


def test_a_ratio_to_several_is_to_the_fastest_in_each_round():
    took = Took({"a": [6.0, 6.0], "b": [1.0, 3.0], "c": [2.0, 2.0]}, {}, [2])
    assert took.ratios_of_runs("a", "b", "c") == [4.5]


def changes_of(before, after):
    return list(compare.changes(compare.in_pairs(before, after), compare.on_one_machine(before, after)))


def test_the_way_from_core_to_core_is_told(runner, clock):
    near = iter([(30.0, 1.0), (32.0, 2.0), (31.0, 1.6), (31.0, 1.4)])
    far = iter([None, *[(160.0, 1.0)] * 3])
    runner.processors = lambda: next(near)
    before = runner.measure("q", Case("case", {"a": taking(clock, 1e-3)}, runs=2, rounds=2))
    assert before.core_to_core == [30.0, 32.0, 31.0, 31.0]  # before each round of each run
    assert before.side_by_side == [1.0, 2.0, 1.6, 1.4]
    runner.processors = lambda: next(far)
    after = runner.measure("q", Case("case", {"a": taking(clock, 1e-3)}, runs=2, rounds=2))
    assert after.core_to_core == [160.0] * 3
    assert "core to core: 30 to 160 ns in `q`" in report.markdown(run_of([before, after]), {})
    assert "hardware threads of one core: 2 of 4 in `q`" in report.markdown(run_of([before, after]), {})
    assert "was 31 ns, and now 160" in compare.text(run_of([before]), run_of([after]))
    assert "core to core" not in compare.text(run_of([before]), run_of([measurement(gradstep=1.0)]))


def test_rounds_with_processors_far_from_each_other_are_told_apart():
    m = measurement(gradstep=1.0)
    m.samples = {"gradstep": [1.0] * 4 + [2.0] * 3, "NumPy": [4.0, 5.0, 4.0, 5.0, 5.0, 5.0, 5.0]}
    m.rounds, m.core_to_core = [3, 4], [30.0, 31.0, 40.0, 32.0] + [160.0] * 3
    assert f"| {m.case} | NumPy | 4.5 (4 rounds) | 2.5 (3 rounds) |  |" in report.markdown(run_of([m]), {})
    m.side_by_side = [2.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0]  # whatever the way is
    rows = f"| {m.case} | NumPy | 5 (2 rounds) | 2.5 (2 rounds) | 4 (3 rounds) |"
    assert rows in report.markdown(run_of([m]), {})
    kept = of_rounds(m, [False, False, *[True] * 5])
    assert (kept.rounds, kept.core_to_core, kept.side_by_side) == ([1, 4], m.core_to_core[2:], m.side_by_side[2:])
    m.side_by_side = []
    for ways in ([30.0] * 7, [30.0] * 5 + [160.0] * 2, [30.0] * 3 + [160.0] * 3):  # one kind, few, not known of all
        m.core_to_core = ways
        assert "more than 2 times" not in report.markdown(run_of([m]), {})


def test_rounds_of_one_kind_are_compared():
    def run(ways, factor=1, side_by_side=()):
        m = measurement(gradstep=1.0, NumPy=9.0)
        slow = [way > 100 for way in ways]
        m.samples = {"gradstep": [1.0 + 0.01 * k + s for k, s in enumerate(slow)], "NumPy": [9.0] * len(ways)}
        m.rounds, m.core_to_core, m.side_by_side = [len(ways)], ways, list(side_by_side)
        return run_of([scaled(m, factor)])

    near, far = [30.0] * 9, [150.0] * 9
    assert "+" in compare.text(run([31.0] * 9), run(near, 3))
    assert not changes_of(run(near + [150.0] * 3), run([30.0] * 3 + far))
    assert "so not compared: AdamW, 10^3." in compare.text(run(near), run(far))
    assert "not compared" not in compare.text(run(near), run([30.0] * 3 + far))
    assert changes_of(run([*far, 30.0]), run(far, 3))
    shared = [2.0] * 9
    assert "so not compared" in compare.text(run(near, 2, shared), run(near))
    assert not changes_of(run(near * 2, 1, [1.0] * 9 + shared), run(near))
    assert changes_of(run(near, 1, shared), run(near, 3, shared))
    other = run(far)
    other.machine = other.machine | {"processor": "of another machine, whose near is far on this one"}
    assert "not compared" not in compare.text(run(near), other)
    older = run(near)
    older.measurements[0].core_to_core = []
    assert "Of the first run's rounds it is not known" in compare.text(older, run(near))
    assert "not known" not in compare.text(run(near), run(far))


def test_what_cannot_be_compiled_is_tried_once(monkeypatch):
    tried = []

    def library():
        tried.append(1)
        raise Absent("no compiler")

    monkeypatch.setattr(ceiling, "library", library)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    ceiling._of_processors.cache_clear()
    assert [ceiling.processors() for _ in range(3)] == [None] * 3
    assert tried == [1]
    ceiling._of_processors.cache_clear()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="asks Linux")
def test_where_processors_are_is_measured(monkeypatch):
    found = ceiling.processors()
    if len(os.sched_getaffinity(0)) < 2:
        assert found is None
    else:
        assert 1 < found[0] < 100_000
        assert 0.5 < found[1] < 100
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert ceiling.processors() is None


def test_a_quick_run_has_one_run(runner, clock):
    runner.quick = True
    assert runner.measure("q", Case("case", {"a": taking(clock, 1e-3)}, **PLACES)).runs == 1


def checked(work, makers):
    """Return what the check says of contestants that do that work."""
    case = Case("case", makers, work.expected, turns=work.turns, rounds=1, rest=0.0)
    return Runner().measure("q", case).absent


@pytest.mark.parametrize("rule", RULES)
def test_contestants_without_other_libraries_are_right(rule):
    work = Work(rule, (5, 3000))
    assert not checked(work, contestants(work, OURS))


@pytest.mark.parametrize("name", ["gradstep", "NumPy"])
def test_whole_steps_are_right(name):
    work = Work("AdamW", (5, 3000), clip=CLIP, grad_scale=8.0, average=0.9, zero_grads=True)
    assert not checked(work, contestants(work, [name]))


def test_a_contestant_that_fails_leaves_the_gradients_as_they_were():
    work, left = Work("AdamW", (1000,)), iter([None])
    before = work.grads()[0].copy()
    assert "failed" in checked(work, {"peer": lambda: Contestant(lambda: next(left), lambda: [])})["peer"]
    np.testing.assert_array_equal(work.grads()[0], before)


def stateless(work):
    params, grads, lr = work.params(), work.grads(), np.float32(work.spec.hypers["lr"])

    def step():
        for p, g in zip(params, grads, strict=True):
            p -= lr * np.sign(g)

    return Contestant(step, lambda: params)


SIZES = {"one": (2**17,), "many": (256,) * 200}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_adam_without_states_is_refused(sizes):
    work = Work("Adam", sizes)
    assert "WRONG" in checked(work, {"stateless": partial(stateless, work)})["stateless"]


def otherwise(work, monkeypatch, **hypers):
    """Return the same work with other hyperparameters."""
    monkeypatch.setitem(RULES, "other", replace(work.spec, hypers=work.spec.hypers | hypers))
    return replace(work, rule="other")


@pytest.mark.parametrize(
    ("rule", "hypers"),
    [
        ("Adam", {"betas": (0.9, 0.99)}),
        ("Adam", {"betas": (0.8, 0.999)}),
        ("Adam", {"betas": (0.9, 0.995)}),
        ("Adam", {"eps": 0.0}),
        ("AdamW", {"weight_decay": 0.0095}),
        ("Adagrad", {"eps": 0.0}),
        ("SGD momentum", {"momentum": 0.899}),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_other_hyperparameters_are_refused(rule, hypers, sizes, monkeypatch):
    work, names = Work(rule, sizes), ["gradstep", "NumPy"]
    absent = checked(work, contestants(otherwise(work, monkeypatch, **hypers), names))
    assert all("WRONG" in absent[name] for name in names)


@pytest.mark.parametrize(
    "hypers", [{"betas": (0.9, 0.99)}, {"weight_decay": 0.0095}, {"eps": 0.0}, {"lr": 0.01001}, {}], ids=str
)
def test_pytorch_is_off_by_its_norm_alone(hypers, monkeypatch):
    adamw = pytest.importorskip("torch").optim.AdamW
    torch_ = importlib.import_module("bench.contestants.torch_")
    monkeypatch.setitem(torch_.CLASSES, "AdamW", lambda params, **known: adamw(params, **known | hypers))
    work = Work("AdamW", (5, 2**17), clip=CLIP, grad_scale=8.0, average=0.999, zero_grads=True)
    names = ["PyTorch fused", "PyTorch foreach"]
    absent = checked(work, contestants(work, names))
    assert all("WRONG" in absent[name] for name in names) if hypers else not absent


def test_a_build_that_was_broken_off_is_not_waited_for(tmp_path, monkeypatch):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    deepspeed_ = importlib.import_module("bench.contestants.deepspeed_")
    monkeypatch.setattr(deepspeed_, "_folder", lambda: tmp_path)
    for name, why in (("nothing", "not compiled yet"), ("cpu_adam.so", None), ("lock", "its compiler was ended")):
        (tmp_path / name).touch()
        if why:
            with pytest.raises(Absent, match=why):
                deepspeed_.cpu_adam(Work("Adam", (5,)))


def test_each_environment_has_its_own_builds(monkeypatch):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    deepspeed_ = importlib.import_module("bench.contestants.deepspeed_")
    here = deepspeed_.builds()
    monkeypatch.setattr(sys, "prefix", "elsewhere")
    assert deepspeed_.builds() != here


@pytest.mark.parametrize("wrong", [{"m": "m + rest1 * g"}, {"v": "v + rest2 * (g * g)"}])
def test_an_average_that_does_not_decay_is_wrong(wrong, monkeypatch):
    formulas = importlib.import_module("bench.contestants.formulas")
    work = Work("AdamW", (5, 3000))
    monkeypatch.setitem(formulas.FORMULAS, "AdamW", formulas.FORMULAS["AdamW"] | wrong)
    assert "WRONG" in checked(work, contestants(work, ["pure Python"]))["pure Python"]


def test_a_norm_may_be_off_by_little():
    work = Work("AdamW", (5, 3000), clip=CLIP, grad_scale=8.0)
    norms = [factor * np.sqrt(sum(np.vdot(g, g) for g in work.grads())) / 8 for factor in (4.0, 2.0, 1.0)]
    exact, told = work.expected(), work.expected(norms)
    np.testing.assert_allclose(np.concatenate(told), np.concatenate(exact), rtol=0, atol=1e-6)
    off = work.expected([1.002 * norm for norm in norms])
    assert max(np.max(np.abs(a - b)) for a, b in zip(exact, off, strict=True)) < 1e-4
    for wrong in (1.01, 0.99, np.nan):
        with pytest.raises(Wrong, match="the norm is"):
            work.expected([*norms[:2], wrong * norms[2]])


def test_what_is_expected_may_have_hyperparameters_that_change_with_the_step():
    work = Work("Adam", (3000,))
    (told,) = work.expected(lr=lambda t: 0.01 if t == 1 else 0.0)
    p, g = (sample(a) for a in (*work.params(), *work.grads()))
    np.testing.assert_allclose(told, p - 0.01 * 4 * g / (4 * np.abs(g) + 1e-6), rtol=0, atol=1e-6)


def test_what_a_contestant_expects_itself_is_asked_after_its_calls(runner, clock):
    found = []
    made = Contestant(lambda: found.append(3.0), lambda: [np.array(found[:1])], expected=lambda: [np.array(found[:1])])
    assert not runner.measure("q", Case("case", {"a": lambda: made}, lambda: [np.zeros(1)], rounds=1)).absent


def test_what_is_prepared_is_flushed_too(runner):
    said = []
    made = Contestant(lambda: said.append("call"), before=lambda: said.append("before"))
    runner._flush = lambda: said.append("flush")
    runner.measure("q", Case("case", {"a": lambda: made}, rounds=1, warm=1, caches="flushed"))
    assert said[-3:] == ["before", "flush", "call"]


@pytest.mark.parametrize(
    "wrong",
    [{"grad_scale": 1.0}, {"clip": None}, {"clip": CLIP * 1.01}, {"average": 0.99}],
    ids=str,
)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_whole_steps_that_leave_something_out_are_refused(wrong, sizes):
    work = Work("AdamW", sizes, clip=CLIP, grad_scale=1024.0, average=0.999, zero_grads=True)
    lazy = Lazy(**vars(replace(work, **wrong)), true_scale=work.grad_scale)
    names = ["gradstep", "NumPy"]
    absent = checked(work, contestants(lazy, names))
    assert all("WRONG" in absent[name] for name in names)


def descent(fun, limit):
    x = fun.start.copy()
    for _ in range(limit):
        x -= 0.0049 * fun(x)[1]


def shorter(fun, limit):
    gs.minimize(fun, fun.start, jac=True, options={"maxcor": 9, "maxiter": limit, "gtol": 0.0, "ftol": 0.0})


@pytest.mark.parametrize("k", [0, 1])
def test_lbfgs_that_is_none_or_has_a_shorter_history_is_refused(k):
    played = play(beyond_steps.small_lbfgs(), lambda case: (case, Took({}, {}, ())))
    case = [item for item in played if isinstance(item, Case)][k]
    assert not Runner().measure("q", replace(case, rounds=1)).absent
    for wrong in (descent, shorter):
        makers = {"wrong": partial(minimisers.lbfgs, wrong, (10, 10_000)[k], "f8", 40)}
        absent = Runner().measure("q", replace(case, contestants=makers, rounds=1)).absent
        assert absent["wrong"].startswith("WRONG")


@pytest.mark.parametrize("wrong", ["short", "unshuffled", "unscaled", ""])
def test_epochs_that_are_none_are_refused(wrong, monkeypatch):
    real = gs.data.minibatches

    def lazy(*arrays, **settings):
        changes = {"unshuffled": {"shuffle": False}, "unscaled": {"standardize": None, "dtype": "float32"}}
        batches = real(*arrays, **settings | changes.get(wrong, {}))
        return iter([next(batches)]) if wrong == "short" else batches

    monkeypatch.setattr(gs.data, "minibatches", lazy)
    monkeypatch.setattr(beyond_steps, "ROWS", 3000)
    beyond_steps._pixels.cache_clear()
    case = next(beyond_steps.gather())
    absent = Runner().measure("q", replace(case, rounds=1, rest=0.0)).absent
    beyond_steps._pixels.cache_clear()
    assert set(absent) == ({"gradstep", "gradstep, arrays used again"} if wrong else set())


@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize("hypers", [{"weight_decay": 0.0}, {"weight_decay": 0.2}, {"betas": (0.9, 0.99)}, {}], ids=str)
def test_an_iteration_with_another_update_is_refused(hypers, width):
    known = beside_blas.HYPERS | hypers
    makers = {
        "gradstep": partial(beside_blas.training, width, lambda params: gs.AdamW(params, **known).step),
        "NumPy": partial(beside_blas.training, width, lambda params: partial(textbook.AdamW(**known).step, params)),
    }
    absent = (
        Runner().measure("q", replace(beside_blas.iteration(width, True), contestants=makers, rounds=1, runs=1)).absent
    )
    assert set(absent) == (set(makers) if hypers else set())


def test_who_cannot_take_part_says_why_when_no_time_is_left(runner):
    def needs():
        raise Absent("no GPU")

    runner.until = -1.0
    assert runner.measure("q", Case("case", {"a": lambda: None}, needs=needs)).absent == {"a": "no GPU"}


def unzeroed(make):
    made = make()
    return replace(made, call=lambda: (made.call(), made.before()))


@pytest.mark.parametrize("name", ["gradstep", "NumPy"])
def test_gradients_that_are_not_zeroed_are_refused(name):
    work = Work("AdamW", (5, 3000), average=0.999, zero_grads=True)
    absent = checked(work, {name: partial(unzeroed, contestants(work)[name])})
    assert absent[name].startswith("WRONG: result 4 ")  # after two parameters and two averages


@dataclass(frozen=True)
class Lazy(Work):
    """Gradients are scaled as the work says, what is made of them is not."""

    true_scale: float = 1.0

    def grads(self):
        return replace(self, grad_scale=self.true_scale, true_scale=0.0).grads() if self.true_scale else super().grads()


class OnDevice(np.ndarray):
    """Stands for CuPy's array."""

    def get(self):
        return np.array(self)

    def set(self, values):
        self[...] = values


@pytest.fixture
def fake_cupy(monkeypatch):
    """CuPy's arrays and events, in host memory."""
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    cuda = SimpleNamespace(Event=lambda: event, get_elapsed_time=lambda begin, end: 1.0)
    cp = ModuleType("cupy")
    cp.cuda, cp.asarray = cuda, lambda a: np.array(a).view(OnDevice)
    for name in ("zeros", "sqrt", "minimum", "vdot"):
        setattr(cp, name, getattr(np, name))
    monkeypatch.setitem(sys.modules, "cupy", cp)
    monkeypatch.delitem(sys.modules, "bench.contestants.cupy_", raising=False)
    cupy_ = importlib.import_module("bench.contestants.cupy_")
    yield cupy_
    del sys.modules["bench.contestants.cupy_"]


@pytest.mark.parametrize("clip", [None, CLIP])
def test_the_gpu_is_checked_after_as_many_steps_as_the_cpu(clip, fake_cupy, monkeypatch):
    work = Work("AdamW", (5, 3000), clip=clip)
    monkeypatch.setattr(fake_cupy, "need_device", lambda: None)
    monkeypatch.setattr(fake_cupy, "torch_fused", numpy_.textbook)  # has gradients written anew, as that has
    done = Runner().measure("gpu", replace(gpu.case("case", work), rounds=1))
    assert {"gradstep", "CuPy expressions", "PyTorch fused"} <= set(done.samples), done.absent
    made = fake_cupy.expressions(work)

    def twice():
        made.call(), made.call()

    monkeypatch.setattr(fake_cupy, "expressions", lambda work: replace(made, call=twice))
    done = Runner().measure("gpu", replace(gpu.case("case", work), rounds=1))
    assert done.absent["CuPy expressions"].startswith("WRONG")


def test_bytes_of_a_step():
    assert Work("AdamW", (10,)).nbytes == 280
    assert Work("SGD", (10, 10)).nbytes == 240
    assert Work("AdamW", (10,), "float16").nbytes == 220
    assert Work("AdamW", (10,), average=0.9, zero_grads=True).nbytes == 400


def test_models_have_their_parameters():
    assert (len(list(resnet50())), sum(resnet50())) == (161, 25_557_032)
    assert (len(list(gpt2())), sum(gpt2())) == (148, 124_439_808)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("question", NAMES)
def test_questions_name_their_cases(question, quick):
    names = cases(question, quick)
    assert len(names) == len(set(names))
    assert names


OPTIONAL = ("ml_dtypes", "torch", "numexpr", "numba", "jax", "thinc", "cupy", "sklearn", "rich", "matplotlib")


def test_questions_name_their_cases_without_optional_packages():
    hide = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))"
    ask = "from bench.run import cases; print(*map(len, map(cases, NAMES, [False] * len(NAMES))))"
    command = [sys.executable, "-c", f"{hide}; from bench.questions import NAMES; {ask}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=readme.ROOT)
    assert done.stdout.split() == [str(len(cases(name, False))) for name in NAMES], done.stderr


def test_a_format_that_is_not_installed_is_rows_that_say_so(runner, monkeypatch):
    work = Work("AdamW", (1000,), "bfloat16")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    makers = contestants(work, ["gradstep"])
    done = runner.measure("q", Case("case", makers, work.expected, nbytes=work.nbytes, footprint=work.footprint))
    assert done.nbytes == 22_000
    assert done.absent["gradstep"].startswith("not installed: import of ml_dtypes")


def test_beside_pytorch_says_where_it_is_not_installed(runner, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (done,) = runner.answers("beside_torch", ask("beside_torch", True))
    assert not done.samples
    assert all(why.startswith("not installed: import of torch") for why in done.absent.values())
    assert "matmul after a step" in done.absent


def test_bounds_judge_figures():
    assert verdict(Figure("", MUST["fused"].bound, "fused")) == "yes"
    assert verdict(Figure("", MUST["fused"].bound * 1.01, "fused", 3)) == "NO"
    assert verdict(Figure("", MUST["ceiling"].bound * 0.99, "ceiling")) == "NO"
    assert verdict(Figure("", 1e9, "", 1)) == ""


@pytest.mark.parametrize(("rounds", "said"), [(1, "1 round: no judgement"), (2, "2 rounds: no judgement"), (3, "NO")])
def test_figures_of_few_rounds_are_not_judged(rounds, said, runner, clock, capsys):
    def question():
        took = yield Case("case", {"gradstep": taking(clock, 1.0)}, rounds=rounds)
        yield Figure("a figure", took.median("gradstep"), "fused")

    measured, figure = runner.answers("threads", question())
    run, judged = run_of([measured], [figure]), rounds == 3
    assert report.missed(run) == [figure] * judged
    assert f"| a figure | 1 | at most 0.08 | {said.replace('NO', '**NO**')} |" in report.markdown(run, {})
    assert f"| 1 | at most 0.08 | {said.replace('NO', '**no**')} |" in readme.block(run, "runs")
    near = [run_of([], [replace(figure, value=value, rounds=9)]) for value in (0.078, 0.082)]
    assert "Nothing changed" in compare.text(*near)
    before = run_of([], [replace(figure, value=0.05, rounds=9)])
    assert f"a figure: 1, {'NO LONGER REACHED' if judged else said}." in compare.text(before, run)
    assert "a figure: 0.05, now reached." in compare.text(run, before)
    report.show(run)
    assert said.split(":")[0] in capsys.readouterr().out


def run_of(measurements, figures=()):
    facts = {
        "date": "2026-01-02T03:04+00:00", "commit": "abc", "processor": "P", "processors": 2, "caches": {"L1": 32768},
        "memory": "1 GiB", "kernel": "K", "transparent huge pages": "madvise", "python": "3", "versions": {},
        "gradstep": {"version": "1", "compiler": "C", "isa": "avx2", "threading": "pool", "num_threads": 2, "cuda": "no"},
        "environment": {}, "unset for the run": [],
    }  # fmt: skip
    return Run("python -m bench --quick", True, facts, figures=list(figures), measurements=list(measurements))


def measurement(**medians):
    wobble = 1 + 0.01 * np.arange(-4, 5)
    samples = {name: list(middle * wobble) for name, middle in medians.items()}
    return Measurement("every_rule", "AdamW, 10^3", "warm", "s", 28000, None, "", samples)


def test_times_that_jump_are_marked(capsys):
    m = measurement(gradstep=1.0, NumPy=9.0)
    assert "nsteady" not in report.times([m])
    m.samples["NumPy"][:] = [3.0] * 2 + [9.0] * 7
    assert "nsteady" not in report.times([m])
    m.samples["NumPy"][:] = [2.9] * 2 + [9.0] * 7
    assert "% unsteady |" in report.times([m])
    assert "Unsteady: the contestant's median is more than 3 times its own least sample" in report.times([m])
    report.show(run_of([m]))
    assert capsys.readouterr().out.count("unsteady") >= 2


def test_equal_runs_have_not_changed():
    run = run_of([measurement(gradstep=1.0, NumPy=9.0)])
    assert "Nothing changed beyond noise." in compare.text(run, run)
    again = run_of([measurement(gradstep=1.01, NumPy=9.0)])
    assert not changes_of(run, again)


def test_a_slower_machine_is_no_change_and_a_slower_step_is():
    before = run_of([measurement(gradstep=1.0, NumPy=9.0)])
    assert not changes_of(before, run_of([measurement(gradstep=2.0, NumPy=18.0)]))
    after = run_of([measurement(gradstep=1.5, NumPy=9.0)])
    ((_, case, name, reference, _, _, change),) = changes_of(before, after)
    assert (case, name, reference, change) == ("AdamW, 10^3", "gradstep", "NumPy", "+50%")


def test_on_one_machine_its_own_times_must_have_changed():
    before = run_of([measurement(gradstep=1.0, NumPy=9.0, Numba=1.1, numexpr=7.0)])
    after = run_of([measurement(gradstep=1.1, NumPy=4.0, Numba=0.5, numexpr=3.0)])
    assert "gradstep" not in {row[2] for row in changes_of(before, after)}
    after.machine = after.machine | {"processor": "another one"}
    assert "gradstep" in {row[2] for row in changes_of(before, after)}


def test_a_change_is_one_against_most_of_the_others():
    before = run_of([measurement(gradstep=1.0, NumPy=9.0, Numba=1.1, numexpr=7.0)])
    rows = changes_of(before, run_of([measurement(gradstep=1.0, NumPy=12.0, Numba=1.1, numexpr=7.0)]))
    assert [row[2] for row in rows] == ["NumPy"]
    rows = changes_of(before, run_of([measurement(gradstep=1.0, NumPy=9.0, Numba=1.7, numexpr=7.0)]))
    assert [row[2] for row in rows] == ["Numba"]


def scaled(m, factor, names=("gradstep",)):
    samples = {k: [x * factor for x in v] if k.startswith(names) else v for k, v in m.samples.items()}
    return replace(m, samples=samples)


def rows_of(before, after):
    return [(row[2], row[6]) for row in changes_of(run_of([before]), run_of([after]))]


def test_few_rounds_need_a_larger_change():
    few = measurement(gradstep=1.0, NumPy=9.0)
    few.samples = {name: samples[3:6] for name, samples in few.samples.items()}
    assert rows_of(few, scaled(few, 1.3)) == []
    assert rows_of(few, scaled(few, 1.5)) == [("gradstep", "+50%")]
    wide = replace(few, samples=few.samples | {"gradstep": [1.0, 1.0, 2.0]})
    assert rows_of(wide, scaled(wide, 1.9)) == []  # ranges of all samples overlap
    sizes = replace(few, samples={"gradstep": [3.0]}, unit="bytes")
    assert rows_of(sizes, scaled(sizes, 1.04)) == []
    assert rows_of(sizes, scaled(sizes, 1.06)) == [("gradstep", "+6%")]
    alone = measurement(gradstep=1.0)
    assert rows_of(alone, scaled(alone, 1.3)) == []  # perhaps of the machine
    assert rows_of(alone, scaled(alone, 1.5)) == [("gradstep", "+50%")]


def test_of_ours_and_one_other_ours_is_told():
    m = measurement(**{"gradstep": 1.0, "gradstep, arrays used again": 0.5, "NumPy": 9.0})
    assert rows_of(m, scaled(m, 1.5)) == [("gradstep", "+50%"), ("gradstep, arrays used again", "+50%")]
    assert rows_of(m, scaled(m, 1.5, ("gradstep, ",))) == [("gradstep, arrays used again", "+50%")]


KEPT = readme.ROOT / "bench/results/amd-zen5/run.json"


@pytest.mark.parametrize(("factor", "least"), [(1.5, 0.9), (3.0, 0.97), (1 / 3, 0.97)])
def test_a_slower_step_is_told_in_the_cases_of_a_whole_run(factor, least):
    ours = [m for m in Run.load(KEPT).measurements if any(name.startswith("gradstep") for name in m.samples)]
    told = [{name.split(",")[0] for name, _ in rows_of(m, scaled(m, factor))} for m in ours]
    assert {name for names in told for name in names} == {"gradstep"}
    assert sum(map(bool, told)) >= least * len(ours)


def test_steps_beside_a_matmul_are_ours():
    beside = [m for m in Run.load(KEPT).measurements if m.question.startswith("beside_") and "matmul" in m.samples]
    assert len(beside) == 2
    for m in beside:
        told = {name for name, _ in rows_of(m, scaled(m, 3.0, ("step",)))}
        assert told == {name for name in m.samples if name.startswith("step")}
        assert rows_of(m, scaled(m, 3.0, ("matmul after",))) == [("matmul after a step", "+200%")]


@pytest.mark.parametrize("n", [1, 10, 4096, 10**6, 10**6 + 7])
def test_the_last_element_is_always_looked_at(n):
    seen = sample(np.arange(n))
    assert seen[-1] == n - 1
    assert 0 < seen.size <= 8192
    assert sample(np.zeros(0)).size == 0


@pytest.mark.parametrize(
    ("work", "written"),
    [
        (Work("SGD", (4096,)), [True, False]),
        (Work("AdamW", (4096,)), [True, True, True, False]),
        (Work("AdamW", (4096,), average=0.9, zero_grads=True), [True] * 5),
        (Work("SGD momentum", (4096,), average=0.9), [True] * 3 + [False]),
    ],
)
def test_ceilings_have_the_streams_of_a_step(work, written, monkeypatch):
    made, in_lines = [], ceiling.in_lines
    monkeypatch.setattr(ceiling, "in_lines", lambda n, count: made.extend(in_lines(n, count)) or made)
    sweeps = ceiling.all_threads(work)
    assert sweeps.nbytes == work.nbytes
    sweeps.call()
    assert [bool((a != 1).all()) for a in made] == written
    assert [bool((a == 1).all()) for a in made] == [not each for each in written]


def test_rates_are_those_of_the_same_rounds():
    m = measurement()
    m.samples = {"gradstep": [1.0, 2.0, 2.0], "ceiling": [1.0, 1.0, 2.0]}
    assert rate(m, "ceiling") == rate(m, "gradstep")


def test_caches_have_room_for_all_threads():
    machine = {"caches": {"L1": 1, "L2": 10, "L3": 100}, "gradstep": {"num_threads": 2}}
    assert pictures.room(machine) == {"L1": 2, "L2": 20, "L3": 100}


@pytest.mark.parametrize("n", [1, 15, 16, 40, 1000])
def test_ceilings_sweep_all_elements(n):
    arrays = ceiling.in_lines(n, 3)
    took = ceiling.streams(arrays, 2).call()
    assert 0 < took < 1
    assert not any((a == 1).any() for a in arrays[:2])
    assert (arrays[2] == 1).all()


def test_ceilings_begin_on_cache_lines():
    for n in (1000, 100_000):
        arrays = ceiling.in_lines(n, 5)
        assert {a.ctypes.data % 64 for a in arrays} == {0}
        assert [a.ctypes.data % 4096 for a in arrays] == [0, 1536, 3072, 512, 2048]  # loads wait for stores else


def every_other(run, k):
    """Return a run of every other round."""
    halves = [of_rounds(m, [n % 2 == k for n in range(sum(m.rounds))]) for m in run.measurements]
    return run_of([m for m in halves if m.samples])


def test_the_same_differs_by_little():
    run = Run.load(KEPT)
    assert not list(compare.presence(run, run)) + changes_of(run, run)
    halves = every_other(run, 0), every_other(run, 1)
    assert len(changes_of(*halves)) <= 0.01 * sum(len(m.samples) for m in run.measurements)


def test_who_is_gone_or_wrong_is_told():
    before = run_of([measurement(gradstep=1.0, NumPy=9.0)], [Figure("a figure", 0.05, "fused")])
    after = run_of([measurement(NumPy=9.0, Numba=1.0)])
    after.measurements[0].absent["gradstep"] = "WRONG: result 0 is 1 off"
    page = compare.text(before, after)
    assert "| gradstep |  | measured | WRONG: result 0 is 1 off |  |" in page
    assert "| Numba |  | not there | measured |  |" in page
    assert "a figure: 0.05, NO LONGER MEASURED." in page
    later = run_of([replace(measurement(gradstep=1.0, NumPy=9.0), absent={"gradstep": "failed: in its second run"})])
    assert "| measured | failed: in its second run |" in compare.text(before, later)
    failed = run_of([])
    failed.failures["every_rule"] = "boom"
    assert "every_rule FAILED:" in compare.text(before, failed)
    assert report.fails(failed)
    assert not report.fails(before)
    assert "Asked in the first run alone: every_rule." in compare.text(before, run_of([]))


@pytest.mark.parametrize(
    ("name", "why", "wrong"),
    [
        ("gradstep", "failed: RuntimeError: broken", True),
        ("gradstep, 1 thread", "WRONG: result 0 is 1 off", True),
        ("step after a matmul", "failed: RuntimeError: broken", True),
        ("NumPy", "WRONG: result 0 is 1 off", True),
        ("NumPy", "failed: RuntimeError: broken", False),
        ("gradstep", "no time was left", False),
    ],
)
def test_what_a_run_fails_by(name, why, wrong, capsys):
    m = measurement(NumPy=1.0)
    m.absent[name] = why
    assert report.fails(run_of([m])) == wrong
    report.show(run_of([m]))
    assert why.split(":")[0] in capsys.readouterr().out


def test_what_else_differs_between_two_runs_is_told():
    before, after = run_of([]), run_of([])
    assert "Another" not in compare.text(before, after)
    after.machine["gradstep"]["num_threads"], after.machine["processor"] = 4, "Q"
    assert "Another processor: P and Q.\n\nAnother num_threads: 2 and 4." in compare.text(before, after)


def test_a_question_of_another_version_is_shown_and_compared():
    run = run_of([replace(measurement(gradstep=1.0), question="gone")])
    assert "## gone" in report.markdown(run, {})
    assert "Asked in the first run alone: gone." in compare.text(run, run_of([measurement(gradstep=1.0)]))


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"figures": 3}', '{"figures": NaN}'])
def test_what_is_no_run_is_told(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=r"run\.json: expected the run\.json of a run"):
        Run.load(path)


def test_an_interrupted_run_says_so():
    run = run_of([measurement(gradstep=1.0)])
    assert "interrupted" not in report.markdown(run, {})
    run.interrupted = True
    assert "It was interrupted" in report.markdown(run, {})


def test_a_package_that_is_not_the_checkouts_is_told(tmp_path, monkeypatch):
    for name, text in (("same.py", "1"), ("other.py", "1"), ("new.py", "")):
        (tmp_path / "python/gradstep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "python/gradstep" / name).write_text(text)
    (tmp_path / "package").mkdir()
    for name, text in (("same.py", "1"), ("other.py", "2")):
        (tmp_path / "package" / name).write_text(text)
    (tmp_path / "csrc").mkdir()
    source = tmp_path / "csrc/rules.cpp"
    source.touch()
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine.gs, "__file__", str(tmp_path / "package/__init__.py"))
    run = run_of([measurement(gradstep=1.0)])
    assert "not the checkout's" not in report.markdown(run, {})
    run.machine["installed"] = machine.installed()
    assert run.machine["installed"] == {"other files": ["new.py", "other.py"], "older module": True}
    page = report.markdown(run, {})
    assert "is not the checkout's: 2 Python files differ, new.py for one" in page
    assert "is not the checkout's: its native module is older" in page
    os.utime(source, (0, 0))
    assert not machine.installed()["older module"]


def test_pools_say_how_their_threads_wait(monkeypatch):
    pytest.importorskip("threadpoolctl")
    found = machine.pools()
    assert all(pool["policy"] for pool in found)
    assert found[-1]["policy"].startswith("sleep at once")
    run = run_of([measurement(gradstep=1.0)])
    run.pools = {"a": found, "b": found}
    assert report.markdown(run, {}).count("Idle threads of gradstep: sleep at once") == 1


def test_how_long_openblas_spins_is_seen(monkeypatch):
    found = pytest.importorskip("threadpoolctl").threadpool_info()
    blas = next((p for p in found if p.get("threading_layer") == "pthreads" and p["num_threads"] > 1), None)
    if blas is None:
        pytest.skip("needs an OpenBLAS with threads of its own")
    spins = []
    for ticks in ("10", "28"):
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", ticks)
        said = machine.policy(blas)
        spins.append(float(re.fullmatch(r"spin for some (\S+) ms, then sleep \(seen after a matmul\)", said).group(1)))
    assert 5 * spins[0] < spins[1]
    assert machine.policy(blas | {"filepath": "no library"}) == "unknown"


def test_a_turn_begins_when_the_threads_before_it_sleep(runner):
    slept, seconds = [], iter([0, 0.02, 0.02, 0.03, 0.03, 0.031])
    runner.sleep, runner.at_work = slept.append, lambda: next(seconds)
    runner._rest(0.02)
    assert slept == [0.02] * 3
    runner.at_work = itertools.count().__next__  # threads that never sleep
    runner._rest(0.02)
    assert len(slept) == 3 + 25
    runner._rest(0.0)
    assert len(slept) == 3 + 25


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="loads libgomp by name")
def test_libgomp_says_its_policy(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    said = machine.policy({"user_api": "openmp", "filepath": "libgomp.so.1"})
    assert said == "unknown" or said.startswith("OMP_WAIT_POLICY=ACTIVE")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_signal_ends_is_written(ending, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "measure", lambda *given: signal.raise_signal(ending))
    before = {which: signal.signal(which, signal.SIG_DFL) for which in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(ending, lambda *given: pytest.fail("the run left the signal as it was"))
    try:
        assert program.suite(parser().parse_args(["--only", "gpu", "--output", str(tmp_path)])) == 130
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    assert Run.load(tmp_path / "run.json").interrupted


def test_what_a_question_began_ends_with_it(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "alive")
    script = tmp_path / "python"  # its child is one that only a group's end reaches
    script.write_text(f"#!/bin/sh\nexec 3> {tmp_path}/alive\nsleep 60 &\necho '{{\"begun\": 1}}'\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    asked = ask_aside("costs", True, (), 1.0, str(tmp_path))
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    assert next(asked) == {"begun": 1}
    asked.close()
    assert select.select([alive], [], [], 10)[0]
    assert os.read(alive, 1) == b""
    os.close(alive)


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = run_of([measurement(gradstep=1.0)], [Figure("a figure", 0.5, "fused")])
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


@pytest.fixture
def page(tmp_path):
    """Return a README.md, beside it the folder of a whole run."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n\n{readme.BEGIN}\nold\n{readme.END}\n\nafter\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / readme.PICTURE).touch()
    whole_run().save(tmp_path / "runs/run.json")
    return page


def whole_run():
    figures = [Figure("one", 0.95, "ceiling"), Figure("two", 1.02, "ceiling"), Figure("three", 0.5, "fused")]
    return replace(run_of([], figures), command="python -m bench", quick=False)


def test_readme_is_rewritten_between_its_marks_once_and_for_all(page):
    path = page.with_name("runs") / "run.json"
    readme.rewrite(path, page)
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert f"| {MUST['ceiling'].what} | 0.95 to 1.02 | at least 0.9 | yes |" in once
    assert f"| {MUST['fused'].what} | 0.5 | at most 0.08 | **no** |" in once
    assert "(runs/roofline.png)" in once
    assert "`python -m bench` on 2026-01-02" in once
    readme.rewrite(path, page)
    assert page.read_text() == once
    other = page.rename(page.with_name("other.md")).rename(page.parent / "runs/README.md")
    path.rename(page.with_name("run.json"))
    with pytest.raises(SystemExit, match="expected a run within"):
        readme.rewrite(page.with_name("run.json"), other)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"interrupted": True}, "it was interrupted"),
        ({"quick": True, "command": "python -m bench --quick"}, "it is of `python -m bench --quick`"),
        ({"command": "python -m bench --only gpu"}, "it is of `python -m bench --only gpu`"),
        ({"failures": {"gpu": "boom"}}, "gpu failed"),
        ({"figures": []}, "it has no figures"),
        ({"machine": run_of([]).machine | {"installed": {"older module": True}}}, "another package"),
        ({}, "roofline.png is not there"),
    ],
)
def test_readme_refuses_what_is_no_whole_run(changes, why, page):
    path = page.with_name("runs") / "run.json"
    replace(whole_run(), **changes).save(path)
    if not changes:
        (path.parent / readme.PICTURE).unlink()
    before = page.read_text()
    with pytest.raises(SystemExit, match=f"expected a whole run, .*: {why}"):
        readme.rewrite(path, page)
    assert page.read_text() == before


@pytest.mark.skipif(not (readme.ROOT / "README.md").exists(), reason="only a checkout has the README")
def test_readme_shows_the_run_that_it_names():
    page = (readme.ROOT / "README.md").read_text()
    folder = re.search(r"\[The whole report\]\((.*)/report\.md\)", page)[1]
    block = readme.block(Run.load(readme.ROOT / folder / "run.json"), folder)
    assert f"{readme.BEGIN}\n{block}\n{readme.END}" in page


@pytest.mark.skipif(not (readme.ROOT / "README.md").exists(), reason="only a checkout has the README")
def test_figures_in_readmes_words_are_those_of_the_reports_they_speak_of():
    """A sentence is about the report it links, or else the table's run, and the one before where it says earlier."""
    words = (readme.ROOT / "README.md").read_text().partition(readme.END)[2].partition("\n## ")[0]
    run, earlier = (f"bench/results/{name}.md" for name in ("amd-zen5/report", "amd-zen5-earlier"))
    checked = 0
    for sentence in re.split(r"(?<=[.;])\s+", words):
        told = [run, earlier] if "earlier" in sentence.lower() else [run]
        links = re.findall(r"\]\((bench/results/\S+\.md)\)", sentence) or told
        reports = "\n".join((readme.ROOT / link).read_text() for link in links)
        plain = re.sub(r"\]\(\S+\)|`[^`]*`", "", sentence)
        for figure in re.findall(r"(?<![\w^.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w^])", plain):
            assert re.search(rf"(?<![\w.,]){re.escape(figure)}(?![\w]|\.\d)", reports), (figure, sentence)
            checked += 1
    assert checked


def test_what_a_whole_run_did_not_measure_is_told(capsys):
    run = whole_run()
    row = f"| {MUST['small'].what} | not measured | at most 2 | **NO** |"
    assert row in report.markdown(run, {})
    assert row.replace("NO", "no") in readme.block(run, "runs")
    report.show(run)
    assert "not measured" in capsys.readouterr().out
    assert len(report.unmeasured(run)) == len(MUST) - 2
    for part in ({"quick": True}, {"interrupted": True}, {"command": "python -m bench --only gpu"}):
        assert not report.unmeasured(replace(run, **part))
    assert row not in report.markdown(replace(run, quick=True), {})


def test_a_figure_that_is_not_measured_counts_under_strict(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "measure", lambda *given: None)
    assert program.suite(parser().parse_args(["--output", str(tmp_path)])) == 0
    assert program.suite(parser().parse_args(["--strict", "--output", str(tmp_path)])) == 1
    assert Run.load(tmp_path / "run.json").command == "python -m bench"


def test_a_question_is_asked_once(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(program, "measure", lambda run, questions, *given: asked.extend(questions))
    assert program.suite(parser().parse_args(["--only", "gpu", "gpu", "--output", str(tmp_path)])) == 0
    assert asked == ["gpu"]
    assert Run.load(tmp_path / "run.json").command == "python -m bench --only gpu"


def test_output_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for output in ("file", "file/folder"):
        with pytest.raises(SystemExit, match="expected a folder to write to"):
            program.suite(parser().parse_args(["--output", str(tmp_path / output)]))
    for name in ("run.json", "report.md", "roofline.png"):
        (tmp_path / "run" / name).mkdir(parents=True)
        with pytest.raises(SystemExit, match="run: expected a folder to write to: Is a directory"):
            program.writable(tmp_path / "run")
        (tmp_path / "run" / name).rmdir()


def test_a_signal_that_ended_a_question_is_named(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho last words >&2\nkill -KILL $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert list(ask_aside("gpu", True, (), 1.0, str(tmp_path))) == [{"failure": "last words\nended by SIGKILL"}]


@pytest.mark.parametrize(
    "change",
    [
        {"machine": {}}, {"machine": {"gradstep": 3}}, {"pools": []}, {"failures": 1},
        {"figures": [{"what": "a", "value": "b", "key": "fused"}]},
        {"measurements": [asdict(measurement(gradstep=1.0)) | {"samples": {"gradstep": ["a", "b"]}}]},
        {"measurements": [asdict(measurement(gradstep=1.0)) | {"samples": {"gradstep": []}}]},
    ],
)  # fmt: skip
def test_a_run_of_a_wrong_shape_is_told(change, tmp_path):
    path = tmp_path / "run.json"
    run = run_of([measurement(gradstep=1.0)], [Figure("a figure", 0.5, "fused")])
    run.save(path)
    assert report.read(path) == run
    path.write_text(json.dumps(asdict(run) | change))
    with pytest.raises(SystemExit, match=r"run\.json: expected the run\.json of a run"):
        report.read(path)


def test_command_line():
    args = parser().parse_args(["--quick", "--only", "threads", "--peers", "numba"])
    assert (args.quick, args.only, args.peers, args.command) == (True, ["threads"], ["numba"], None)
    assert parser().parse_args(["compare", "a", "b"]).command == "compare"


def test_a_run_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "bench", "--quick", "--only", "gpu", "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=readme.ROOT)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["quick"]
    assert {m["question"] for m in run["measurements"]} == {"gpu"}
    page = (tmp_path / "out/report.md").read_text()
    assert page.startswith("# `python -m bench --quick --only gpu`\n")
    assert not any(str(folder) in page + json.dumps(run) for folder in (tmp_path, sys.prefix, readme.ROOT))


def test_the_table_names_modules_that_are_there():
    for module, _ in TABLE.values():
        assert (readme.ROOT / f"bench/contestants/{module}.py").exists()
