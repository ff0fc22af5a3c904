"""Linear combinations and dot products in one pass: the specification, bit for bit, whatever runs them."""

import numpy as np
import pytest

import reference
from gradstep import _cpu
from gradstep.solve.vectors import Space
from table import ISAS, TEAMS
from test_rules import same

SIZES = [0, 1, 15, 16, 17, 1023, 1024, 1025, 5000]


def vectors(n, dtype, count=7, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(dtype) for _ in range(count)]


def expected_dot(a, b):
    terms = a.astype(np.float64) * b.astype(np.float64)
    chunks = [reference.chunk_sum(terms[k : k + reference.CHUNK]) for k in range(0, len(terms), reference.CHUNK)]
    return reference.fixed_sum(chunks)


def expected_combination(terms):
    first, *rest = ((v.dtype.type(factor) * v) for factor, v in terms)
    for term in rest:
        first = first + term
    return first


def check_pass(v, there, products):
    """Make combinations and products of seven vectors, which `there` are on their device, as specified."""
    space = Space.of(there[0])[0]
    want = [a.copy() for a in v]
    terms = [(1.0, 5), (0.3, 6), (0.7, 2), (1e-3, 3), (2.0, 4), (0.1, 0)]
    want[6] = expected_combination([(1.0, want[0]), (-1.0, want[1])])
    want[5] = expected_combination([(factor, want[k]) for factor, k in terms])
    dots, largest = space.run(
        [(there[6], [(1.0, there[0]), (-1.0, there[1])]), (there[5], [(f, there[k]) for f, k in terms])],
        [(tuple(there[k] for k in left), tuple(there[k] for k in right)) for left, right in products],
        there[5],
    )
    for a, b in zip(v, want, strict=True):
        same(a, b)
    assert dots == [expected_dot(want[a], want[b]) for left, right in products for a in left for b in right]
    assert largest == np.abs(want[5]).max(initial=0)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "threads"), TEAMS)
def test_a_pass_is_its_specification(engine, isa, layer, threads, n, dtype):
    engine(isa=isa, layer=layer, threads=threads)
    v = vectors(n, dtype)
    check_pass(v, v, [((0, 6), range(7)), ((5,), (5,)), ((1, 2, 3), (0, 1, 2, 3, 4))])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("isa", ISAS)
def test_a_pass_over_more_than_caches_hold_is_its_specification(engine, isa, dtype):
    engine(isa=isa, threads=2)
    v = vectors(200_003, dtype)  # of 23 streams: more than 2^24 bytes, so they are fetched ahead
    check_pass(v, v, [((0, 6), range(7)), ((5,), (5,)), ((1, 2, 3), (0, 1, 2, 3, 4))])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("terms", range(1, 14))
def test_any_number_of_terms(terms, dtype):
    v = vectors(100, dtype, terms + 1)
    given = [(0.1 * k - 0.3, a) for k, a in enumerate(v[:-1])]
    want = expected_combination(given)
    Space.of(v[0])[0].run([(v[-1], given)])
    same(v[-1], want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told(bad):
    (v,) = vectors(3000, "f8", 1)
    v[1700] = bad
    (dot,), largest = Space.of(v)[0].run([], [((v,), (v,))], v)
    assert np.isnan(largest) if np.isnan(bad) else largest == np.inf
    assert not np.isfinite(dot)


def test_sums_of_many_chunks_are_taken_chunk_by_chunk():
    n = 1024 * 1024 + 3000
    a, b = vectors(n, "f4", 2)
    assert Space.of(a)[0].dot(a, b) == expected_dot(a, b)


class TestErrors:
    def test_vectors_are_checked(self):
        a, b = np.ones(4), np.ones(4)
        verbs = _cpu.Vectors()
        for wrong, error in [
            (np.ones(5), "expected 4 contiguous elements of float64"),
            (np.ones(8)[::2], "contiguous"),
            (np.ones(4, "f4"), "float64"),
        ]:
            with pytest.raises(ValueError, match=error):
                verbs.run([(a, [(1.0, wrong)])], [])
            with pytest.raises(ValueError, match=error):
                verbs.run([], [((a,), (b, wrong))])
        with pytest.raises(TypeError, match="expected a NumPy array"):
            verbs.run([(a, [(1.0, [1, 2, 3, 4])])], [])
        b.flags.writeable = False
        with pytest.raises(ValueError, match="writeable"):
            verbs.run([(b, [(1.0, a)])], [])
        with pytest.raises(ValueError, match="one at least"):
            verbs.run([(a, [])], [])
        with pytest.raises(ValueError, match="1 to 3"):
            verbs.run([], [((a, a, a, a), (a,))])
        with pytest.raises(TypeError, match="float32 or float64"):
            verbs.run([(np.ones(3, "f2"), [(1.0, np.ones(3, "f2"))])], [])
        same(a, np.ones(4))
