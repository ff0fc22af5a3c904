"""Trajectories agree with PyTorch's optimizers, where PyTorch is installed."""

import numpy as np
import pytest

import gradstep as gs
from table import DTYPES

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CASES = [
    (gs.GradientDescent, "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    (gs.SGD, "SGD", {"lr": 0.1, "maximize": True, "weight_decay": 0.01}),
    (gs.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    (gs.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (gs.Adagrad, "Adagrad", {"lr": 0.1, "eps": 1e-8, "weight_decay": 0.01}),
    (gs.Adam, "Adam", {"lr": 1e-2}),
    (gs.Adam, "Adam", {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    (gs.AdamW, "AdamW", {"lr": 1e-2}),
    (gs.AdamW, "AdamW", {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-4, "maximize": True}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cls", "theirs", "hypers"), CASES, ids=range(len(CASES)))
def test_trajectory(rng, cls, theirs, hypers, dtype):
    start = [rng.normal(size=shape).astype(dtype) for shape in [(33, 17), (1025,), ()]]
    start = [np.asarray(p) for p in start]
    mine = [p.copy() for p in start]
    other = [torch.tensor(p, requires_grad=True) for p in start]
    opt, peer = cls(mine, **hypers), getattr(torch.optim, theirs)(other, **hypers)
    atol = 8 * np.finfo(dtype).eps
    for step in range(20):
        grads = [np.asarray(rng.normal(size=p.shape).astype(dtype)) for p in start]
        skip = step % 5 == 3
        opt.step([None if skip and i == 1 else g for i, g in enumerate(grads)])
        for i, (t, g) in enumerate(zip(other, grads, strict=True)):
            t.grad = None if skip and i == 1 else torch.tensor(g)
        peer.step()
        for p, t in zip(mine, other, strict=True):
            want = t.detach().numpy()
            assert np.all(np.abs(p - want) <= atol * np.maximum(1, np.abs(want)))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_that_passes_through_zero(rng, nesterov):
    momenta, p = [0.0, 0.9, 0.0, 0.0, 0.5, 0.9], rng.normal(size=50)
    t = torch.tensor(p, requires_grad=True)
    opt = gs.SGD(p, lr=0.1, momentum=momenta.__getitem__, nesterov=nesterov)
    peer = torch.optim.SGD([t], lr=0.1, momentum=0.9, nesterov=nesterov)
    for momentum in momenta:
        g = rng.normal(size=50)
        t.grad = torch.tensor(g)
        peer.param_groups[0]["momentum"] = momentum
        opt.step(g)
        peer.step()
    assert np.abs(p - t.detach().numpy()).max() <= 1e-14
