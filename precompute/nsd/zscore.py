"""Betas in percent signal change -> z-scores, by statistics of training data alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.bundle.subject import BETA_SCALE
from recon.files import BadFile


def percent(raw: np.ndarray) -> np.ndarray:
    """int16 betas, or averages of such, -> float64 percent signal change."""
    return np.asarray(raw, np.float64) / BETA_SCALE


@dataclass(frozen=True)
class Scale:
    """z = (percent - mean) / sd. The SD of voxels that never vary is infinite: their z is 0."""

    mean: np.ndarray  # (n_voxels,) float64
    sd: np.ndarray  # (n_voxels,) float64

    @property
    def constant(self) -> np.ndarray:
        """(n_voxels,) bool: those that never vary."""
        return np.isinf(self.sd)


def fit_scale(raw: np.ndarray) -> Scale:
    """raw (n, n_voxels) training betas, n ≥ 2: mean and SD (ddof 1) of each voxel in percent."""
    if len(raw) < 2:
        raise BadFile(f"expected at least 2 training rows to standardise by, got {len(raw)}")
    values = percent(raw)
    constant = (raw == raw[0]).all(0)
    return Scale(values.mean(0), np.where(constant, np.inf, values.std(0, ddof=1)))


def fit_scale_in_blocks(raw: np.ndarray, width: int = 1024) -> Scale:
    """fit_scale of a memory map, about `width` voxels at a time."""
    columns = np.array_split(np.arange(raw.shape[1]), -(-raw.shape[1] // width))
    scales = [fit_scale(np.ascontiguousarray(raw[:, c[0] : c[-1] + 1])) for c in columns]
    return Scale(np.concatenate([s.mean for s in scales]), np.concatenate([s.sd for s in scales]))


def standardise(raw: np.ndarray, scale: Scale) -> np.ndarray:
    """(..., n_voxels) betas -> float64 z-scores."""
    return (percent(raw) - scale.mean) / scale.sd


def rows_of_images(raw: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """raw (n_trials, n_voxels) int16, trials (n, n_repeats) with -1 for none -> (n, n_repeats, n_voxels) float64, NaN for none."""
    out = np.full((*trials.shape, raw.shape[1]), np.nan)
    out[trials >= 0] = raw[trials[trials >= 0]]
    return out


def session_z(raw: np.ndarray, trials: np.ndarray, scales: list[Scale], trials_per_session: int) -> np.ndarray:
    """Like rows_of_images, each trial standardised by the scale of its own session."""
    z = rows_of_images(raw, trials)
    for session, scale in enumerate(scales):
        here = (trials >= 0) & (trials // trials_per_session == session)
        if here.any():
            z[here] = standardise(z[here], scale)
    return z
