"""The noise ceiling's signal-to-noise ratio from repeats of images, of which there may be different numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MIN_FREEDOM = 10  # repeats beyond each image's first, below which nothing is estimated


def ncsnr_from_repeats(blocks: Iterable[np.ndarray]) -> np.ndarray | None:
    """Blocks of z-scores (n_images, n_repeats, n_voxels), NaN where a repeat is missing -> (n_voxels,) float32.

    After Allen et al. (2022): noise variance is that over repeats of an image, pooled over images; total variance that of all
    trials of these images; signal variance is the rest, at least 0. With equal numbers of repeats this is `estimate_ncsnr`. None
    if there are hardly any repeats; NaN where a voxel does not vary.
    """
    freedom, n, within, total, squares = 0, 0, 0.0, 0.0, 0.0
    for block in blocks:
        repeats = np.isfinite(block).all(2).sum(1)
        for image, k in zip(block, repeats):
            if k < 2:
                continue
            z = image[np.isfinite(image).all(1)].astype(np.float64)
            within = within + ((z - z.mean(0)) ** 2).sum(0)
            total, squares = total + z.sum(0), squares + (z**2).sum(0)
            freedom, n = freedom + k - 1, n + k
    if freedom < MIN_FREEDOM:
        return None
    noise, variance = within / freedom, (squares - total**2 / n) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.maximum(variance - noise, 0) / noise).astype(np.float32)
