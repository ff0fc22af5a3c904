"""Bad input: the error names the argument, what was expected and what came, and nothing has changed."""

import copy
import pickle
import re
from collections import OrderedDict, defaultdict
from functools import partial
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

import gradstep as gs
from gradstep import _cpu


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


def readonly(a):
    a = a.copy()
    a.flags.writeable = False
    return a


W = np.zeros((64, 10), np.float32)
FORMATS = "expected one of float32, float64, bfloat16, float16, complex64, complex128"
BAD_ARRAYS = [
    (W.astype(np.int64), TypeError, FORMATS + ", got int64 of shape (64, 10)"),
    (W.astype(object), TypeError, "got object of shape"),
    (W.astype(bool), TypeError, "got bool of shape"),
    (W.astype(">f2"), TypeError, "got >f2 of shape"),
    (W.astype(np.longdouble), TypeError, FORMATS + ", got"),
    (swapped(W), TypeError, FORMATS + ", got >f4 of shape"),
    (np.ma.masked_array(W), TypeError, "expected a plain NumPy array, got a masked one"),
    (unaligned(W), ValueError, "expected an aligned array, got float32 of shape (64, 10), not aligned"),
    ([[0.0] * 10] * 64, TypeError, "expected a NumPy array, got list"),
    ("W", TypeError, "expected a NumPy array, got str"),
    (1.5, TypeError, "expected a NumPy array, got float"),
    (np.zeros(3, [("x", "f4")]), TypeError, FORMATS + ", got"),
]


@pytest.mark.parametrize(("bad", "error", "words"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_bad_parameters(bad, error, words):
    with pytest.raises(error, match=re.escape("params['W1']: ")) as e:
        gs.Adam({"W0": W.copy(), "W1": bad})
    assert words in str(e.value)


@pytest.mark.parametrize(("bad", "error", "words"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_bad_gradients(bad, error, words):
    unchanged(lambda opt: opt.step({"W0": np.ones_like(W), "W1": bad}), error, "grads['W1']: ", words)


def unchanged(call, error, *words):
    params = {"W0": W.copy(), "W1": W.copy()}
    opt = gs.AdamW(params)
    opt.step({name: np.ones_like(W) for name in params})
    before = {name: p.tobytes() for name, p in params.items()}
    states = {name: s["W0"].tobytes() for name, s in opt.state.items()}
    with pytest.raises(error) as e:
        call(opt)
    assert all(w in str(e.value) for w in words), str(e.value)
    assert {name: p.tobytes() for name, p in params.items()} == before
    assert {name: s["W0"].tobytes() for name, s in opt.state.items()} == states
    assert opt.steps == 1
    assert opt._plan.counts == [1, 1]


g = np.ones_like(W)
BAD_GRADS = [
    ({"W0": g, "W1": g.T}, ValueError, "grads['W1']: expected float32 of shape (64, 10), got float32 of shape (10, 64)"),
    ({"W0": g, "W1": g.astype("f8")}, TypeError, "grads['W1']: expected float32 of shape (64, 10), got float64 of shape (64, 10)"),
    ({"W0": g, "W1": g[:, :1]}, ValueError, "got float32 of shape (64, 1)"),
    ({"W0": g, "W1": np.float32(1)}, ValueError, "got float32 of shape ()"),
    ({"W0": g}, ValueError, "grads: expected the keys of params, missing 'W1'"),
    ({"W0": g, "W1": g, "b": g}, ValueError, "grads: expected the keys of params, got unknown 'b'"),
    ({"W0": g, "b": g}, ValueError, "missing 'W1', got unknown 'b'"),
    ([g, g], TypeError, "grads: expected a mapping of 2 arrays, got list"),
    (g, TypeError, "grads: expected a mapping of 2 arrays, got ndarray"),
    (None, TypeError, "grads: expected a mapping of 2 arrays, got NoneType"),
    ({}, ValueError, "missing 'W0', 'W1'"),
]  # fmt: skip


@pytest.mark.parametrize(("grads", "error", "words"), BAD_GRADS, ids=range(len(BAD_GRADS)))
def test_gradients_that_do_not_match(grads, error, words):
    unchanged(lambda opt: opt.step(grads), error, words)


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType, partial(defaultdict, lambda: g)])
@pytest.mark.parametrize("names", [("W0",), ("W0", "W1")])
def test_mappings(kind, names):
    opt = gs.SGD({name: np.zeros_like(W) for name in names})
    opt.step(kind(dict.fromkeys(reversed(names), g)))
    with pytest.raises(ValueError, match=f"grads: expected the keys of params, missing {names[0]!r}, got unknown 'b'"):
        opt.step(kind({**dict.fromkeys(names[1:], g), "b": g}))
    assert opt.steps == 1


def test_sequences():
    opt = gs.SGD([np.ones(2), np.ones(3)])
    for grads, error, words in [
        ([np.ones(2)], ValueError, "grads: expected 2 arrays, got 1"),
        ([np.ones(2)] * 3, ValueError, "grads: expected 2 arrays, got 3"),
        (np.ones((2, 2)), TypeError, "grads: expected a sequence of 2 arrays, got ndarray"),
        ({0: np.ones(2), 1: np.ones(3)}, TypeError, "grads: expected a sequence of 2 arrays, got dict"),
        ("ab", TypeError, "got str"),
        (
            [np.ones(2), np.ones(2)],
            ValueError,
            "grads[1]: expected float64 of shape (3,), got float64 of shape (2,)",
        ),
    ]:
        with pytest.raises(error, match=re.escape(words)):
            opt.step(grads)
    assert opt.steps == 0
    opt.step((np.ones(2), None))
    assert opt.steps == 1


@pytest.mark.parametrize("params", [[], {}, (), [[]], [{"params": []}]])
def test_nothing_to_update(params):
    with pytest.raises((ValueError, TypeError), match="params"):
        gs.SGD(params)


@pytest.mark.parametrize("params", [None, 3, "abc", {1.5}, (x for x in [W]), SimpleNamespace()])
def test_wrong_containers(params):
    with pytest.raises(TypeError, match=r"params.*: expected an? (NumPy )?array"):
        gs.SGD(params)


def test_groups():
    for params, error, words in [
        ([{"lr": 1.0}], TypeError, 'params[0]: expected a dict with the key "params"'),
        ([{"params": np.ones(1)}, np.ones(1)], TypeError, "params[1]: expected a dict"),
        ([{"params": np.ones(1), "beta": 1.0}], TypeError, "params[0]: unknown hyperparameter 'beta'"),
        (
            [{"params": np.ones(1), "lr": -1.0}],
            ValueError,
            "params[0]['lr']: expected a finite number of at least 0, got -1.0",
        ),
        ([{"params": [np.ones(1), np.ones(1, int)]}], TypeError, "params[0][1]: " + FORMATS),
    ]:
        with pytest.raises(error, match=re.escape(words)):
            gs.SGD(params)
    opt = gs.SGD([{"params": np.ones(1)}, {"params": [np.ones(1)]}])
    with pytest.raises(ValueError, match=re.escape("grads: expected 2 containers, one a group, got 1")):
        opt.step([np.ones(1)])
    with pytest.raises(TypeError, match=re.escape("grads[1]: expected a sequence of 1 arrays, got ndarray")):
        opt.step([np.ones(1), np.ones(1)])


def test_readonly_parameters():
    with pytest.raises(ValueError, match=re.escape("params[0]: expected a writeable array, got a read-only one")):
        gs.SGD([readonly(W)])
    gs.SGD([W.copy()]).step([readonly(W)])


def test_shared_memory():
    base = np.zeros((40, 40))
    flat = np.zeros(100, np.float32)
    for params in [
        [base, base],
        [base, base[3]],
        [base[:, :11], base[:, 10:]],
        [base[::2], base[:, ::2]],
        [flat[:10], flat[9:]],
        [flat, flat[::-1]],
        [np.lib.stride_tricks.as_strided(flat, (5, 5), (4, 4))],
        [np.lib.stride_tricks.as_strided(flat, (5, 5), (0, 4))],
        [flat, flat[:50].view(np.float64)],
    ]:
        with pytest.raises(ValueError, match=r"params.* share memory"):
            gs.SGD(params)
    for params in [
        [base[:, :10], base[:, 10:]],
        [base[::2], base[1::2]],
        [base[:, i] for i in range(40)],
        [flat[:10], flat[10:]],
        [np.lib.stride_tricks.as_strided(flat, (5, 3), (8, 40))],
        [base[:0], base],
    ]:
        gs.SGD(params)


def test_many_views_of_one_matrix_are_checked_quickly():
    base = np.zeros((200, 3000), np.float32)
    gs.SGD([base[:, i] for i in range(3000)])


BAD_HYPERS = [
    (gs.SGD, {"lr": -0.1}, ValueError, "lr: expected a finite number of at least 0, got -0.1"),
    (gs.SGD, {"lr": float("nan")}, ValueError, "lr: expected a finite number of at least 0, got nan"),
    (gs.SGD, {"lr": float("inf")}, ValueError, "lr: "),
    (gs.SGD, {"lr": "0.1"}, TypeError, "lr: expected a finite number of at least 0, got '0.1'"),
    (gs.SGD, {"lr": True}, TypeError, "lr: "),
    (gs.SGD, {"lr": None}, TypeError, "lr: "),
    (gs.SGD, {"lr": 1j}, TypeError, "lr: "),
    (gs.SGD, {"lr": np.ones(2)}, TypeError, "lr: "),
    (gs.SGD, {"momentum": -1.0}, ValueError, "momentum: "),
    (gs.SGD, {"lr": gs.schedules.exponential}, TypeError, "lr: expected a finite number of at least 0, got <class"),
    (gs.SGD, {"nesterov": True}, ValueError, "nesterov: expected momentum above 0"),
    (gs.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "nesterov: "),
    (gs.SGD, {"nesterov": 1}, TypeError, "nesterov: expected True or False, got 1"),
    (gs.SGD, {"weight_decay": -1}, ValueError, "weight_decay: "),
    (gs.Adam, {"betas": 0.9}, TypeError, "betas: expected two numbers, got 0.9"),
    (gs.Adam, {"betas": (0.9,)}, TypeError, "betas: "),
    (gs.Adam, {"betas": (0.9, 1.0)}, ValueError, "betas[1]: expected a number from 0 up to, but not, 1, got 1.0"),
    (gs.Adam, {"betas": (float("nan"), 0.9)}, ValueError, "betas[0]: "),
    (gs.Adam, {"eps": -1e-8}, ValueError, "eps: "),
    (gs.Adam, {"maximize": "no"}, TypeError, "maximize: "),
    (gs.Adam, {"lr": lambda calls: -1.0}, ValueError, "lr: expected a finite number of at least 0, the schedule returned for call 0: -1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "hypers", "error", "words"), BAD_HYPERS, ids=range(len(BAD_HYPERS)))
def test_bad_hyperparameters(cls, hypers, error, words):
    def use():
        opt = cls(np.ones(2), **hypers)
        opt.step(np.ones(2))

    with pytest.raises(error, match=re.escape(words)):
        use()


def test_what_schedules_of_a_group_return_is_told_by_its_name():
    a, b = np.ones(1), np.ones(1)
    bad = {"params": b, "betas": (0.5, lambda calls: calls / 2)}
    opt = gs.Adam([{"params": a, "lr": lambda calls: 0.5}, bad], lr=0.25)
    opt.step([a.copy(), b.copy()])
    opt.step([a.copy(), b.copy()])
    before = a.copy(), b.copy()
    words = "params[1]['betas'][1]: expected a number from 0 up to, but not, 1, the schedule returned for call 2: 1.0"
    with pytest.raises(ValueError, match=re.escape(words)):
        opt.step([a.copy(), b.copy()])
    assert (a, b) == before
    assert opt.groups[1].at(1) == {**opt.groups[1], "betas": (0.5, 0.5)}


def test_hyperparameters_that_do_not_go_together_in_a_group():
    a, b = np.ones(1), np.ones(1)
    with pytest.raises(ValueError, match=re.escape("params[1]['nesterov']: expected momentum above 0")):
        gs.SGD([{"params": a}, {"params": b, "nesterov": True}])
    opt = gs.SGD([{"params": a}, {"params": b}])
    with pytest.raises(ValueError, match=re.escape("params[1]['momentum']: expected 0, since")):
        opt.groups[1]["momentum"] = 0.9
    damped = gs.SGD(b, momentum=0.5, dampening=lambda calls: float(calls), nesterov=True)
    damped.step(np.ones(1))
    with pytest.raises(ValueError, match=r"nesterov: expected .* no dampening, got momentum=0.5, dampening=1.0"):
        damped.step(np.ones(1))
    before = b.copy()
    with pytest.raises(ValueError, match="nesterov: expected momentum above 0"):
        damped.groups[0]["momentum"] = 0.0
    assert b == before
    assert damped.steps == 1


def test_hyperparameters_set_later_are_checked():
    opt = gs.SGD(np.ones(1), lr=0.5)
    for set_, error in [
        (lambda: setattr(opt, "lr", -1), ValueError),
        (lambda: opt.groups[0].__setitem__("lr", float("nan")), ValueError),
        (lambda: opt.groups[0].__setitem__("rate", 1.0), KeyError),
        (lambda: opt.groups[0].__setitem__("momentum", 0.9), ValueError),
        (lambda: opt.groups[0].__delitem__("lr"), TypeError),
    ]:
        with pytest.raises(error):
            set_()
    assert dict(opt.groups[0]) == dict(gs.SGD(np.ones(1), lr=0.5).groups[0])


def test_a_schedule_that_fails_changes_nothing():
    calls = []

    def lr(n):
        calls.append(n)
        if len(calls) == 2:
            raise RuntimeError("no rate today")
        return float("nan") if len(calls) == 3 else 1.0

    x = np.zeros(1)
    opt = gs.Adam(x, lr=lr)
    opt.step(np.ones(1))
    before = x.copy()
    with pytest.raises(RuntimeError, match="no rate today"):
        opt.step(np.ones(1))
    with pytest.raises(ValueError, match="lr"):
        opt.step(np.ones(1))
    assert x == before
    assert opt.steps == 1
    opt.step(np.ones(1))
    assert calls == [0, 1, 1, 1]


def test_numbers_of_every_kind():
    for lr in (1, np.float32(0.5), np.int64(1), np.array(0.5), 0):
        gs.SGD(np.ones(1), lr=lr)
    gs.Adam(np.ones(1), betas=[np.float64(0.9), lambda calls: 0.99]).step(np.ones(1))


def test_states_are_read_only_as_a_mapping():
    opt = gs.Adam({"a": np.ones(1)})
    assert set(opt.state) == {"exp_avg", "exp_avg_sq"}
    assert set(opt.state["exp_avg"]) == {"a"}
    with pytest.raises(TypeError):
        opt.state["exp_avg"] = 1


def test_copies_are_refused():
    opt = gs.Adam(np.ones(1))
    for make in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="holds references"):
            make(opt)


def test_set_num_threads():
    for n, error in [
        (0, ValueError),
        (-1, ValueError),
        (10**6, ValueError),
        (1.5, TypeError),
        (True, TypeError),
    ]:
        with pytest.raises(error, match="n: expected"):
            gs.set_num_threads(n)


def test_a_plan_checks_what_it_is_given():
    a = np.ones(2)
    for args in [
        ("nothing", (a,), (), (None,), [0], ("",), ["p", "g"]),
        ("sgd", (a,), (), (None,), [0], ("",), ["p", "g"]),
        ("gradient_descent", (a,), (), (None,), [], ("",), ["p", "g"]),
        ("gradient_descent", (a,), (), (), [0], ("",), ["p", "g"]),
        ("gradient_descent", (a,), (), (None,), [-1], ("",), ["p", "g"]),
        ("gradient_descent", (a,), (), (np.ones(2, np.float32),), [0], ("",), ["p", "g"]),
        ("momentum", (a,), ((np.ones(3),),), (None,), [0], ("",), ["p", "g", "v"]),
        ("momentum", (a,), ((),), (None,), [0], ("",), ["p", "g", "v"]),
        ("momentum", (a,), ((np.ones(2),),), (None,), [0], ("",), ["p", "g"]),
    ]:
        with pytest.raises(ValueError):  # noqa: PT011
            _cpu.Plan(*args)
