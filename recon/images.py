"""Pictures as arrays and as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, size, size, 3) uint8 by block means; S must be a multiple of size."""
    n, side = images.shape[:2]
    if side % size:
        raise ValueError(f"expected pictures whose side is a multiple of {size} pixels, got {side}")
    k = side // size
    total = np.zeros((n, size, size, 3), np.float32)
    for row in range(k):  # sums of strided pictures: four times as fast as a mean over two axes
        for column in range(k):
            total += images[:, row::k, column::k]
    return np.rint(total / k**2).astype(np.uint8)


def to_pixels(images: np.ndarray, size: int | None = None) -> torch.Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, size, size) float32 in [-1, 1], bicubic; without a size as they are."""
    import torch  # takes seconds, and a page shows pictures before
    from torch.nn.functional import interpolate

    pixels = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    if size is None or pixels.shape[2:] == (size, size):
        return pixels
    return interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def to_images(pixels: torch.Tensor) -> np.ndarray:
    """(n, 3, S, S) in [-1, 1] -> (n, S, S, 3) uint8."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
