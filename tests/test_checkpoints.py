"""Train 10 steps, save, load in a new process, train 10: the same bits as 20 steps."""

import copy
import itertools
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradstep as gs
from gradstep import checkpoint
from table import FORMATS, IDS, ROWS, SHORT
from test_rules import same
from test_whole_step import randoms

SCHEDULES = {
    "none": {},
    "lr": {"lr": gs.schedules.cosine(1e-2, steps=15, warmup=3)},
    "decay": {"weight_decay": gs.schedules.exponential(0.1, every=4)},
}


def grads_of(params, steps, name):
    rng = np.random.default_rng(7)
    return [
        {k: None if step == 3 and k == "b" else randoms(rng, p.shape, name) for k, p in params.items()}
        for step in range(steps)
    ]


def start(name):
    rng = np.random.default_rng(5)
    return {"a": randoms(rng, (30, 50), name), "b": randoms(rng, 7, name), "none": randoms(rng, 0, name)}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_resumes_to_the_same_bits(tmp_path, row, name, schedule):
    more = SCHEDULES[schedule] | ({"master_weights": True} if name in SHORT else {})
    whole, parted = start(name), start(name)
    grads = grads_of(whole, 20, name)
    opt = row.make(whole, **more)
    for g in grads:
        opt.step(g)
    first = row.make(parted, **more)
    for g in grads[:10]:
        first.step(g)
    first.save(tmp_path / "c.npz")
    second = row.make(parted, **more)
    second.load(tmp_path / "c.npz")
    assert (second.steps, second._plan.counts) == (10, [10, 9, 10])
    for g in grads[10:]:
        second.step(g)
    for k in whole:
        same(whole[k], parted[k])
        for mine, theirs in zip(opt.state.values(), second.state.values(), strict=True):
            if mine[k] is not None:
                same(np.array(mine[k]), np.array(theirs[k]))
    assert second.lr == opt.lr


S = gs.schedules
EVERY_SCHEDULE = {
    "constant": lambda: S.constant(0.1),
    "exponential": lambda: S.exponential(0.1, every=3),
    "step": lambda: S.step(0.1, every=4),
    "multi_step": lambda: S.multi_step(0.1, [3, 11]),
    "polynomial": lambda: S.polynomial(0.1, steps=15),
    "inverse_sqrt": lambda: S.inverse_sqrt(0.1, warmup=5),
    "cosine": lambda: S.cosine(0.1, steps=15, warmup=3),
    "cosine_restarts": lambda: S.cosine_restarts(0.1, first=4, factor=2),
    "one_cycle": lambda: S.one_cycle(0.1, steps=20),
    "warmup": lambda: S.warmup(S.exponential(0.1), steps=12),
    "join": lambda: S.join([S.constant(0.1), S.cosine(0.1, steps=8)], [9]),
    "ReduceOnPlateau": lambda: S.ReduceOnPlateau(0.1, patience=1),
}


def test_every_schedule_is_there():
    assert set(EVERY_SCHEDULE) == set(S.__all__)


@pytest.mark.parametrize("name", EVERY_SCHEDULE)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_schedule_resumes_to_the_same_bits(tmp_path, rng, name, dtype):
    whole = [randoms(rng, 50, dtype)]
    parted = [whole[0].copy()]
    grads = [[randoms(rng, 50, dtype)] for _ in range(20)]

    def train(params, steps, opt, schedule):
        for k in steps:
            opt.step(grads[k], nonfinite="skip")
            if hasattr(schedule, "report"):
                schedule.report(1.0 + k // 6)

    grads[4][0][7] = np.inf  # a skipped call counts for schedules
    one = EVERY_SCHEDULE[name]()
    train(whole, range(20), gs.AdamW(whole, lr=one, weight_decay=one), one)
    first = EVERY_SCHEDULE[name]()
    opt = gs.AdamW(parted, lr=first, weight_decay=first)
    train(parted, range(10), opt, first)
    opt.save(tmp_path / "c")
    second = EVERY_SCHEDULE[name]()
    if hasattr(first, "state_dict"):
        second.load_state_dict(first.state_dict())
    resumed = gs.AdamW(parted, lr=second, weight_decay=second)
    resumed.load(tmp_path / "c")
    assert (resumed.steps, resumed.skipped) == (9, 1)
    train(parted, range(10, 20), resumed, second)
    same(whole[0], parted[0])


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import test_checkpoints
test_checkpoints.half(sys.argv[2], int(sys.argv[3]))
"""


def combinations():
    return itertools.product(range(len(ROWS)), FORMATS, EVERY_SCHEDULE)


def half(folder, begin):
    """Train 10 steps of every combination, from where files in `folder` end if `begin` is not 0."""
    for index, name, schedule in combinations():
        path = Path(folder) / f"{index}-{name}-{schedule}"
        params, grads = course(name)
        lr = EVERY_SCHEDULE[schedule]()
        opt = ROWS[index].make(params, lr=lr, master_weights=True)
        if begin:
            kept = np.load(path.with_suffix(".npy")).view(params[0].dtype)
            params[0][...] = kept
            if hasattr(lr, "report"):
                lr.load_state_dict(json.loads(path.with_suffix(".json").read_text()))
            opt.load(path)
        train(opt, lr, grads[begin : begin + 10])
        np.save(path.with_suffix(".npy"), params[0].view(np.uint8))
        if hasattr(lr, "report"):
            path.with_suffix(".json").write_text(json.dumps(lr.state_dict()))
        opt.save(path)


def course(name):
    rng = np.random.default_rng(3)
    return [randoms(rng, 20, name)], [[randoms(rng, 20, name)] for _ in range(20)]


def train(opt, lr, grads):
    for g in grads:
        opt.step(g)
        if hasattr(lr, "report"):
            lr.report(1.0)


def test_every_rule_dtype_and_schedule_in_a_new_process(tmp_path):
    for begin in (0, 10):
        here = str(Path(__file__).parent)
        command = [sys.executable, "-W", "error", "-c", CHILD, here, str(tmp_path), str(begin)]
        subprocess.run(command, check=True)
    for index, name, schedule in combinations():
        params, grads = course(name)
        lr = EVERY_SCHEDULE[schedule]()
        train(ROWS[index].make(params, lr=lr, master_weights=True), lr, grads)
        resumed = np.load(tmp_path / f"{index}-{name}-{schedule}.npy").view(params[0].dtype)
        same(params[0], resumed)


def test_state_dict_is_plain_and_a_copy():
    opt = gs.AdamW({"a": np.ones(3, "f4")}, lr=0.25)
    opt.step({"a": np.ones(3, "f4")})
    saved = opt.state_dict()
    assert saved["groups"] == [
        {"lr": 0.25, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "maximize": False}
    ]
    assert json.loads(json.dumps({k: v for k, v in saved.items() if k != "state"}))
    kept = copy.deepcopy(saved)
    opt.step({"a": np.ones(3, "f4")})
    assert np.array_equal(saved["state"]["exp_avg"]["a"], kept["state"]["exp_avg"]["a"])
    opt.load_state_dict(pickle.loads(pickle.dumps(saved)))
    assert opt.steps == 1
    assert np.array_equal(opt.state["exp_avg"]["a"], kept["state"]["exp_avg"]["a"])


def test_arrays_stay_where_they_are():
    opt = gs.Adam([np.ones(3)])
    live = opt.state["exp_avg"][0]
    opt.load_state_dict({**opt.state_dict(), "steps": 5, "counts": [5]})
    assert np.shares_memory(opt.state["exp_avg"][0], live)
    assert opt.steps == 5


def test_hyperparameters_are_loaded_and_schedules_are_kept():
    a = gs.Adam(np.ones(1), lr=0.5, betas=(0.5, lambda n: 0.9), eps=1e-3)
    b = gs.Adam(np.ones(1), lr=lambda n: 0.125, betas=(0.1, 0.2))
    b.load_state_dict(a.state_dict())
    assert b.lr == 0.5
    assert b.groups[0]["betas"] == (0.5, 0.2)
    assert b.groups[0]["eps"] == 1e-3
    a.load_state_dict(gs.Adam(np.ones(1), lr=lambda n: 0.125).state_dict())
    assert a.lr == 0.5


def changed(**facts):
    return lambda saved: {**saved, **facts}


def with_state(name, value):
    return lambda saved: {**saved, "state": {**saved["state"], name: value}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda saved: None, "saved: expected what state_dict"),
        (lambda saved: [], "saved: expected what state_dict"),
        (lambda saved: {}, "saved: expected what state_dict"),
        (changed(version=2), "version: expected 1, got 2"),
        (changed(rule="sgd"), "rule: expected adam, got 'sgd'"),
        (changed(rule=None), "rule: "),
        (changed(params=[]), "params: expected 2 arrays, got 0"),
        (changed(params=[["['a']", "float32", [4]], ["['b']", "float32", [2]]]), "params['a']: expected float32 of shape (3,), got params['a'], float32 of shape (4,)"),
        (changed(params=[["['c']", "float32", [3]], ["['b']", "float32", [2]]]), "params['a']: expected float32 of shape (3,), got params['c']"),
        (changed(params=[["['a']", "float64", [3]], ["['b']", "float32", [2]]]), "got params['a'], float64 of shape (3,)"),
        (changed(params=[1, 2]), "params['a']: expected"),
        (changed(steps=-1), "steps: expected a count, got -1"),
        (changed(steps=1 << 70), "steps: "),
        (changed(skipped=1.5), "skipped: "),
        (changed(counts=[1]), "counts: expected 2 numbers"),
        (changed(counts=[1, -1]), "counts[1]: "),
        (changed(groups=[]), "groups: expected 1"),
        (changed(groups=[{"lr": 1.0}]), "groups[0]: expected lr, betas"),
        (changed(groups=[{"lr": -1.0, "betas": [0.9, 0.9], "eps": 0, "weight_decay": 0, "maximize": False}]), "groups[0]: lr: expected"),
        (changed(groups=[{"lr": 1.0, "betas": 0.9, "eps": 0, "weight_decay": 0, "maximize": False}]), "groups[0]['betas']: expected 2 numbers"),
        (changed(state={}), "state: expected exp_avg, exp_avg_sq, got none"),
        (with_state("exp_avg", {"a": np.zeros(3, "f4")}), "saved['state']['exp_avg']"),
        (with_state("exp_avg", {"a": np.zeros(4, "f4"), "b": np.zeros(2, "f4")}), "state['exp_avg']['a']: expected float32 of shape (3,), got float32 of shape (4,)"),
        (with_state("exp_avg", {"a": np.zeros(3), "b": np.zeros(2, "f4")}), "got float64 of shape (3,)"),
        (with_state("exp_avg", {"a": np.ma.zeros(3, "f4"), "b": np.zeros(2, "f4")}), "state['exp_avg']['a']: expected float32 of shape (3,), got a masked array"),
        (with_state("exp_avg", {"a": [0.0, 0.0, 0.0], "b": np.zeros(2, "f4")}), "got [0.0, 0.0, 0.0]"),
        (with_state("exp_avg", {"a": "text", "b": np.zeros(2, "f4")}), "state['exp_avg']['a']"),
        (with_state("exp_avg", {"a": None, "b": np.zeros(2, "f4")}), "state['exp_avg']['a']: expected an array"),
    ],
)  # fmt: skip
def test_what_does_not_fit_changes_nothing(change, words):
    params = {"a": np.ones(3, "f4"), "b": np.ones(2, "f4")}
    opt = gs.Adam(params)
    opt.step({k: np.ones_like(p) for k, p in params.items()})
    before = opt.state_dict()
    with pytest.raises(ValueError, match=re.escape(words)):
        opt.load_state_dict(change(opt.state_dict()))
    after = opt.state_dict()
    assert after.pop("state").keys() == before["state"].keys()
    for name, arrays in opt.state.items():
        for k, array in arrays.items():
            same(array, before["state"][name][k])
    before.pop("state")
    assert after == before


@pytest.mark.parametrize("make", [gs.SGD, gs.AdamW, gs.Momentum], ids=["SGD", "AdamW", "Momentum"])
def test_files_of_others(tmp_path, make):
    path = tmp_path / "c.npz"
    opt = gs.Adam([np.ones(3)])
    opt.step([np.ones(3)])
    opt.save(path)
    with pytest.raises(ValueError, match=r"c\.npz.*rule: expected"):
        make([np.ones(3)]).load(path)
    with pytest.raises(ValueError, match=r"c\.npz.*params"):
        gs.Adam([np.ones(4)]).load(path)
    with pytest.raises(ValueError, match=r"c\.npz.*params"):
        gs.Adam({"a": np.ones(3)}).load(path)
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match=r"c\.npz"):
        opt.load(path)
    with pytest.raises(OSError, match="missing"):
        opt.load(tmp_path / "missing")
    assert opt.steps == 1


def test_files_that_were_written_by_hand(tmp_path):
    path = tmp_path / "c.npz"
    opt = gs.Adam([np.ones(3)])
    opt.step([np.ones(3)])
    opt.save(path)
    facts, arrays = checkpoint.read(path)
    assert set(arrays) == {"exp_avg/0", "exp_avg_sq/0"}
    for more in ({"exp_avg/1": np.ones(3)}, {"exp_avg/x": np.ones(3)}, {"exp_avg/00": np.ones(3)}, {"": np.ones(1)}):
        checkpoint.write(path, facts, {**arrays, **more})
        with pytest.raises(ValueError, match=r"c\.npz"):
            opt.load(path)
    for wrong in ({"rule": "sgd"}, {"groups": 3}, {"counts": "1"}, {"params": {"a": 1}}, {"version": 2}):
        checkpoint.write(path, {**facts, **wrong}, arrays)
        with pytest.raises(ValueError, match=r"c\.npz"):
            opt.load(path)
    checkpoint.write(path, {}, {})
    with pytest.raises(ValueError, match=r"c\.npz"):
        opt.load(path)


def test_fuzzed_files_leave_the_optimizer_alone(tmp_path, rng):
    path = tmp_path / "c.npz"
    params = [np.ones(3, "f4"), np.ones((2, 2), "f4")]
    opt = gs.AdamW(params)
    opt.step([np.ones(3, "f4"), None])
    opt.save(path)
    whole = path.read_bytes()
    before = opt.state_dict()
    loaded, complaints = 0, []
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            kind, at = rng.integers(3), int(rng.integers(len(data)))
            if kind == 0:
                data[at] = rng.integers(256)
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 40))]
            else:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(data)
        try:
            opt.load(path)
            loaded += 1
        except (ValueError, OSError) as e:
            complaints.append(str(e))
        after = opt.state_dict()
        assert {k: v for k, v in after.items() if k != "state"} == {k: v for k, v in before.items() if k != "state"}
        assert all(
            np.array_equal(a, b)
            for n in after["state"]
            for a, b in zip(after["state"][n], before["state"][n], strict=True)
        )
    assert loaded < 300
    assert all("c.npz" in words for words in complaints)


def test_save_to_nowhere(tmp_path):
    opt = gs.Adam(np.ones(2))
    for path in (tmp_path, tmp_path / "no" / "where.npz"):
        with pytest.raises(OSError, match=tmp_path.name):
            opt.save(path)
    for path in (3, None):
        with pytest.raises(TypeError):
            opt.save(path)


def test_memory():
    params = {"a": np.ones((10, 3), "f2"), "b": np.ones(5), "c": np.ones(2, "c8")}
    for row in ROWS:
        for master in (False, True):
            opt = row.make(params, master_weights=master)
            assert gs.memory(params, row.cls, master_weights=master, **row.hypers) == opt.nbytes
            assert gs.memory(params, row.cls.rule, master_weights=master, **row.hypers) == opt.nbytes
    assert gs.memory(params, gs.SGD) == gs.SGD(params).nbytes == 0
    with pytest.raises(TypeError, match="beta: Adam has lr, "):
        gs.memory(params, "adam", beta=0.5)
    assert gs.memory(params, "adam") == 2 * (30 * 4 + 5 * 8 + 2 * 8)
    assert gs.memory(np.broadcast_to(np.float32(0), (10**6, 10**6)), "adam") == 8 * 10**12
    for rule, error in [("nothing", ValueError), (3, TypeError), (np.zeros, TypeError), ("average", ValueError)]:
        with pytest.raises(error, match="rule: "):
            gs.memory(params, rule)
    with pytest.raises(TypeError, match="params"):
        gs.memory([np.ones(2, int)], "adam")


def test_momentum_that_was_set_to_zero():
    opt = gs.SGD(np.ones(2), momentum=0.5)
    opt.step(np.ones(2))
    opt.groups[0]["momentum"] = 0.0
    saved = opt.state_dict()
    assert saved["rule"] == "sgd"
    opt.groups[0]["momentum"] = 0.25
    opt.load_state_dict(saved)
    assert opt.groups[0]["momentum"] == 0.0
    assert opt.state["momentum_buffer"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("hypers", "error", "words"),
    [
        ({"lr": -1}, ValueError, "lr: expected"),
        ({"momentum": "x"}, TypeError, "momentum: expected"),
        ({"nesterov": True}, ValueError, "nesterov: expected momentum above 0"),
    ],
)
def test_memory_refuses_what_the_optimizer_would(hypers, error, words):
    with pytest.raises(error, match=words):
        gs.memory(np.zeros(3), "sgd", **hypers)
