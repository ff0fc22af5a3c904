"""Micro-benchmarks of calls: `pytest bench --benchmark-only`, with pytest-benchmark's options."""

from __future__ import annotations

from typing import Any

import pytest
from workloads import WORKLOADS


@pytest.mark.parametrize("name", WORKLOADS)
def test_call(benchmark: Any, name: str) -> None:
    benchmark(WORKLOADS[name]())
