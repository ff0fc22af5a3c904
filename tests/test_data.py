"""Batches and standardisation: equal to the specification, and to NumPy and scikit-learn."""

import copy
import gc
import itertools
import json
import math
import pickle
import subprocess
import sys
import time
import weakref
from collections import Counter
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from scipy.sparse import csr_matrix

import gradstep as gs
import reference_data as reference
from gradstep.data import Augment, Standardizer, minibatches
from script import run
from table import ISAS, TEAMS

NUMBERS = [
    "float32",
    "float64",
    "float16",
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
]
NUMBERS = [np.dtype(n) for n in NUMBERS] + [np.dtype(ml_dtypes.bfloat16)]


SWAPPED = np.dtype("f4").newbyteorder()


def numbers(rng, shape, dtype):
    if dtype.kind in "fV":
        return rng.normal(3, 2, shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


def layouts(x):
    yield "C", np.ascontiguousarray(x)
    yield "F", np.asfortranarray(x)
    yield "reversed", np.ascontiguousarray(x[::-1])[::-1]
    wide = np.zeros((len(x), *(2 * n for n in x.shape[1:])), x.dtype)
    part = wide[(slice(None), *(slice(0, n) for n in x.shape[1:]))]
    part[...] = x
    yield "part of wider rows", part
    last = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    last[..., ::3] = x
    yield "every third", last[..., ::3]


# --- order


def test_philox_is_the_published_generator():
    assert [int(w) for w in reference.philox((0, 0, 0, 0), 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = reference.philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0xA4093822 | 0x299F31D0 << 32)
    assert [int(w) for w in pi] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "threads"), TEAMS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 63, 64, 65, 1000, 4099])
def test_order_is_the_specification(n, isa, layer, threads, engine):
    engine(isa=isa, layer=layer, threads=threads)
    seed = 0x123456789ABCDEF
    got = [rows for (rows,) in minibatches(np.arange(n), batch_size=n, seed=seed, epochs=2)]
    for epoch in range(2):
        np.testing.assert_array_equal(got[epoch], reference.permutation(n, epoch, seed))
    (got,) = next(minibatches(np.arange(n), batch_size=n, seed=seed, replace=True))
    np.testing.assert_array_equal(got, reference.with_replacement(n, n, 0, seed))


@pytest.mark.parametrize("batch_size", [1, 3, 64, 1000])
def test_batches_are_one_order_cut(batch_size):
    n = 500
    order = np.concatenate([rows for (rows,) in minibatches(np.arange(n), batch_size=batch_size, seed=4)])
    np.testing.assert_array_equal(order, reference.permutation(n, 0, 4))


def test_permutations_of_few_rows_are_equally_frequent():
    seen = Counter(tuple(rows) for (rows,) in minibatches(np.arange(4), batch_size=4, seed=5, epochs=4800))
    assert len(seen) == 24
    chi_square = sum((count - 200) ** 2 / 200 for count in seen.values())
    assert chi_square < 49.7  # 1 in 1,000 for 23 degrees of freedom


def test_seeds_and_epochs_differ():
    orders = [
        tuple(rows)
        for seed in (0, 1, 2**64 - 1)
        for (rows,) in minibatches(np.arange(50), batch_size=50, seed=seed, epochs=3)
    ]
    assert len(set(orders)) == 9


def test_without_shuffling_rows_come_in_order():
    X = np.arange(10)
    assert [list(rows) for (rows,) in minibatches(X, batch_size=4, shuffle=False)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_a_full_batch_is_all_rows_in_order():
    (rows,) = next(minibatches(np.arange(100), seed=0))
    np.testing.assert_array_equal(rows, np.arange(100))


def test_drop_last():
    batches = minibatches(np.arange(10), batch_size=4, drop_last=True, seed=0, epochs=3)
    assert len(batches) == 6
    assert [len(rows) for (rows,) in batches] == [4] * 6


def test_without_end():
    batches = minibatches(np.arange(3), batch_size=2, epochs=None, seed=0)
    assert sum(len(rows) for (rows,) in itertools.islice(batches, 2000)) == 3000
    with pytest.raises(TypeError, match="no length"):
        len(batches)


def test_what_they_tell_of_themselves():
    batches = minibatches(np.arange(10), batch_size=4, seed=2**64 - 1, epochs=3)
    next(batches)
    assert (batches.size, batches.batch_size, batches.seed, batches.epochs) == (10, 4, 2**64 - 1, 3)
    assert (batches.batches_per_epoch, batches.epoch, batches.batch) == (3, 0, 1)
    assert repr(batches) == f"Minibatches(10 rows by 4, epoch 0 of 3, seed {2**64 - 1})"
    endless = minibatches(np.arange(10), epochs=None)
    assert (endless.batch_size, endless.epochs) == (10, None)
    assert repr(endless) == f"Minibatches(10 rows by 10, epoch 0 without end, seed {endless.seed})"
    assert endless.seed != minibatches(np.arange(10)).seed


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_there_are_no_copies_of_batches(duplicate):
    with pytest.raises(TypeError, match="Minibatches: expected state_dict"):
        duplicate(minibatches(np.arange(10), seed=0))


def test_arrays_stay_together(rng):
    X, y = rng.normal(size=(100, 3)), np.arange(100)
    for a, b in minibatches(X, y, batch_size=7, seed=1):
        np.testing.assert_array_equal(a, X[b])


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("reuse", [False, True])
def test_it_goes_on_from_a_saved_position(prefetch, reuse, rng):
    X = rng.normal(size=(23, 2))
    settings = {"batch_size": 5, "epochs": 3, "prefetch": prefetch, "reuse": reuse}
    whole = [rows.copy() for (rows,) in minibatches(X, seed=3, **settings)]
    for cut in range(len(whole) + 1):
        first = minibatches(X, seed=3, **settings)
        for _ in range(cut):
            next(first)
        saved = json.loads(json.dumps(first.state_dict()))
        later = minibatches(X, seed=99, **settings)
        later.load_state_dict(saved)
        assert (later.epoch, later.batch) == divmod(cut, 5)
        rest = [rows.copy() for (rows,) in later]
        assert len(rest) == len(whole) - cut
        for a, b in zip(rest, whole[cut:], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", [{"batch_size": 6}, {"shuffle": False}, {"replace": True}, {"drop_last": True}])
def test_a_position_of_other_batches_is_refused(change):
    settings = {"batch_size": 5, "seed": 3}
    saved = minibatches(np.arange(20), **settings).state_dict()
    other = minibatches(np.arange(20), **{**settings, **change})
    before = other.state_dict()
    with pytest.raises(ValueError, match=next(iter(change))):
        other.load_state_dict(saved)
    assert other.state_dict() == before
    with pytest.raises(ValueError, match="size"):
        minibatches(np.arange(21), **settings).load_state_dict(saved)


@pytest.mark.parametrize("saved", [None, [], {}, {"seed": 1}, 3])
def test_a_damaged_position_is_refused(saved):
    with pytest.raises(ValueError, match="saved"):
        minibatches(np.arange(20)).load_state_dict(saved)
    good = minibatches(np.arange(20)).state_dict()
    for name, value in itertools.product(good, (-1, "x", None, 1.5, 2**70)):
        with pytest.raises(ValueError, match=name if name != "version" else "version"):
            minibatches(np.arange(20)).load_state_dict({**good, name: value})


# --- gathering


@pytest.mark.parametrize(
    "dtype",
    [*NUMBERS, *map(np.dtype, ["c16", "U7", "M8[s]", "V5", ">f4", "g", "O", [("a", "i1"), ("b", "f8")]])],
    ids=str,
)
def test_rows_of_any_dtype_are_copied(dtype, rng):
    X = rng.integers(0, 255, (41, 3, 2)).astype("O" if dtype.kind == "O" else "u1")
    X = X if dtype.kind == "O" else np.frombuffer(rng.bytes(41 * 6 * dtype.itemsize), dtype).reshape(41, 3, 2)
    if dtype.kind in "bU":
        X = np.array([str(i) for i in range(41 * 6)], object).reshape(41, 3, 2).astype(dtype)
    for name, laid in layouts(X):
        for rows, order in minibatches(laid, np.arange(41), batch_size=10, seed=2):
            assert rows.dtype == dtype, name
            assert rows.tolist() == X[order].tolist() or rows.tobytes() == X[order].tobytes(), name


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 0), (0, 4), (0,), (30, 2, 3, 4, 5)])
def test_rows_of_any_shape(shape, rng):
    X = rng.normal(size=shape)
    got = list(minibatches(X, np.arange(len(X)), batch_size=8, seed=0))
    assert len(got) == -(-len(X) // 8)
    for rows, order in got:
        np.testing.assert_array_equal(rows, X[order])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("to", ["float32", "float64"])
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_conversions_are_those_of_numpy(dtype, to, isa, engine, rng):
    engine(isa=isa)
    X = numbers(rng, (50, 37), dtype)
    if dtype.kind in "iu":
        X.flat[:4] = [np.iinfo(dtype).max, np.iinfo(dtype).min, np.iinfo(dtype).max - 1, np.iinfo(dtype).max // 3]
    for name, laid in layouts(X):
        (rows,) = next(minibatches(laid, batch_size=50, shuffle=False, dtype=to))
        assert rows.dtype == to
        np.testing.assert_array_equal(rows, X.astype(to), err_msg=name)


@pytest.mark.parametrize(
    ("given", "found"), [("f4", "float32"), (np.float32, "float32"), (float, "float64"), (np.dtype("d"), "float64")]
)
def test_a_dtype_is_what_numpy_takes_for_one(given, found):
    (rows,) = next(minibatches(np.arange(3), dtype=given))
    assert rows.dtype == found


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "threads"), TEAMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
def test_standardised_batches_are_the_specification(dtype, isa, layer, threads, engine, rng):
    engine(isa=isa, layer=layer, threads=threads)
    X = numbers(rng, (90, 17), np.dtype(dtype))
    standardizer = Standardizer().fit(X)
    expected = "float64" if dtype in ("float64", "int64") else "float32"
    for name, laid in layouts(X):
        for rows, order in minibatches(laid, np.arange(90), batch_size=40, seed=1, standardize=standardizer):
            spec = reference.standardised(X[order], standardizer.mean_, standardizer.scale_, expected)
            assert rows.dtype == expected
            np.testing.assert_array_equal(rows, spec, err_msg=name)
    for given in ("float32", "float64"):
        (rows,) = next(minibatches(X, standardize=standardizer, dtype=given))
        assert rows.dtype == given
        spec = reference.standardised(X, standardizer.mean_, standardizer.scale_, given)
        np.testing.assert_array_equal(rows, spec)


def test_no_digit_of_a_large_mean_is_lost():
    X = (1e6 + np.random.default_rng(0).integers(0, 8, (1000, 3))).astype(np.float32)
    standardizer = Standardizer().fit(X)
    exact = (X.astype(float) - standardizer.mean_) / standardizer.scale_
    np.testing.assert_allclose(standardizer.transform(X), exact, rtol=1e-6, atol=1e-6)


def test_a_standardizer_of_channels(rng):
    X = rng.integers(0, 256, (20, 4, 5, 3)).astype(np.uint8)
    mean, scale = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
    (rows,) = next(minibatches(X, standardize=Standardizer.of(mean, scale)))
    np.testing.assert_array_equal(rows, reference.standardised(X, mean, scale, "float32"))


def test_batches_are_fresh_unless_buffers_are_reused():
    X = np.arange(40.0)
    fresh = [rows for (rows,) in minibatches(X, batch_size=4, seed=0)]
    assert len({rows.ctypes.data for rows in fresh}) == 10
    for prefetch in (0, 2):
        batches = minibatches(X, batch_size=4, seed=0, reuse=True, prefetch=prefetch)
        addresses = set()
        for expected, (rows,) in zip(fresh, batches, strict=True):
            np.testing.assert_array_equal(rows, expected)  # also while others are made ahead
            addresses.add(rows.ctypes.data)
        assert len(addresses) <= prefetch + 1


def test_the_data_are_never_handed_out():
    X = np.arange(10.0)
    for batch_size in (None, 3):
        for (rows,) in minibatches(X, batch_size=batch_size, shuffle=False):
            rows[...] = -1
    np.testing.assert_array_equal(X, np.arange(10.0))


def test_prefetching_gives_what_is_raised_to_the_caller_and_goes_on(monkeypatch):
    expected = [list(rows) for (rows,) in minibatches(np.arange(10), batch_size=2, seed=0)]
    batches = minibatches(np.arange(10), batch_size=2, seed=0, prefetch=2)
    make = batches._make
    assert list(next(batches)[0]) == expected[0]
    monkeypatch.setattr(batches, "_make", lambda number: 1 / 0 if number == 3 else make(number))
    got = []
    for _ in range(6):
        try:
            got.append(list(next(batches)[0]))
        except ZeroDivisionError:
            got.append(None)
            monkeypatch.setattr(batches, "_make", make)
        except StopIteration:
            break
    assert got == [expected[1], expected[2], None, expected[3], expected[4]]


def test_batches_made_ahead_are_dropped_with_the_position():
    expected = [list(rows) for (rows,) in minibatches(np.arange(20), batch_size=2, seed=0)]
    batches = minibatches(np.arange(20), batch_size=2, seed=0, prefetch=2)
    begin = batches.state_dict()
    assert [list(next(batches)[0]) for _ in range(2)] == expected[:2]
    batches.load_state_dict(begin)
    assert [list(rows) for (rows,) in batches] == expected


class InterruptAt:
    """Ctrl-C before the n-th instruction that the package's own Python code does here."""

    def __init__(self, n):
        self.left = n

    def __call__(self, frame, event, argument):
        if not frame.f_globals["__name__"].startswith("gradstep."):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.left -= event == "opcode"
        if event == "opcode" and self.left == 0:
            raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("reuse", [False, True])
def test_an_interrupt_anywhere_leaves_batches_that_go_on(reuse):
    settings = {"batch_size": 2, "seed": 0, "prefetch": 2, "reuse": reuse}
    expected = [list(rows) for (rows,) in minibatches(np.arange(14), **settings)]
    before, interrupted = sys.gettrace(), 0
    for n in itertools.count(1):
        batches, at = minibatches(np.arange(14), **settings), InterruptAt(n)
        try:
            sys.settrace(at)
            for _ in range(3):
                next(batches)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        if at.left > 0:
            break
        given = batches.state_dict()["batches"]
        assert [list(rows) for (rows,) in batches] == expected[given:], n
    assert interrupted > 200


def soon(holds):
    """Wait until something holds, for 10 s at most; return whether it does."""
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def slowly(batches, made):
    """Let each batch but the first take 50 ms, and note its number."""
    make = batches._make

    def slow(number):
        time.sleep(0.05 * (number > 0))
        made.append(number)
        return make(number)

    batches._make = slow


def test_all_that_are_wanted_are_made_ahead():
    batches, made = minibatches(np.arange(20), batch_size=2, seed=0, prefetch=4), []
    slowly(batches, made)
    next(batches)
    soon(lambda: len(made) >= 5)
    time.sleep(0.1)
    assert made == [0, 1, 2, 3, 4]


def test_nobody_waits_for_batches_that_were_dropped():
    batches, made = minibatches(np.arange(200), batch_size=2, seed=0, prefetch=90), []
    slowly(batches, made)
    begin = batches.state_dict()
    next(batches)
    batches.load_state_dict(begin)
    next(batches)
    assert made[-1] == 0
    assert len(made) <= 5  # of those dropped, one was being made and one waited


def test_batches_made_ahead_do_not_keep_the_data():
    batches = minibatches(np.arange(200), batch_size=2, seed=0, prefetch=5)
    gc.disable()
    try:
        next(batches)
        known = weakref.ref(batches)
        del batches
        assert soon(lambda: known() is None)
    finally:
        gc.enable()


def test_nobody_keeps_a_batch_that_was_handed_out():
    batches = minibatches(np.arange(20), batch_size=2, seed=0, prefetch=1)
    batch = next(batches)[0]
    known = weakref.ref(batch)
    assert soon(lambda: batches._ahead._batches[1]._over)
    del batch
    assert known() is None
    last = weakref.ref(list(batches)[-1][0])
    assert soon(lambda: last() is None)


@pytest.mark.parametrize("taken", [False, True])
def test_an_error_in_a_batch_keeps_nothing(taken):
    batches = minibatches(np.arange(20), batch_size=2, seed=0, prefetch=2)
    known = weakref.ref(batches)
    make = type(batches)._make
    batches._make = lambda number: 1 / 0 if number or taken else make(known(), number)
    gc.disable()
    try:
        if taken:
            with pytest.raises(ZeroDivisionError):
                next(batches)
        else:
            next(batches)
        batches._ahead._batches[2].wait()
        del batches
        assert soon(lambda: known() is None)
    finally:
        gc.enable()


def test_batches_at_the_end_of_the_program_are_made_by_who_asks():
    code = """
    import atexit, numpy as np, gradstep as gs
    from gradstep.data import ahead
    begun, new = (gs.data.minibatches(np.arange(60), batch_size=2, seed=0, prefetch=2) for _ in range(2))
    next(begun)
    def late():
        for batches in (begun, new):
            print([list(rows) for (rows,) in batches])
    atexit.unregister(ahead._end)
    atexit.register(late)
    atexit.register(ahead._end)  # so that it is over before
    """
    expected = [list(rows) for (rows,) in minibatches(np.arange(60), batch_size=2, seed=0)]
    done = run(code, timeout=20)
    assert done.stdout.splitlines() == [str(expected[1:]), str(expected)], done.stderr


def test_where_no_thread_starts_batches_are_made_by_who_asks(monkeypatch):
    def refuse(*given):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("gradstep.data.ahead.start_new_thread", refuse)
    expected = [list(rows) for (rows,) in minibatches(np.arange(10), batch_size=2, seed=0)]
    assert [list(rows) for (rows,) in minibatches(np.arange(10), batch_size=2, seed=0, prefetch=2)] == expected


def test_a_batch_that_the_end_of_the_program_left_out_is_made_by_who_waits(monkeypatch):
    monkeypatch.setattr("gradstep.data.ahead._ending", False)
    batches = minibatches(np.arange(10), batch_size=2, seed=0, prefetch=2)
    expected = [list(rows) for (rows,) in minibatches(np.arange(10), batch_size=2, seed=0)]
    slowly(batches, [])
    assert list(next(batches)[0]) == expected[0]
    monkeypatch.setattr("gradstep.data.ahead._ending", True)  # batch 1 is being made, 2 is skipped
    batches._ahead._batches[2].wait()
    assert batches._ahead._batches[2]._content is None
    monkeypatch.setattr("gradstep.data.ahead._ending", False)
    assert [list(rows) for (rows,) in batches] == expected[1:]


def test_the_end_of_the_program_does_not_wait_for_batches():
    code = """
    import time, numpy as np, gradstep as gs
    batches = gs.data.minibatches(np.arange(2000), batch_size=2, seed=0, prefetch=900)
    make = batches._make
    batches._make = lambda number: (number and time.sleep(0.05), make(number))[1]
    next(batches)
    """
    assert not run(code, timeout=20).stderr


def test_a_forked_child_goes_on():
    script = """
import os, numpy as np, gradstep as gs
batches = gs.data.minibatches(np.arange(1000), batch_size=10, seed=0, prefetch=2)
expected = [int(r.sum()) for (r,) in gs.data.minibatches(np.arange(1000), batch_size=10, seed=0)]
assert int(next(batches)[0].sum()) == expected[0]
child = os.fork()
assert [int(r.sum()) for (r,) in batches] == expected[1:]
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- augmentation


def augmented(images, order, seed, epoch, *, flip=False, shift=(0, 0), crop=None, noise=0.0, fill=0.0, first=0):
    """The specification, an image at a time."""
    height, width = images.shape[1:3]
    h, w = crop or (height, width)
    out = []
    for position, row in enumerate(order, first):
        words = [int(x) for x in reference.draw(reference.PLACING, position, epoch, seed)]
        y = (words[1] * (height - h + 2 * shift[0] + 1) >> 32) - shift[0]
        x = (words[2] * (width - w + 2 * shift[1] + 1) >> 32) - shift[1]
        image = np.full((h, w, *images.shape[3:]), fill, images.dtype)
        for i, j in itertools.product(range(h), range(w)):
            if 0 <= y + i < height and 0 <= x + j < width:
                image[i, j] = images[row, y + i, x + j]
        if flip and words[0] >> 31:
            image = image[:, ::-1].copy()
        if noise:
            normal = reference.normal(np.arange(image.size), position, epoch, seed).reshape(image.shape)
            image = (image + noise * normal).astype(images.dtype)
        out.append(image)
    return np.stack(out)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "threads"), TEAMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "float16"])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_augmentation_is_the_specification(channels, dtype, isa, layer, threads, engine, rng):
    engine(isa=isa, layer=layer, threads=threads)
    images = numbers(rng, (12, 7, 9, *channels), np.dtype(dtype))
    floats = dtype in ("float32", "float64")
    for given in (
        {"flip": True},
        {"shift": 2},
        {"shift": (0, 10)},
        {"crop": (3, 4)},
        {"crop": (9, 8), "shift": 1, "flip": True, "fill": 5},
        *([{"noise": 0.5}, {"noise": 2.0, "shift": 1, "flip": True, "fill": -0.5}] if floats else []),
    ):
        spec = {
            **given,
            "shift": given["shift"] if isinstance(given.get("shift"), tuple) else (given.get("shift", 0),) * 2,
        }
        batches = minibatches(images, np.arange(12), batch_size=5, seed=6, epochs=2, augment=Augment(**given))
        for number, (rows, order) in enumerate(batches):
            expected = augmented(images, order, 6, number // 3, first=number % 3 * 5, **spec)
            assert rows.dtype == images.dtype
            np.testing.assert_array_equal(rows, expected, err_msg=str(given))


def test_images_are_standardised_before_they_are_augmented(rng):
    images = rng.integers(0, 256, (10, 6, 6)).astype(np.uint8)
    standardizer = Standardizer().fit(images)
    augment = Augment(shift=2, flip=True, noise=0.1)
    for rows, order in minibatches(
        images, np.arange(10), batch_size=10, seed=1, standardize=standardizer, augment=augment
    ):
        wide = standardizer.transform(images)
        np.testing.assert_array_equal(rows, augmented(wide, order, 1, 0, flip=True, shift=(2, 2), noise=0.1))


def test_augmented_images_of_any_layout(rng):
    images = rng.normal(size=(8, 5, 4, 3))
    expected, _ = next(
        minibatches(images, np.arange(8), batch_size=8, seed=3, augment=Augment(shift=1, flip=True, noise=1))
    )
    for name, laid in layouts(images):
        rows, _ = next(
            minibatches(laid, np.arange(8), batch_size=8, seed=3, augment=Augment(shift=1, flip=True, noise=1))
        )
        np.testing.assert_array_equal(rows, expected, err_msg=name)


def test_the_shape_of_augmented_images():
    assert Augment().out_shape((5, 6)) == (5, 6)
    assert Augment(shift=2, flip=True).out_shape((5, 6, 1)) == (5, 6, 1)
    assert Augment(crop=(3, 4)).out_shape((5, 6, 3)) == (3, 4, 3)
    assert Augment(crop=(7, 6), shift=(1, 0)).out_shape((5, 6)) == (7, 6)
    with pytest.raises(ValueError, match=r"crop: expected at most \(5, 6\) and twice the shift, got \(7, 7\)"):
        Augment(crop=(7, 7), shift=(1, 0)).out_shape((5, 6))
    for shape in ((5,), (5, 6, 3, 1), (2**30 + 1, 1)):
        with pytest.raises(ValueError, match="scans: expected images of shape"):
            Augment().out_shape(shape, "scans")


def test_images_vary_from_epoch_to_epoch_and_not_with_the_batch_size():
    images = np.random.default_rng(0).normal(size=(6, 8, 8))
    augment = Augment(noise=1.0, flip=True, shift=3)
    by_two, by_five = (
        np.concatenate([r for (r,) in minibatches(images, batch_size=k, seed=0, epochs=2, augment=augment)])
        for k in (2, 5)
    )
    np.testing.assert_array_equal(by_two, by_five)
    assert not (np.sort(by_two[:6].sum((1, 2))) == np.sort(by_two[6:].sum((1, 2)))).any()


def test_noise_is_normal():
    images = np.zeros((40, 50, 50))
    (rows,) = next(minibatches(images, augment=Augment(noise=1.0), seed=0))
    x = np.sort(rows.ravel())
    n = len(x)
    normal = 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x]))
    distance = np.max(np.abs(normal - (np.arange(n) + 0.5) / n))
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov, 1 in 1,000
    assert len(np.unique(x)) > 0.99 * n
    pairs = rows.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.02


# --- moments


def moments(X):
    """The specification: chunks in two passes, joined in turn, blocks likewise."""
    X = X.reshape(len(X), -1).astype(float)
    near = 0.0

    def joined(a, b):
        with np.errstate(all="ignore"):
            n, d = a[0] + b[0], b[1] - a[1]
            share = b[0] / n
            both = np.stack((n, a[1] + d * share, a[2] + b[2] + d * d * (a[0] * share)))
        return np.where(a[0] == 0, b, np.where(b[0] == 0, a, both))

    def of_chunk(chunk):
        total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for row in chunk:
            total += np.where(np.isnan(row), 0, row - near)
            count += ~np.isnan(row)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        squares = np.zeros_like(total)
        for row in chunk:
            d = np.where(np.isnan(row), 0, (row - near) - mean)
            squares += d * d
        return np.stack((count, mean, squares))

    def of_block(block):
        found = np.zeros((3, X.shape[1]))
        for at in range(0, len(block), reference.CHUNK):
            found = joined(found, of_chunk(block[at : at + reference.CHUNK]))
        return found

    near = of_chunk(X[: reference.CHUNK])[1]
    found = of_block(X[: reference.BLOCK])
    for at in range(reference.BLOCK, len(X), reference.BLOCK):
        found = joined(found, of_block(X[at : at + reference.BLOCK]))
    return found.T


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "threads"), TEAMS)
@pytest.mark.parametrize("shape", [(1, 1), (63, 5), (64, 32), (65, 33), (1024, 3), (1025, 31), (3000, 40), (5, 2100)])
def test_moments_are_the_specification(shape, isa, layer, threads, engine, rng):
    engine(isa=isa, layer=layer, threads=threads)
    X = rng.normal(5, 3, shape)
    X[rng.random(shape) < 0.1] = np.nan
    for name, laid in layouts(X):
        np.testing.assert_array_equal(Standardizer().fit(laid)._moments, moments(X), err_msg=name)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_moments_of_any_numbers(dtype, rng):
    X = numbers(rng, (200, 6), dtype)
    found = Standardizer().fit(X)
    np.testing.assert_allclose(found.mean_, X.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.var_, X.astype(float).var(0), rtol=1e-12)


@pytest.mark.parametrize("begin", [0, 64, 3000, 6000])  # of a sensor that starts late
@pytest.mark.parametrize("offset", [0.0, 1e5, 1e7, 1e9, 1e12, -1e15])
def test_moments_of_numbers_far_from_zero(offset, begin, rng):
    X = rng.integers(0, 1024, (20_000, 3)) / 1024 + offset
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:begin, 0] = np.nan
    kept = [Fraction(x) for x in X[:, 0] if x == x]
    mean = sum(kept) / len(kept)
    variance = sum((x - mean) ** 2 for x in kept) / len(kept)
    found = Standardizer()
    for part in np.split(X, [7, 5000]):
        found.partial_fit(part)
    for standardizer in (found, Standardizer().fit(X)):
        assert abs(Fraction(standardizer.var_[0]) / variance - 1) < 1e-14
        assert abs(Fraction(standardizer.mean_[0]) - mean) <= Fraction(np.spacing(abs(offset) + 1))


def test_columns_that_differ_by_rounding_alone_are_constant():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X = np.tile([1e8, 1.0, 3.0], (1000, 1))
    X[::2] += [1e-5, 1e-17, 1.0]
    assert Standardizer().fit(X).scale_.tolist() == pytest.approx(preprocessing.StandardScaler().fit(X).scale_.tolist())


def test_scales_beyond_float32_are_refused():
    X = np.array([[1e-40], [2e-40], [3e-40]], "f4")
    found = Standardizer().fit(X)
    for use in (found.transform, lambda X: minibatches(X, standardize=found)):
        with pytest.raises(ValueError, match=r"can scale by .*; convert them to float64"):
            use(X)
    assert np.allclose(found.transform(X.astype("f8"))[:, 0], [-1.2247, 0, 1.2247], atol=1e-3)
    with pytest.raises(ValueError, match="convert them to float64"):
        Standardizer.of(0, 1e39).inverse_transform(np.array([[0.1]], "f4"))
    with pytest.raises(ValueError, match=r"float32 can shift by -1e\+40; convert them to float64"):
        Standardizer.of(1e20, 1e-20).inverse_transform(np.zeros((1, 1), "f4"))
    with pytest.raises(ValueError, match=r"float64 can shift by -inf$"):
        Standardizer.of(1e200, 1e-200).inverse_transform(np.zeros((1, 1)))
    for scale in (1e50, 1e44, 1e40):  # the inverses of the latter two are subnormal in float32
        with pytest.raises(ValueError, match="float32 can scale by 1e-"):
            Standardizer.of(0, scale).transform(np.full((1, 1), 3e38, "f4"))
    assert np.isinf(Standardizer.of(0, 1e300).var_)


@pytest.mark.parametrize(("outliers", "by"), [(64, 1e8), (1, 1e8), (70, 1e8)])
@pytest.mark.parametrize("parts", [1, 3, 2_000])
def test_first_rows_that_are_unlike_the_others(outliers, by, parts, rng):
    X = rng.normal(size=(300_000 if parts < 100 else parts, 2))
    X[:outliers, 0] += by
    found = Standardizer()
    for rows in np.array_split(X, parts):
        found.partial_fit(rows)
    mean = np.array([math.fsum(column) / len(X) for column in X.T])
    wide = X.astype(np.longdouble) - mean
    scale = np.sqrt((wide**2).mean(0))
    assert (np.abs(found.mean_ - mean) <= 1e-12 * np.maximum(np.abs(mean), 1)).all()
    np.testing.assert_allclose(found.scale_, scale.astype(float), rtol=1e-12)
    np.testing.assert_allclose(found.transform(X), (wide / scale).astype(float), rtol=0, atol=1e-12)


def test_a_failed_second_pass_changes_nothing(rng):
    X, Y = rng.normal(size=(64, 2)), rng.normal(size=(10_000, 2))
    X[:, 0] += 1e8  # far from the others in Y
    Y[5, 1] = np.inf
    standardizer = Standardizer().fit(X)
    before = pickle.dumps(vars(standardizer))
    for bad in (Y, [[1e200, 1.0]]):
        with pytest.raises(ValueError, match="X: expected finite numbers"):
            standardizer.partial_fit(bad)
        assert pickle.dumps(vars(standardizer)) == before


def test_rows_without_bytes():
    for dtype in (np.dtype([]), np.dtype("V0"), np.dtype([("a", "V0")])):
        for prefetch in (0, 1):
            batches = minibatches(np.zeros((6, 3), dtype), np.arange(6), batch_size=4, seed=0, prefetch=prefetch)
            assert [(rows.shape, rows.dtype, len(y)) for rows, y in batches] == [((4, 3), dtype, 4), ((2, 3), dtype, 2)]


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_it_agrees_with_scikit_learn(dtype, with_std, with_mean, rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X = (rng.normal(100, 20, (5000, 12)) * np.logspace(-3, 3, 12)).astype(dtype)
    X[:, 3] = 7  # constant
    if dtype != "int64":
        X[rng.random(X.shape) < 0.05] = np.nan
        X[:, 4] = np.nan
        X[:, 5] = 0.1 if dtype == "float64" else X[:, 5]
    with np.errstate(invalid="ignore"):  # of a column of NaN
        theirs = preprocessing.StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    ours = Standardizer(with_mean=with_mean, with_std=with_std).fit(X)
    if theirs.mean_ is not None:
        np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
    if with_std:
        np.testing.assert_allclose(ours.var_, theirs.var_, rtol=1e-12, atol=1e-25)
        np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-12)
    else:
        assert ours.scale_ is None
    np.testing.assert_array_equal(ours.n_samples_seen_, theirs.n_samples_seen_)
    tolerance = 1e-12 if dtype != "float32" else 1e-6
    got, expected = ours.transform(X), theirs.transform(X)
    assert got.dtype == expected.dtype
    size = np.nanmax(np.abs(expected), axis=0, initial=1)
    np.testing.assert_allclose(got / size, expected / size, rtol=tolerance, atol=tolerance)
    back = ours.inverse_transform(got)
    np.testing.assert_allclose(back, theirs.inverse_transform(expected), rtol=tolerance, atol=tolerance)


def test_partial_fits_join(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X = rng.normal(10, 3, (1000, 5))
    X[rng.random(X.shape) < 0.1] = np.nan
    ours, theirs = Standardizer(), preprocessing.StandardScaler()
    for part in np.split(X, [50, 300, 350, 900]):
        assert ours.partial_fit(part) is ours
        with np.errstate(invalid="ignore"):
            theirs.partial_fit(part)
        np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
        np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-12)
    np.testing.assert_array_equal(ours.n_samples_seen_, theirs.n_samples_seen_)
    ours.fit(X[:10])
    np.testing.assert_allclose(ours.mean_, Standardizer().fit(X[:10]).mean_)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_place(dtype, rng):
    X = rng.normal(5, 2, (100, 7)).astype(dtype)
    original = X.copy()
    standardizer = Standardizer().fit(X)
    expected = standardizer.transform(X)
    np.testing.assert_array_equal(X, original)
    standardizer.transform(X, copy=False)
    np.testing.assert_array_equal(X, expected)
    standardizer.inverse_transform(X, copy=False)
    np.testing.assert_allclose(
        X, original, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6 if dtype == "float32" else 1e-15
    )


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2)])
def test_rows_of_another_shape_than_was_fitted_are_refused(shape, rng):
    fitted = gs.data.Standardizer().fit(rng.normal(size=shape))
    for other in {(4,), (4, 1), (4, 2), (4, 3)} - {(4, *shape[1:])}:
        for apply in (fitted.transform, fitted.inverse_transform):
            with pytest.raises(ValueError, match="X: expected rows of shape"):
                apply(np.ones(other))
        with pytest.raises(ValueError, match="expected rows of shape"):
            gs.data.minibatches(np.ones(other), standardize=fitted)


def test_rows_of_any_shape_are_standardised(rng):
    for shape in ((50,), (50, 2, 3), (50, 0)):
        X = rng.normal(5, 2, shape)
        standardizer = Standardizer().fit(X)
        assert standardizer.mean_.shape == shape[1:]
        np.testing.assert_allclose(standardizer.transform(X), (X - X.mean(0)) / X.std(0), rtol=1e-12, atol=1e-12)


# --- errors


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "at least one array", lambda: minibatches()),
        (ValueError, r"arrays\[1\]: expected 3 rows", lambda: minibatches(np.ones(3), np.ones(4))),
        (ValueError, r"arrays\[0\]: .*0-d", lambda: minibatches(np.ones(()))),
        (TypeError, "got csr_matrix", lambda: minibatches(csr_matrix(np.eye(3)))),
        (TypeError, "masked", lambda: minibatches(np.ma.masked_array([1, 2], [0, 1]))),
        (ValueError, "batch_size", lambda: minibatches(np.ones(3), batch_size=0)),
        (TypeError, "batch_size", lambda: minibatches(np.ones(3), batch_size=1.5)),
        (ValueError, "batch_size", lambda: minibatches(np.ones(3), batch_size=4, drop_last=True)),
        (TypeError, "shuffle", lambda: minibatches(np.ones(3), shuffle=1)),
        (TypeError, "replace", lambda: minibatches(np.ones(3), replace=None)),
        (TypeError, "drop_last", lambda: minibatches(np.ones(3), drop_last="no")),
        (TypeError, "reuse", lambda: minibatches(np.ones(3), reuse=0)),
        (ValueError, "seed", lambda: minibatches(np.ones(3), seed=-1)),
        (ValueError, "seed", lambda: minibatches(np.ones(3), seed=2**64)),
        (TypeError, "seed", lambda: minibatches(np.ones(3), seed="x")),
        (ValueError, "epochs", lambda: minibatches(np.ones(3), epochs=-1)),
        (ValueError, "epochs", lambda: minibatches(np.ones(3), epochs=2**31)),
        (ValueError, "prefetch", lambda: minibatches(np.ones(3), prefetch=-1)),
        (ValueError, "dtype", lambda: minibatches(np.ones(3), dtype="float16")),
        (ValueError, "dtype: expected float32 or float64, .* got 'nonsense'", lambda: minibatches(np.ones(3), dtype="nonsense")),
        (TypeError, "dtype: expected float32 or float64, .* got 3", lambda: minibatches(np.ones(3), dtype=3)),
        (TypeError, r"dtype: expected float32 or float64, .* got \[1, 2\]", lambda: minibatches(np.ones(3), dtype=[1, 2])),
        (ValueError, "dtype: .* order of bytes, got '[<>]f4'", lambda: minibatches(np.ones(3), dtype=SWAPPED.str)),
        (ValueError, "dtype: .* order of bytes, got dtype", lambda: minibatches(np.ones(3), dtype=SWAPPED)),
        (TypeError, r"arrays\[2\]: expected an array of rows, got 32; .* batch_size=32", lambda: minibatches(np.ones(3), np.ones(3), 32)),
        (TypeError, "got NoneType", lambda: minibatches(None)),
        (ValueError, r"arrays\[0\]", lambda: minibatches([[1, 2], [3]])),
        (TypeError, "order of bytes", lambda: Standardizer().fit(np.ones((3, 2), ">f8"))),
        (ValueError, "fill", lambda: minibatches(np.ones((3, 2, 2), np.float16), augment=Augment(fill=1e6))),
        (ValueError, "inverse", lambda: Standardizer.of(0, 1e-310)),
        (ValueError, "scale: expected a shape", lambda: Standardizer.of([1, 2, 3], [1, 2])),
        (TypeError, "real numbers|expected numbers", lambda: minibatches(np.ones(3, complex), dtype="float32")),
        (TypeError, "standardize", lambda: minibatches(np.ones(3), standardize=True)),
        (ValueError, "fit", lambda: minibatches(np.ones(3), standardize=Standardizer())),
        (ValueError, "rows of shape", lambda: minibatches(np.ones((3, 2)), standardize=Standardizer().fit(np.ones((3, 5))))),
        (TypeError, "augment", lambda: minibatches(np.ones((3, 2, 2)), augment={"flip": True})),
        (ValueError, "images of shape", lambda: minibatches(np.ones((3, 2)), augment=Augment())),
        (ValueError, "crop", lambda: minibatches(np.ones((3, 2, 2)), augment=Augment(crop=(3, 2)))),
        (TypeError, "noise", lambda: minibatches(np.ones((3, 2, 2), int), augment=Augment(noise=1))),
        (ValueError, "fill", lambda: minibatches(np.ones((3, 2, 2), np.uint8), augment=Augment(fill=0.5))),
        (TypeError, "images of real", lambda: minibatches(np.ones((3, 2, 2), "U3"), augment=Augment())),
        (TypeError, "own order of bytes, got >f4", lambda: minibatches(np.ones((3, 2, 2), ">f4"), augment=Augment())),
        (TypeError, "flip", lambda: Augment(flip=1)),
        (TypeError, "shift", lambda: Augment(shift=(1, 2, 3))),
        (ValueError, "shift", lambda: Augment(shift=-1)),
        (ValueError, "crop", lambda: Augment(crop=(0, 1))),
        (TypeError, "crop", lambda: Augment(crop=3)),
        (ValueError, "noise", lambda: Augment(noise=math.nan)),
        (ValueError, "fill", lambda: Augment(fill=math.inf)),
        (TypeError, "with_mean", lambda: Standardizer(with_mean=1)),
        (TypeError, "real numbers", lambda: Standardizer().fit(np.array(["a"]))),
        (ValueError, "one row", lambda: Standardizer().fit(np.ones((0, 3)))),
        (ValueError, "0-d", lambda: Standardizer().fit(3.0)),
        (ValueError, "infinity", lambda: Standardizer().fit(np.array([1.0, math.inf]))),
        (ValueError, "infinity", lambda: Standardizer().fit(np.array([1e308, -1e308] * 2))),
        (ValueError, "fit", lambda: Standardizer().transform(np.ones((3, 2)))),
        (ValueError, "rows of shape", lambda: Standardizer().fit(np.ones((3, 2))).partial_fit(np.ones((3, 3)))),
        (ValueError, "rows of shape", lambda: Standardizer().fit(np.ones((3, 2))).transform(np.ones((3, 3)))),
        (TypeError, "X: expected float32 or float64 to write to, got int64", lambda: Standardizer().fit(np.ones((3, 2))).transform(np.ones((3, 2), int), copy=False)),
        (TypeError, "X: expected float32", lambda: Standardizer().fit(np.ones((3, 2))).transform(np.ones((3, 2), np.float16), copy=False)),
        (ValueError, "scale", lambda: Standardizer.of(0, [1, 0])),
        (TypeError, "mean", lambda: Standardizer.of("x", 1)),
        (ValueError, "mean", lambda: Standardizer.of(math.nan, 1)),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_it_is_a_transformer():
    X = np.arange(6.0).reshape(3, 2)
    standardizer = Standardizer(with_std=False)
    np.testing.assert_array_equal(standardizer.fit_transform(X), X - X.mean(0))
    assert pytest.importorskip("sklearn.base").clone(standardizer).with_std is False


def test_parameters_are_set(rng):
    X = rng.normal(5, 2, (20, 3))
    standardizer = Standardizer().fit(X)
    assert standardizer.set_params(with_std=False) is standardizer
    np.testing.assert_array_equal(standardizer.transform(X), Standardizer(with_std=False).fit_transform(X))
    assert (standardizer.get_params(), standardizer.scale_) == ({"with_mean": True, "with_std": False}, None)
    standardizer.set_params(with_mean=False, with_std=True)
    np.testing.assert_array_equal(standardizer.transform(X), Standardizer(with_mean=False).fit_transform(X))
    assert Standardizer.of(0, 2).set_params(with_std=False).transform([[1.0]]) == 1
    with pytest.raises(ValueError, match="with_sd: expected with_mean or with_std"):
        standardizer.set_params(with_mean=True, with_sd=True)
    with pytest.raises(TypeError, match="with_std: expected True or False, got 'no'"):
        standardizer.set_params(with_mean=True, with_std="no")
    assert standardizer.get_params() == {"with_mean": False, "with_std": True}


def test_it_goes_into_pipelines_and_grid_search(rng):
    pytest.importorskip("sklearn", minversion="1.6")
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.utils.validation import check_is_fitted

    X = rng.normal(5, 2, (60, 3))
    y = X[:, 0] > 5
    pipeline = make_pipeline(Standardizer(), LogisticRegression())
    for checked in (pipeline, pipeline[0]):
        with pytest.raises(NotFittedError):
            check_is_fitted(checked)
    search = GridSearchCV(pipeline, {"standardizer__with_std": [True, False]}, error_score="raise").fit(X, y)
    check_is_fitted(search.best_estimator_)
    check_is_fitted(search.best_estimator_[0])
    assert search.score(X, y) > 0.9
    X[0, 0] = np.nan
    assert np.isnan(make_pipeline(Standardizer()).fit_transform(X)).sum() == 1


def test_no_more_batches_are_made_ahead_than_there_are():
    batches = minibatches(np.arange(10), batch_size=4, prefetch=10**18, reuse=True, seed=0)
    assert [len(rows) for (rows,) in batches] == [4, 4, 2]


def test_a_failed_fit_changes_nothing():
    standardizer = Standardizer().fit(np.arange(6.0).reshape(3, 2))
    before = standardizer.mean_.copy()
    for bad in (np.full((2, 2), np.inf), np.ones((2, 3)), np.ones((0, 2))):
        with pytest.raises(ValueError, match="X"):
            standardizer.partial_fit(bad)
    np.testing.assert_array_equal(standardizer.mean_, before)


def test_read_only_rows_are_not_written_to():
    X = np.arange(6.0).reshape(3, 2)
    standardizer = Standardizer().fit(X)
    X.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        standardizer.transform(X, copy=False)
    assert list(minibatches(X, batch_size=2, seed=0))


def test_a_training_loop_sees_every_row(rng):
    X, w = rng.normal(size=(200, 3)), np.array([1.0, -2.0, 3.0])
    y, params = X @ w, np.zeros(3)
    opt = gs.SGD(params, lr=0.1)
    for a, b in gs.data.minibatches(X, y, batch_size=16, seed=0, epochs=20, prefetch=1):
        opt.step(a.T @ (a @ params - b) / len(b))
    np.testing.assert_allclose(params, w, atol=1e-6)
