"""The same beside PyTorch: its OpenMP runtime is loaded before the first step."""

from __future__ import annotations

from bench.case import Question
from bench.questions.beside_blas import neighbours


def question(quick: bool) -> Question:
    """Measure a step after a matmul and a matmul after a step."""
    yield from neighbours("PyTorch imported first", "torch")
