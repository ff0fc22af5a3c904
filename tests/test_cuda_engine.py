"""What only the CUDA backend has: launches, streams, devices, the interface, a learning rate on the device."""

import functools

import ml_dtypes
import numpy as np
import pytest

import gradstep as gs
import on_cuda
from on_cuda import Foreign, emulator, hosted, interface, on_host
from test_rules import same

cupy = on_cuda.cupy


@pytest.fixture(autouse=True)
def device(monkeypatch):
    on_cuda.install(monkeypatch)


def on_device(*shapes, dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    return [hosted(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def launches_of(call):
    before = emulator().emulator_launches()
    call()
    return emulator().emulator_launches() - before


def waits_of(call):
    before = emulator().emulator_waits()
    call()
    return emulator().emulator_waits() - before


@pytest.mark.parametrize("n", [1, 1000])
def test_two_thousand_arrays_in_five_launches(n):
    params, grads = on_device(*[n] * 2000), on_device(*[n] * 2000, seed=1)
    opt = gs.AdamW(params)
    assert launches_of(lambda: opt.step(grads)) <= 5
    want = [on_host(p).copy() for p in on_device(*[n] * 2000)]
    gs.AdamW(want).step([on_host(g) for g in grads])
    for p, w in zip(params, want, strict=True):
        same(on_host(p), w)


def test_more_groups_than_one_launch_holds():
    params, grads = on_device(*[3] * 700), on_device(*[3] * 700, seed=1)
    opt = gs.Adam([{"params": [p], "lr": 0.001 * (i + 1)} for i, p in enumerate(params)])
    opt.step([[g] for g in grads])
    want = [on_host(p) for p in on_device(*[3] * 700)]
    gs.Adam([{"params": [w], "lr": 0.001 * (i + 1)} for i, w in enumerate(want)]).step([[on_host(g)] for g in grads])
    for p, w in zip(params, want, strict=True):
        same(on_host(p), w)
    assert opt._plan.counts == [1] * 700


def test_no_step_waits_for_the_device():
    params, grads = on_device((300, 7), 5), on_device((300, 7), 5, seed=1)
    opt, ema = gs.AdamW(params), gs.EMA(params)
    everything = {"clip_norm": 1.0, "clip_value": 0.5, "grad_scale": 2.0, "zero_grads": True, "health": True}
    step = functools.partial(opt.step, grads, **everything, nonfinite="skip", average=ema)
    assert waits_of(step) == 0
    assert waits_of(lambda: opt.step([grads[0], None], average=ema)) == 0
    assert waits_of(lambda: opt.step(params)) == 0  # gradients that are copied first
    for read in ("steps", "skipped", "grad_norm", "health"):
        assert waits_of(lambda read=read: getattr(opt, read)) > 0
    assert waits_of(lambda: opt.step(grads, nonfinite="raise")) > 0


def test_a_skipped_step_is_known_when_it_is_asked_for():
    (p,), (g,) = on_device(3000), on_device(3000, seed=1)
    on_host(g)[2999] = np.inf
    before = on_host(p).copy()
    opt = gs.Adam(p, lr=lambda calls: 0.1 / (calls + 1))
    for _ in range(3):
        opt.step(g, nonfinite="skip", health=True)
    assert (opt.steps, opt.skipped, opt._plan.calls) == (0, 3, 3)
    assert (opt.health[0].infs, opt.health[0].update_ratio) == (1, 0.0)
    same(on_host(p), before)
    on_host(g)[2999] = 0
    opt.step(g, nonfinite="skip")
    assert (opt.steps, opt.skipped) == (1, 3)


@pytest.mark.parametrize("cls", [gs.SGD, gs.AdamW])
def test_a_learning_rate_on_the_device(cls):
    (p,), (g,) = on_device(100), on_device(100, seed=1)
    want = on_host(p).copy()
    opt, other = cls(p, lr=0.5), cls(want, lr=0.5)
    lr = hosted(np.array(0.25))
    opt.lr_array = lr
    for value in (0.25, 0.125):
        on_host(lr)[...] = value
        opt.step(g)
        other.lr = value
        other.step(on_host(g))
        same(on_host(p), want)
    opt.add_group({"params": on_device(4)})
    opt.step([g, [None]])
    other.step(on_host(g))
    same(on_host(p), want)
    opt.lr_array = None
    opt.step([g, [None]])
    other.lr = 0.5
    other.step(on_host(g))
    same(on_host(p), want)


def test_bad_learning_rates_on_the_device():
    opt = gs.SGD(on_device(3)[0])
    for bad, error in [(np.array(0.1), TypeError), (0.1, TypeError), (on_device((), dtype="f4")[0], ValueError)]:
        with pytest.raises(error, match="lr_array: expected"):
            opt.lr_array = bad
    assert opt.lr_array is None
    with pytest.raises(TypeError, match="lr_array: expected None"):
        gs.SGD(np.ones(2)).lr_array = np.array(0.1)


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_addresses_that_lie_on_no_line_of_16_bytes(dtype, offset):
    rng = np.random.default_rng(offset)
    p, g = (rng.normal(size=5000 + offset).astype(dtype)[offset:] for _ in range(2))
    want = p.copy()
    mine = hosted(p)
    opt, other = gs.AdamW(mine), gs.AdamW(want)
    for k in range(3):
        opt.step(hosted(g if k % 2 else g.copy()), clip_norm=1.0)
        other.step(g, clip_norm=1.0)
    same(p, want)
    assert opt.grad_norm == other.grad_norm


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_more_elements_than_32_bits_count(dtype):
    n = 2**31 + 5
    try:
        p, g = np.zeros(n, dtype), np.zeros(n, dtype)  # pages that nobody touches take no memory
    except MemoryError:
        pytest.skip("needs 16 GB of addresses")
    g[-6:] = 1
    opt = gs.GradientDescent(hosted(p), lr=0.5)
    emulator().emulator_set_last_blocks(2)
    try:
        opt.step(hosted(g), clip_norm=np.inf)
    finally:
        emulator().emulator_set_last_blocks(0)
    assert p[-7:].tolist() == [0.0] + [-0.5] * 6
    assert opt.grad_norm == 6**0.5


def test_the_current_stream_is_used(monkeypatch):
    class Other:
        ptr = 0x70

    opt, (g,) = gs.SGD(on_device(3)[0]), on_device(3, seed=1)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda device=-1: Other)
    opt.step(g)
    assert emulator().emulator_last_stream() == 0x70


def test_the_stream_of_a_gradient_is_waited_for():
    def waited(stream):
        before = emulator().emulator_stream_waits()
        opt.step([Foreign(np.ones(3, "f4"), stream=stream)] * 2)
        return emulator().emulator_stream_waits() - before

    opt = gs.SGD(on_device(3, 3))
    assert waited(0x80) == 1
    assert waited(None) == 0
    assert waited(1) == 0  # the default stream, which is ours now
    with pytest.raises(ValueError, match="expected float32 of shape"):
        opt.step([Foreign(np.ones(4, "f4"), stream=0x80)] * 2)
    assert waited(None) == 0  # what was read in vain is forgotten


def test_a_gradient_is_copied_after_its_stream_was_waited_for(monkeypatch):
    from gradstep import device

    waited, copy = [], device.copy_of
    monkeypatch.setattr(device, "copy_of", lambda a: waited.append(emulator().emulator_stream_waits()) or copy(a))
    p = np.ones(5, "f4")
    opt, before = gs.SGD(hosted(p)), emulator().emulator_stream_waits()
    opt.step(Foreign(p, stream=0x80))
    assert waited == [before + 1]


def test_the_stream_of_a_learning_rate_is_waited_for():
    opt, before = gs.SGD(on_device(3)[0]), emulator().emulator_stream_waits()
    opt.lr_array = Foreign(np.array(0.5), stream=0x80)
    assert emulator().emulator_stream_waits() == before + 1


def test_empty_states_are_loaded_without_a_look_at_their_address():
    params = [*on_device(256), hosted(np.ones(0, "f4"))]
    opt = gs.SGD(params, momentum=0.9)
    on_cuda.place(opt.state["momentum_buffer"][1].data.ptr, 8, -2)  # as a driver calls what is nobody's
    opt.load_state_dict(opt.state_dict())


def on_second(array):
    on_cuda.place(array.ctypes.data, array.nbytes, 1)
    return Foreign(array)


def test_arrays_of_two_devices_are_refused():
    first, second = np.ones(3, "f4"), np.ones(3, "f4")
    there = on_second(second)
    with pytest.raises(ValueError, match=r"params\[1\]: expected an array on device 0, got one on device 1"):
        gs.SGD([Foreign(first), there])
    with pytest.raises(ValueError, match="grads: expected an array on device 0, got one on device 1"):
        gs.SGD(Foreign(first)).step(there)


def test_everything_happens_on_the_device_of_the_arrays():
    w, g = (np.random.default_rng(k).normal(size=3000).astype("f2") for k in range(2))
    p, d = w.copy(), g.copy()
    params = [Foreign(np.zeros(0, "f4")), on_second(p)]
    opt, ema = gs.AdamW(params, master_weights=True), gs.EMA(params)
    here = gs.AdamW([np.zeros(0, "f4"), w], master_weights=True)
    opt.step([None, on_second(d)], clip_norm=1.0, health=True, average=ema)
    opt.step([None, params[1]])
    here.step([None, g], clip_norm=1.0)
    here.step([None, w])
    same(p, w)
    same(opt.state_dict()["state"]["exp_avg"][1], np.array(here.state["exp_avg"][1]))
    opt.load_state_dict(here.state_dict())
    with ema.swapped():
        pass
    assert (opt.steps, opt.health[0].nans) == (2, 0)
    assert gs._cuda.current_device() == 0


def test_no_driver_is_one_clear_error():
    emulator().emulator_set_broken_driver(1)
    try:
        with pytest.raises(TypeError, match="params: expected a NumPy array, got a CUDA array; CUDA: CUDA driver"):
            gs.SGD(on_device(3)[0])
        assert "no device: CUDA: CUDA driver version is insufficient" in gs.config.config().cuda
    finally:
        emulator().emulator_set_broken_driver(0)
    assert "devices: CPU (0.0), CPU (0.0)" in gs.config.config().cuda


def test_numpy_and_cuda_arrays_do_not_mix():
    (p,) = on_device(3)
    with pytest.raises(TypeError, match=r"params\[1\]: expected a CUDA array, got numpy.ndarray"):
        gs.SGD([p, np.ones(3, "f4")])
    with pytest.raises(TypeError, match=r"params\[1\]: expected a NumPy array, got on_cuda.Hosted"):
        gs.SGD([np.ones(3, "f4"), p])
    with pytest.raises(TypeError, match=r"grads: expected a CUDA array, got numpy\.ndarray"):
        gs.SGD(p).step(np.ones(3, "f4"))


class TestForeignArrays:
    def test_step_in_place(self):
        p, g = np.ones((4, 5), "f4"), np.ones((5, 4), "f4").T
        opt = gs.Adam(Foreign(p))
        opt.step(Foreign(g))
        want = np.ones((4, 5), "f4")
        gs.Adam(want).step(g)
        same(p, want)
        assert isinstance(opt.state["exp_avg"], cupy.ndarray)

    def test_read_only(self):
        p = np.ones(3)
        p.flags.writeable = False
        with pytest.raises(ValueError, match="params: expected a writeable array, got a read-only one"):
            gs.SGD(Foreign(p))

    def test_masks_are_refused(self):
        with pytest.raises(TypeError, match="params: expected a plain CUDA array, got a masked one"):
            gs.SGD(Foreign(np.ones(3), mask=Foreign(np.ones(3, bool))))

    def test_unaligned(self):
        raw = np.zeros(13, np.uint8)[1:].view("f4")
        with pytest.raises(ValueError, match="params: expected an aligned array"):
            gs.SGD(Foreign(raw))

    @pytest.mark.parametrize(
        "bad",
        [
            {},
            {"shape": (3,)},
            None,
            {"shape": (3,), "typestr": "<f4", "data": (0,)},
            {"shape": (3,), "typestr": "<f4", "data": ("a", False)},
            {"shape": 3, "typestr": "<f4", "data": (64, False)},
            {"shape": ("a",), "typestr": "<f4", "data": (64, False)},
            {"shape": (3,), "typestr": "nonsense", "data": (64, False)},
            {"shape": (3,), "typestr": "<f4", "data": (64, False), "strides": (4, 4)},
            {"shape": (1 << 70,), "typestr": "<f4", "data": (64, False)},
            {"shape": (-3,), "typestr": "<f4", "data": (64, False)},
            {"shape": (3,), "typestr": "<f4", "data": (-64, False)},
            {"shape": (3,), "typestr": "<f4", "data": (64, "x")},
            {"shape": (3,), "typestr": "<f4", "data": (64, False), "stream": "x"},
            {"shape": (3,), "typestr": "<f4", "data": (64, False), "stream": -1},
            {"shape": (3,), "typestr": None, "data": (64, False)},
            {"shape": (1 << 62, 1 << 62), "typestr": "<f4", "data": (64, False)},
            {"shape": (3,), "typestr": "<f4", "data": (0, False)},
            {"shape": (3,), "typestr": "<f4", "data": (64, False), "strides": (1 << 62,)},
            {"shape": (3,), "typestr": "<f4", "data": (64, False), "strides": (-(1 << 60),)},
        ],
        ids=range(20),
    )
    def test_a_broken_interface_is_an_error(self, bad):
        class Broken:
            __cuda_array_interface__ = bad

        with pytest.raises(TypeError, match=r"grads: expected a CUDA array, got .*Broken"):
            gs.SGD(on_device(3)[0]).step(Broken())

    def test_ctrl_c_is_no_broken_interface(self):
        class Slow:
            @property
            def __cuda_array_interface__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gs.SGD(on_device(3)[0]).step(Slow())

    @pytest.mark.parametrize("name", ["data", "dtype", "shape"])
    def test_a_broken_array_of_cupy(self, name):
        (p,) = on_device(3)
        broken = type("Broken", (on_cuda.Hosted,), {name: property(lambda self: None)})
        bad = broken((3,), np.float32, p.data)
        with pytest.raises((TypeError, AttributeError)):
            gs.SGD(p).step(bad)

    @pytest.mark.parametrize("error", [RuntimeError("it requires grad"), AttributeError("no such thing")])
    def test_a_tensor_without_an_interface_tells_why(self, error):
        class Meta(type):
            """As PyTorch's: Python code that asking for the type's name runs."""

            def __getattribute__(cls, name):
                try:
                    return type.__getattribute__(cls, name)
                except AttributeError:
                    raise

        class Tensor(metaclass=Meta):
            @property
            def __cuda_array_interface__(self):
                raise error

        (p,) = on_device(3)
        told = "requires grad" if isinstance(error, RuntimeError) else "got .*Tensor"
        with pytest.raises(TypeError, match=r"params\[1\].*" + told):
            gs.SGD([p, Tensor()])
        with pytest.raises(TypeError, match=r"grads.*" + told):
            gs.SGD(p).step(Tensor())

    def test_bfloat16_of_pytorch_is_known_by_its_name(self):
        class Name:
            def __str__(self):
                return "torch.bfloat16"

        class Tensor(Foreign):
            def __init__(self, array):
                super().__init__(array)
                self.dtype = Name()

            @property
            def __cuda_array_interface__(self):
                return {**interface(self.shape, self._array.dtype, self._array.ctypes.data, None), "typestr": "<V2"}

        p, g = np.ones(5, ml_dtypes.bfloat16), np.full(5, 0.5, ml_dtypes.bfloat16)
        want = p.copy()
        gs.AdamW(Tensor(p), lr=0.1, master_weights=True).step(Tensor(g))
        gs.AdamW(want, lr=0.1, master_weights=True).step(g)
        same(p.astype("f4"), want.astype("f4"))
        assert (p != 1).all()


def test_a_checkpoint_crosses_from_one_backend_to_the_other(tmp_path):
    (p,), (g,) = on_device((30, 40)), on_device((30, 40), seed=1)
    mine = on_host(p).copy()
    opt, other = gs.AdamW(p), gs.AdamW(mine)
    for _ in range(3):
        opt.step(g)
        other.step(on_host(g))
    opt.save(tmp_path / "a.npz")
    other.save(tmp_path / "b.npz")
    here, there = gs.AdamW(mine), gs.AdamW(p)
    here.load(tmp_path / "a.npz")
    there.load(tmp_path / "b.npz")
    here.step(on_host(g))
    there.step(g)
    same(on_host(p), mine)
    assert isinstance(opt.state_dict()["state"]["exp_avg"], np.ndarray)
    there.load_state_dict({**opt.state_dict(), "state": dict(opt.state)})
    assert there.steps == 3


def test_strided_states_are_loaded_from_a_device():
    (p,) = on_device((3, 4), dtype="f8")
    opt = gs.SGD(p, momentum=0.9)
    wide = np.arange(24.0).reshape(3, 8)[:, ::2]
    opt.load_state_dict({**opt.state_dict(), "state": {"momentum_buffer": Foreign(wide)}, "counts": [1], "steps": 1})
    same(on_host(opt.state["momentum_buffer"]), wide.copy())
    cpu = gs.SGD(np.zeros((3, 4)), momentum=0.9)
    cpu.load_state_dict({**cpu.state_dict(), "state": {"momentum_buffer": hosted(wide)}, "counts": [1], "steps": 1})
    same(cpu.state["momentum_buffer"], wide.copy())


def test_memory_of_state():
    params = on_device((100, 10), 3)
    opt = gs.AdamW(params)
    assert opt.nbytes == gs.memory(params, "adamw") == 2 * 4 * 1003
