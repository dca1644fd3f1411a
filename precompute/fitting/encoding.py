"""Features to voxels: per-voxel R², correlation and noise ceiling of an encoding model.

Banded ridge (Nunez-Elizalde et al. 2019): each voxel has an alpha of its own for each band of features, chosen by generalised
cross-validation over training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.stats import false_discovery_control

from precompute.fitting.spectrum import column_blocks, decompose, gcv_r2, shrinkage
from recon.brain.voxel_scores import VoxelScores
from recon.regressors.standardise import Standardiser, r2_per_target

ALPHAS = np.logspace(0, 8, 17)
# of a band's features against those of the first: its alpha is that of the first / weight²
WEIGHTS = (1.0, 3.0, 10.0, 30.0)
PERMUTATIONS = 1000


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
class EncodingModel:
    """Standardised features -> voxels, linear."""

    standardise: Standardiser
    weights: np.ndarray  # (n_features, n_voxels) float32
    intercept: np.ndarray  # (n_voxels,) float32
    alpha: np.ndarray  # (n_bands, n_voxels)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, n_features), all bands side by side -> (n, n_voxels) float32."""
        return self.standardise(features) @ self.weights + self.intercept


def fit_encoding(
    bands: Sequence[np.ndarray], voxels: np.ndarray, alphas: np.ndarray = ALPHAS, weights: Sequence[float] = WEIGHTS
) -> EncodingModel:
    """Banded ridge from bands of features (n, f) -> averaged training voxels (n, n_voxels).

    Every voxel takes, of all `alphas` of the first band and all `weights` of each other band, what has its highest expected R².
    Raises ValueError if they differ in length or any holds NaN or infinity.
    """
    features = np.hstack(bands)
    if len(features) != len(voxels):
        raise ValueError(f"expected as many rows of features as of voxels, got {len(features)} and {len(voxels)}")
    Standardiser.none(voxels.shape[1])(voxels)  # refuses bad ones
    standardise, mean = Standardiser.fit(features), voxels.mean(0, dtype=np.float64).astype(np.float32)
    model = EncodingModel(
        standardise,
        np.zeros((features.shape[1], voxels.shape[1]), np.float32),
        mean,
        np.ones((len(bands), voxels.shape[1])),
    )
    features, best = standardise(features), np.full(voxels.shape[1], -np.inf)
    for some in product(weights, repeat=len(bands) - 1):
        per_band = np.array([1.0, *some])
        per_feature = np.repeat(per_band, [band.shape[1] for band in bands]).astype(np.float32)
        _improve(model, best, Weighted(features * per_feature, per_feature, per_band), voxels, alphas)
    return model


@dataclass(frozen=True)
class Weighted:
    """Features of which ridge with one alpha is banded ridge."""

    features: np.ndarray  # (n, f), standardised, times their weight
    per_feature: np.ndarray  # (f,) weights
    per_band: np.ndarray  # (n_bands,) weights


def _improve(
    model: EncodingModel, best: np.ndarray, weighted: Weighted, voxels: np.ndarray, alphas: np.ndarray
) -> None:
    """Keeps, in place, what is better than the best expected R² (n_voxels,) so far: in `model` and in `best`."""
    spectrum = decompose(weighted.features)
    for part in column_blocks(voxels.shape[1], 1024):
        Y = torch.as_tensor(voxels[:, part] - model.intercept[part])
        r2 = gcv_r2(spectrum, Y, alphas)
        better = np.flatnonzero(r2.max(0) > best[part])
        chosen, where = alphas[r2[:, better].argmax(0)], part.start + better
        d = shrinkage(spectrum.s, chosen) / spectrum.s[:, None]
        fitted = (spectrum.V @ (d * (spectrum.U.T @ Y[:, better]))).numpy()
        model.weights[:, where] = weighted.per_feature[:, None] * fitted
        model.alpha[:, where] = chosen / weighted.per_band[:, None] ** 2
        best[where] = r2[:, better].max(0)


def _unit_columns(values: np.ndarray) -> np.ndarray:
    """(n, n_voxels) float32 columns of mean 0 and length 1; a constant one becomes 0."""
    centred = (values - values.mean(0)).astype(np.float32)
    norm = np.sqrt((centred**2).sum(0))
    return centred / np.where(norm > 0, norm, 1)


def permutation_p(predicted: np.ndarray, measured: np.ndarray, n_permutations: int, seed: int = 0) -> np.ndarray:
    """(n_voxels,) share of permutations of the images, the true order included, whose r is at least the true one.

    The same permutations for all voxels, some voxels at a time. One-sided; at least 1 / (n_permutations + 1).
    """
    rng, n = np.random.default_rng((seed, 60)), len(measured)
    orders = [rng.permutation(n) for _ in range(n_permutations)]
    p = np.empty(measured.shape[1])
    for part in column_blocks(measured.shape[1], 256):
        a, b = _unit_columns(predicted[:, part]), _unit_columns(measured[:, part])
        # the tolerance is for the order of summation
        true = np.einsum("nv,nv->v", a, b) - 1e-6
        beaten = sum((np.einsum("nv,nv->v", a[order], b) >= true).astype(np.int64) for order in orders)
        p[part] = (1 + beaten) / (1 + n_permutations)
    return p.astype(np.float32)


def score_voxels(
    predicted: np.ndarray,
    measured: np.ndarray,
    ncsnr: np.ndarray,
    n_repeats: np.ndarray,
    true_ncsnr: np.ndarray | None = None,
    n_permutations: int = PERMUTATIONS,
) -> VoxelScores:
    """Predicted and measured (averaged) test responses (n, n_voxels) -> scores; `true_ncsnr`: a simulated subject's.

    Raises ValueError for other n_repeats than n.
    """
    if len(n_repeats) != len(measured):
        raise ValueError(f"expected as many images as numbers of repeats, got {len(measured)} and {len(n_repeats)}")
    r = (_unit_columns(predicted) * _unit_columns(measured)).sum(0)
    p = permutation_p(predicted, measured, n_permutations)
    return VoxelScores(
        r2=r2_per_target(measured, predicted).astype(np.float32),
        r=r,
        noise_ceiling=noise_ceiling(ncsnr, n_repeats),
        n_images=len(measured),
        p=p,
        q=false_discovery_control(p).astype(np.float32),
        true_noise_ceiling=None if true_ncsnr is None else noise_ceiling(true_ncsnr, n_repeats),
    )
