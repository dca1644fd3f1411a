"""Ridge from voxels to targets that stay on disk (`precompute.fitting.dual`), and the low-rank weights that a live page can hold.

Alphas, R² and the curve of R² against rank come from held-out training images by a fit to the others, whose Gram matrix is a part
of that of all. Then all training images are used (`precompute.fitting.range_finder`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from precompute.fitting.alphas import Grid, Split, choose_alphas, choose_alphas_per_target, columns_of
from precompute.fitting.dual import centred, dual_weights, gram, multiply, standardised
from precompute.fitting.range_finder import OVERSAMPLE, find_range, find_range_anew, orthonormal
from recon.regressors.low_rank import LowRank
from recon.regressors.rows import read_rows
from recon.regressors.standardise import (
    Rescaler,
    check_finite,
    r2_per_target,
)

CURVE_RANK = 1024  # components up to which R² is told
SEED = 0  # of the targets that vote, and of random directions


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


def _rank_curve(basis: np.ndarray, predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Variance-weighted R² of held-out predictions (n_held, q) of which the first 8, 16, … components are kept.

    mean (q,) and basis (r, q), orthonormal rows, are of the fit that predicted.
    """
    p, t = (predicted - mean) @ basis.T, (truth - mean) @ basis.T
    total, start, residual = (
        ((truth - about) ** 2).sum(dtype=np.float64) for about in (truth.mean(0), mean, predicted)
    )
    left = start - (2 * p * t - p**2).sum(0).cumsum()
    ranks = [r for r in 2 ** np.arange(3, 20) if r < len(basis)] + [len(basis)]
    return {str(r): float(1 - left[r - 1] / total) for r in ranks} | {"all": float(1 - residual / total)}


def fit_ridge(X, Y, grid: Grid, rank: int, held: np.ndarray, per_target: bool = False) -> tuple[LowRank, RidgeReport]:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), which may be a memory map far larger than memory.

    grid: alphas, and contiguous columns of Y that share one, covering all of them; each alpha maximises the mean R² of (at most
    256 targets of) its group over the images of rows `held`, fitted to the others; `per_target`: every target has its own.
    R² of every target and the statistics of rescaling are of the same images and fit.
    Time, in operations, for n images, p voxels and q targets: n² p for the Gram matrix; n³/3 for each Cholesky factor, one an alpha
    and at most five more an alpha chosen; about 10 · 1,056 · q (n + 1,056) for what is done with targets, in eight passes over Y,
    whatever the number of alphas.
    Memory, in float32 values: (n + 1,024) p for voxels and two blocks of them being read; 6 n² for two Gram matrices, two factors
    that are kept, one being made and its copy; n q / 5 for held-out predictions and truth; 3 · 1,056 q.
    Raises ValueError if X and Y differ in length, or either holds NaN or infinity.
    """
    if len(X) != len(Y):
        raise ValueError(f"expected as many rows of targets as of voxels, got {len(Y)} and {len(X)}")
    split = Split(np.setdiff1d(np.arange(len(X)), held), held)
    standardise, Z = standardised(X)
    K = gram(Z)
    report, start = _held_out(K, Y, grid, rank, split, per_target)
    found = find_range(K, Y, columns_of(report.chosen), rank, np.arange(len(X)), start.to(K.device))
    unit = np.float32(np.sqrt(len(X)))  # coordinates of unit variance
    down, up, mean = (Z.T @ found.dual).cpu().numpy() * unit, found.up.numpy() / unit, found.mean.numpy()
    # the mean is that of predictions too: the held-out images' own would only be less certain
    rescale = Rescaler.fit(mean, report.predicted.std(0), mean, read_rows(Y, held).std(0))
    return LowRank(standardise, down, up, mean, rescale), report


def _held_out(
    K: Tensor, Y: np.ndarray, grid: Grid, rank: int, split: Split, per_target: bool
) -> tuple[RidgeReport, Tensor]:
    """What the held-out images say, by a fit to the others; and the leading directions of that fit (q, l)."""
    inner, cross = centred(K, split.rows, split.held)
    weights = (dual_weights(inner, cross, alpha) for alpha in grid.alphas)
    if per_target:  # then all are needed together
        choice = choose_alphas_per_target(list(weights), Y, split, grid)
    else:
        choice = choose_alphas(weights, Y, split, grid, SEED)
    columns, truth = columns_of(choice.chosen), read_rows(Y, split.held)
    weights = {alpha: dual_weights(inner, cross, alpha) for alpha in dict.fromkeys(a for a, _ in columns)}
    predicted, mean = multiply(weights, Y, columns, split.rows)
    check_finite(mean.numpy() + truth.mean(0), "target")
    predicted = predicted.add_(mean).numpy()
    others = find_range_anew(inner, Y, columns, max(rank, CURVE_RANK), split.rows, SEED)
    del inner, cross, weights
    basis = orthonormal(others.up)
    r2, curve = r2_per_target(truth, predicted), _rank_curve(basis, predicted, truth, others.mean.numpy())
    report = RidgeReport(grid.alphas, choice.curve, choice.chosen, r2, curve, predicted, basis[:rank].copy())
    return report, others.up[: rank + OVERSAMPLE].T.clone()
