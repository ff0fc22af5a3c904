"""See on_cuda: the specification of passes over vectors, on the stand-in."""

import numpy as np
import pytest

import on_cuda
from gradstep.solve.vectors import Space
from on_cuda import hosted
from test_vectors import SIZES, check_pass, vectors

device = on_cuda.device


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [*SIZES, 1024 * 1024 + 3000])
def test_a_pass_is_its_specification(n, dtype):
    if n > 10_000 and dtype == "f8":
        pytest.skip("sums of so many chunks are of doubles either way")
    v = vectors(n, dtype)
    rights = range(7) if n < 10_000 else (3,)
    check_pass(v, [hosted(a) for a in v], [((0, 6), rights), ((5,), (5,)), ((1, 2, 3), rights)])


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
