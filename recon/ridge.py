"""Kernel ridge from voxels to targets that stay on disk, and the low-rank weights that a live page can hold.

With standardised voxels X = U S Vᵀ and centred targets Y, ridge predicts X W = U diag(s²/(s² + α)) Uᵀ Y (Hoerl & Kennard 1970).
U comes from the eigenvectors of the smaller of XXᵀ (dual, n × n) and XᵀX, so neither more voxels than images nor the
reverse costs more than the smaller side cubed. Targets stream in column blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from recon.files import read_tensors, whole_file
from recon.regression import Rescaler, Standardiser, statistics_from_tensors, statistics_to_tensors

BLOCK = 2048  # targets at a time
ALPHA_TARGETS = 256  # targets of each group that vote on its alpha
FORMAT = "recon-lowrank-1"


@dataclass(frozen=True)
class Spectrum:
    """X = U diag(s) Vᵀ, singular values below 1e-5 of the largest left out."""

    U: torch.Tensor  # (n, k) float32
    s: torch.Tensor  # (k,) float32
    V: torch.Tensor  # (p, k) float32


def decompose(X: np.ndarray) -> Spectrum:
    """Singular vectors of X (n, p) by the eigenvectors of its smaller Gram matrix (float64 for the eigenproblem)."""
    X = torch.as_tensor(np.ascontiguousarray(X, np.float32))
    wide = X.shape[1] > X.shape[0]
    gram = (X @ X.T if wide else X.T @ X).double()
    values, vectors = torch.linalg.eigh(gram)
    keep = values > values[-1] * 1e-10
    s = values[keep].sqrt().flip(0).float()
    near = vectors[:, keep].flip(1).float()
    far = (X.T @ near if wide else X @ near) / s
    return Spectrum(near, s, far) if wide else Spectrum(far, s, near)


def shrinkage(s: torch.Tensor, alphas) -> torch.Tensor:
    """s (k,), alphas (t,) -> s²/(s² + α), (k, t)."""
    return s[:, None] ** 2 / (s[:, None] ** 2 + torch.as_tensor(alphas, dtype=s.dtype)[None])


def loo_predictions(spectrum: Spectrum, Y: torch.Tensor, alpha: float) -> torch.Tensor:
    """Leave-one-out predictions of centred Y (n, t), closed form: y - (y - ŷ)/(1 - h), h the hat matrix's diagonal."""
    U, d = spectrum.U, shrinkage(spectrum.s, [alpha])[:, 0]
    hat = (U**2) @ d + 1 / len(U)  # 1/n: the intercept
    return Y - (Y - U @ (d[:, None] * (U.T @ Y))) / (1 - hat)[:, None]


def loo_r2(spectrum: Spectrum, Y: torch.Tensor, alphas: np.ndarray) -> np.ndarray:
    """R² of leave-one-out predictions of centred Y (n, t) for every alpha: (n_alphas, t)."""
    total = (Y**2).sum(0).clamp(min=1e-12)
    return np.stack([(1 - ((Y - loo_predictions(spectrum, Y, a)) ** 2).sum(0) / total).numpy() for a in alphas])


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

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) -> (n, r)."""
        return self.standardise(X) @ self.down

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling."""
        return self.coordinates(X) @ self.up + self.intercept

    def save(self, path: Path) -> None:
        """Weights in float16, statistics in float32."""
        tensors = {
            "down": self.down.astype(np.float16),
            "up": self.up.astype(np.float16),
            "intercept": self.intercept,
        } | statistics_to_tensors(self.standardise, self.rescale)
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> LowRank:
        """Raises BadFile if the file is missing, truncated or holds something else."""
        t, _ = read_tensors(path, FORMAT)
        standardise, rescale = statistics_from_tensors(t)
        return cls(standardise, t["down"].astype(np.float32), t["up"].astype(np.float32), t["intercept"], rescale)


@dataclass(frozen=True)
class RidgeReport:
    """What the training images said: per group the alpha and its curve, per target the leave-one-out R²."""

    alphas: np.ndarray  # the grid
    curve: dict[str, list[float]]  # group -> mean leave-one-out R² at each alpha
    chosen: dict[str, float]
    loo_r2: np.ndarray  # (n_targets,) at the chosen alpha, full rank
    variance_kept: float  # share of the predictions' variance that the low-rank weights keep


def column_blocks(stop: int, block: int = BLOCK, start: int = 0) -> Iterator[slice]:
    """Columns start…stop-1 as slices of at most `block`."""
    return (slice(k, min(k + block, stop)) for k in range(start, stop, block))


def _centred(Y, columns) -> tuple[torch.Tensor, np.ndarray]:
    block = np.asarray(Y[:, columns], np.float32)
    mean = block.mean(0, dtype=np.float64).astype(np.float32)
    return torch.as_tensor(block - mean), mean


def _choose_alphas(spectrum, Y, groups: dict[str, slice], alphas, seed: int):
    rng = np.random.default_rng(seed)
    curve, chosen = {}, {}
    for name, columns in groups.items():
        targets = np.arange(columns.start, columns.stop)
        if len(targets) > ALPHA_TARGETS:
            targets = np.sort(rng.choice(targets, ALPHA_TARGETS, replace=False))
        scores = loo_r2(spectrum, _centred(Y, targets)[0], alphas).mean(1)
        curve[name], chosen[name] = scores.tolist(), float(alphas[scores.argmax()])
    return curve, chosen


def fit_ridge(X, Y, groups: dict[str, slice], alphas, rank: int, seed: int = 0) -> tuple[LowRank, RidgeReport]:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), which may be a memory map far larger than memory.

    groups: contiguous columns of Y that share one alpha, covering all of them; each alpha maximises the mean
    leave-one-out R² of (at most 256 targets of) its group over `alphas`. Two passes over Y, BLOCK columns at a time: the
    first gathers M Mᵀ with M = diag(s²/(s² + α)) Uᵀ Y, whose leading eigenvectors are the best low-rank basis of
    the predictions U M (Eckart-Young); the second projects. Raises ValueError if X and Y differ in length.
    """
    if len(X) != len(Y):
        raise ValueError(f"expected as many rows of targets as of voxels, got {len(Y)} and {len(X)}")
    standardise = Standardiser.fit(X)
    spectrum = decompose(standardise(X))
    U, s, V = spectrum.U, spectrum.s, spectrum.V
    n, n_targets = Y.shape
    alphas = np.asarray(alphas, np.float64)
    curve, chosen = _choose_alphas(spectrum, Y, groups, alphas, seed)

    blocks = [(name, part) for name, g in groups.items() for part in column_blocks(g.stop, start=g.start)]
    second_moment = torch.zeros(len(s), len(s), dtype=torch.float64)
    mean_to, sd_to, mean_from, sd_from, r2 = (np.zeros(n_targets, np.float32) for _ in range(5))
    for name, part in blocks:
        block, mean_to[part] = _centred(Y, part)
        M = shrinkage(s, [chosen[name]]) * (U.T @ block)
        second_moment += (M @ M.T).double()
        held_out = loo_predictions(spectrum, block, chosen[name])
        r2[part] = 1 - ((block - held_out) ** 2).sum(0) / (block**2).sum(0).clamp(min=1e-12)
        sd_to[part] = block.std(0)
        mean_from[part], sd_from[part] = mean_to[part] + held_out.mean(0).numpy(), held_out.std(0)
    values, vectors = torch.linalg.eigh(second_moment)
    rank = min(rank, len(values))
    A = vectors[:, -rank:].flip(1).float()
    kept = float(values[-rank:].sum() / values.sum())

    up = np.empty((rank, n_targets), np.float32)
    for name, part in blocks:
        up[:, part] = (A.T @ (shrinkage(s, [chosen[name]]) * (U.T @ _centred(Y, part)[0]))).numpy()
    unit = np.float32(np.sqrt(n))
    down = ((V / s) @ A).numpy() * unit
    weights = LowRank(standardise, down, up / unit, mean_to, Rescaler.fit(mean_from, sd_from, mean_to, sd_to))
    return weights, RidgeReport(alphas, curve, chosen, r2, kept)
