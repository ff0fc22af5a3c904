"""All that surrounds a rule in one call: formats, scaling, clipping, averages, zeroing; bit for bit."""

import itertools

import numpy as np
import pytest

import gradstep as gs
import reference
from gradstep import _cpu
from table import FORMATS, IDS, ISAS, PAIRS, ROWS, TEAMS, dtype_of
from test_layouts import LAYOUTS
from test_rules import SIZES, same

ALL = {"clip_norm": 3.0, "clip_value": 0.05, "grad_scale": 4.0, "zero_grads": True}
TILE = _cpu.tile_elements


def randoms(rng, shape, name):
    x = rng.normal(size=shape)
    if name.startswith("complex"):
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x).astype(dtype_of(name))


class Specified:
    """Arrays that step as the specification says."""

    def __init__(self, row, params, master=False, average=False):
        self.row, self.hypers = row, dict(row.make([np.zeros(1)]).groups[0])
        self.given, self.params = params, [np.array(p) for p in params]
        wide = [np.dtype(np.float32) if p.dtype.itemsize == 2 else p.dtype for p in params]
        self.states = [[np.zeros(p.shape, w) for _ in range(row.states)] for p, w in zip(params, wide, strict=True)]
        self.masters = [p.astype(np.float32) if master and p.dtype.itemsize == 2 else None for p in params]
        self.averages = [p.astype(w) if average else None for p, w in zip(params, wide, strict=True)]
        self.counts = [0] * len(params)

    def step(self, grads, *, clip_norm=None, clip_value=np.inf, grad_scale=1.0, decay=0.0, zero_grads=False):
        factor = 1 / grad_scale
        if clip_norm is not None:
            taken = [k for k, g in enumerate(grads) if g is not None]
            norm = reference.norm([self.given[k] for k in taken], [grads[k] for k in taken])
            factor = reference.clip_factor(norm, clip_norm, grad_scale)
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.counts[i] += 1
            more = {"factor": factor, "clip_value": clip_value, "decay": decay}
            more |= {"master": self.masters[i], "average": self.averages[i], "t": self.counts[i], "h": self.hypers}
            reference.step(self.row.reference, self.params[i], g, self.states[i], **more)

    def equals(self, opt, params, ema=None):
        for i, p in enumerate(params):
            same(np.array(p), np.array(self.params[i]))
            for k, name in enumerate(name for name in opt.state if name != "master"):
                same(np.array(opt.state[name][i]), self.states[i][k])
            if self.masters[i] is not None:
                same(np.array(opt.state["master"][i]), self.masters[i])
            if ema is not None:
                same(np.array(ema.averages[i]), self.averages[i])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_formats(engine, rng, row, pair, isa):
    p_name, g_name = pair
    start = [randoms(rng, n, p_name) for n in SIZES]
    grads = [[randoms(rng, n, g_name) for n in SIZES] for _ in range(5)]
    want = Specified(row, start)
    for g in grads:
        want.step(g)
    for layer, threads in TEAMS:
        engine(isa=isa, layer=layer, threads=threads)
        mine = [p.copy() for p in start]
        opt = row.make(mine)
        for g in grads:
            opt.step(g)
        want.equals(opt, mine)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("master", [False, True])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_everything_at_once(engine, rng, row, pair, master, isa):
    p_name, g_name = pair
    sizes = [0, 1, 17, 65, TILE - 1, TILE + 1, 3 * TILE + 5]
    start = [randoms(rng, n, p_name) for n in sizes]
    grads = [[randoms(rng, n, g_name) for n in sizes] for _ in range(5)]
    for layer, threads in TEAMS:
        engine(isa=isa, layer=layer, threads=threads, part_tiles=2)
        mine = [p.copy() for p in start]
        opt, ema = row.make(mine, master_weights=master), gs.EMA(mine, decay=0.9)
        want = Specified(row, start, master, average=True)
        for g in grads:
            given = [a.copy() for a in g]
            opt.step(given, **ALL, average=ema, health=True)
            want.step(g, **ALL, decay=0.9)
            assert opt.grad_norm == reference.norm(start, g) / ALL["grad_scale"]
            assert not any(a.any() for a in given)
        want.equals(opt, mine, ema)


@pytest.mark.parametrize("g_layout", LAYOUTS)
@pytest.mark.parametrize("p_layout", LAYOUTS)
@pytest.mark.parametrize("name", FORMATS)
def test_layouts(engine, rng, name, p_layout, g_layout):
    row = ROWS[-1]
    g_name = {"bfloat16": "float16", "float16": "float32"}.get(name, name)
    for isa, shape in itertools.product(ISAS, [(7,), (1500,), (33, 65), (3, 70), (2, 3, 4, 67), (130, 129)]):
        engine(isa=isa, threads=2, part_tiles=1)
        p = LAYOUTS[p_layout](randoms(rng, shape, name))
        mine, want = [p], Specified(row, [p], master=True, average=True)
        opt, ema = row.make(mine, master_weights=True), gs.EMA(mine, decay=0.9)
        for _ in range(2):
            g = LAYOUTS[g_layout](randoms(rng, shape, g_name))
            dense = np.array(g)
            opt.step([g], **ALL, average=ema, health=True)
            assert not g.any()
            want.step([dense], **ALL, decay=0.9)
            row_health = opt.health[0]
            assert row_health.norm == pytest.approx(np.linalg.norm(dense.astype("c16")) / 4, rel=1e-12)
        want.equals(opt, mine, ema)
