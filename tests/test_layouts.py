"""Arrays of any memory layout: C, Fortran, strided, reversed, transposed, broadcast, 0-d and empty."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradstep as gs
from table import DTYPES, IDS, ISAS, ROWS, TEAMS
from test_rules import same, specified


def check(row, p, grads, want=None):
    """Step `p` in place through all gradients, and compare with the specification on dense copies."""
    want, states = want or specified(row, [p.copy()], [[np.array(g)] for g in grads])
    opt = row.make(p)
    for g in grads:
        opt.step(g)
    same(p.copy(), want[0])
    for mine, state in zip(opt.state.values(), states[0], strict=True):
        same(mine.copy(), state)


@functools.cache
def course(index, dtype, shape):
    """Return a parameter, 20 gradients, and what the specification makes of them."""
    rng = np.random.default_rng(len(shape))
    p, *grads = (rng.normal(size=shape).astype(dtype) for _ in range(21))
    return p, grads, specified(ROWS[index], [p], [[g] for g in grads])


LAYOUTS = {
    "c": lambda a: a.copy(),
    "f": lambda a: np.asfortranarray(a),
    "columns": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a.copy(),
    "rows": lambda a: np.repeat(a, 2, axis=0)[::2],
    "wide": lambda a: np.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1],
    "field": lambda a: _field(a),
    "moved": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
}
SHAPES = [(7,), (1500,), (33, 65), (70, 3), (3, 70), (1, 50), (50, 1), (5, 17, 9), (2, 3, 4, 67), (130, 129)]


def _field(a):
    records = np.zeros(a.shape, [("x", a.dtype), ("y", a.dtype)])
    records["x"] = a
    return records["x"]


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("g_layout", LAYOUTS)
@pytest.mark.parametrize("p_layout", LAYOUTS)
def test_layouts(engine, index, dtype, p_layout, g_layout):
    for shape in SHAPES:
        start, grads, want = course(index, dtype, shape)
        grads = [LAYOUTS[g_layout](g) for g in grads]
        for isa, (layer, threads) in itertools.product(ISAS, TEAMS):
            engine(isa=isa, layer=layer, threads=threads, part_tiles=1)
            check(ROWS[index], LAYOUTS[p_layout](start.copy()), grads, want)


@pytest.mark.parametrize("isa", ISAS)
def test_the_everyday_transpose(rng, engine, isa):
    X, dY = rng.normal(size=(128, 300)).astype("f4"), rng.normal(size=(128, 200)).astype("f4")
    W = rng.normal(size=(300, 200)).astype("f4")
    for layer, threads in TEAMS:
        engine(isa=isa, layer=layer, threads=threads, part_tiles=2)
        for row in ROWS:
            check(row, W.copy(), [(dY.T @ X).T, X.T @ dY])


def test_a_view_leaves_the_rest_of_its_base(rng):
    base = rng.normal(size=(40, 25))
    before = base.copy()
    opt = gs.AdamW([base[:, :10], base[:, 10:12]])
    opt.step([np.ones((40, 10)), np.ones((40, 2))])
    same(base[:, 12:].copy(), before[:, 12:].copy())
    assert (base[:, :12] != before[:, :12]).all()


def test_broadcast_and_scalar_gradients():
    p = np.zeros((30, 40))
    gs.SGD(p, lr=1.0).step(np.broadcast_to(np.arange(40.0), (30, 40)))
    assert (p == -np.arange(40.0)).all()
    x = np.array(1.0, np.float32)
    opt = gs.SGD(x, lr=0.5)
    opt.step(np.array(1.0, np.float32))
    opt.step(np.float32(1.0))  # what np.sum returns
    assert x == 0.0


def test_empty_arrays():
    for shape in [(0,), (3, 0), (0, 3), (2, 0, 4)]:
        opt = gs.Adam([np.zeros(shape), np.ones(1)])
        opt.step([np.zeros(shape), np.ones(1)])
        opt.step([np.zeros(shape[::-1]).T, None])
        assert opt.steps == 2


def test_a_gradient_that_is_its_parameter_is_copied(rng):
    for view in (lambda p: p, lambda p: p[::-1], lambda p: p.T, lambda p: p[:, ::-1]):
        p = rng.normal(size=(90, 90))
        want = p - 0.5 * view(p)
        gs.SGD(p, lr=0.5).step(view(p))
        same(p, want)


def test_a_gradient_that_meets_its_parameter_in_one_element_is_copied(rng):
    for n, step in [(5000, 1), (2500, 2)]:
        memory = rng.normal(size=2 * 5000)
        p, g = memory[4999 - (step - 1) :][::step][:n], memory[:5000:step][:n]
        assert np.shares_memory(p, g)
        want = p - 0.5 * g
        gs.SGD(p, lr=0.5).step(g)
        same(p.copy(), want)


def test_a_gradient_that_is_another_parameter_or_a_state_is_copied(rng, engine):
    engine(threads=3, part_tiles=1)
    a, b = rng.normal(size=20_000), rng.normal(size=20_000)
    want = a - 0.5 * b, b - 0.5 * a
    gs.SGD([a, b], lr=0.5).step([b, a])
    same(a, want[0])
    same(b, want[1])
    opt = gs.Momentum(a, lr=0.5)
    opt.step(b)
    v, p = opt.state["velocity"].copy(), a.copy()
    opt.step(opt.state["velocity"])
    v = 0.9 * v - 0.5 * v
    same(a, p + v)


strides = st.sampled_from([1, 1, 1, 2, 3, -1, -2])
axes = st.lists(st.tuples(st.integers(0, 40), strides, strides), min_size=0, max_size=4)


@settings(deadline=None, max_examples=150)
@given(axes, st.randoms(use_true_random=False), st.sampled_from(range(len(ROWS))), st.sampled_from(DTYPES))
def test_any_shape_and_stride(axes, random, index, dtype):
    while np.prod([n for n, _, _ in axes]) > 50_000:
        axes = axes[1:]
    rng = np.random.default_rng(random.randrange(1000))

    def make(which):
        order = random.sample(range(len(axes)), len(axes))
        base = rng.normal(size=[max(axes[d][0], 1) * abs(axes[d][which]) for d in order]).astype(dtype)
        view = base[tuple(slice(None, None, axes[d][which]) for d in order)]
        view = view.transpose(np.argsort(order)) if order else view
        return view[tuple(slice(0, axes[d][0]) for d in range(len(axes)))]

    p = make(1)
    if not isinstance(p, np.ndarray):
        p = np.array(p)
    check(ROWS[index], p, [np.asarray(make(2)), np.asarray(make(2))])


def test_empty_arrays_in_every_layout():
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 4)]:
        for p_layout, g_layout in itertools.product(("c", "f", "reversed", "mirrored"), repeat=2):
            opt = gs.Adam(LAYOUTS[p_layout](np.ones(shape)))
            opt.step(LAYOUTS[g_layout](np.ones(shape)), clip_norm=1.0, zero_grads=True)
        wide = np.ones((4, 6))[::2, 3:3]
        gs.Adam(wide).step(np.ones((6, 4))[3:3].T[::2])
