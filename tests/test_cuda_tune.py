"""See on_cuda."""

import numpy as np

import gradstep as gs
from on_cuda import hosted, on_host, suite

globals().update(suite("test_tune", ["TestErrors", "TestPlot", "test_a_failed_start_changes_nothing"]))


def test_a_learning_rate_on_the_device_is_laid_aside():
    w, lr = hosted(np.ones(3)), hosted(np.array(0.25))
    opt = gs.SGD(w)
    opt.lr_array = lr
    found = gs.tune.lr_range_test(
        lambda w: (hosted(np.array(np.sum(on_host(w) ** 2))), hosted(2 * on_host(w))), w, [()], opt
    )
    plain = np.ones(3)
    want = gs.tune.lr_range_test(lambda w: (np.sum(w**2), 2 * w), plain, [()], "sgd")
    assert found.losses.tolist() == want.losses.tolist()
    assert opt.lr_array is lr
    assert on_host(w).tolist() == [1.0] * 3
    opt.step(hosted(np.ones(3)))
    assert on_host(w).tolist() == [0.75] * 3
