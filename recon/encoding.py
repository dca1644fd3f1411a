"""Features to voxels: per-voxel R², correlation and noise ceiling of an encoding model.

The features are of the picture alone (VDVAE latents, local colour and gradient statistics, a dictionary of patches learnt
from training pictures). Ridge with an alpha of its own for each voxel, chosen by leave-one-out over training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from skimage.color import rgb2lab
from skimage.feature import hog
from sklearn.cluster import MiniBatchKMeans

from recon.files import whole_file
from recon.regression import Standardiser, r2_per_target
from recon.ridge import column_blocks, decompose, loo_r2, shrinkage
from recon.subject import BadFile, open_h5

VERSION = 1
ALPHAS = np.logspace(0, 8, 17)
N_PATCHES, PATCH, STRIDE = 256, 8, 2  # dictionary size, side in pixels of a 64-pixel picture, step
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


def image_statistics(images: np.ndarray) -> np.ndarray:
    """Local colour and gradients of (n, 64, 64, 3) uint8: mean and SD of Lab on an 8 × 8 grid, and HOG; float32."""
    rows = []
    for image in images:
        lab = rgb2lab(image).reshape(8, 8, 8, 8, 3)
        grid = [lab.mean((1, 3)).ravel() / 20, lab.std((1, 3)).ravel() / 10]
        gradients = hog(image, 8, (8, 8), (2, 2), transform_sqrt=True, channel_axis=-1)
        rows.append(np.concatenate([*grid, 3 * gradients]))
    return np.asarray(rows, np.float32)


@dataclass(frozen=True)
class PatchDictionary:
    """k-means centroids of whitened patches; an image is described by how near its patches come to each (Coates & Ng 2011)."""

    mean: torch.Tensor  # (192,)
    whiten: torch.Tensor  # (192, 192)
    centroids: torch.Tensor  # (N_PATCHES, 192)

    @classmethod
    def fit(cls, images: np.ndarray, seed: int = 0) -> PatchDictionary:
        """From (n, 64, 64, 3) uint8 training pictures."""
        rng = np.random.default_rng(seed)
        chosen = images[np.sort(rng.choice(len(images), min(2000, len(images)), replace=False))]
        patches = _patches(chosen)
        patches = patches[torch.as_tensor(rng.choice(len(patches), min(100_000, len(patches)), replace=False))]
        patches = _contrast_normalise(patches)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        whiten = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
        points = ((patches - mean) @ whiten).numpy()
        means = MiniBatchKMeans(N_PATCHES, n_init=1, batch_size=4096, random_state=seed).fit(points)
        return cls(mean, whiten, torch.as_tensor(means.cluster_centers_, dtype=torch.float32))

    def describe(self, images: np.ndarray, chunk: int = 32) -> np.ndarray:
        """(n, 64, 64, 3) uint8 -> (n, 5 N_PATCHES) float32: triangle activations averaged over quadrants, and their maxima."""
        rows = []
        for k in range(0, len(images), chunk):
            part = images[k : k + chunk]
            white = (_contrast_normalise(_patches(part)) - self.mean) @ self.whiten
            distance = torch.cdist(white, self.centroids)
            active = (distance.mean(1, keepdim=True) - distance).clamp(min=0)
            side = int(round((len(active) // len(part)) ** 0.5))
            maps = active.reshape(len(part), side, side, -1).permute(0, 3, 1, 2)
            means = torch.nn.functional.adaptive_avg_pool2d(maps, 2)
            rows.append(torch.cat([means.flatten(1), maps.amax((2, 3))], 1).numpy())
        return np.concatenate(rows)


def _patches(images: np.ndarray) -> torch.Tensor:
    """(n, 64, 64, 3) uint8 -> (n · positions, 192) float32 patches in raster order."""
    x = torch.as_tensor(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.unfold(x, PATCH, stride=STRIDE).transpose(1, 2).reshape(-1, 3 * PATCH**2)


def _contrast_normalise(patches: torch.Tensor) -> torch.Tensor:
    centred = patches - patches.mean(1, keepdim=True)
    return centred / (centred.var(1, keepdim=True) + 0.01).sqrt()


@dataclass(frozen=True)
class VoxelScores:
    """One number per voxel, of averaged test trials; R² against the test mean, in (-∞, 1]; ceilings in percent."""

    r2: np.ndarray
    r: np.ndarray
    noise_ceiling: np.ndarray
    n_images: int

    @property
    def r2_over_ceiling(self) -> np.ndarray:
        """R² as a share of the ceiling; NaN where the ceiling is under 10 %."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.noise_ceiling >= MIN_CEILING, 100 * self.r2 / self.noise_ceiling, np.nan)


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
    """Ridge features (n, f) -> averaged training voxels (n, n_voxels); alpha per voxel by leave-one-out R²."""
    standardise = Standardiser.fit(features)
    spectrum = decompose(standardise(features))
    n_voxels = voxels.shape[1]
    weights = np.empty((features.shape[1], n_voxels), np.float32)
    mean = voxels.mean(0, dtype=np.float64).astype(np.float32)
    best = np.empty(n_voxels)
    for part in column_blocks(n_voxels, 1024):
        Y = torch.as_tensor(voxels[:, part] - mean[part])
        best[part] = alphas[loo_r2(spectrum, Y, alphas).argmax(0)]
        d = shrinkage(spectrum.s, torch.as_tensor(best[part], dtype=torch.float32)) / spectrum.s[:, None]
        weights[:, part] = (spectrum.V @ (d * (spectrum.U.T @ Y))).numpy()
    return EncodingModel(standardise, weights, mean, best)


def score_voxels(predicted: np.ndarray, measured: np.ndarray, ncsnr: np.ndarray, n_repeats: np.ndarray) -> VoxelScores:
    """Predicted and measured (averaged) test responses (n, n_voxels) -> scores."""
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
