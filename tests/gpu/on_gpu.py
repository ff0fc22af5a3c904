"""The suites of the CPU on a real GPU: every NumPy array that reaches gradstep has a mirror on the device.

Mirrors are brought up to date before a call into gradstep, and the arrays after it, so that a test sees its own arrays
change. `GRADSTEP_GPU_DRY_RUN=1` runs all of this over the stand-in of tests/on_cuda.py, to try it out without a GPU.
"""

import ctypes
import functools
import os

import numpy as np
import pytest

import on_cuda

cupy = on_cuda.cupy
if os.environ.get("GRADSTEP_IN_SANITIZER"):
    cupy.cuda.set_allocator(None)  # out of a pool nobody could tell where an array ends
DRY_RUN = bool(os.environ.get("GRADSTEP_GPU_DRY_RUN"))


@functools.cache
def missing():
    """Return why nothing here can run, or None."""
    if DRY_RUN:
        return None
    try:
        from gradstep import _cuda

        _cuda.device_count()
    except (ImportError, RuntimeError) as error:
        return f"no GPU: {error}"
    return None


gpu = [pytest.mark.gpu, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


def span(array):
    """Return the lowest address of an array's bytes, and the one after the highest."""
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    start = array.ctypes.data
    if not array.size:
        return start, start
    return start + sum(min(0, r) for r in reach), start + sum(max(0, r) for r in reach) + array.itemsize


class Mirror:
    """A NumPy array that owns its memory, and as many bytes on the device, as far from a line of 256."""

    def __init__(self, root):
        self.root = root
        self.low, high = span(root)
        self.nbytes = high - self.low
        self.memory = cupy.cuda.alloc(self.low % 256 + self.nbytes or 1)
        self.address = self.memory.ptr + self.low % 256
        self.host = np.frombuffer((ctypes.c_char * self.nbytes).from_address(self.low), np.uint8)

    def view(self, array):
        pointer = self.memory + (self.address - self.memory.ptr) + (array.ctypes.data - self.low)
        return (on_cuda.Hosted if DRY_RUN else cupy.ndarray)(array.shape, array.dtype, pointer, array.strides)

    def upload(self):
        from gradstep import _cuda

        _cuda.copy_to_device(self.address, self.host.copy())

    def download(self):
        from gradstep import _cuda

        found = np.empty_like(self.host)
        _cuda.copy_to_host(self.address, found)
        self.host[...] = found


class ReadOnly:
    """What no CuPy array is."""

    def __init__(self, array):
        self.array, self.dtype, self.shape = array, array.dtype, array.shape

    @property
    def __cuda_array_interface__(self):
        a = self.array
        return on_cuda.interface(a.shape, a.dtype, a.data.ptr, a.strides, read_only=True)


class Mirrors:
    """Those of one test. What a call brings in lives until it ends, what an optimizer refers to longer."""

    def __init__(self):
        self.lasting, self.passing, self.depth = {}, {}, 0

    def of(self, array):
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        key = root.__array_interface__["data"][0], root.nbytes
        for kept in (self.lasting, self.passing):
            if key in kept:
                return kept[key].view(array)
        mirror = self.passing[key] = Mirror(root)
        mirror.upload()
        return mirror.view(array)

    def around(self, method, lasts):
        @functools.wraps(method)
        def call(*args, **kwargs):
            if not self.depth:
                for mirror in self.lasting.values():
                    mirror.upload()
            self.depth += 1
            try:
                return method(*args, **kwargs)
            finally:
                self.depth -= 1
                if lasts:
                    self.lasting.update(self.passing)
                if not self.depth:
                    for mirror in {**self.lasting, **self.passing}.values():
                        if mirror.root.flags.writeable:
                            mirror.download()
                    self.passing.clear()

        return call


@pytest.fixture(autouse=True)
def on_a_device(monkeypatch):
    """Every array reaches gradstep as its mirror on the device."""
    if DRY_RUN:
        on_cuda.install(monkeypatch)
    from gradstep import averages, containers, device, kernels, optimizer

    mirrors = Mirrors()
    flatten, unflatten, columns = containers.Tree.flatten, containers.Tree.unflatten, kernels._columns

    def handed_on(x):
        foreign = on_cuda.handed_on(x)
        if foreign is x:
            return x
        mirror = mirrors.of(np.asarray(x))
        return ReadOnly(mirror) if isinstance(foreign, on_cuda.Foreign) else mirror

    def device_columns(names, given):
        found, labels = columns(names, given)
        return [tuple(map(handed_on, column)) for column in found], labels

    def host_unflatten(self, arrays):
        return unflatten(self, [device.to_host(a) if isinstance(a, cupy.ndarray) else a for a in arrays])

    monkeypatch.setattr(containers.Tree, "flatten", lambda self, c, a: tuple(map(handed_on, flatten(self, c, a))))
    monkeypatch.setattr(containers.Tree, "unflatten", host_unflatten)
    monkeypatch.setattr(kernels, "_columns", device_columns)
    monkeypatch.setattr(kernels, "_run", mirrors.around(kernels._run, False))
    for cls, lasting, passing in [
        (optimizer.Optimizer, ["_build"], ["step", "refresh_master", "load", "load_state_dict"]),
        (averages.EMA, ["__init__"], ["update", "swap_in", "swap_out", "load_state_dict"]),
    ]:
        for names, lasts in ((lasting, True), (passing, False)):
            for name in names:
                monkeypatch.setattr(cls, name, mirrors.around(getattr(cls, name), lasts))
    return mirrors


def suite(name, leave_out=()):
    """Return the tests of a module of tests/, marked as those of a GPU."""
    return {**on_cuda.suite(name, leave_out, on_a_device=on_a_device), "pytestmark": gpu}
