"""Ridge from voxels to targets that stay on disk (`recon.dual`), and the low-rank weights that a live page can hold.

Alphas, R² and the curve of R² against rank come from held-out training images by a fit to the others, whose Gram matrix is a part
of that of all. Then all training images are used. The best rank-r approximation of the predictions Ŷ = K (K + α I)⁻¹ Y is found
without forming Ŷ, by a randomised range finder (Halko et al. 2011, algorithm 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from recon.alphas import Columns, choose_alphas, choose_alphas_per_target, columns_of
from recon.device import choose_device
from recon.dual import (
    centred,
    check_targets,
    dual_weights,
    factor,
    gram,
    multiply,
    standardised,
    stream,
    subtract_means,
)
from recon.files import read_tensors, whole_file
from recon.regression import (
    Rescaler,
    Standardiser,
    check_components,
    r2_per_target,
    statistics_from_tensors,
    statistics_to_tensors,
)

OVERSAMPLE = 32  # directions beyond the rank asked for, of the range finder
CURVE_RANK = 1024  # components up to which R² is told
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

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) -> (n, r)."""
        return self.standardise(X) @ self.down

    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components.

        `components`: 1 to r, all if None. Raises ValueError for others, and for voxels that do not fit.
        """
        k = check_components(components, len(self.up))
        return self.coordinates(X)[:, :k] @ self.up[:k] + self.intercept

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
    """What held-out training images said, by a fit to the others."""

    alphas: np.ndarray  # the grid
    curve: dict[str, list[float]]  # group -> mean R² of its targets, or of those that voted, at each alpha
    chosen: np.ndarray  # (n_targets,) alpha of each
    r2: np.ndarray  # (n_targets,) at the chosen alpha, full rank
    rank_curve: dict[str, float]  # components kept -> R² (variance-weighted); "all": of the full ridge
    predicted: np.ndarray  # (n_held, n_targets) float32, full rank
    basis: np.ndarray  # (r, n_targets) orthonormal rows: the leading components of the fit to the others


def predict_held_out(inner: Tensor, cross: Tensor, Y: np.ndarray, rows: np.ndarray, columns: Columns) -> np.ndarray:
    """(n_held, q) predictions, by a fit to `rows`, for the images that `cross` is of; intercept included."""
    weights = {alpha: dual_weights(inner, cross, alpha) for alpha in columns}
    predicted, mean = multiply(weights, Y, columns, rows)
    subtract_means(predicted, weights, columns, mean)
    return predicted.add_(mean).numpy()


@dataclass(frozen=True)
class Factors:
    """Ŷ ≈ coordinates · up: of training rows, and Zᵀ · dual of any. Ordered: the first k are the best rank-k approximation."""

    dual: Tensor  # (n, r): coordinates = Z Zᵀ dual, orthonormal columns over training rows
    up: Tensor  # (r, q), orthogonal rows
    mean: Tensor  # (q,) of the targets


def _sketch(Y: np.ndarray, directions: Tensor, columns: Columns, rows: np.ndarray) -> dict[float, Tensor]:
    """Centred Y[rows][:, columns[α]] @ directions[columns[α]], (n, l) for each alpha."""
    parts = {alpha: [] for alpha in columns}
    for _, block in stream(Y):
        for alpha, chosen in columns.items():
            parts[alpha].append(block[:, chosen] @ directions[chosen])
    return {alpha: (T := torch.cat(p)[rows]) - T.mean(0) for alpha, p in parts.items()}


def random_directions(rank: int, Y: np.ndarray, seed: int) -> Tensor:
    """(n_targets, l) to find that many leading directions from."""
    size = min(rank + OVERSAMPLE, *Y.shape)
    return torch.randn(Y.shape[1], size, generator=torch.Generator().manual_seed(seed)).to(choose_device())


def find_range(
    K: Tensor, Y: np.ndarray, columns: Columns, rank: int, rows: np.ndarray, directions: Tensor, rounds: int
) -> Factors:
    """The leading `rank` directions of the predictions for Y[rows], each target with its alpha.

    K (n, n): Gram matrix of `rows`, centred on them. `directions` (n_targets, l), l ≥ rank: two rounds if they are random, one
    if they are already those of almost the same predictions.
    """
    for _ in range(rounds):
        sketches = _sketch(Y, directions, columns, rows)
        dual = sum(torch.cholesky_solve(T, factor(K, alpha)) for alpha, T in sketches.items())
        S = K @ dual
        values, vectors = torch.linalg.eigh((S.T @ S).double())
        keep = values > values[-1] * 1e-9
        turn = (vectors[:, keep] / values[keep].sqrt()).float()
        Q, dual = S @ turn, dual @ turn
        weights = {alpha: (Q - alpha * torch.cholesky_solve(Q, factor(K, alpha))).T for alpha in columns}
        up, mean = multiply(weights, Y, columns, rows)
        subtract_means(up, weights, columns, mean)
        directions = up.T.to(K.device)
    _, vectors = torch.linalg.eigh((up @ up.T).double())
    turn = vectors[:, -rank:].flip(1).float()
    return Factors(dual @ turn.to(K.device), turn.T @ up, mean)


def _rank_curve(basis: np.ndarray, predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Variance-weighted R² of held-out predictions of which the first 8, 16, … components are kept.

    `mean` (q,) and `basis` (r, q), orthonormal rows, are of the fit that predicted.
    """
    p, t = (predicted - mean) @ basis.T, (truth - mean) @ basis.T
    total, start = float(((truth - truth.mean(0)) ** 2).sum()), float(((truth - mean) ** 2).sum())
    left = start - (2 * p * t - p**2).sum(0).cumsum()
    ranks = [r for r in 2 ** np.arange(3, 20) if r < len(basis)] + [len(basis)]
    full = float(1 - ((truth - predicted) ** 2).sum() / total)
    return {str(r): float(1 - left[r - 1] / total) for r in ranks} | {"all": full}


def fit_ridge(
    X,
    Y,
    groups: dict[str, slice],
    alphas,
    rank: int,
    held: np.ndarray,
    seed: int = 0,
    per_target: bool = False,
) -> tuple[LowRank, RidgeReport]:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), which may be a memory map far larger than memory.

    groups: contiguous columns of Y that share one alpha, covering all of them; each alpha maximises the mean R² of (at most
    256 targets of) its group over the images of rows `held`, fitted to the others; `per_target`: every target has its own.
    R² of every target and the statistics of rescaling are of the same images and fit.
    Memory: X, two Gram matrices, held-out predictions and truth, and about 2 · 1,056 numbers a target.
    Raises ValueError if X and Y differ in length, or either holds NaN or infinity.
    """
    if len(X) != len(Y):
        raise ValueError(f"expected as many rows of targets as of voxels, got {len(Y)} and {len(X)}")
    alphas, everything = np.asarray(alphas, np.float64), np.arange(len(X))
    rows = np.setdiff1d(everything, held)
    standardise, Z = standardised(X)
    K = gram(Z)
    truth = np.asarray(Y[held], np.float32)
    check_targets(torch.as_tensor(truth))
    inner, cross = centred(K, rows, held)
    weights = (dual_weights(inner, cross, alpha) for alpha in alphas)  # needed together per target alone
    if per_target:
        curve, chosen = choose_alphas_per_target(list(weights), Y, rows, held, groups, alphas)
    else:
        curve, chosen = choose_alphas(weights, Y, rows, held, groups, alphas, seed)
    columns = columns_of(chosen)
    predicted = predict_held_out(inner, cross, Y, rows, columns)
    most = max(rank, CURVE_RANK)
    others = find_range(inner, Y, columns, most, rows, random_directions(most, Y, seed), 2)
    del inner, cross
    basis = torch.linalg.qr(
        others.up.T
    ).Q.T.numpy()  # the last rows of `up` may be too small to be orthogonal in float32
    r2, rank_curve = r2_per_target(truth, predicted), _rank_curve(basis, predicted, truth, others.mean.numpy())
    start = others.up[: rank + OVERSAMPLE].T.to(K.device, copy=True)
    basis = basis[:rank].copy()
    del others

    found = find_range(K, Y, columns, rank, everything, start, 1)
    unit = np.float32(np.sqrt(len(X)))  # coordinates of unit variance
    down, up = (Z.T @ found.dual).cpu().numpy() * unit, found.up.numpy() / unit
    mean = found.mean.numpy()  # of predictions too: the held-out images' own would only be less certain
    rescale = Rescaler.fit(mean, predicted.std(0), mean, truth.std(0))
    report = RidgeReport(alphas, curve, chosen, r2, rank_curve, predicted, basis)
    return LowRank(standardise, down, up, mean, rescale), report
