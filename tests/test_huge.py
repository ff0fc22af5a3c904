"""More elements than 32 bits count."""

import os

import numpy as np
import pytest

import gradstep as gs

N = 2**31 + 5
NEEDED = 2 * 2 * N + 2**30


def available():
    """Bytes of memory that this process may still take."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123
            facts = dict(line.split(":") for line in lines)
        free = int(facts["MemAvailable"].split()[0]) * 1024
        with open("/sys/fs/cgroup/memory.max") as limit:  # noqa: PTH123
            free = min(free, int(limit.read()))
    except (OSError, KeyError, ValueError):
        pass
    return free


@pytest.mark.slow
def test_more_than_2_31_elements():
    if available() < NEEDED:
        pytest.skip(f"needs {NEEDED / 2**30:.0f} GiB of memory")
    p, g = np.zeros(N, np.float16), np.ones(N, np.float16)
    g[-1] = 2
    opt = gs.GradientDescent(p, lr=0.5)
    opt.step(g, clip_norm=1e9, zero_grads=True)
    assert opt.grad_norm == pytest.approx((N + 3) ** 0.5, rel=1e-12)
    assert p[-1] == -1
    one = int(np.float16(-0.5).view(np.uint16))
    bits = p[:-1].view(np.uint16)
    assert all((bits[at : at + 2**26] == one).all() for at in range(0, N, 2**26))
    assert not any(g[at : at + 2**26].any() for at in range(0, N, 2**26))
