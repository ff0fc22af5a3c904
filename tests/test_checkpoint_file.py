"""Checkpoint files: what was written comes back, a crash leaves one whole file, and no bytes do harm."""

import errno
import gc
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from gradstep import checkpoint
from script import run

DTYPES = [np.dtype(t) for t in ("f2", "f4", "f8", "c8", "c16", "i8")]
try:
    from ml_dtypes import bfloat16
except ImportError:
    pass
else:
    DTYPES.append(np.dtype(bfloat16))

LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "axes reversed": lambda a: a.T,
    "backwards": lambda a: a[(..., *[slice(None, None, -1)] * a.ndim)],
    "every other": lambda a: a[..., ::2] if a.ndim else a,
    "axes rotated": lambda a: np.moveaxis(a, 0, -1) if a.ndim else a,
    "repeated": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}
FACTS = {"lr": 0.1, "steps": [1, 2], "rule": "adamw", "nesterov": False, "more": {"é": None}}


@st.composite
def any_array(draw):
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    seed = draw(st.integers(0, 1 << 32))
    bits = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)  # NaNs of all kinds among them
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](np.frombuffer(bytearray(bits), dtype).reshape(shape))


any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates too
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=8,
)


def same(arrays, others):
    return list(arrays) == list(others) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(arrays.values(), others.values(), strict=True)
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def small():
    return {"exp_avg/0": np.float32([1, 2]), "../\0": np.arange(6.0).reshape(2, 3).T, "n": np.zeros((), np.int64)}


@pytest.fixture(scope="module")
def spare():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "spare.npz")


# What was written comes back.


@given(facts=st.dictionaries(any_text, any_json), arrays=st.dictionaries(any_text, any_array(), max_size=3))
@settings(max_examples=300, deadline=None)
def test_round_trip(spare, facts, arrays):
    checkpoint.write(spare, facts, arrays)
    got_facts, got = checkpoint.read(spare)
    assert repr(got_facts) == repr(facts)  # tells 1 from 1.0 and True, and -0.0 from 0.0
    assert same(got, arrays)
    for name, array in got.items():
        assert array.flags.fnc == arrays[name].flags.fnc  # else its bytes would be copied to be written
        assert array.flags.writeable
        assert array.flags.owndata
        assert array.flags.c_contiguous or array.flags.f_contiguous
    with np.load(spare, allow_pickle=False) as entries:  # warnings are errors
        assert entries.files == ["facts", *map(str, range(len(arrays)))]
        for i, array in enumerate(arrays.values()):
            stored = entries[str(i)]
            assert stored.shape == array.shape
            assert stored.dtype == (np.uint16 if array.dtype.name == "bfloat16" else array.dtype)
            assert stored.tobytes() == array.tobytes()
    with zipfile.ZipFile(spare) as archive:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0, 1 << 40), (1,) * 32, (1 << 19, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shapes(tmp_path, dtype, shape):
    arrays = {"x" * 100_000: np.ones(shape, dtype), "": np.asfortranarray(np.ones(shape, dtype))}
    checkpoint.write(tmp_path / "a", {}, arrays)
    assert same(checkpoint.read(tmp_path / "a")[1], arrays)


def test_pairs_of_surrogates_are_not_joined(tmp_path):
    facts, arrays = {"\ud83d\ude00": "\udc00"}, {"\ud83d\ude00": np.ones(1), "\U0001f600": np.ones(2)}
    checkpoint.write(tmp_path / "a", facts, arrays)
    assert checkpoint.read(tmp_path / "a")[0] == facts
    assert same(checkpoint.read(tmp_path / "a")[1], arrays)


def test_the_same_content_makes_the_same_bytes(tmp_path):
    for name in "ab":
        checkpoint.write(tmp_path / name, FACTS, small())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bfloat16_without_its_package(tmp_path, monkeypatch):
    path, ml_dtypes = tmp_path / "a", pytest.importorskip("ml_dtypes")
    checkpoint.write(path, {}, {"x": np.ones(3, ml_dtypes.bfloat16)})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match=r"a: .*ml_dtypes, which is not installed"):
        checkpoint.read(path)


def test_the_package_of_bfloat16_is_imported_only_for_it(tmp_path):
    checkpoint.write(tmp_path / "a", {}, small())
    run(f"""
        import sys
        from gradstep import checkpoint
        checkpoint.read({str(tmp_path / "a")!r})
        assert "ml_dtypes" not in sys.modules
    """)


# Names, modes, links.


def test_the_name_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "a.npz", "a.zip", ".hidden", "ü" * 100, Path("path")):
        checkpoint.write(name, FACTS, small())
        assert checkpoint.read(name)[0] == FACTS
    assert names(tmp_path) == [".hidden", "a.npz", "a.zip", "path", "plain", "ü" * 100]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_fresh_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        checkpoint.write(tmp_path / "a", {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_an_existing_mode_is_kept(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    checkpoint.write(path, FACTS, {})
    assert checkpoint.read(path)[0] == FACTS
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    (tmp_path / "far").mkdir()
    if exists:
        (tmp_path / "far/a").write_bytes(b"old")
    (tmp_path / "mid").symlink_to("far/a")
    (tmp_path / "link").symlink_to("mid")
    checkpoint.write(tmp_path / "link", FACTS, {})
    assert (tmp_path / "link").readlink() == Path("mid")
    assert (tmp_path / "mid").readlink() == Path("far/a")
    assert not (tmp_path / "far/a").is_symlink()
    assert checkpoint.read(tmp_path / "link")[0] == checkpoint.read(tmp_path / "far/a")[0] == FACTS
    assert {p.name for p in tmp_path.rglob("*")} == {"far", "a", "mid", "link"}


def test_what_is_no_file(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    bad = [
        (tmp_path, IsADirectoryError),
        (tmp_path / "none/a", FileNotFoundError),
        (tmp_path / "file/a", NotADirectoryError),
        (tmp_path / "loop", OSError),
    ]
    for path, error in bad:
        for call in (lambda p: checkpoint.write(p, {}, {}), checkpoint.read):
            with pytest.raises(error) as e:
                call(path)
            assert e.value.filename == str(path)
            assert str(path) in str(e.value)
    with pytest.raises(FileNotFoundError, match="missing"):
        checkpoint.read(tmp_path / "missing")
    assert names(tmp_path) == ["file", "loop"]


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    run(
        f"""
        from gradstep import checkpoint
        for call in (lambda p: checkpoint.write(p, {{}}, {{}}), checkpoint.read):
            try:
                call({str(tmp_path / "fifo")!r})
            except OSError as e:
                assert "fifo" in str(e) and "regular file" in str(e), e
            else:
                raise AssertionError
        """,
        timeout=30,
    )
    assert (tmp_path / "fifo").is_fifo()


# What cannot be written is refused before anything changes.

CIRCLE = {}
CIRCLE["again"] = CIRCLE
DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]
REFUSED = {
    "no dict": ([], {}, TypeError, "facts: expected a dict, got list"),
    "no JSON": ({"a": 1j}, {}, TypeError, "facts: .*complex"),
    "an array": ({"a": np.ones(1)}, {}, TypeError, "facts: .*ndarray"),
    "nan": ({"a": [float("nan")]}, {}, ValueError, "facts: "),
    "inf": ({"a": {"b": -float("inf")}}, {}, ValueError, "facts: "),
    "key": ({1: 2}, {}, TypeError, "facts: expected what JSON gives back"),
    "tuple": ({"a": (1, 2)}, {}, TypeError, "facts: expected what JSON gives back"),
    "circle": (CIRCLE, {}, ValueError, "facts: "),
    "deep": ({"a": DEEP}, {}, ValueError, "facts: "),
    "long": ({"a": "x" * checkpoint.FACTS_LIMIT}, {}, ValueError, "facts: expected at most"),
    "name": ({}, {1: np.ones(1)}, TypeError, "arrays: expected names of type str, got 1"),
    "list": ({}, {"w": [1.0]}, TypeError, r"arrays\['w'\]: expected a plain NumPy array, got list"),
    "masked": ({}, {"w": np.ma.ones(1)}, TypeError, r"arrays\['w'\]: .*got MaskedArray"),
    "object": ({}, {"v": np.ones(1), "w": np.array([{}])}, TypeError, r"arrays\['w'\]: expected float32.* got object"),
    "swapped": ({}, {"w": np.ones(1, np.dtype("f4").newbyteorder())}, TypeError, r"arrays\['w'\]: "),
    "record": ({}, {"w": np.ones(1, [("a", "f4")])}, TypeError, r"arrays\['w'\]: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written(tmp_path, case):
    facts, arrays, error, words = REFUSED[case]
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error, match=words):
        checkpoint.write(tmp_path / "a", facts, arrays)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


# A crash at any point leaves the old file or the new one.


def test_killed_at_random(tmp_path):
    path, random_ = tmp_path / "a", random.Random(0)
    code = f"""
        import numpy as np
        from gradstep import checkpoint
        for n in range(1, 1 << 30):
            checkpoint.write({str(path)!r}, {{"n": n}}, {{"x": np.full(1 << 18, n), "y": np.full((99, 999), float(n)).T}})
            print(n, flush=True)
    """
    lines = [line[8:] for line in code.splitlines()]
    broken = 0
    for _ in range(15):
        child = subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "1\n"
        time.sleep(random_.uniform(0, 0.05))
        child.kill()
        reported = int(("1\n" + child.communicate()[0]).split("\n")[-2])
        assert child.returncode == -signal.SIGKILL
        facts, arrays = checkpoint.read(path)
        assert facts["n"] in (reported, reported + 1)
        assert arrays["x"].shape == (1 << 18,)
        assert arrays["y"].shape == (999, 99)
        assert np.all(arrays["x"] == facts["n"])
        assert np.all(arrays["y"] == facts["n"])
        for stray in set(names(tmp_path)) - {"a"}:
            assert stray.startswith(".gradstep-")
            broken += 1
            (tmp_path / stray).unlink()
    assert broken  # or no child was hit while it wrote


class Faults:
    """Counts the calls that may fail, and fails at one of them: at that one only, or at all after it too."""

    def __init__(self, monkeypatch, at, error):
        self.calls, self.at, self.error = [], at, error
        faults, original = self, Path.open

        class Raw(io.FileIO):
            def write(self, data):
                faults("write")
                return super().write(data)

        def open_(path, mode="r", *args):
            if "x" not in mode:
                return original(path, mode, *args)
            faults("open")
            return io.BufferedWriter(Raw(path, mode))

        monkeypatch.setattr(Path, "open", open_)
        for where, name in ((os, "fsync"), (os, "replace"), (Path, "chmod")):
            monkeypatch.setattr(where, name, self.before(name, getattr(where, name)))

    def before(self, name, call):
        def counted(*args):
            self(name)
            return call(*args)

        return counted

    def __call__(self, name):
        self.calls.append(name)
        at = len(self.calls)
        if at == self.at or (at > self.at and isinstance(self.error, OSError)):
            raise self.error


def test_an_interrupt_while_an_entry_is_open_comes_through(tmp_path, monkeypatch):
    def interrupt(array, order):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_bytes", interrupt)
    monkeypatch.setattr(checkpoint.zipfile._ZipWriteFile, "close", lambda entry: None)  # Ctrl-C came before it, too
    monkeypatch.setattr(sys, "unraisablehook", lambda error: None)  # of the archive, which is left open
    with pytest.raises(KeyboardInterrupt) as caught:
        checkpoint.write(tmp_path / "a", FACTS, ARRAYS)
    assert names(tmp_path) == []
    del caught
    gc.collect()


ARRAYS = {"big": np.ones(5000), "small": np.ones(3), "empty": np.ones(0)}


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "injected"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
def test_a_fault_at_each_call(tmp_path, error, fresh):
    path = tmp_path / "a"
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, 1 << 30, error)
        path.write_bytes(b"old")
        checkpoint.write(path, FACTS, ARRAYS)
    path.unlink()
    calls = faults.calls
    assert calls[:2] == ["open", "chmod"]
    assert set(calls[2:-3]) == {"write"}
    assert calls[-3:] == ["fsync", "replace", "fsync"]  # all is written, then on the disk, then named
    if fresh:
        calls.remove("chmod")
    else:
        path.write_bytes(b"old")
    for at in range(1, len(calls)):
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, error)
            with pytest.raises(type(error)) as e:
                checkpoint.write(path, FACTS, ARRAYS)
        assert faults.calls[at - 1] == calls[at - 1]
        assert names(tmp_path) == ([] if fresh else ["a"])
        assert fresh or path.read_bytes() == b"old"
        if isinstance(error, OSError):
            assert (e.value.errno, e.value.filename) == (errno.EIO, str(path))
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, len(calls), OSError(errno.EINVAL, "a directory that cannot be synced"))
        checkpoint.write(path, FACTS, ARRAYS)
    assert same(checkpoint.read(path)[1], ARRAYS)
    assert names(tmp_path) == ["a"]


def test_the_disk_is_full(tmp_path):
    path = tmp_path / "a"
    run(f"""
        import os, resource, signal
        from pathlib import Path
        import numpy as np
        from gradstep import checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path, arrays = Path({str(path)!r}), {{str(n): np.ones(n) for n in (100_000, 5, 0, 2000)}}
        checkpoint.write(path, {{}}, arrays)
        size = path.stat().st_size
        path.write_bytes(b"old")
        for limit in (0, 1, 100, 4096, 8192, 100_000, 800_300, size - 5000, size - 100, size - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                checkpoint.write(path, {{}}, arrays)
            except OSError as e:
                assert str(path) in str(e), e
            else:
                raise AssertionError(limit)
            assert path.read_bytes() == b"old"
            assert os.listdir(path.parent) == ["a"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        checkpoint.write(path, {{}}, arrays)
        assert checkpoint.read(path)[1].keys() == arrays.keys()
    """)


# Whatever the bytes are, read returns what was written or raises a ValueError that names the file.


@pytest.fixture(scope="module")
def genuine(spare):
    checkpoint.write(spare, FACTS, small())
    return spare.read_bytes()


def refusal(path):
    """Return the message with which the file is refused, having taken no more memory than a few of its sizes."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r".") as e:
            checkpoint.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + 2_000_000
    message = str(e.value)
    assert message.startswith(f"{path}: not a whole checkpoint: ")
    return message.split(": ", 2)[2]


def refused_or_same(path, raw):
    path.write_bytes(raw)
    try:
        facts, arrays = checkpoint.read(path)
    except ValueError as e:
        assert str(e).startswith(f"{path}: not a whole checkpoint: ")  # noqa: PT017
        return False
    assert facts == FACTS
    assert same(arrays, small())
    return True


def test_every_truncation(spare, genuine):
    for length in range(len(genuine)):
        assert not refused_or_same(spare, genuine[:length]), length
    assert refused_or_same(spare, genuine)


def test_every_byte_flipped(spare, genuine):
    kept = sum(
        refused_or_same(spare, genuine[:at] + bytes([genuine[at] ^ flip]) + genuine[at + 1 :])
        for at in range(len(genuine))
        for flip in (0x01, 0x80, 0xFF)
    )
    assert 0 < kept < len(genuine)  # dates, sizes said twice: less than a third of all


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x93NUMPY\1\0"]))
@settings(max_examples=300, deadline=None)
def test_random_bytes(spare, raw, start):
    assert not refused_or_same(spare, start + raw)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_mutations(spare, genuine, data):
    raw = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(raw)))
        end = min(begin + data.draw(st.sampled_from([0, 1, 2, 4, 8, 100])), len(raw))
        source = data.draw(st.integers(0, len(genuine)))
        copy = st.integers(0, 200).map(lambda n, source=source: genuine[source : source + n])
        raw[begin:end] = data.draw(
            st.binary(max_size=8) | copy | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\0" * 7 + b"\x7f"])
        )
    refused_or_same(spare, bytes(raw))


@given(st.binary(min_size=2, max_size=2), st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_directory(spare, genuine, new, data):
    at = data.draw(st.integers(genuine.index(b"PK\1\2"), len(genuine) - 2))
    refused_or_same(spare, genuine[:at] + new + genuine[at + 2 :])


def content(**changes):
    record = {"name": "w", "dtype": "float32", "shape": [2, 3], "order": "C"}
    record |= {k: changes.pop(k) for k in list(changes) if k in record}
    return {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "facts": {}, "arrays": [record], **changes}


W = np.arange(6, dtype=np.float32).reshape(2, 3)


def forge(path, text, *arrays, save=np.savez):
    """Write what looks like a checkpoint, with NumPy's own means."""
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    save(path, facts=np.frombuffer(raw, np.uint8), **{str(i): a for i, a in enumerate(arrays)})
    return path


def test_a_forgery_may_be_right(tmp_path):
    facts, arrays = checkpoint.read(forge(tmp_path / "a.npz", content(), W))
    assert facts == {}
    assert same(arrays, {"w": W})


RECORD = content()["arrays"][0]
FORGED = {
    "version": (content(version=2), "version 2, expected 1"),
    "no version": ({k: v for k, v in content().items() if k != "version"}, "version None, expected 1"),
    "odd version": (content(version=["x" * 999]), "version ['xxx"),
    "format": (content(format="other"), "not those of gradstep"),
    "list": ([content()], "not those of gradstep"),
    "facts": (content(facts=[]), "facts or arrays are missing"),
    "arrays": (content(arrays={}), "facts or arrays are missing"),
    "no arrays": (content(arrays=[]), "expected the entries of 0 arrays, got 1"),
    "two arrays": (content(arrays=[RECORD, RECORD]), "expected the entries of 2 arrays, got 1"),
    "no record": (content(arrays=[None]), "0.npy has no valid name, dtype, shape and order: None"),
    "nothing": (content(arrays=[{}]), "no valid"),
    "name": (content(name=1), "no valid"),
    "object": (content(dtype="object"), "no valid"),
    "uint16": (content(dtype="uint16"), "no valid"),
    "dtype": (content(dtype=["float32"]), "no valid"),
    "order": (content(order="K"), "no valid"),
    "negative": (content(shape=[-2, -3]), "no valid"),
    "float": (content(shape=[2.0, 3]), "no valid"),
    "bool": (content(shape=[True, 6]), "no valid"),
    "long shape": (content(shape=[6] + [1] * 64), "no valid"),
    "huge": (content(shape=[1 << 40]), "expected 4398046511232"),
    "overflow": (content(shape=[1 << 62, 1 << 62]), "0.npy has 152 bytes"),
    "wraps to 6": (content(shape=[(1 << 62) + 6, 4]), "0.npy has 152 bytes"),
    "too big": (content(shape=[1 << 64]), "no valid"),
    "other shape": (content(shape=[3, 2]), "0.npy is not the array that the facts declare"),
    "other order": (content(order="F"), "0.npy is not the array that the facts declare"),
    "other dtype": (content(dtype="float16", shape=[4, 3]), "0.npy is not the array that the facts declare"),
    "smaller": (content(shape=[2, 2]), "0.npy has 152 bytes, expected 144"),
    "nan": (content(facts={"lr": float("nan")}), "NaN in the facts"),
    "infinity": (content(facts={"lr": -float("inf")}), "-Infinity in the facts"),
    "deep": (b"[" * 1_000_000, "recursion depth"),
    "deep dict": (b'{"a":' * 100_000, "recursion depth"),
    "no text": (b"", "Expecting value"),
    "no JSON": (b"{", "Expecting"),
    "no UTF-8": (b"\xff", "utf-8"),
    "long number": (b"9" * 100_000, "digits"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_facts(tmp_path, case):
    text, words = FORGED[case]
    assert words in refusal(forge(tmp_path / "a.npz", text, W))


def test_forged_arrays(tmp_path):
    path = tmp_path / "a.npz"
    two = content(arrays=[RECORD, RECORD])
    assert "two arrays have one name" in refusal(forge(path, two, W, W))
    assert "expected the entries of 1 arrays, got 2 others" in refusal(forge(path, content(), W, W))
    assert "bytes, expected 152" in refusal(forge(path, content(), np.array([[Harm()] * 3] * 2)))
    same_size = np.empty((2, 3), [("a", "f4")])
    assert "not the array that the facts declare" in refusal(forge(path, content(), same_size))
    assert "is compressed" in refusal(forge(path, content(), W, save=np.savez_compressed))


class Harm:
    def __reduce__(self):
        return os.abort, ()


def test_other_npz_files(tmp_path):
    path = tmp_path / "a.npz"
    for save in (
        lambda: np.savez(path, W, W),
        lambda: np.savez_compressed(path, W),
        lambda: np.savez(path, np.array([Harm()])),
        lambda: np.savez(path),
    ):
        save()
        assert "expected facts.npy as the first entry" in refusal(path)
    np.savez(path, facts=np.array([Harm()] * 200))
    assert "not the array that the facts declare" in refusal(path)
    np.savez_compressed(path, facts=np.zeros(100_000_000, np.uint8))
    assert "facts.npy is compressed" in refusal(path)
    path.write_bytes(b"")
    assert "not a zip file" in refusal(path)


def test_facts_beyond_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "a"
    checkpoint.write(path, {"a": "x" * 1000}, {})
    monkeypatch.setattr(checkpoint, "FACTS_LIMIT", 1000)
    assert "facts.npy has" in refusal(path)


def patched(genuine, at, new):
    return genuine[:at] + new + genuine[at + len(new) :]


def test_damaged_archives(tmp_path, genuine):
    path = tmp_path / "a"
    first = genuine.index(b"PK\1\2")
    second = genuine.index(b"PK\1\2", first + 1)
    data = genuine.index(np.float32([1, 2]).tobytes())
    for raw, words in [
        (patched(genuine, data, b"\1"), "Bad CRC-32 for file '0.npy'"),
        (patched(genuine, genuine.index(b"adamw"), b"Adamw"), "Bad CRC-32 for file 'facts.npy'"),
        (patched(genuine, first + 8, b"\1"), "facts.npy is encrypted"),
        (patched(genuine, second + 8, b"\1"), "0.npy is encrypted"),
        (patched(genuine, second + 10, b"\x08"), "0.npy is compressed"),
        (patched(genuine, second + 20, b"\0"), "0.npy is compressed"),
        (patched(genuine, second + 42, b"\0\0"), "facts.npy does not end before the next one begins"),
        (patched(genuine, second + 42, b"\xff\xff\xff\x7f"), "0.npy does not end before the next one begins"),
        (b"#!/bin/sh\n" + genuine, "other bytes before the first entry"),
        (genuine[: first - 1] + genuine[first:], "other bytes before the first entry"),
        (genuine[:-1], "not a zip file"),
    ]:
        path.write_bytes(raw)
        assert words in refusal(path)


def test_a_checkpoint_inside_of_a_truncated_one_is_not_taken_for_it(tmp_path, genuine):
    padded = genuine + b"\0" * (-len(genuine) % 8)
    checkpoint.write(tmp_path / "a", {}, {"file": np.frombuffer(padded, np.int64)})
    raw = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(raw[: raw.rindex(genuine[-22:]) + 22])
    refusal(tmp_path / "a")
    (tmp_path / "a").write_bytes(raw[: raw.index(genuine) + len(genuine)])
    assert "other bytes before the first entry" in refusal(tmp_path / "a")


def test_an_entry_twice(tmp_path):
    path = tmp_path / "a.npz"
    forge(path, content(), W)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("0.npy", archive.read("0.npy"))
    assert "expected the entries of 1 arrays, got 2 others" in refusal(path)
