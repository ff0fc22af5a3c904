"""The global norm, clipping, scaling, and what happens to gradients that are not finite."""

import ctypes
import itertools
import math
import platform
import re

import numpy as np
import pytest

import gradstep as gs
import reference
from gradstep import _cpu, overlap
from table import FORMATS, IDS, ISAS, LAYERS, ROWS, THREADS, dtype_of
from test_rules import same
from test_whole_step import randoms

TILE = _cpu.tile_elements
SIZES = [0, 1, 15, 16, 17, 1000, TILE, TILE + 1, 40 * TILE + 7, 3, 5 * TILE]


def norm_of(grads, **more):
    opt = gs.GradientDescent([np.zeros_like(g) for g in grads], lr=0.0)
    opt.step(grads, clip_norm=math.inf, **more)
    return opt.grad_norm


def exact_norm(grads):
    parts = [float(x) for g in grads for x in reference.reals(g).ravel().astype("f8")]
    return math.sqrt(math.fsum(x * x for x in parts))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
def test_norm_is_the_same_everywhere(engine, rng, name, isa):
    grads = [randoms(rng, n, name) for n in SIZES]
    want = reference.norm(grads, grads)
    assert want == pytest.approx(exact_norm(grads), rel=1e-12)
    for layer, threads, part_tiles in itertools.product(LAYERS, THREADS, (1, 3, 32)):
        engine(isa=isa, layer=layer, threads=threads, part_tiles=part_tiles)
        assert norm_of(grads) == want


def test_norm_of_many_chunks(rng):
    grads = [rng.normal(size=TILE * (TILE + 3) + 5)]
    assert norm_of(grads) == reference.norm(grads, grads)
    assert norm_of(grads) == pytest.approx(exact_norm(grads), rel=1e-13)


def test_norm_does_not_depend_on_the_container(rng):
    a, b, c = (rng.normal(size=n) for n in (10, 2000, 33))
    want = norm_of([a, b, c])
    zeros = [np.zeros_like(x) for x in (a, b, c)]
    named = gs.SGD(dict(zip("abc", zeros, strict=True)))
    named.step({"a": a, "b": b, "c": c}, clip_norm=1.0)
    grouped = gs.SGD([{"params": zeros[:1]}, {"params": {"b": zeros[1], "c": zeros[2]}}])
    grouped.step([[a], {"b": b, "c": c}], clip_norm=1.0)
    skipping = gs.SGD([zeros[0], np.zeros(5), *zeros[1:]])
    skipping.step([a, None, b, c], clip_norm=1.0)
    assert named.grad_norm == grouped.grad_norm == skipping.grad_norm == want


def test_norm_does_not_depend_on_the_layout_of_the_gradient(rng):
    g = rng.normal(size=(70, 90)).astype("f4")
    assert norm_of([g]) == norm_of_layout(g, np.asfortranarray(g)) == norm_of_layout(g, np.repeat(g, 2, axis=1)[:, ::2])


def norm_of_layout(like, g):
    opt = gs.SGD(np.zeros_like(like))
    opt.step(g, clip_norm=1.0)
    return opt.grad_norm


@pytest.mark.parametrize(
    "values",
    [
        [1e300, 1e300],
        [1e-300, 3e-310],
        [5e-324],
        [1e308] * 3,
        [1e200, 1e-200],
        [0.0, 0.0],
        [1e-170] * 1000,
        [1.0, 1e-320],
    ],
)
def test_norm_of_extreme_doubles(values):
    g = np.array(values)
    want = float(np.abs(g).max() and np.abs(g).max() * math.sqrt(math.fsum((x / np.abs(g).max()) ** 2 for x in g)))
    assert norm_of([g]) == pytest.approx(want, rel=1e-12, abs=0)


def test_clipping_where_the_norm_itself_is_no_double():
    p = np.zeros(4)
    opt = gs.SGD(p, lr=1.0)
    opt.step(np.full(4, 1.7e308), clip_norm=1.0)
    assert opt.grad_norm == math.inf
    assert p.tolist() == pytest.approx([-0.5] * 4)


def test_clipping_where_only_the_divided_norm_is_no_double():
    p = np.zeros(2)
    opt = gs.SGD(p, lr=1.0)
    opt.step(np.array([1e308, 0.0]), clip_norm=1.0, grad_scale=1e-5)
    assert p.tolist() == pytest.approx([-1.0, 0.0])


@pytest.mark.parametrize("clip_norm", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("size", [4.5e269, 4.5e287])
def test_clipping_where_the_divided_norm_is_near_the_end_of_doubles(size, clip_norm):
    p = np.zeros(2)
    gs.SGD(p, lr=1.0).step(np.array([size, 0.0]), clip_norm=clip_norm, grad_scale=2.0**-126)
    assert p.tolist() == pytest.approx([-clip_norm, 0.0], rel=1e-12)


@pytest.mark.parametrize("clip_norm", [0.0, 1e-290])
def test_nothing_is_left_of_zeros(clip_norm):
    p = np.ones(2)
    gs.SGD(p, lr=1.0).step(np.zeros(2), clip_norm=clip_norm)
    assert p.tolist() == [1.0, 1.0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the rounding mode is this processor's")
def test_steps_round_to_nearest_whatever_another_library_set():
    upward, nearest, libm = 0x800, 0, ctypes.CDLL(None)
    g, settings = np.array([0.1, 0.7, 1.3]), {"clip_norm": 1.0, "grad_scale": 3.0}
    expected, p = np.zeros(3), np.zeros(3)
    want = gs.GradientDescent(expected)
    want.step(g, **settings)
    opt = gs.GradientDescent(p)
    assert libm.fesetround(upward) == 0
    try:
        opt.step(g, **settings)
        assert libm.fegetround() == upward
    finally:
        libm.fesetround(nearest)
    assert opt.grad_norm == want.grad_norm
    same(p, expected)


def test_clip_norm_takes_all_groups_together():
    a, b = np.zeros(1), np.zeros(1)
    opt = gs.SGD([{"params": a}, {"params": b}], lr=1.0)
    opt.step([np.array([3.0]), np.array([4.0])], clip_norm=1.0)
    factor = 1.0 / (5.0 + 1e-6)
    assert (a[0], b[0]) == (-3 * factor, -4 * factor)
    assert opt.grad_norm == 5.0


def test_order_scale_then_norm_then_value_then_decay():
    p = np.array([2.0, 2.0])
    opt = gs.GradientDescent(p, lr=1.0, weight_decay=0.5, maximize=True)
    opt.step(np.array([60.0, 80.0]), grad_scale=10.0, clip_norm=5.0, clip_value=3.5)
    factor = 5.0 / (10.0 + 1e-6) / 10.0
    assert opt.grad_norm == 10.0
    assert p.tolist() == [2 - (-(60 * factor) + 0.5 * 2), 2 - (-3.5 + 0.5 * 2)]


def test_nothing_is_clipped_below_the_limit(rng):
    g = rng.normal(size=50).astype("f4")
    p, q = np.zeros(50, "f4"), np.zeros(50, "f4")
    gs.Adam(p).step(g, clip_norm=1e9, clip_value=1e9)
    gs.Adam(q).step(g)
    same(p, q)


def test_clip_matches_torch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    grads = [rng.normal(size=s).astype("f4") for s in [(3, 4), (50,), (7, 7)]]
    tensors = [torch.zeros(g.shape, requires_grad=True) for g in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(tensors, 2.0)
    params = [np.zeros_like(g) for g in grads]
    opt = gs.SGD(params, lr=1.0)
    opt.step(grads, clip_norm=2.0)
    assert opt.grad_norm == pytest.approx(float(norm), rel=1e-5)
    for p, t in zip(params, tensors, strict=True):
        assert np.allclose(-p, t.grad.numpy(), rtol=1e-5, atol=0)


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_skip_changes_no_bit(engine, rng, row, name, bad):
    for isa, at in itertools.product(ISAS, [0, 16, 2 * TILE]):
        engine(isa=isa, threads=2, part_tiles=1)
        arrays = [randoms(rng, n, name) for n in (5, 2 * TILE + 1)]
        opt, ema = row.make(arrays, master_weights=True), gs.EMA(arrays, 0.5)
        opt.step([randoms(rng, a.size, name) for a in arrays])
        before = [np.array(a) for a in remembered(opt, arrays, ema)]
        grads = [randoms(rng, a.size, name) for a in arrays]
        grads[1][at] = bad
        opt.step(grads, nonfinite="skip", clip_norm=1.0, average=ema, zero_grads=True)
        for a, b in zip(before, remembered(opt, arrays, ema), strict=True):
            same(a, np.array(b))
        assert (opt.steps, opt.skipped, opt._plan.counts, opt._plan.calls) == (1, 1, [1, 1], 2)
        assert not any(g.any() for g in grads)


def remembered(opt, arrays, ema):
    memory = [a for arrays in opt.state.values() for a in arrays if a is not None]
    return [*arrays, *memory, *ema.averages]


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize("name", FORMATS)
def test_raise_names_the_array_and_changes_nothing(rng, name, bad, word):
    params = {"a": randoms(rng, 3, name), "b": randoms(rng, 2000, name)}
    opt = gs.Adam(params)
    before = {k: p.copy() for k, p in params.items()}
    grads = {"a": randoms(rng, 3, name), "b": randoms(rng, 2000, name)}
    grads["b"][1999] = bad
    kept = grads["b"].copy()
    with pytest.raises(FloatingPointError, match=re.escape(f"grads['b']: expected finite numbers, got {word}")):
        opt.step(grads, nonfinite="raise", zero_grads=True)
    for k, p in params.items():
        same(p, before[k])
    same(grads["b"], kept)
    assert (opt.steps, opt.skipped, opt._plan.calls) == (0, 0, 0)


def test_a_huge_norm_of_finite_gradients_is_not_skipped():
    p = np.zeros(2)
    opt = gs.SGD(p, lr=1.0)
    opt.step(np.full(2, 1.7e308), nonfinite="skip")
    assert (opt.steps, opt.skipped) == (1, 0)
    assert p.tolist() == [-1.7e308] * 2


def test_propagate_lets_nan_through():
    p = np.zeros(3, "f4")
    gs.SGD(p, lr=1.0).step(np.array([np.nan, np.inf, 1], "f4"), clip_value=2.0)
    assert np.isnan(p[0])
    assert p[1:].tolist() == [-2.0, -1.0]


def test_schedules_count_skipped_calls():
    asked = []
    opt = gs.SGD(np.zeros(1), lr=lambda calls: asked.append(calls) or 1.0)
    for g in (1.0, np.inf, 1.0):
        opt.step(np.array([g]), nonfinite="skip")
    assert asked == [0, 1, 2]
    assert opt.steps == 2


BAD_ARGUMENTS = [
    ({"clip_norm": -1.0}, ValueError, "clip_norm: expected a number of at least 0, got -1.0"),
    ({"clip_norm": math.nan}, ValueError, "clip_norm: "),
    ({"clip_norm": "1"}, TypeError, "clip_norm: "),
    ({"clip_norm": True}, TypeError, "clip_norm: "),
    ({"clip_norm": np.ones(2)}, TypeError, "clip_norm: "),
    ({"clip_value": -0.1}, ValueError, "clip_value: "),
    ({"clip_value": 1j}, TypeError, "clip_value: "),
    ({"grad_scale": 0.0}, ValueError, "grad_scale: expected a number from 2**-126 to 2**126, got 0.0"),
    ({"grad_scale": math.inf}, ValueError, "grad_scale: "),
    ({"grad_scale": -2}, ValueError, "grad_scale: "),
    ({"grad_scale": None}, TypeError, "grad_scale: "),
    ({"grad_scale": np.ones(2)}, TypeError, "grad_scale: "),
    ({"nonfinite": "ignore"}, ValueError, "nonfinite: expected one of 'propagate', 'skip', 'raise', got 'ignore'"),
    ({"nonfinite": None}, TypeError, "nonfinite: "),
    ({"zero_grads": 1}, TypeError, "zero_grads: expected True or False, got 1"),
    ({"zero_grads": None}, TypeError, "zero_grads: "),
    ({"health": "yes"}, TypeError, "health: "),
    ({"average": 0.9}, TypeError, "average: expected an EMA, got float"),
    ({"average": np.zeros(3)}, TypeError, "average: expected an EMA, got ndarray"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD_ARGUMENTS, ids=range(len(BAD_ARGUMENTS)))
def test_bad_arguments(options, error, words):
    p, g = np.ones(3), np.ones(3)
    opt = gs.Adam(p)
    with pytest.raises(error, match=re.escape(words)):
        opt.step(g, **options)
    assert p.tolist() == g.tolist() == [1.0] * 3
    assert (opt.steps, opt._plan.calls) == (0, 0)


def test_gradients_between_the_elements_of_parameters():
    """Columns of one buffer: bounds meet, elements do not."""
    for rows in (4, 3000):
        buf = np.ones((rows, 6))
        opt = gs.SGD(buf[:, :3], lr=0.5, momentum=0.9)
        opt.step(buf[:, 3:])
        opt.step(buf[:, 3:], zero_grads=True)
        opt.step(buf[:, 3:])
        assert np.array_equal(buf, np.full((rows, 6), [1 - 0.5 - 0.95 - 0.855] * 3 + [0.0] * 3))
        with pytest.raises(ValueError, match="expected memory of its own to set to zero"):
            opt.step(buf[:, 2:5], zero_grads=True)
        assert opt.steps == 3
        before, moved = buf.copy(), opt.state["momentum_buffer"] * 0.9 + buf[:, 2:5]
        opt.step(buf[:, 2:5])  # shares a column, so it is copied
        np.testing.assert_array_equal(buf[:, :3], before[:, :3] - 0.5 * moved)
        np.testing.assert_array_equal(buf[:, 3:], before[:, 3:])


def test_gradients_between_elements_are_judged_together(monkeypatch):
    asked = []
    monkeypatch.setattr(overlap, "shared", lambda *a, of=overlap.shared: asked.append(0) or of(*a))
    buf = np.ones((5, 40), np.float32)
    params, grads = list(buf.T[::2]), list(buf.T[1::2])
    opt = gs.SGD(params, lr=0.5, momentum=0.9)
    for given, times in [(grads, 1), (grads, 1), (grads[::-1], 2), ([None, params[0], *grads[2:]], 3)]:
        opt.step(given)
        assert len(asked) == times
    assert params[0] == pytest.approx(np.full(5, -1.805))
    assert params[1] == pytest.approx(np.full(5, -1.805 - 0.5 * (0.9 * 2.71 - 1.805)))  # of a copy of its neighbour


def test_a_gradient_of_a_wrong_shape_tells_nothing_of_the_next():
    buf = np.zeros((8, 4))
    opt = gs.SGD([buf[:, 0], buf[5:, 1]], lr=1.0)
    with pytest.raises(ValueError, match="expected float64 of shape"):
        opt.step([buf[:, 2], buf[3:5, 1]])
    with pytest.raises(ValueError, match="expected memory of its own to set to zero"):
        opt.step([buf[:, 2], buf[3:6, 1]], zero_grads=True)  # begins there too, and ends in the parameter


def test_what_is_shared_is_found_exactly(rng):
    for _ in range(300):
        buf = np.zeros(200, np.int16)
        views = []
        for _ in range(6):
            shape, start = rng.integers(1, 4, 2), rng.integers(80, 120)
            strides = 2 * rng.choice([-20, -7, -2, -1, 1, 2, 3, 7, 20], 2)
            views.append(np.lib.stride_tricks.as_strided(buf[start:], shape, strides))
        arrays, others = [*views[:3], None], []
        for view in views[3:]:  # those share nothing among themselves
            meets = any(np.intersect1d(_places(view, buf), _places(o, buf)).size for o in others)
            if not meets and np.unique(_places(view, buf)).size == view.size:
                others.append(view)
        expected = [any(np.intersect1d(_places(a, buf), _places(o, buf)).size for o in others) for a in arrays[:3]]
        assert overlap.shared(arrays, others) == [*expected, False]


def _places(view, buf):
    begin = (view.ctypes.data - buf.ctypes.data) // 2
    i, j = np.indices(view.shape)
    return (begin + (i * view.strides[0] + j * view.strides[1]) // 2).ravel()


def test_gradients_with_gaps_are_compared_once(monkeypatch):
    asked = []
    monkeypatch.setattr(overlap, "refuse_overlap", lambda *a, of=overlap.refuse_overlap: asked.append(0) or of(*a))
    params, buf = [np.ones((3, 4)), np.ones((3, 4))], np.ones((3, 16))
    opt, asked[:] = gs.SGD(params), []
    grads = [buf[:, :8:2], buf[:, 1:9:2]]
    for _ in range(3):
        buf[...] = 1
        opt.step(grads, zero_grads=True)
        assert buf.sum() == 24
    assert len(asked) == 1
    opt.step([buf[:, 8::2], grads[1]], zero_grads=True)
    opt.step([None, grads[1]], zero_grads=True)
    assert len(asked) == 3
    with pytest.raises(ValueError, match="share memory"):
        opt.step([buf[:, 3:11:2], grads[1]], zero_grads=True)


def test_zero_grads():
    shared = np.ones(3)
    base = np.ones((3, 4))
    readonly = np.ones(3)
    readonly.flags.writeable = False
    overlapping = np.lib.stride_tricks.as_strided(np.ones(5), (3,), (0,))
    p, q = np.zeros(3), np.zeros(3)
    opt = gs.SGD([p, q], lr=1.0)
    for grads, error, words in [
        ([shared, shared], ValueError, "grads[0] and grads[1] share memory"),
        ([shared, shared[::-1]], ValueError, "share memory"),
        ([base[:, 0], base[:, 0]], ValueError, "share memory"),
        ([shared, readonly], ValueError, "grads[1]: expected a writeable array to set to zero, got a read-only one"),
        ([shared, overlapping], ValueError, "grads[1]: expected elements of their own"),
        ([p, shared], ValueError, "grads[0]: expected memory of its own to set to zero"),
    ]:
        with pytest.raises(error, match=re.escape(words)):
            opt.step(grads, zero_grads=True)
    assert (shared == 1).all()
    assert opt.steps == 0
    opt.step([base[:, 0], base[:, 1]], zero_grads=True)
    assert (base[:, :2] == 0).all()
    assert (base[:, 2:] == 1).all()
    assert p.tolist() == q.tolist() == [-1.0] * 3
    opt.step([shared, shared])  # without zeroing that is fine


def test_a_scalar_cannot_be_set_to_zero():
    with pytest.raises(TypeError, match=re.escape("grads: expected an array to set to zero, got a scalar")):
        gs.SGD(np.array(1.0)).step(np.float64(1.0), zero_grads=True)


class TestLossScaler:
    def test_grows_and_backs_off_as_torch(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        mine = gs.LossScaler(init_scale=1024.0, growth_interval=3)
        w, t = np.zeros(1), torch.zeros(1, requires_grad=True, dtype=torch.float64)
        opt, sgd = gs.SGD(w, lr=1.0), torch.optim.SGD([t], lr=1.0)
        for k in range(40):
            value = np.inf if k % 11 in (3, 7, 8) else 1.0 + k
            theirs.scale(torch.ones(1))
            t.grad = torch.full((1,), value * theirs.get_scale(), dtype=torch.float64)
            theirs.step(sgd)
            theirs.update()
            assert mine.step(opt, np.array([value * mine.factor])) == (value < np.inf)
            assert mine.factor == theirs.get_scale()
            assert w[0] == t.item()
        assert opt.skipped == 10

    def test_small_gradients_survive_float16(self):
        scaler = gs.LossScaler(init_scale=2.0**14)
        w = np.ones(1, np.float32)
        opt = gs.SGD(w, lr=1e6)
        g = np.float16(1e-9 * scaler.factor)
        assert np.float16(1e-9) == 0
        scaler.step(opt, np.array([g]), clip_norm=10.0)
        assert w[0] == pytest.approx(1 - 1e-3, rel=1e-4)

    def test_scale(self):
        scaler = gs.LossScaler(init_scale=8.0)
        assert scaler.scale(2.0) == 16.0
        assert scaler.scale(np.ones(2, np.float16)).dtype == np.float16
        assert scaler.scale(np.array(3)) == 24.0
        assert gs.LossScaler(init_scale=0.5).scale(np.int32(3)) == 1.5
        one = gs.LossScaler().scale(np.float16(1e-3))  # 65.5 in a format that ends at 65504 times less
        assert (one.dtype, float(one)) == (np.float32, pytest.approx(65.56, rel=1e-3))
        assert gs.LossScaler().scale(np.float16(0)) == 0
        for bad in ([1, 2], "x", None, True):
            with pytest.raises(TypeError, match="loss: expected a number or an array, got"):
                scaler.scale(bad)
        assert gs.LossScaler().scale(np.array([0, 0.25], np.float16)).tolist() == [0, 16384]
        assert scaler.scale(np.ones(2, dtype_of("bfloat16"))).dtype == dtype_of("bfloat16")

    def test_state(self):
        scaler = gs.LossScaler(growth_interval=2)
        opt = gs.SGD(np.zeros(1))
        scaler.step(opt, np.ones(1))
        other = gs.LossScaler(growth_interval=2)
        other.load_state_dict(scaler.state_dict())
        for s in (scaler, other):
            s.step(opt, np.ones(1))
            assert s.factor == 2 * 65536.0
        for bad in ({}, {"factor": 1.0}, {"factor": -1.0, "good": 0}, {"factor": 1.0, "good": -1}, [1, 2]):
            with pytest.raises((TypeError, ValueError), match="saved"):
                other.load_state_dict(bad)
        assert other.factor == 2 * 65536.0

    def test_a_state_of_another_interval(self):
        scaler, opt = gs.LossScaler(growth_interval=3), gs.SGD(np.zeros(1))
        scaler.load_state_dict({"factor": 4.0, "good": 7})
        scaler.step(opt, np.ones(1))
        assert scaler.state_dict() == {"factor": 8.0, "good": 0}

    def test_refuses(self):
        for options, error in [
            ({"init_scale": 0.0}, ValueError),
            ({"growth_factor": 1.0}, ValueError),
            ({"backoff_factor": 1.0}, ValueError),
            ({"growth_interval": 0}, ValueError),
            ({"growth_interval": 1.5}, TypeError),
        ]:
            with pytest.raises(error, match=next(iter(options))):
                gs.LossScaler(**options)
        scaler, opt = gs.LossScaler(), gs.SGD(np.zeros(1))
        for options in ({"grad_scale": 2.0}, {"nonfinite": "raise"}):
            with pytest.raises(TypeError, match="the scaler's"):
                scaler.step(opt, np.ones(1), **options)
        for other in (None, np.ones(1), gs.LBFGS([np.zeros(1)])):
            with pytest.raises(TypeError, match="opt: expected an Optimizer"):
                scaler.step(other, np.ones(1))
        with pytest.raises(ValueError, match="grads"):
            scaler.step(opt, np.ones(2))
        assert scaler.factor == 65536.0


def test_a_norm_that_only_grad_scale_brings_into_range():
    w = np.zeros(4)
    opt = gs.SGD(w, lr=1.0)
    opt.step(np.full(4, 1.7e308), clip_norm=1.0, grad_scale=65536.0, health=True)
    assert opt.grad_norm == opt.health[0].norm == pytest.approx(2 * (1.7e308 / 65536), rel=1e-12)
    assert w == pytest.approx([-0.5] * 4)


def test_a_refused_step_has_a_norm_and_leaves_health():
    opt = gs.SGD(np.ones(3))
    opt.step(np.ones(3), clip_norm=1.0, health=True)
    with pytest.raises(FloatingPointError):
        opt.step(np.array([1.0, np.inf, 1.0]), nonfinite="raise", health=True)
    assert opt.grad_norm == np.inf
    assert opt.health[0].norm == pytest.approx(3**0.5)
    assert (opt.steps, opt.skipped) == (1, 0)
