"""ROI-optimal stimuli: what both stages make of a brain in which only chosen areas are active (Ozcelik & VanRullen 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recon.lesion import check_rois

MAX_LEVEL = 5.0  # z-score: far beyond what averaged trials reach


def optimal_response(rois: Mapping[str, np.ndarray], levels: Mapping[str, float]) -> np.ndarray:
    """(n_voxels,) float32 z-scored betas: voxels of each chosen ROI at its level, all others at 0, their mean.

    rois: name -> (n_voxels,) bool; levels: name -> z-score, -MAX_LEVEL to MAX_LEVEL. A voxel in several chosen ROIs takes
    the mean of their levels. Raises ValueError if no ROI is chosen, one is unknown, or a level is out of range.
    """
    if not levels:
        raise ValueError("ROI: expected at least one, got none: choose an area")
    check_rois(list(levels), rois)
    for name, level in levels.items():
        if not -MAX_LEVEL <= level <= MAX_LEVEL:
            raise ValueError(f"level of {name}: expected a number from {-MAX_LEVEL} to {MAX_LEVEL}, got {level!r}")
    masks = np.array([rois[name] for name in levels], np.float32)
    total, count = np.array(list(levels.values()), np.float32) @ masks, masks.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), 0).astype(np.float32)
