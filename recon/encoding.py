"""Features to voxels: per-voxel R², correlation and noise ceiling of an encoding model.

Ridge with an alpha of its own for each voxel, chosen by leave-one-out over training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from recon.files import BadFile, whole_file
from recon.regression import Standardiser, r2_per_target
from recon.spectrum import column_blocks, decompose, loo_r2, shrinkage
from recon.subject import open_h5

VERSION = 1
ALPHAS = np.logspace(0, 8, 17)
MIN_CEILING = 10.0  # percent: below it R² over the ceiling means nothing


def estimate_ncsnr(voxels: np.ndarray) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio (Allen et al. 2022) from repeats.

    voxels (n_images, n_repeats, n_voxels), at least two repeats each, no NaN. Noise variance is the mean variance over
    repeats (ddof 1), total variance that of all trials; signal variance is the rest, at least 0.
    """
    noise = voxels.var(1, ddof=1, dtype=np.float64).mean(0)
    total = voxels.reshape(-1, voxels.shape[2]).var(0, ddof=1, dtype=np.float64)
    return np.sqrt(np.maximum(total - noise, 0) / noise).astype(np.float32)


def noise_ceiling(ncsnr: np.ndarray, n_repeats: np.ndarray) -> np.ndarray:
    """Explainable variance in percent: 100·ncsnr²/(ncsnr² + mean(1/n)) for images of n_repeats (n_images,) averaged trials."""
    return (100 * ncsnr**2 / (ncsnr**2 + np.mean(1 / np.asarray(n_repeats, float)))).astype(np.float32)


@dataclass(frozen=True)
class VoxelScores:
    """One number per voxel, of averaged test trials; R² against the test mean, in (-∞, 1]; ceilings in percent."""

    r2: np.ndarray
    r: np.ndarray
    noise_ceiling: np.ndarray
    n_images: int

    @property
    def r2_over_ceiling(self) -> np.ndarray:
        """R² in percent of the ceiling; NaN where the ceiling is under 10 %."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.noise_ceiling >= MIN_CEILING, 100 * self.r2 / (self.noise_ceiling / 100), np.nan)


@dataclass(frozen=True)
class EncodingModel:
    """Standardised features -> voxels, linear."""

    standardise: Standardiser
    weights: np.ndarray  # (n_features, n_voxels) float32
    intercept: np.ndarray  # (n_voxels,) float32
    alpha: np.ndarray  # (n_voxels,)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, n_features) -> (n, n_voxels) float32."""
        return self.standardise(features) @ self.weights + self.intercept


def fit_encoding(features: np.ndarray, voxels: np.ndarray, alphas: np.ndarray = ALPHAS) -> EncodingModel:
    """Ridge features (n, f) -> averaged training voxels (n, n_voxels); alpha per voxel by leave-one-out R².

    Raises ValueError if they differ in length or either holds NaN or infinity.
    """
    if len(features) != len(voxels):
        raise ValueError(f"expected as many rows of features as of voxels, got {len(features)} and {len(voxels)}")
    Standardiser.none(voxels.shape[1])(voxels)  # refuses bad ones
    standardise = Standardiser.fit(features)
    spectrum = decompose(standardise(features))
    n_voxels = voxels.shape[1]
    weights = np.empty((features.shape[1], n_voxels), np.float32)
    mean = voxels.mean(0, dtype=np.float64).astype(np.float32)
    best = np.empty(n_voxels)
    for part in column_blocks(n_voxels, 1024):
        Y = torch.as_tensor(voxels[:, part] - mean[part])
        best[part] = alphas[loo_r2(spectrum, Y, alphas).argmax(0)]
        d = shrinkage(spectrum.s, best[part]) / spectrum.s[:, None]
        weights[:, part] = (spectrum.V @ (d * (spectrum.U.T @ Y))).numpy()
    return EncodingModel(standardise, weights, mean, best)


def score_voxels(predicted: np.ndarray, measured: np.ndarray, ncsnr: np.ndarray, n_repeats: np.ndarray) -> VoxelScores:
    """Predicted and measured (averaged) test responses (n, n_voxels) -> scores. Raises ValueError for other n_repeats than n."""
    if len(n_repeats) != len(measured):
        raise ValueError(f"expected as many images as numbers of repeats, got {len(measured)} and {len(n_repeats)}")
    p, m = predicted - predicted.mean(0), measured - measured.mean(0)
    norm = np.sqrt((p**2).sum(0) * (m**2).sum(0))
    r = np.where(norm > 0, (p * m).sum(0) / np.where(norm > 0, norm, 1), 0)
    r2 = r2_per_target(measured, predicted).astype(np.float32)
    return VoxelScores(r2, r.astype(np.float32), noise_ceiling(ncsnr, n_repeats), len(measured))


def save_scores(path: Path, scores: VoxelScores) -> None:
    with whole_file(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(format="recon-voxel-scores", version=VERSION, n_images=scores.n_images)
        for name in ("r2", "r", "noise_ceiling"):
            f[name] = getattr(scores, name)


def load_scores(path: Path) -> VoxelScores:
    """Raises BadFile if the file is missing, damaged or of another kind."""
    with open_h5(path, "recon-voxel-scores", VERSION) as f:
        try:
            values = [f[name][:] for name in ("r2", "r", "noise_ceiling")]
        except (KeyError, OSError) as error:
            raise BadFile(f"{path} is incomplete or damaged ({error}): make it again") from error
        return VoxelScores(*values, int(f.attrs["n_images"]))
