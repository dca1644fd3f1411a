"""Low-level features of pictures for the encoding model: local colour, gradients, and a dictionary of patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from skimage.color import rgb2lab
from skimage.feature import hog
from sklearn.cluster import MiniBatchKMeans

N_PATCHES, PATCH, STRIDE = 256, 8, 2  # dictionary size, side in pixels of a 64-pixel picture, step


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
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.unfold(x, PATCH, stride=STRIDE).transpose(1, 2).reshape(-1, 3 * PATCH**2)


def _contrast_normalise(patches: torch.Tensor) -> torch.Tensor:
    centred = patches - patches.mean(1, keepdim=True)
    return centred / (centred.var(1, keepdim=True) + 0.01).sqrt()
