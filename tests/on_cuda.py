"""The CUDA backend without a GPU: csrc/cuda compiled against a CPU stand-in of CUDA, and arrays over host memory.

`suite("test_rules")` gives the tests of another module, to be run with every NumPy array that reaches gradstep
handed on as an array of a device: real `cupy.ndarray`s, and objects that know `__cuda_array_interface__` only.
"""

import atexit
import ctypes
import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import table

ROOT = Path(__file__).parents[1]
cupy = pytest.importorskip("cupy", reason="CuPy is not installed (extra cuda13)")


@functools.cache
def built():
    """Compile the module, once a process; return the path, or why there is none."""
    if (given := os.environ.get("GRADSTEP_CUDA_ON_CPU")) is not None:
        return Path(given)
    if not (ROOT / "csrc/cuda").is_dir():
        return "the sources of csrc/cuda are not here"
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed"
    out = Path(tempfile.mkdtemp(prefix="gradstep-cuda-"))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    where = subprocess.run([sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True)
    configure = ["cmake", "-S", ROOT / "tests/cuda", "-B", out, f"-Dpybind11_DIR={where.stdout.strip()}"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (configure, ["cmake", "--build", out, "-j", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    (module,) = out.glob("_cuda*.so")
    return module


@functools.cache
def module():
    """Return the module, which a test puts in the place of `gradstep._cuda`."""
    path = built()
    if isinstance(path, str):
        pytest.skip(path)
    spec = importlib.util.spec_from_file_location("gradstep._cuda", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@functools.cache
def emulator():
    """Return what tells the module's CUDA how to behave, and what it has done."""
    library = ctypes.CDLL(module().__file__)
    library.emulator_last_stream.restype = ctypes.c_void_p
    return library


def install(monkeypatch):
    """Put the module in the place of the one for GPUs, and CuPy's memory on the host."""
    import gradstep

    monkeypatch.setitem(sys.modules, "gradstep._cuda", module())
    monkeypatch.setattr(gradstep, "_cuda", module(), raising=False)
    importlib.import_module("gradstep.device")
    monkeypatch.setattr("gradstep.device._cuda", module())
    emulator().emulator_forget_places()
    monkeypatch.setattr(cupy.cuda, "alloc", _host_memory)
    monkeypatch.setattr(cupy.cuda, "Device", Device)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda device=-1: Stream)


class Stream:
    """The current stream; no step may look at more of it."""

    ptr = 0


def _host_memory(nbytes, device=0):
    memory = np.empty(nbytes + 512, np.uint8)
    begin = memory.ctypes.data + -memory.ctypes.data % 512
    return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(begin, nbytes, memory, device), 0)


class Device:
    """The second device: what is allocated within is its own."""

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(cupy.cuda, "alloc", self._alloc)

    def __exit__(self, *error):
        self.patch.undo()

    def _alloc(self, nbytes):
        made = _host_memory(nbytes, self.number)
        place(made.ptr, nbytes, self.number)
        return made


def place(address, nbytes, device):
    """Let memory be that of another device, until `install` is called again."""
    emulator().emulator_place(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), device)


class Hosted(cupy.ndarray):
    """A CuPy array over host memory, with the attribute that asks a driver."""

    @property
    def __cuda_array_interface__(self):
        return interface(self.shape, self.dtype, self.data.ptr, self.strides)


def interface(shape, dtype, address, strides, read_only=False, **more):
    return {
        "shape": shape,
        "typestr": dtype.str,
        "data": (address, read_only),
        "strides": strides,
        "version": 3,
        **more,
    }


class Foreign:
    """An array of another package: the interface, and a dtype."""

    def __init__(self, array, **more):
        self._array, self.dtype, self.shape = array, array.dtype, array.shape
        self.__more = more

    @property
    def __cuda_array_interface__(self):
        a = self._array
        return interface(a.shape, a.dtype, a.ctypes.data, a.strides, not a.flags.writeable, **self.__more)


def hosted(array):
    """Return a CuPy array of the memory of a NumPy array."""
    low = array.ctypes.data + sum(min(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
    high = array.ctypes.data + sum(max(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
    memory = cupy.cuda.UnownedMemory(low, high - low + array.itemsize, array, 0)
    pointer = cupy.cuda.MemoryPointer(memory, array.ctypes.data - low)
    return Hosted(array.shape, array.dtype, pointer, array.strides)


def on_host(array):
    """Return a NumPy array of the memory of a CuPy array over host memory."""
    low = sum(min(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
    size = array.itemsize + sum(abs((n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
    memory = (ctypes.c_char * (size if array.size else 0)).from_address(array.data.ptr + low)
    memory.owner = array
    return np.ndarray(array.shape, array.dtype, memory, -low if array.size else 0, array.strides)


def handed_on(x, foreign=False):
    """Return what a test gives as an array of a device; what is none stays as it is."""
    if isinstance(x, np.generic):
        x = np.asarray(x)
    plain = type(x) is np.ndarray and x.flags.aligned and x.dtype.isnative
    if not plain or (x.dtype.kind not in "biufc" and x.dtype != ml_dtypes.bfloat16) or x.dtype == np.longdouble:
        return x
    return Foreign(x) if foreign or not x.flags.writeable else hosted(x)


@pytest.fixture(autouse=True, params=["forwards", "backwards"])
def device(request, monkeypatch):
    """Threads of a block run in one order or the other."""
    install(monkeypatch)
    emulator().emulator_set_backwards(request.param == "backwards")
    yield request.param
    emulator().emulator_set_backwards(0)


@pytest.fixture(autouse=True)
def on_a_device(device, monkeypatch):
    """Every array reaches gradstep as one of a device."""
    from gradstep import containers, kernels
    from gradstep.data import batches, standardizer

    flatten, unflatten, columns = containers.Tree.flatten, containers.Tree.unflatten, kernels._columns
    foreign = device == "backwards"  # whichever: both kinds of array meet all tests

    def landed(a):
        return on_host(a) if isinstance(a, cupy.ndarray) else a

    def device_flatten(self, container, argument):
        return tuple(handed_on(x, foreign and i % 2 == 0) for i, x in enumerate(flatten(self, container, argument)))

    def host_unflatten(self, arrays):
        return unflatten(self, [landed(a) for a in arrays])

    def device_columns(names, given):
        found, labels = columns(names, given)
        return [tuple(handed_on(x, foreign) for x in column) for column in found], labels

    monkeypatch.setattr(containers.Tree, "flatten", device_flatten)
    monkeypatch.setattr(containers.Tree, "unflatten", host_unflatten)

    def device_plain(x, label):
        return plain(handed_on(x, foreign) if isinstance(x, np.ndarray) else x, label)

    def on_host_again(function):
        def called(self, given, *more, **named):
            found = function(self, handed_on(given, foreign), *more, **named)
            return tuple(map(landed, found)) if isinstance(found, tuple) else landed(found)

        return called

    monkeypatch.setattr(kernels, "_columns", device_columns)
    plain = standardizer.plain
    for place in (batches, standardizer):
        monkeypatch.setattr(place, "plain", device_plain)
    monkeypatch.setattr(batches.Minibatches, "_make", on_host_again(batches.Minibatches._make))
    monkeypatch.setattr(standardizer.Standardizer, "_applied", on_host_again(standardizer.Standardizer._applied))


@pytest.fixture
def engine():
    """Nothing to set: there is one instruction set, and no thread count."""
    return lambda **kwargs: None


def suite(name, leave_out=(), **fixtures):
    """Return the tests of another module of this folder, with the matrix of this backend and not the CPU's."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_on_cuda", path)
    module = importlib.util.module_from_spec(spec)
    matrix = {"ISAS": ["cuda"], "LAYERS": ["device"], "THREADS": [1], "TEAMS": [("device", 1)]}
    before = {key: getattr(table, key) for key in matrix}
    try:
        vars(table).update(matrix)
        spec.loader.exec_module(module)
    finally:
        vars(table).update(before)
    unknown = [key for key in leave_out if not hasattr(module, key)]
    assert not unknown, f"{name} has no {unknown}"
    kept = {key: value for key, value in vars(module).items() if not key.startswith("__") and key not in leave_out}
    return {**kept, **(fixtures or {"device": device, "on_a_device": on_a_device}), "engine": engine}
