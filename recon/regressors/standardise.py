"""What every regressor from voxels to targets shares: standardised inputs, and scores of its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recon.regressors.rows import read_rows

RELATIVE_VARIANCE = 1e-7  # up to which a target counts as constant


class Regressor(Protocol):
    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) float32, by the first components alone if told so."""


def check_components(components: int | None, rank: int) -> int:
    """How many of a regressor's ordered components to use: all `rank` of them if None. Raises ValueError outside 1…rank.

    A regressor of constant targets, as of prompts where no image has a caption, has none to choose from.
    """
    if components is None or rank == 0:
        return rank
    if not 1 <= components <= rank:
        raise ValueError(f"expected a number of components from 1 to {rank}, got {components}")
    return components


def check_finite(values: np.ndarray, noun: str) -> None:
    """Raises ValueError if a column of values (…, n) holds NaN or infinity; `noun` is what columns are."""
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).reshape(-1, values.shape[-1]).all(0))
        raise ValueError(f"expected finite {noun}s, got NaN or infinity in {len(bad)} of them (first: {noun} {bad[0]})")


@dataclass(frozen=True)
class Standardiser:
    """z-scores voxels by training statistics; a voxel that never varied becomes 0."""

    mean: np.ndarray  # (n_voxels,) float32
    sd: np.ndarray  # (n_voxels,) float32, ddof = 1, 1 where a voxel is constant

    @classmethod
    def fit(cls, X: np.ndarray) -> Standardiser:
        """X (n, n_voxels), some columns at a time: their float64 copies are small."""
        mean, sd = np.empty((2, X.shape[1]))
        for k in range(0, X.shape[1], 1024):
            part = read_rows(X[:, k : k + 1024])
            mean[k : k + 1024], sd[k : k + 1024] = part.mean(0, dtype=np.float64), part.std(0, ddof=1, dtype=np.float64)
        return cls(mean.astype(np.float32), np.where(sd > 0, sd, 1).astype(np.float32))

    @classmethod
    def none(cls, n_voxels: int) -> Standardiser:
        """Leaves voxels as they are, and still refuses bad ones."""
        return cls(np.zeros(n_voxels, np.float32), np.ones(n_voxels, np.float32))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) -> (n, n_voxels) float32. Raises ValueError on a wrong voxel count, NaN or infinity."""
        X = np.asarray(X, np.float32)
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise ValueError(f"expected voxels of shape (n, {len(self.mean)}), got {X.shape}")
        check_finite(X, "voxel")
        return (X - self.mean) / self.sd


@dataclass(frozen=True)
class Rescaler:
    """Gives shrunken predictions the spread of real latents: (y - mean_from) / sd_from · sd_to + mean_to.

    Statistics are of cross-validated predictions of training images and of the training latents, frozen at fit time
    (Brain-Diffuser takes them from the test set's predictions, which a single live trial cannot). A latent whose
    predictions hardly vary is not known to the regressor: its gain sd_to / sd_from is capped at `MAX_GAIN`.
    """

    gain: np.ndarray  # (n_targets,) float32
    offset: np.ndarray  # (n_targets,) float32

    MAX_GAIN = 4.0

    @classmethod
    def fit(cls, mean_from, sd_from, mean_to, sd_to, cap: float = MAX_GAIN) -> Rescaler:
        gain = np.minimum(sd_to / np.maximum(sd_from, 1e-12), cap)
        return cls(gain.astype(np.float32), (mean_to - gain * mean_from).astype(np.float32))

    def softened(self, exponent: np.ndarray, mean_to: np.ndarray) -> Rescaler:
        """The same with the gains to the power of `exponent`, (n_targets,): 1 keeps them, 0 leaves least-squares predictions.

        mean_to (n_targets,): the means of the training latents, which the means of predictions go on being moved to.
        """
        mean_from = (mean_to - self.offset) / self.gain
        gain = self.gain**exponent
        return Rescaler(gain.astype(np.float32), (mean_to - gain * mean_from).astype(np.float32))

    def __call__(self, Y: np.ndarray) -> np.ndarray:
        return Y * self.gain + self.offset


def statistics_to_tensors(standardise: Standardiser, rescale: Rescaler) -> dict[str, np.ndarray]:
    """Both sets of frozen statistics as named float32 tensors for a weights file."""
    return {
        "voxel_mean": standardise.mean,
        "voxel_sd": standardise.sd,
        "gain": rescale.gain,
        "offset": rescale.offset,
    }


def statistics_from_tensors(tensors: dict[str, np.ndarray]) -> tuple[Standardiser, Rescaler]:
    """The reverse of `statistics_to_tensors`; other tensors are ignored."""
    standardise = Standardiser(tensors["voxel_mean"], tensors["voxel_sd"])
    return standardise, Rescaler(tensors["gain"], tensors["offset"])


def split_rows(n: int, share: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n training images that are held out to choose and to score by, at least two, and the others; sorted."""
    order = np.random.default_rng((seed, 40)).permutation(n)
    n_held = max(2, round(n * share))
    return np.sort(order[:n_held]), np.sort(order[n_held:])


def r2_per_target(truth: np.ndarray, predicted: np.ndarray, width: int = 4096) -> np.ndarray:
    """1 - SS_residual / SS_total per column, against the mean of `truth`; (-inf, 1], NaN where `truth` is `constant`.

    (n, n_targets) both; `width` columns at a time become float64.
    """
    blocks = [slice(k, k + width) for k in range(0, truth.shape[1], width)]
    sums = [_sums_of_squares(truth[:, b].astype(np.float64), predicted[:, b]) for b in blocks]
    residual, total, about_zero = np.concatenate(sums, axis=1)
    without = constant(total, about_zero)
    return np.where(without, np.nan, 1 - residual / np.where(without, 1, total))


def constant(total: np.ndarray, about_zero: np.ndarray) -> np.ndarray:
    """(n_targets,) bool: which targets do not vary but for rounding, as those of CLIP's first token, the same for every text.

    By sums of squares (n_targets,) about the mean and about zero: at most 1e-7, relative to the targets' mean
    variance or to the target's own mean square. Such a target has no R²: rounding errors would be divided by one another.
    """
    return total <= RELATIVE_VARIANCE * np.maximum(total.mean(), about_zero)


def _sums_of_squares(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(3, n_targets): of residuals, about the mean, and about zero."""
    return np.stack([((truth - values) ** 2).sum(0) for values in (predicted, truth.mean(0), 0.0)])
