"""What every test may use, and a process put back as it was."""

import numpy as np
import pytest

from gradstep import _cpu


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def engine():
    """Return a function that sets instruction set, thread layer and count, with parts small enough to matter."""
    isa, layer, threads = _cpu.isa(), _cpu.threading(), _cpu.num_threads()

    def use(*, isa=isa, layer=layer, threads=threads, part_tiles=3, thread_elements=1):
        _cpu.set_isa(isa)
        _cpu.set_threading(layer)
        _cpu.set_num_threads(threads)
        _cpu.set_grain(part_tiles, thread_elements)

    yield use
    _cpu.set_num_threads(threads)  # of the layer that the test left
    use(part_tiles=32, thread_elements=1 << 16)
