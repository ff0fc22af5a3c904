"""What a step tells of gradients and updates."""

import itertools
import math

import numpy as np
import pytest

import gradstep as gs
from table import FORMATS, IDS, ISAS, LAYERS, ROWS, SHORT
from test_rules import same
from test_whole_step import randoms


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_facts(engine, rng, row, name):
    for isa, layer in itertools.product(ISAS, LAYERS):
        engine(isa=isa, layer=layer, threads=2, part_tiles=1)
        arrays = {"a": randoms(rng, (50, 60), name), "b": randoms(rng, 3, name), "none": randoms(rng, 0, name)}
        before = {k: p.astype("c16") for k, p in arrays.items()}
        grads = {k: randoms(rng, p.shape, name) for k, p in arrays.items()}
        grads["a"][::2] = 0
        grads["none"] = None
        opt = row.make(arrays)
        opt.step(grads, health=True, grad_scale=2.0)
        assert [r.name for r in opt.health] == ["params['a']", "params['b']"]
        for k in "ab":
            r, g = opt.health[k], grads[k].astype("c16") / 2
            parts = np.concatenate([g.real.ravel(), g.imag.ravel()]) if name.startswith("c") else g.real.ravel()
            assert r.norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
            assert r.max_abs == np.abs(parts).max()
            assert r.zeros == (parts == 0).mean()
            assert (r.nans, r.infs) == (0, 0)
            moved = np.linalg.norm(arrays[k].astype("c16") - before[k]) / np.linalg.norm(before[k])
            assert r.update_ratio == pytest.approx(moved, rel=1e-9)


def test_nothing_else_changes(rng):
    a, b = rng.normal(size=3000), rng.normal(size=3000)
    b[...] = a
    g = rng.normal(size=3000)
    gs.AdamW(a).step(g, health=True)
    gs.AdamW(b).step(g)
    same(a, b)


@pytest.mark.parametrize("name", FORMATS)
def test_counts_of_what_is_not_finite(name):
    p = randoms(np.random.default_rng(0), 3000, name)
    g = np.zeros_like(p)
    g[[1, 2000, 2999]] = np.nan
    g[[5, 17]] = -np.inf
    opt = gs.SGD(p)
    opt.step(g, health=True, nonfinite="skip")
    r = opt.health[0]
    assert (r.nans, r.infs, r.update_ratio) == (3, 2, 0.0)
    assert math.isnan(r.max_abs)
    g[[2000, 2999]] = 7
    opt.step(g, health=True, nonfinite="skip")
    assert opt.health[0].nans == 1
    assert math.isnan(opt.health[0].max_abs)
    g[np.isnan(g)] = 0
    opt.step(g, health=True)
    assert (opt.health[0].nans, opt.health[0].max_abs) == (0, math.inf)


def test_updates_that_vanish_in_sixteen_bits():
    for name in SHORT:
        p = np.ones(10, randoms(np.random.default_rng(0), 1, name).dtype)
        g = np.ones_like(p)
        opt = gs.SGD(p, lr=1e-6)
        opt.step(g, health=True)
        assert opt.health[0].update_ratio == 0.0
        opt = gs.SGD(p, lr=1e-6, master_weights=True)
        opt.step(g, health=True)
        assert opt.health[0].update_ratio == pytest.approx(1e-6, rel=0.1)


def test_a_parameter_of_zeros():
    opt = gs.SGD([np.zeros(2), np.zeros(2)])
    opt.step([np.ones(2), np.zeros(2)], health=True)
    assert [r.update_ratio for r in opt.health] == [math.inf, 0.0]


def test_table_and_names():
    opt = gs.SGD({"W1": np.ones(4), "b": np.ones(1)}, lr=0.5)
    assert opt.health is None
    opt.step({"W1": np.array([3.0, 4.0, 0.0, 0.0]), "b": np.array([np.inf])}, health=True)
    lines = str(opt.health).splitlines()
    assert lines[0].split() == ["array", "norm", "max", "abs", "zeros", "NaN", "inf", "update/weight"]
    assert lines[1].split() == ["params['W1']", "5", "4", "50.0%", "0", "0", "1.25"]
    assert lines[2].split()[:3] == ["params['b']", "inf", "inf"]
    assert len({len(line) for line in lines}) == 1
    with pytest.raises(KeyError):
        opt.health["W2"]
    with pytest.raises(IndexError):
        opt.health[2]


def test_a_name_in_two_groups():
    opt = gs.SGD([{"params": {"W": np.ones(2)}}, {"params": {"W": np.ones(2), "b": np.ones(1)}}])
    opt.step([{"W": np.ones(2)}, {"W": np.zeros(2), "b": np.ones(1)}], health=True)
    with pytest.raises(KeyError, match="expected the name of one array, there are"):
        opt.health["W"]
    assert opt.health["params[1]['W']"].norm == 0
    assert opt.health["b"].norm == 1


def test_huge_doubles():
    opt = gs.SGD([np.ones(2), np.ones(1)], lr=1.0)
    opt.step([np.full(2, 1e200), np.array([1e190])], health=True, clip_norm=1.0)
    assert [r.norm for r in opt.health] == pytest.approx([math.sqrt(2) * 1e200, 1e190], rel=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_ratios_do_not_depend_on_where_arrays_lie(rng, dtype):
    start, g = rng.normal(size=5000).astype(dtype), rng.normal(size=5000).astype(dtype)
    found = set()
    for offset in range(16):
        memory = np.zeros(5016, dtype)
        p = memory[offset : offset + 5000]
        p[...] = start
        opt = gs.AdamW(p)
        opt.step(g, health=True)
        found.add(opt.health[0].update_ratio)
    assert len(found) == 1


class TestPlot:
    def history(self):
        opt = gs.SGD({"a": np.ones(2), "b": np.zeros(1)}, lr=0.5)
        for k in range(4):
            g = {"a": np.full(2, 10.0**k), "b": None if k == 1 else np.array([0.0 if k == 2 else 1.0])}
            opt.step(g, health=True)
            yield opt.health

    def test_lines(self):
        figure = pytest.importorskip("matplotlib.figure").Figure()
        history = list(self.history())
        norms, ratios = gs.plot.health(history, axes=figure.subplots(1, 2))
        a, b = (line.get_ydata() for line in norms.lines)
        assert np.array_equal(a, [h["a"].norm for h in history])
        assert np.array_equal(b, [1.0, np.nan, np.nan, 1.0], equal_nan=True)
        assert np.array_equal(ratios.lines[0].get_ydata(), [h["a"].update_ratio for h in history])
        assert [t.get_text() for t in ratios.get_legend().get_texts()] == ["a", "b"]
        assert norms.get_yscale() == "log"
        figure.canvas.draw()

    def test_nothing_and_wrong(self):
        figure = pytest.importorskip("matplotlib.figure").Figure()
        axes = figure.subplots(1, 2)
        gs.plot.health([], axes=axes)
        assert not axes[0].lines
        for history in ([None], [1], next(self.history())):
            with pytest.raises(TypeError, match="history: expected a sequence of Health"):
                gs.plot.health(history, axes=axes)
        with pytest.raises(ValueError, match="axes: expected two, got 1"):
            gs.plot.health([], axes=[axes[0]])


@pytest.mark.parametrize(("large", "small"), [(1e290, 1e-3), (1.0, 1e-170), (np.nan, 1e200)])
def test_each_array_has_a_norm_in_its_own_range(large, small):
    opt = gs.SGD([np.ones(3), np.ones(3)])
    opt.step([np.full(3, large), np.full(3, small)], health=True, nonfinite="skip")
    assert opt.health[1].norm == pytest.approx(small * 3**0.5, rel=1e-12)
    assert math.isnan(large) or opt.health[0].norm == pytest.approx(large * 3**0.5, rel=1e-12)


@pytest.mark.parametrize(("p", "g"), [(1e200, 1e198), (1e-180, 1e-182), (1.0, 1e-182)])
@pytest.mark.parametrize("n", [3, 5000])
def test_update_ratios_out_of_the_range_of_squares(p, g, n):
    opt = gs.SGD(np.full(n, p), lr=0.1)
    opt.step(np.full(n, g), health=True)
    expected = (p - (p - 0.1 * g)) / p
    assert opt.health[0].update_ratio == pytest.approx(expected, rel=1e-12)


def test_health_is_kept_until_it_is_read_and_after_a_group_is_added():
    opt = gs.SGD([np.ones(2)], lr=0.5)
    opt.step([np.ones(2)], health=True)
    opt.step([np.zeros(2)])
    opt.add_group({"params": [np.ones(3)]})
    assert opt.health[0].norm == pytest.approx(2**0.5)


def test_an_empty_array_has_a_row():
    opt = gs.SGD([np.ones(0), np.ones(2)])
    opt.step([np.ones(0), np.ones(2)], health=True)
    assert [(r.norm, r.zeros) for r in opt.health] == [(0.0, 0.0), (pytest.approx(2**0.5), 0.0)]
    gs.SGD(np.ones(0)).step(np.ones(0), clip_norm=1.0, health=True, zero_grads=True)


def test_infinite_parameters_have_an_infinite_norm():
    for name in ("float32", "float64"):
        opt = gs.SGD(np.full(3000, np.inf).astype(name))
        opt.step(np.ones(3000).astype(name), health=True)
        assert math.isnan(opt.health[0].update_ratio)


@pytest.mark.parametrize("value", [1e300, 0.0, 1e-200])
def test_norms_out_of_range_wherever_the_array_stands(rng, value):
    arrays = [rng.normal(size=n) for n in (20_000, 5, 0, 3000, 7)]
    opt, ema = gs.SGD(arrays), gs.EMA(arrays)
    grads = [rng.normal(size=20_000), None, np.zeros(0), np.full(3000, value), np.full(7, value)]
    opt.step(grads, health=True, average=ema, zero_grads=True)
    assert [r.name for r in opt.health] == [f"params[{i}]" for i in (0, 2, 3, 4)]
    assert opt.health[2].norm == pytest.approx(value * 3000**0.5, rel=1e-12)
    assert opt.health[3].norm == pytest.approx(value * 7**0.5, rel=1e-12)
    assert (opt.health[3].max_abs, opt.health[3].zeros) == (value, float(value == 0))
