"""16-bit numbers: every one of them widened, and narrowed as NumPy and ml_dtypes do it."""

import numpy as np
import pytest

import gradstep as gs
from table import ISAS, SHORT, dtype_of


def same_numbers(a, b):
    """Compare bits where neither is NaN, and NaN with NaN."""
    nan = np.isnan(b.astype(np.float32))
    assert np.isnan(a.astype(np.float32))[nan].all()
    assert (a.view(np.uint16) == b.view(np.uint16))[~nan].all()


def narrowed(values, dtype):
    """What a step makes of float32 numbers: 0 - 1 * (-x)."""
    p = np.zeros(values.size, dtype)
    gs.GradientDescent(p, lr=1.0).step(-values)
    return p


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SHORT)
class TestEveryNumber:
    def test_widened(self, engine, name, isa):
        engine(isa=isa)
        every = np.arange(1 << 16, dtype=np.uint16).view(dtype_of(name))
        wide = np.zeros(every.size, np.float32)
        gs.GradientDescent(wide, lr=1.0, maximize=True).step(every)
        with np.errstate(invalid="ignore"):
            want = np.float32(0) + every.astype(np.float32)
        nan = np.isnan(want)
        assert np.isnan(wide[nan]).all()
        assert (wide.view(np.uint32) == want.view(np.uint32))[~nan].all()

    def test_stays(self, engine, name, isa):
        engine(isa=isa)
        every = np.arange(1 << 16, dtype=np.uint16).view(dtype_of(name))
        p = every.copy()
        gs.GradientDescent(p, lr=0.0).step(np.ones(p.size, np.float32))
        same_numbers(p, every)

    def test_narrowed(self, engine, rng, name, isa):
        engine(isa=isa)
        dtype = dtype_of(name)
        every = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
        finite = np.sort(every[np.isfinite(every)])
        middle = (finite[1:].astype(np.float64) + finite[:-1]) / 2
        ties = middle.astype(np.float32)
        random = rng.integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32)
        edges = np.array([65504, 65519.996, 65520, 65536, 1e38, 3.4e38, 3.3961e38, 2**-24, 2**-25, 2**-26], np.float32)
        for values in (
            every,
            ties,
            np.nextafter(ties, np.float32(np.inf)),
            np.nextafter(ties, np.float32(-np.inf)),
            random,
            edges,
        ):
            with np.errstate(all="ignore"):
                want = (np.float32(0) + values).astype(dtype)
            same_numbers(narrowed(values, dtype), want)

    def test_any_length_and_place(self, engine, rng, name, isa):
        engine(isa=isa)
        dtype = dtype_of(name)
        memory = rng.normal(size=200).astype(np.float32).astype(dtype)
        for start in range(9):
            for length in range(40):
                view = memory.copy()[start : start + length]
                want = (view.astype(np.float32) - np.float32(0.5) * view.astype(np.float32)).astype(dtype)
                gs.GradientDescent(view, lr=0.5).step(view.copy())
                assert (view.view(np.uint16) == want.view(np.uint16)).all()
