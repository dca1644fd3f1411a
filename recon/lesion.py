"""Virtual lesion and boost: betas of areas multiplied before anything is decoded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recon.settings import MAX_GAIN


def check_rois(names: Sequence[str], rois: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for names that are no ROI of the subject."""
    unknown = [name for name in names if name not in rois]
    if unknown:
        raise ValueError(f"ROI: expected some of {', '.join(rois)}, got {', '.join(map(repr, unknown))}")


def apply_gains(response: np.ndarray, rois: Mapping[str, np.ndarray], gains: Sequence[tuple[str, float]]) -> np.ndarray:
    """response (n_voxels,) z-scored betas -> the same with every ROI's voxels times its gain, 0 to MAX_GAIN, float32.

    A z-score of 0 is the voxel's mean, so a gain of 0 silences an area. Where ROIs overlap their gains multiply.
    Raises ValueError for an unknown ROI or a gain out of range.
    """
    check_rois([name for name, _ in gains], rois)
    factor = np.ones(len(response), np.float32)
    for name, gain in gains:
        if not 0 <= gain <= MAX_GAIN:
            raise ValueError(f"gain of {name}: expected a number from 0 to {MAX_GAIN}, got {gain!r}")
        factor[rois[name]] *= gain
    return np.asarray(response, np.float32) * factor
