"""Ridge from voxels to targets that stay on disk (`precompute.fitting.dual`), and the low-rank weights that a live page can hold.

Alphas, R² and the curve of R² against rank come from held-out training images by a fit to the others, whose Gram matrix is a part
of that of all. Then all training images are used (`precompute.fitting.range_finder`).

A team of processes shares the voxels for the Gram matrix, the alphas for the Cholesky factors, and the targets for all else: each
reads its own columns of both files, and sums over processes join what is small (n × n, n × l, l × l).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from precompute.fitting.alphas import Columns, choose_alphas, choose_alphas_per_target, columns_of
from precompute.fitting.dual import centred, dual_weights, gram, multiply, standardised, subtract_means
from precompute.fitting.range_finder import OVERSAMPLE, find_range, orthonormal, random_directions
from precompute.team import ALONE, Team
from recon.regressors.low_rank import LowRank
from recon.regressors.rows import read_rows
from recon.regressors.standardise import (
    Rescaler,
    check_finite,
    r2_per_target,
)

CURVE_RANK = 1024  # components up to which R² is told


@dataclass(frozen=True)
class RidgeReport:
    """What held-out training images said, by a fit to the others."""

    alphas: np.ndarray  # the grid
    curve: dict[str, list[float]]  # group -> mean R² of its targets, or of those that voted, at each alpha
    chosen: np.ndarray  # (n_targets,) alpha of each
    r2: np.ndarray  # (n_targets,) at the chosen alpha, full rank
    rank_curve: dict[str, float]  # components kept -> R² (variance-weighted); "all": of the full ridge
    # of this process's share of the targets, q of them:
    predicted: np.ndarray  # (n_held, q) float32, full rank
    basis: np.ndarray  # (r, q) of orthonormal rows (r, n_targets): the leading components of the fit to the others


def predict_held_out(
    inner: Tensor, cross: Tensor, Y: np.ndarray, rows: np.ndarray, columns: Columns, team: Team
) -> tuple[np.ndarray, np.ndarray]:
    """(n_held, q) predictions, by a fit to `rows`, for the images that `cross` is of, intercept included; means of Y[rows] (q,)."""
    weights = dict(zip(columns, team.each(list(columns), partial(dual_weights, inner, cross), cross)))
    predicted, mean = multiply(weights, Y, columns, rows)
    subtract_means(predicted, weights, columns, mean)
    return predicted.add_(mean).numpy(), mean.numpy()


def _rank_curve(
    basis: np.ndarray, predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray, team: Team
) -> dict[str, float]:
    """Variance-weighted R² of held-out predictions of which the first 8, 16, … components are kept.

    `mean` (q,) and `basis` (r, q), orthonormal rows, are of the fit that predicted; all are of this process's share of the targets.
    """
    p, t = team.sum((predicted - mean) @ basis.T), team.sum((truth - mean) @ basis.T)
    squares = [((truth - about) ** 2).sum() for about in (truth.mean(0), mean, predicted)]
    total, start, residual = team.sum(np.array(squares, np.float64))
    left = start - (2 * p * t - p**2).sum(0).cumsum()
    ranks = [r for r in 2 ** np.arange(3, 20) if r < len(basis)] + [len(basis)]
    return {str(r): float(1 - left[r - 1] / total) for r in ranks} | {"all": float(1 - residual / total)}


def fit_ridge(
    X,
    Y,
    groups: dict[str, slice],
    alphas,
    rank: int,
    held: np.ndarray,
    seed: int = 0,
    per_target: bool = False,
    team: Team = ALONE,
) -> tuple[LowRank, RidgeReport]:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), which may be a memory map far larger than memory.

    groups: contiguous columns of Y that share one alpha, covering all of them; each alpha maximises the mean R² of (at most
    256 targets of) its group over the images of rows `held`, fitted to the others; `per_target`: every target has its own.
    R² of every target and the statistics of rescaling are of the same images and fit.
    Time, in operations, for n images, p voxels and q targets: n² p for the Gram matrix; n³/3 for each Cholesky factor, one an alpha
    and seven more an alpha chosen; about 10 · 1,056 · q (n + 1,056) for what is done with targets.
    Memory, in float32 values: (n + 1,024) p for voxels and two blocks of them being read; 4 n² for two Gram matrices, a factor and
    its copy; n q / 5 for held-out predictions and truth; 3 · 1,056 q. Every process of a team has the matrices and the model, and
    of the rest its share; all of them call this, and get the same but for `report`'s two arrays.
    Raises ValueError if X and Y differ in length, either holds NaN or infinity, or the team is larger than one of them is wide.
    """
    if len(X) != len(Y):
        raise ValueError(f"expected as many rows of targets as of voxels, got {len(Y)} and {len(X)}")
    (p, q), alphas, everything = (X.shape[1], Y.shape[1]), np.asarray(alphas, np.float64), np.arange(len(X))
    if min(p, q) < team.size:
        raise ValueError(f"expected at most {min(p, q)} processes for {p} voxels and {q} targets, got {team.size}")
    rows, mine = np.setdiff1d(everything, held), team.share(q)
    standardise, Z = standardised(X, team)
    K = team.sum(gram(Z))
    inner, cross = centred(K, rows, held)
    weights = team.each(alphas, partial(dual_weights, inner, cross), cross)  # needed together per target alone
    if per_target:
        curve, chosen = choose_alphas_per_target(list(weights), Y, rows, held, groups, alphas, team)
    else:
        curve, chosen = choose_alphas(weights, Y, rows, held, groups, alphas, seed, team)
    columns, targets, most = columns_of(chosen, mine), Y[:, mine], max(rank, CURVE_RANK)
    truth = read_rows(targets, held)
    predicted, mean = predict_held_out(inner, cross, targets, rows, columns, team)
    check_finite(team.joined(mean + truth.mean(0), q), "target")
    others = find_range(inner, targets, columns, most, rows, random_directions(most, Y, seed, team), 2, team)
    del inner, cross
    basis = orthonormal(others.up, mine, team)
    r2, rank_curve = r2_per_target(truth, predicted), _rank_curve(basis, predicted, truth, others.mean.numpy(), team)
    start = others.up[: rank + OVERSAMPLE].T.to(K.device, copy=True)
    basis = basis[:rank].copy()
    del others

    found = find_range(K, targets, columns, rank, everything, start, 1, team)
    unit = np.float32(np.sqrt(len(X)))  # coordinates of unit variance
    down = team.joined((Z.T @ found.dual).T, p).T.cpu().numpy() * unit
    up = team.joined(found.up, q).numpy() / unit
    mean = found.mean.numpy()  # of predictions too: the held-out images' own would only be less certain
    rescale = Rescaler.fit(mean, predicted.std(0), mean, truth.std(0))
    rescale = Rescaler(team.joined(rescale.gain, q), team.joined(rescale.offset, q))
    report = RidgeReport(alphas, curve, chosen, team.joined(r2, q), rank_curve, predicted, basis)
    return LowRank(standardise, down, up, team.joined(mean, q), rescale), report
