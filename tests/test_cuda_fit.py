"""See on_cuda. Loss and validation may be arrays of the device."""

import numpy as np
import pytest

import gradstep as gs
from on_cuda import hosted, on_host, suite

globals().update(
    suite("test_fit", ["test_killed_it_goes_on_to_the_same_bits", "TestProgress", "TestPlot", "TestErrors"])
)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_all_of_it_on_the_device(tmp_path, dtype):
    def fun(w):
        loss = np.sum(on_host(w) ** 2, keepdims=True, dtype="f4")[0]
        return hosted(loss), hosted((2 * on_host(w)).astype(dtype))

    def judge(w):
        return hosted(np.array(on_host(w)[0, 0]))

    memory = np.ones((4, 6), dtype)
    w, plain = hosted(memory[:, ::2]), np.ones((4, 3), dtype)
    options = {"epochs": 5, "gtol": 0.0, "restore_best": True, "checkpoint": tmp_path / "c"}
    result = gs.fit(fun, w, [()], gs.AdamW(w, lr=0.125), validate=judge, **options)
    (tmp_path / "c").rename(tmp_path / "d")
    want = gs.fit(
        lambda w: (np.sum(w**2, dtype="f4"), 2 * w),
        plain,
        [()],
        gs.AdamW(plain, lr=0.125),
        validate=lambda w: w[0, 0],
        **options,
    )
    assert repr(vars(result.history)) == repr(vars(want.history))
    assert on_host(w).tobytes() == plain.tobytes()
    assert (memory[:, 1::2] == 1).all()
    w2 = hosted(np.zeros((4, 6), dtype)[:, ::2])
    options["checkpoint"] = tmp_path / "d"
    again = gs.fit(fun, w2, [()], gs.AdamW(w2, lr=0.125), validate=judge, **options)
    assert again.optimizer.steps == 5
    assert on_host(w2).tobytes() == plain.tobytes()
