"""Every rule equals the specification bit for bit, over the whole matrix."""

import functools

import numpy as np
import pytest

import gradstep as gs
import reference
from gradstep import _cpu
from table import DTYPES, IDS, ISAS, LAYERS, ROWS, THREADS

TILE = _cpu.tile_elements
SIZES = [0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 1009]
SIZES += [TILE - 1, TILE + 1, 3 * TILE, 3 * TILE + 1, 16 * TILE - 1, 16 * TILE + 17, 65537]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-42, 1e-310, 3e38, 1e-20]
STEPS = 20


def bits(array):
    """Bytes of an array, all NaN made alike: their payload is not specified."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def same(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert bits(a) == bits(b)


def start(sizes, dtype, rng):
    with np.errstate(over="ignore", under="ignore"):
        return [rng.normal(size=n).astype(dtype) for n in sizes]


@functools.lru_cache(maxsize=2)
def gradients(sizes, dtype, special):
    rng = np.random.default_rng(1)
    steps = []
    for step in range(STEPS):
        grads = start(sizes, dtype, rng)
        for g in grads if special and step % 5 == 2 else []:
            with np.errstate(over="ignore", under="ignore"):
                values = np.array(SPECIAL).astype(dtype)
            g[: 3 * len(values) : 3] = values[: len(g[: 3 * len(values) : 3])]
        steps.append(grads)
    return steps


def specified(row, arrays, all_grads):
    """Run the specification on its own copies; return parameters and states."""
    hypers = dict(row.make([np.zeros(1)]).groups[0])
    params = [p.copy() for p in arrays]
    states = [[np.zeros_like(p) for _ in range(row.states)] for p in params]
    with np.errstate(all="ignore"):
        for t, grads in enumerate(all_grads, 1):
            for p, g, s in zip(params, grads, states, strict=True):
                row.reference(p, g, *s, t=t, h=hypers)
    return params, states


@functools.lru_cache(maxsize=4)
def expected(index, dtype, sizes, special):
    arrays = start(sizes, dtype, np.random.default_rng(0))
    return arrays, *specified(ROWS[index], arrays, gradients(sizes, dtype, special))


def compare(index, dtype, sizes, special=False):
    arrays, params, states = expected(index, dtype, tuple(sizes), special)
    mine = [p.copy() for p in arrays]
    opt = ROWS[index].make(mine)
    for grads in gradients(tuple(sizes), dtype, special):
        opt.step(grads)
    assert opt.steps == STEPS
    for i, p in enumerate(mine):
        same(p, params[i])
        for k, state in enumerate(opt.state.values()):
            same(state[i], states[i][k])


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
class TestBits:
    def test_sizes(self, engine, index, dtype, isa, layer, threads):
        engine(isa=isa, layer=layer, threads=threads)
        compare(index, dtype, SIZES)

    def test_special_values(self, engine, index, dtype, isa, layer, threads):
        engine(isa=isa, layer=layer, threads=threads, part_tiles=1)
        compare(index, dtype, [TILE + 3, 40], special=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_a_million_and_three(engine, index, dtype, isa):
    for layer in LAYERS:
        for threads in THREADS:
            engine(isa=isa, layer=layer, threads=threads, part_tiles=32, thread_elements=1 << 16)
            compare(index, dtype, [10**6 + 3])


def test_gradient_descent_number():
    x = np.array([10.0])
    opt = gs.GradientDescent(x, lr=0.1)
    for _ in range(100):
        opt.step(2 * x)
    assert x[0] == pytest.approx(10 * 0.8**100, rel=1e-12)


def test_momentum_number():
    x, theta, v = np.array([10.0]), 10.0, 0.0
    opt = gs.Momentum(x, lr=0.1, momentum=0.9)
    for _ in range(100):
        opt.step(2 * x)
        v = 0.9 * v - 0.1 * (2 * theta)
        theta += v
    assert x[0] == theta


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_converges_on_a_quadratic(row):
    x = np.array([10.0, -3.0])
    opt = row.make(x, **row.quadratic)
    for _ in range(2000):
        opt.step(2 * x)
    assert np.abs(x).max() < 1e-3


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_converges_on_rosenbrock(row):
    x = np.array([-1.2, 1.0])
    opt = row.make(x, **row.rosenbrock)
    for _ in range(20_000):
        a, b = x
        opt.step(np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)]))
    assert (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 < 0.1


def test_an_array_counts_its_own_steps(rng):
    arrays = [rng.normal(size=5), rng.normal(size=5)]
    late = arrays[1].copy()
    opt, alone = gs.Adam(arrays), gs.Adam(late)
    for step in range(6):
        g = rng.normal(size=5)
        opt.step([g, g if step % 2 else None])
        if step % 2:
            alone.step(g)
        else:
            before = arrays[1].copy()
            same(arrays[1], before)
    same(arrays[1], late)
    assert opt.steps == 6


def test_a_schedule_is_asked_once_a_call_with_the_calls_made_before():
    asked = []

    def lr(calls):
        asked.append(calls)
        return 0.5 if calls < 2 else 0.25

    x = np.array([1.0])
    opt = gs.SGD(x, lr=lr)
    for _ in range(3):
        opt.step(np.array([1.0]))
    assert asked == [0, 1, 2]
    assert x[0] == -0.25
    assert opt.lr == 0.25


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_without_momentum_leaves_the_buffer(engine, nesterov):
    for isa in ISAS:
        engine(isa=isa)
        p, expected, buffer = np.ones(70), np.ones(70), np.zeros(70)
        opt = gs.SGD(p, lr=0.5, momentum=[0.9, 0.0, 0.9].__getitem__, nesterov=nesterov)
        for t, momentum in enumerate([0.9, 0.0, 0.9], 1):
            g = np.full(70, float(t))
            hypers = {"lr": 0.5, "momentum": momentum, "dampening": 0.0, "nesterov": nesterov, "weight_decay": 0.0}
            reference.sgd(expected, g, buffer, t=t, h={**hypers, "maximize": False})
            before = opt.state["momentum_buffer"].copy()
            opt.step(g)
            same(p, expected)
            same(opt.state["momentum_buffer"], buffer)
            assert momentum or np.array_equal(before, buffer)


def test_groups_have_their_own_hyperparameters():
    a, b = np.ones(2), np.ones(3)
    opt = gs.SGD([{"params": a}, {"params": {"b": b}, "lr": 0.5, "maximize": True}], lr=0.25)
    opt.step([np.ones(2), {"b": np.ones(3)}])
    assert a.tolist() == [0.75, 0.75]
    assert b.tolist() == [1.5] * 3
    opt.groups[0]["lr"] = 1.0
    opt.step([{"params": np.ones(2)}, {"b": None}])
    assert a.tolist() == [-0.25, -0.25]
    opt.lr = 0.125
    assert [group["lr"] for group in opt.groups] == [0.125, 0.125]


def test_float32_and_float64_side_by_side():
    a, b = np.ones(3, np.float32), np.ones(3)
    gs.SGD([a, b], lr=0.5).step([np.ones(3, np.float32), np.ones(3)])
    assert a.tolist() == b.tolist() == [0.5] * 3


def test_denormals_are_kept_whatever_another_library_set(engine):
    torch = pytest.importorskip("torch")
    tiny = np.full(50_000, 1e-40, np.float32)
    for layer in LAYERS:
        engine(layer=layer, threads=2)
        p = np.zeros_like(tiny)
        torch.set_flush_denormal(True)
        try:
            gs.GradientDescent(p, lr=0.5).step(tiny)
        finally:
            torch.set_flush_denormal(False)
        same(p, np.float32(0) - np.float32(0.5) * tiny)
