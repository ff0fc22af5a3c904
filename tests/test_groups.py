"""Groups that are added, counts of their own, and master weights."""

import copy
import pickle
import re

import ml_dtypes
import numpy as np
import pytest

import gradstep as gs
from table import IDS, ROWS, SHORT, dtype_of
from test_rules import same
from test_whole_step import randoms


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_add_group_is_as_if_it_had_been_there(rng, row):
    a, b = rng.normal(size=5), rng.normal(size=3)
    late, early = [a.copy(), b.copy()], [a.copy(), b.copy()]
    one = row.make([late[0]])
    two = row.make([{"params": [early[0]]}, {"params": {"b": early[1]}, "lr": 0.5}])
    for step in range(6):
        if step == 3:
            one.add_group({"params": {"b": late[1]}, "lr": 0.5})
        g, h = rng.normal(size=5), rng.normal(size=3)
        one.step([g] if step < 3 else [[g], {"b": h}])
        two.step([[g], {"b": h if step >= 3 else None}])
    for p, q in zip(late, early, strict=True):
        same(p, q)
    assert one.steps == two.steps == 6
    assert one._plan.counts == [6, 3]
    assert [g["lr"] for g in one.groups] == [g["lr"] for g in two.groups]


def test_add_group_refuses_and_changes_nothing():
    w = np.ones(3)
    opt = gs.Adam(w, lr=0.5)
    opt.step(np.ones(3))
    before = opt.state_dict()
    for group, error, words in [
        (np.ones(2), TypeError, 'group: expected a dict with the key "params", got ndarray'),
        ({"lr": 1.0}, TypeError, 'params[1]: expected a dict with the key "params"'),
        ({"params": w}, ValueError, "params[0] and params[1] share memory"),
        ({"params": np.ones(2, int)}, TypeError, "params[1]: expected one of"),
        ({"params": np.ones(2), "lr": -1.0}, ValueError, "params[1]['lr']: expected a finite number of at least 0"),
        ({"params": np.ones(2), "beta": 1.0}, TypeError, "params[1]: unknown hyperparameter 'beta'"),
        ({"params": []}, ValueError, "params[1]: expected at least one array"),
    ]:
        with pytest.raises(error, match=re.escape(words)):
            opt.add_group(group)
    after = opt.state_dict()
    assert after["params"] == before["params"]
    assert np.array_equal(after["state"]["exp_avg"], before["state"]["exp_avg"])
    opt.step(np.ones(3))
    assert opt.steps == 2


def test_what_there_was_before_a_group_was_added_lives_on():
    p = np.zeros(1)
    opt = gs.Adam(p, lr=0.1)
    opt.step(np.ones(1), clip_norm=9.0, health=True)
    group, average = opt.groups[0], opt.state["exp_avg"]
    opt.add_group({"params": np.zeros(1)})
    assert opt.grad_norm == 1.0
    assert np.shares_memory(opt.state["exp_avg"][0], average)
    group["lr"] = 0.25
    assert [g["lr"] for g in opt.groups] == [0.25, 0.1]
    assert opt.lr == 0.25
    with pytest.raises(ValueError, match=re.escape("params[0]['lr']: expected")):
        group["lr"] = -1.0


def test_new_groups_take_the_defaults_of_the_constructor():
    opt = gs.Adam(np.ones(2), lr=0.5, eps=1e-3)
    opt.lr = 0.25
    opt.add_group({"params": np.ones(1)})
    assert [(g["lr"], g["eps"]) for g in opt.groups] == [(0.25, 1e-3), (0.5, 1e-3)]
    assert opt.add_group({"params": np.ones(1), "lr": gs.schedules.constant(0.125)}) is None
    opt.step([np.ones(2), np.ones(1), None])
    assert opt.groups[2].at(0)["lr"] == 0.125


def test_sgd_without_a_buffer_can_get_a_group_with_one():
    a, b = np.ones(1), np.ones(1)
    opt = gs.SGD(a, lr=1.0)
    opt.step(np.ones(1))
    opt.add_group({"params": b, "momentum": 0.5})
    for _ in range(2):
        opt.step([np.ones(1), np.ones(1)])
    assert (a[0], b[0]) == (-2.0, 1 - 1 - 1.5)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_master_weights_are_those_of_a_float32_optimizer(rng, row, name):
    start = randoms(rng, 1500, name)
    short, wide = start.copy(), start.astype("f4")
    opt, plain = row.make([short], master_weights=True), row.make([wide])
    for _ in range(10):
        g = randoms(rng, 1500, name)
        opt.step([g])
        plain.step([g.astype("f4")])
    same(np.array(opt.state["master"][0]), wide)
    same(short, wide.astype(short.dtype))


def test_refresh_master():
    for name in SHORT:
        p = np.ones(3, dtype_of(name))
        opt = gs.SGD([p, np.ones(2)], lr=0.5, master_weights=True)
        assert opt.state["master"][1] is None
        p[...] = 4
        opt.refresh_master()
        assert opt.state["master"][0].tolist() == [4.0] * 3
        opt.step([np.ones(3, "f4"), None])
        assert p.astype("f4").tolist() == [3.5] * 3
    gs.SGD(np.ones(2)).refresh_master()
    with pytest.raises(TypeError, match="master_weights: expected True or False, got 1"):
        gs.SGD(np.ones(2), master_weights=1)


def test_formats_that_do_not_mix():
    for p, g in [
        ("f4", "f8"),
        ("f8", "f4"),
        ("f2", "f8"),
        ("f8", ml_dtypes.bfloat16),
        ("c8", "f4"),
        ("f4", "c8"),
        ("c8", "c16"),
    ]:
        params = np.ones(2, p)
        opt = gs.SGD(params)
        want = re.escape(f"grads: expected {np.dtype(p)} of shape (2,), got {np.dtype(g)} of shape (2,)")
        with pytest.raises(TypeError, match=want):
            opt.step(np.ones(2, g))
        assert (params == 1).all()


def test_complex_is_two_reals(rng):
    z = randoms(rng, (40, 30), "complex64")
    pairs = z.copy().view("f4")
    one, two = gs.AdamW(z), gs.AdamW(pairs)
    for _ in range(3):
        g = randoms(rng, (40, 30), "complex64")
        one.step(g, clip_norm=1.0)
        two.step(g.view("f4"), clip_norm=1.0)
        assert one.grad_norm == two.grad_norm
    same(z.view("f4"), pairs)


def test_a_parameter_made_read_only_later_is_not_written():
    p = np.ones(2)
    opt = gs.SGD([np.ones(1), p])
    p.flags.writeable = False
    with pytest.raises(ValueError, match=re.escape("params[1]: expected a writeable array, got a read-only one")):
        opt.step([np.ones(1), np.ones(2)])
    assert (p == 1).all()
    assert opt.steps == 0


def test_a_state_is_no_parameter():
    opt = gs.Adam({"W": np.ones(3)})
    with pytest.raises(ValueError, match=r"state\['exp_avg'\]\[0\]\['W'\] and params\[1\] share memory"):
        opt.add_group({"params": opt.state["exp_avg"]["W"]})
    opt.step({"W": np.ones(3)})


def test_a_group_is_not_copied():
    group = gs.SGD(np.ones(1), lr=0.5).groups[0]
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"dict\(group\) copies"):
            make(group)
    assert dict(group)["lr"] == 0.5
