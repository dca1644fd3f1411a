"""Linear prediction by low-rank weights, which a live page can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.files import parsing, read_tensors, save_tensors
from recon.regressors.standardise import (
    Rescaler,
    Standardiser,
    check_components,
    statistics_from_tensors,
    statistics_to_tensors,
)

FORMAT = "recon-lowrank-1"


@dataclass(frozen=True)
class LowRank:
    """The best rank-r approximation of ridge's predictions: ŷ = ((x - mean)/sd · down) · up + intercept.

    Components are ordered: the first k of them are the best rank-k model.
    """

    standardise: Standardiser
    down: np.ndarray  # (n_voxels, r) float32; coordinates have unit variance over training images
    up: np.ndarray  # (r, n_targets) float32, rows orthogonal
    intercept: np.ndarray  # (n_targets,) float32
    rescale: Rescaler

    @property
    def n_components(self) -> int:
        return len(self.up)

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) -> (n, r)."""
        return self.standardise(X) @ self.down

    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components.

        `components`: 1 to r, all if None. Raises ValueError for others, and for voxels that do not fit.
        """
        k = check_components(components, len(self.up))
        return self.coordinates(X)[:, :k] @ self.up[:k] + self.intercept

    def save(self, path: Path, dtype: type = np.float16) -> None:
        """Weights in float16, or another type, statistics in float32."""
        tensors = {
            "down": self.down.astype(dtype),
            "up": self.up.astype(dtype),
            "intercept": self.intercept,
        } | statistics_to_tensors(self.standardise, self.rescale)
        save_tensors(path, tensors, {"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> LowRank:
        """Raises BadFile if the file is missing, truncated or holds something else."""
        t, _ = read_tensors(path, FORMAT)
        with parsing(path):
            standardise, rescale = statistics_from_tensors(t)
            return cls(standardise, t["down"].astype(np.float32), t["up"].astype(np.float32), t["intercept"], rescale)
