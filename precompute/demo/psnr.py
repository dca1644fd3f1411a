"""How well a demo network reconstructs."""

from __future__ import annotations

import numpy as np


def psnr(images: np.ndarray, decoded: np.ndarray) -> float:
    """Mean over pictures of 10 log10(255² / mean squared error), dB."""
    error = ((images.astype(np.float32) - decoded) ** 2).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(error, 1e-6))).mean())
