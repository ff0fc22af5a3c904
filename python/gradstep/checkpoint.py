"""Checkpoint files: facts and arrays in one `.npz`, written whole or not at all, read with suspicion.

The archive's first entry, ``facts.npy``, is JSON text as an array of uint8: format, version, the caller's facts, and
of each array its name, dtype, shape and order. The arrays follow as ``0.npy``, ``1.npy`` and so on, so that no name
ever becomes a file name. As the facts tell all about an array, the header of its entry is not parsed: it has to be
the one that `write` would make.
"""

from __future__ import annotations

import errno
import importlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FORMAT, VERSION = "gradstep checkpoint", 1
STORED_AS = {name: name for name in ("float32", "float64", "complex64", "complex128", "float16", "int64")}
STORED_AS["bfloat16"] = "uint16"  # its bits: NumPy alone has no such format
FACTS_LIMIT = 1 << 26  # bytes: parsed JSON takes many times its text
CHUNK = 1 << 20  # bytes read at once
ENCRYPTED = 1  # a flag of an entry

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], facts: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write facts and arrays to one file: whole, or not at all.

    The new file is made beside the old one, forced to the disk, and renamed over it. Whatever goes wrong before
    leaves the old file as it was and nothing new; only a process that is killed leaves its temporary file behind,
    named ``.gradstep-*.tmp``.

    Parameters
    ----------
    path : str or os.PathLike
        The file, named as it is: no suffix is added. The mode of an existing file is kept, and a symbolic link stays
        one.
    facts : dict
        What JSON gives back as it is: str keys, lists rather than tuples, finite floats.
    arrays : mapping of str to numpy.ndarray
        Arrays of any shape and memory layout: float16, float32, float64, bfloat16, complex64, complex128 or int64.

    Raises
    ------
    OSError
        If the file cannot be written. It names `path`.
    TypeError
        If `facts` or `arrays` hold what a checkpoint cannot. Nothing was written.
    ValueError
        If `facts` hold a float that is not finite, or too much. Nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gradstep import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.write(f"{folder}/run.npz", {"lr": 0.1}, {"w": np.arange(3.0)})
    ...     with np.load(f"{folder}/run.npz") as entries:
    ...         print(list(entries), entries["0"])
    ['facts', '0'] [0. 1. 2.]
    """
    given = os.fsdecode(path)
    records = [_describe(name, array) for name, array in arrays.items()]
    text = np.frombuffer(_encode(facts, records), np.uint8)
    content: list[tuple[dict[str, Any], Array]] = [({"dtype": "uint8", "shape": text.shape, "order": "C"}, text)]
    content += zip(records, map(np.asarray, arrays.values()), strict=True)
    try:
        target = Path(os.path.realpath(given))
        temporary = target.with_name(f".gradstep-{os.urandom(8).hex()}.tmp")
        mode = None
        with suppress(FileNotFoundError):
            mode = _mode(target)
        try:
            with temporary.open("xb") as file:
                if mode is not None:
                    temporary.chmod(mode)  # before there is anything to see
                with zipfile.ZipFile(file, "w") as archive:
                    for name, (record, array) in zip(_names(records), content, strict=True):
                        with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                            entry.write(_header(record["dtype"], record["shape"], record["order"]))
                            entry.write(_bytes(array, record["order"]))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)  # noqa: PTH105
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if isinstance(error.__context__, KeyboardInterrupt):  # zipfile minds the entry that Ctrl-C left open
                raise error.__context__ from None
            raise
        _sync_directory(target.parent)
    except OSError as error:
        raise _about(given, error) from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote.

    Nothing in the file is believed before it was checked: a file that is damaged, foreign or made to do harm is
    refused, and its arrays never take more memory than it has bytes.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    facts : dict
        The facts.
    arrays : dict of str to numpy.ndarray
        The arrays by name, fresh and writeable, with the same bits.

    Raises
    ------
    OSError
        If the file cannot be read. It names `path`.
    ValueError
        If it is no checkpoint, or a damaged one, or holds bfloat16 while the package ml_dtypes is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gradstep import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.write(f"{folder}/run.npz", {"lr": 0.1}, {"w": np.arange(3.0)})
    ...     checkpoint.read(f"{folder}/run.npz")
    ({'lr': 0.1}, {'w': array([0., 1., 2.])})
    """
    given = os.fsdecode(path)
    try:
        _mode(Path(given))
        with Path(given).open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = _entries(archive, os.fstat(file.fileno()).st_size)
            facts, records = _decode(archive, entries[0])
            if (found := [entry.filename for entry in entries]) != _names(records):
                raise ValueError(f"expected the entries of {len(records)} arrays, got {len(found) - 1} others")
            arrays = dict(_array(archive, e, r) for e, r in zip(entries[1:], records, strict=True))
            if len(arrays) != len(records):
                raise ValueError("two arrays have one name")
    except OSError as error:
        raise _about(given, error) from error
    except Exception as error:  # zipfile answers damage with a dozen kinds of them, its size with MemoryError
        raise ValueError(f"{given}: not a whole checkpoint: {error or type(error).__name__}") from error
    return facts, arrays


def _describe(name: str, array: Array) -> dict[str, Any]:
    if not isinstance(name, str):
        raise TypeError(f"arrays: expected names of type str, got {name!r}")
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"arrays[{name!r}]: expected a plain NumPy array, got {type(array).__name__}")
    if array.dtype.name not in STORED_AS or not array.dtype.isnative:
        raise TypeError(f"arrays[{name!r}]: expected {', '.join(STORED_AS)}, got {array.dtype}")
    order = "F" if array.flags.fnc else "C"
    return {"name": name, "dtype": array.dtype.name, "shape": array.shape, "order": order}


def _encode(facts: dict[str, Any], records: list[dict[str, Any]]) -> bytes:
    if not isinstance(facts, dict):
        raise TypeError(f"facts: expected a dict, got {type(facts).__name__}")
    content = {"format": FORMAT, "version": VERSION, "facts": facts, "arrays": records}
    try:
        text = json.dumps(content, allow_nan=False, ensure_ascii=False)
        same = json.loads(text)["facts"] == facts
    except TypeError as error:
        raise TypeError(f"facts: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"facts: {error}") from error
    if not same:
        raise TypeError("facts: expected what JSON gives back as it is: str keys, lists rather than tuples")
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > FACTS_LIMIT:
        raise ValueError(f"facts: expected at most {FACTS_LIMIT} bytes of JSON with all names, got {len(encoded)}")
    return encoded


def _decode(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    size = entry.file_size - len(_header("uint8", (1,), "C"))
    if not 0 <= size <= FACTS_LIMIT:
        raise ValueError(f"{entry.filename} has {entry.file_size} bytes")
    text = _array_of(archive, entry, "uint8", (size,), "C").tobytes().decode("utf-8", "surrogatepass")
    content = json.loads(text, parse_constant=_refuse)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("its facts are not those of gradstep")
    if content.get("version") != VERSION:
        raise ValueError(f"version {content.get('version')!r:.20}, expected {VERSION}")
    match content:
        case {"facts": dict(facts), "arrays": list(records)}:
            return facts, records
    raise ValueError("facts or arrays are missing")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} in the facts")


def _entries(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """Return the entries of a file of `size` bytes, all stored as they are, one behind the other."""
    entries = archive.infolist()
    if not entries or entries[0].filename != _names([])[0]:
        raise ValueError(f"expected {_names([])[0]} as the first entry")
    for entry in entries:
        if entry.flag_bits & ENCRYPTED:
            raise ValueError(f"{entry.filename} is encrypted")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"{entry.filename} is compressed")
    begins = [entry.header_offset for entry in entries]
    if begins[0] != 0:
        raise ValueError("other bytes before the first entry")
    for entry, (begin, end) in zip(entries, pairwise([*begins, size]), strict=True):
        if begin + entry.file_size > end:
            raise ValueError(f"{entry.filename} does not end before the next one begins")
    return entries


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, record: object) -> tuple[str, Array]:
    match record:
        case {"name": str(name), "dtype": str(dtype), "shape": list(shape), "order": "C" | "F" as order}:
            if dtype in STORED_AS and len(shape) <= 64 and all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
                return name, _array_of(archive, entry, dtype, tuple(shape), order)
    raise ValueError(f"{entry.filename} has no valid name, dtype, shape and order: {record!r:.200}")


def _array_of(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, dtype: str, shape: tuple[int, ...], order: Literal["C", "F"]
) -> Array:
    """Read an entry, whose size has to be that of the declared array before anything is allocated."""
    header = _header(dtype, shape, order)
    expected = len(header) + math.prod(shape) * np.dtype(STORED_AS.get(dtype, dtype)).itemsize
    if entry.file_size != expected:
        raise ValueError(f"{entry.filename} has {entry.file_size} bytes, expected {expected}")
    array = np.empty(shape, _dtype(dtype), order)
    buffer = _bytes(array, order)
    with archive.open(entry) as file:
        if file.read(len(header)) != header:
            raise ValueError(f"{entry.filename} is not the array that the facts declare")
        for at in range(0, len(buffer), CHUNK):  # with the last bytes zipfile compares the checksum
            buffer[at : at + CHUNK] = file.read(min(CHUNK, len(buffer) - at))
    return array


def _bytes(array: Array, order: Literal["C", "F"]) -> memoryview:
    """View an array as bytes; a copy of them if it is not dense in that order."""
    return array.ravel(order).view(np.uint8).data


def _dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        dtype: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise ValueError("bfloat16 needs the package ml_dtypes, which is not installed") from error
    return dtype


def _header(dtype: str, shape: tuple[int, ...], order: str) -> bytes:
    """Make the first bytes of an entry, in version 1.0 of NumPy's format: the same with every NumPy."""
    descr = np.dtype(STORED_AS.get(dtype, dtype)).str
    text = f"{{'descr': {descr!r}, 'fortran_order': {order == 'F'}, 'shape': {shape}, }}".encode()
    length = -(-(10 + len(text) + 1) // 128) * 128 - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def _names(records: list[dict[str, Any]]) -> list[str]:
    return ["facts.npy", *(f"{i}.npy" for i in range(len(records)))]


def _mode(path: Path) -> int:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # to open a FIFO would wait for its other end
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "expected a regular file")
    return stat.S_IMODE(mode)


def _sync_directory(path: Path) -> None:
    # Without it a power cut may bring the old file back, whole. Not every system can: no reason to fail.
    with suppress(OSError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _about(path: str, error: OSError) -> OSError:
    return OSError(error.errno, error.strerror or str(error), path)
