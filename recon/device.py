"""Where large models run, and in which precision: asked of the hardware."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import cache

import torch


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _bfloat16_is_faster(side: int = 256, turns: int = 20) -> bool:
    """By the shortest product of two matrices in either type, taken in turns: other processes come between some."""
    shortest = {dtype: float("inf") for dtype in (torch.bfloat16, torch.float32)}
    for _ in range(turns):
        for dtype in shortest:
            a = torch.ones(side, side, dtype=dtype)
            start = time.perf_counter()
            a @ a
            shortest[dtype] = min(shortest[dtype], time.perf_counter() - start)
    return shortest[torch.bfloat16] < shortest[torch.float32]


@cache
def choose_dtype() -> torch.dtype:
    """For models of hundreds of millions of weights: float16 on a GPU; on a CPU bfloat16 where that is faster than float32."""
    if choose_device().type == "cuda":
        return torch.float16
    return torch.bfloat16 if _bfloat16_is_faster() else torch.float32


def choose_side(side: int) -> int:
    """Of large pictures: three quarters of `side` where the arithmetic is plain float32, which makes a step half as long."""
    return side if choose_dtype() != torch.float32 else side * 3 // 4


@cache
def trains_in_bfloat16() -> bool:
    """Whether products of training steps are faster in bfloat16 here: GPUs that have it, CPUs by measurement."""
    if choose_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return choose_dtype() == torch.bfloat16


def autocast() -> AbstractContextManager:
    """Context of the forward pass of a training step; weights stay float32."""
    return torch.autocast(choose_device().type, torch.bfloat16, enabled=trains_in_bfloat16())
