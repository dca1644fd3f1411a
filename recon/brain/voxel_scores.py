"""How well an encoding model explains each voxel, next to what could be explained at all; and the file of these scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recon.files import array_in, open_h5, parsing, whole_file

VERSION = 2


MIN_CEILING = 10.0  # percent: below it R² over the ceiling means nothing


SAVED = ("r2", "r", "noise_ceiling", "p", "q")


@dataclass(frozen=True)
class VoxelScores:
    """One number per voxel, of averaged test trials; R² against the test mean, in (-∞, 1]; ceilings in percent."""

    r2: np.ndarray
    r: np.ndarray
    noise_ceiling: np.ndarray
    n_images: int
    p: np.ndarray  # of r, one-sided, by permutation of the test images
    q: np.ndarray  # p adjusted for the false discovery rate over all voxels (Benjamini & Hochberg 1995)
    true_noise_ceiling: np.ndarray | None = None  # percent; of a simulated subject

    @property
    def r2_over_ceiling(self) -> np.ndarray:
        """R² in percent of the ceiling; NaN where the ceiling is under 10 %."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.noise_ceiling >= MIN_CEILING, 100 * self.r2 / (self.noise_ceiling / 100), np.nan)


def save_scores(path: Path, scores: VoxelScores) -> None:
    with whole_file(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(format="recon-voxel-scores", version=VERSION, n_images=scores.n_images)
        for name in SAVED:
            f[name] = getattr(scores, name)
        if scores.true_noise_ceiling is not None:
            f["true_noise_ceiling"] = scores.true_noise_ceiling


def load_scores(path: Path) -> VoxelScores:
    """Raises BadFile if the file is missing, damaged or of another kind."""
    with parsing(path), open_h5(path, "recon-voxel-scores", VERSION) as f:
        values = {name: array_in(f, name) for name in SAVED}
        truth = array_in(f, "true_noise_ceiling") if "true_noise_ceiling" in f else None
        return VoxelScores(**values, n_images=int(f.attrs["n_images"]), true_noise_ceiling=truth)
