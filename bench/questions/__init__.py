"""The questions, one file each; `question(quick)` yields cases and the figures that come of them."""

from importlib import import_module

from bench.case import Question

NAMES = (
    "every_rule",
    "many_arrays",
    "whole_step",
    "storage",
    "threads",
    "beside_blas",
    "beside_torch",
    "beyond_steps",
    "costs",
    "gpu",
    "cuda_host",
)


def ask(name: str, quick: bool) -> Question:
    """Return that question's generator."""
    question: Question = import_module(f"bench.questions.{name}").question(quick)
    return question


def title(name: str) -> str:
    """Return what it asks: the first line of its file."""
    if name not in NAMES:  # a run of another version may have asked it
        return name
    return (import_module(f"bench.questions.{name}").__doc__ or name).splitlines()[0].rstrip(".")
