"""Batches, standardisation and augmentation of arrays on a device: the bits that they have on the host."""

import numpy as np
import pytest
from on_gpu import DRY_RUN, cupy, gpu

import on_cuda
from gradstep.data import Augment, Standardizer, minibatches

pytestmark = gpu


@pytest.fixture(autouse=True)
def dry(monkeypatch):
    if DRY_RUN:
        on_cuda.install(monkeypatch)


def on_host(x):
    from gradstep import device

    return device.to_host(x)


def on_device(x):
    return on_cuda.hosted(x) if DRY_RUN else cupy.asarray(x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
def test_batches_have_the_bits_of_the_host(dtype, rng):
    X, y = (rng.normal(size=(1000, 9, 7, 3)) * 50 + 100).astype(dtype), np.arange(1000)
    settings = {
        "batch_size": 128,
        "seed": 5,
        "epochs": 2,
        "augment": Augment(flip=True, shift=2, crop=(8, 8), noise=0.5),
    }
    settings["standardize"] = Standardizer().fit(X)
    for host, there in zip(
        minibatches(X, y, **settings), minibatches(on_device(X), on_device(y), **settings), strict=True
    ):
        for a, b in zip(host, there, strict=True):
            np.testing.assert_array_equal(on_host(b), a)


@pytest.mark.parametrize("order", ["C", "F"])
def test_moments_have_the_bits_of_the_host(order, rng):
    X = np.asarray(rng.normal(3, 2, (5000, 70)), order=order)
    X[rng.random(X.shape) < 0.1] = np.nan
    host, there = Standardizer().fit(X), Standardizer().fit(on_device(X))
    np.testing.assert_array_equal(there._moments, host._moments)
    np.testing.assert_array_equal(on_host(there.transform(on_device(X))), host.transform(X))


def test_arrays_of_host_and_device_stay_together(rng):
    X, y = rng.normal(size=(100, 3)), np.arange(100)
    for a, b in minibatches(on_device(X), y, batch_size=7, seed=1):
        np.testing.assert_array_equal(on_host(a), X[b])
