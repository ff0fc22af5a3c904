"""Threads, from one to all: AdamW on one array."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradstep as gs
from bench.case import PLACES, Case, Contestant, Question
from bench.contestants import ceiling, contestants
from bench.work import Work

ALL = gs.get_num_threads()


def question(quick: bool) -> Question:
    """Measure each number of threads up to eight, then every doubling, and all."""
    counts = sorted({n for n in (*range(1, 9), 16, 32, 64, 128) if n < ALL} | {ALL})
    for k in (17, 23) if quick else (14, 17, 20, 23, 25):
        work = Work("AdamW", (2**k,))
        for threads in counts:
            yield Case(
                f"2^{k}, {threads} thread{'s' * (threads > 1)}",
                {
                    "gradstep": partial(limited, "gradstep", gs.set_num_threads, work, threads),
                    "ceiling": partial(ceiling.all_threads, work, threads),
                    "Numba": partial(limited, "Numba", _numba, work, threads),
                    "PyTorch fused": partial(limited, "PyTorch fused", _torch, work, threads),
                },
                work.expected,
                turns=work.turns,
                nbytes=work.nbytes,
                x=threads,
                series=f"2^{k} elements",
                **PLACES,
            )


def limited(name: str, limit: Callable[[int], Any], work: Work, threads: int) -> Contestant:
    """Set a library's number of threads, which is the same for all of its calls in a case."""
    limit(threads)
    return contestants(work, [name])[name]()


def _numba(threads: int) -> None:
    import numba

    numba.set_num_threads(threads)


def _torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
