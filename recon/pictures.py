"""Pictures as arrays."""

from __future__ import annotations

import numpy as np


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, size, size, 3) uint8 by block means; S must be a multiple of size."""
    n, side = images.shape[:2]
    if side % size:
        raise ValueError(f"expected pictures whose side is a multiple of {size} pixels, got {side}")
    k = side // size
    blocks = images.reshape(n, size, k, size, k, 3)
    return np.rint(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)
