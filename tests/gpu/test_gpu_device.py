"""What only a real device shows: streams, graphs, that nothing waits, two devices, other packages' arrays."""

import importlib.util
import time

import numpy as np
import pytest
from on_gpu import DRY_RUN, cupy, gpu

import gradstep as gs
from table import IDS, ROWS
from test_rules import same

pytestmark = [*gpu, pytest.mark.skipif(DRY_RUN, reason="needs a real device")]

SPIN = r"""
extern "C" __global__ void spin(long long cycles) {
  for (long long begin = clock64(); clock64() - begin < cycles;) {}
}
"""


def host_and_device(*shapes, dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    return arrays, [cupy.asarray(a) for a in arrays]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_step_is_in_order_with_its_stream(row):
    (w,), (p,) = host_and_device((1000, 1000))
    (g,), _ = host_and_device((1000, 1000), seed=1)
    opt, other = row.make(p), row.make(w)
    with cupy.cuda.Stream(non_blocking=True):
        for k in range(1, 6):
            opt.step(cupy.asarray(g) * np.float32(k))
        found = p * 1
        got = found.get()
    for k in range(1, 6):
        other.step(g * np.float32(k))
    same(got, w)


def test_no_step_waits_for_the_device():
    params, grads = host_and_device((500, 500), 7)[1], host_and_device((500, 500), 7, seed=1)[1]
    opt, ema = gs.AdamW(params), gs.EMA(params)
    everything = {"clip_norm": 1.0, "clip_value": 0.5, "grad_scale": 2.0, "nonfinite": "skip", "health": True}
    opt.step(grads, **everything, average=ema)
    spin = cupy.RawKernel(SPIN, "spin")
    clock = cupy.cuda.Device().attributes.get("ClockRate", 1_500_000) * 1000  # CUDA 13 may not tell
    cupy.cuda.Device().synchronize()
    done = cupy.cuda.Event()
    spin((1,), (1,), (np.int64(clock // 2),))  # half a second
    begin = time.perf_counter()
    for _ in range(5):
        opt.step(grads, **everything, average=ema, zero_grads=True)
    took = time.perf_counter() - begin
    done.record()
    assert not done.done
    assert took < 0.2
    assert opt.steps == 6


class TestGraphs:
    @pytest.mark.parametrize("more", [{}, {"clip_norm": 1.0, "nonfinite": "skip"}], ids=["plain", "whole"])
    @pytest.mark.parametrize("row", ROWS, ids=IDS)
    def test_replays_count(self, row, more):
        (w,), (p,) = host_and_device((300, 11))
        (g,), (d,) = host_and_device((300, 11), seed=1)
        opt, other = row.make(p), row.make(w)
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            opt.step(d, **more)
            stream.begin_capture()
            opt.step(d, **more)
            graph = stream.end_capture()
            for k in range(4):
                d.set(g * np.float32(k + 2))
                graph.launch(stream)
            got = p.get()
        other.step(g, **more)
        for k in range(4):
            other.step(g * np.float32(k + 2), **more)
        same(got, w)
        assert opt.steps == other.steps == 5

    def test_a_learning_rate_is_refreshed_between_replays(self):
        (w,), (p,) = host_and_device(1000)
        (g,), (d,) = host_and_device(1000, seed=1)
        opt, other = gs.AdamW(p, lr=0.5), gs.AdamW(w, lr=0.5)
        lr = cupy.array(0.5)
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device().synchronize()
        with stream:
            opt.lr_array = lr
            opt.step(d)
            stream.begin_capture()
            opt.step(d)
            graph = stream.end_capture()
            for value in (0.25, 0.125):
                lr.fill(value)
                graph.launch(stream)
            got = p.get()
        for value in (0.5, 0.25, 0.125):
            other.lr = value
            other.step(g)
        same(got, w)


@pytest.mark.skipif(
    not DRY_RUN and cupy.cuda.is_available() and cupy.cuda.runtime.getDeviceCount() < 2, reason="needs two"
)
class TestTwoDevices:
    def test_the_device_of_the_arrays_is_used(self):
        (w,), _ = host_and_device(5000)
        (g,), _ = host_and_device(5000, seed=1)
        with cupy.cuda.Device(1):
            p, d = cupy.asarray(w), cupy.asarray(g)
        opt, other = gs.AdamW(p), gs.AdamW(w)
        opt.step(d, clip_norm=1.0)
        other.step(g, clip_norm=1.0)
        assert opt.state["exp_avg"].device.id == 1
        assert cupy.cuda.runtime.getDevice() == 0
        same(p.get(), w)

    def test_arrays_of_two_are_refused(self):
        with cupy.cuda.Device(1):
            there = cupy.zeros(3)
        with pytest.raises(ValueError, match=r"params\[1\]: expected an array on device 0, got one on device 1"):
            gs.SGD([cupy.zeros(3), there])
        with pytest.raises(ValueError, match="grads: expected an array on device 0"):
            gs.SGD(cupy.zeros(3)).step(there)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    (w,), _ = host_and_device((50, 20))
    (g,), _ = host_and_device((50, 20), seed=1)
    t = torch.tensor(w, device="cuda", requires_grad=True)
    with pytest.raises(TypeError, match="requires grad"):
        gs.AdamW(t)
    opt, other = gs.AdamW(t.data), gs.AdamW(w)
    torch.cuda.synchronize()
    opt.step(torch.tensor(g, device="cuda"))
    other.step(g)
    cupy.cuda.Device().synchronize()
    same(t.detach().cpu().numpy(), w)


def test_arrays_of_numba():
    if importlib.util.find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    from numba import cuda

    (w,), _ = host_and_device(2000)
    (g,), _ = host_and_device(2000, seed=1)
    p = cuda.to_device(w)
    opt, other = gs.Adam(p), gs.Adam(w)
    opt.step(cuda.to_device(g))
    other.step(g)
    same(p.copy_to_host(), w)


def test_more_elements_than_32_bits_count():
    n = 2**31 + 5
    if cupy.cuda.runtime.memGetInfo()[0] < 12 * n:
        pytest.skip("needs 26 GB of memory on the device")
    p, g = cupy.zeros(n, np.float32), cupy.ones(n, np.float32)
    gs.SGD(p, lr=0.5).step(g, clip_norm=float("inf"))
    assert p[:3].tolist() == p[-3:].tolist() == [-0.5] * 3
    assert int((p == -0.5).sum()) == n
