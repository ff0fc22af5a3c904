"""See on_cuda: the specification of passes over vectors, on the stand-in."""

import numpy as np
import pytest

import on_cuda
from gradstep.solve.vectors import Space
from on_cuda import emulator, hosted
from test_rules import same
from test_vectors import SIZES, expected_combination, expected_dot, vectors


@pytest.fixture(autouse=True, params=["forwards", "backwards"])
def device(request, monkeypatch):
    on_cuda.install(monkeypatch)
    emulator().emulator_set_backwards(request.param == "backwards")
    yield
    emulator().emulator_set_backwards(0)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [*SIZES, 1024 * 1024 + 3000])
def test_a_pass_is_its_specification(n, dtype):
    if n > 10_000 and dtype == "f8":
        pytest.skip("sums of so many chunks are of doubles either way")
    v = vectors(n, dtype)
    there = [hosted(a) for a in v]
    space, want = Space.of(there[0])[0], [a.copy() for a in v]
    want[6] = expected_combination([(1.0, want[0]), (-1.0, want[1])])
    terms = [(1.0, 5), (0.3, 6), (0.7, 2), (1e-3, 3), (2.0, 4), (0.1, 0)]
    want[5] = expected_combination([(factor, want[k]) for factor, k in terms])
    rights = range(7) if n < 10_000 else (3,)
    products = [((0, 6), rights), ((5,), (5,)), ((1, 2, 3), rights)]
    dots, largest = space.run(
        [(there[6], [(1.0, there[0]), (-1.0, there[1])]), (there[5], [(f, there[k]) for f, k in terms])],
        [(tuple(there[k] for k in left), tuple(there[k] for k in right)) for left, right in products],
        there[5],
    )
    for a, b in zip(v, want, strict=True):
        same(a, b)
    assert dots == [expected_dot(want[a], want[b]) for left, right in products for a in left for b in right]
    assert largest == np.abs(want[5]).max(initial=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1700, 2999])
def test_what_is_not_finite_is_told(bad, at):
    (v,) = vectors(3000, "f8", 1)
    v[at] = bad
    there = hosted(v)
    (dot,), largest = Space.of(there)[0].run([], [((there,), (there,))], there)
    assert np.isnan(largest) if np.isnan(bad) else largest == np.inf
    assert not np.isfinite(dot)


def test_more_vectors_than_a_launch_has_room_for():
    v = [hosted(a) for a in vectors(3, "f4", 2)]
    with pytest.raises(ValueError, match="fewer vectors"):
        Space.of(v[0])[0].run([(v[1], [(1.0, v[0])] * 3000)])
    with pytest.raises(ValueError, match="fewer vectors"):
        Space.of(v[0])[0].run([], [((v[0],), (v[1],) * 5000)])
