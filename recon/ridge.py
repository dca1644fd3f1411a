"""Ridge from voxels to targets that stay on disk (`recon.dual`), and the low-rank weights that a live page can hold.

Alphas, R² and the curve of R² against rank come from held-out training images by a fit to the others, whose Gram matrix is a part
of that of all. Then all training images are used. The best rank-r approximation of the predictions Ŷ = K (K + α I)⁻¹ Y is found
without forming Ŷ, by a randomised range finder (Halko et al. 2011, algorithm 4.4).

A team of processes shares the voxels for the Gram matrix, the alphas for the Cholesky factors, and the targets for all else: each
reads its own columns of both files, and sums over processes join what is small (n × n, n × l, l × l).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from recon.alphas import Columns, choose_alphas, choose_alphas_per_target, columns_of
from recon.device import choose_device
from recon.dual import (
    centred,
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
    check_finite,
    r2_per_target,
    statistics_from_tensors,
    statistics_to_tensors,
)
from recon.team import ALONE, Team

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

    def save(self, path: Path) -> None:
        """Weights in float16, statistics in float32."""
        tensors = {
            "down": self.down.astype(np.float16, order="C"),  # safetensors writes memory as it lies
            "up": self.up.astype(np.float16, order="C"),
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
    predicted: np.ndarray  # (n_held, q) float32, full rank; of this process's share of the targets
    basis: (
        np.ndarray
    )  # (r, q) of that share; (r, n_targets) rows are orthonormal: the leading components of the fit to the others


def predict_held_out(
    inner: Tensor, cross: Tensor, Y: np.ndarray, rows: np.ndarray, columns: Columns, team: Team
) -> tuple[np.ndarray, np.ndarray]:
    """(n_held, q) predictions, by a fit to `rows`, for the images that `cross` is of, intercept included; means of Y[rows] (q,)."""
    weights = dict(zip(columns, team.each(list(columns), partial(dual_weights, inner, cross), cross)))
    predicted, mean = multiply(weights, Y, columns, rows)
    subtract_means(predicted, weights, columns, mean)
    return predicted.add_(mean).numpy(), mean.numpy()


@dataclass(frozen=True)
class Factors:
    """Ŷ ≈ coordinates · up: of training rows, and Zᵀ · dual of any. Ordered: the first k are the best rank-k approximation."""

    dual: Tensor  # (n, r): coordinates = Z Zᵀ dual, orthonormal columns over training rows
    up: Tensor  # (r, q) of this process's share of the targets; (r, n_targets) has orthogonal rows
    mean: Tensor  # (q,) of those targets


def _sketch(Y: np.ndarray, directions: Tensor, columns: Columns, rows: np.ndarray, team: Team) -> dict[float, Tensor]:
    """Centred Y[rows][:, columns[α]] @ directions[columns[α]], (n, l) for each alpha, over the targets of all processes."""
    parts = {alpha: [] for alpha in columns}
    for _, block in stream(Y):
        for alpha, chosen in columns.items():
            parts[alpha].append(block[:, chosen] @ directions[chosen])
    return {alpha: (T := team.sum(torch.cat(p)[rows])) - T.mean(0) for alpha, p in parts.items()}


def random_directions(rank: int, Y: np.ndarray, seed: int) -> Tensor:
    """(n_targets, l) to find that many leading directions from."""
    size = min(rank + OVERSAMPLE, *Y.shape)
    return torch.randn(Y.shape[1], size, generator=torch.Generator().manual_seed(seed)).to(choose_device())


def _eigenvectors(symmetric: Tensor, team: Team) -> tuple[Tensor, Tensor]:
    """Values, ascending, and vectors in float64; those of the first process, for another may find other signs."""
    values, vectors = torch.linalg.eigh(symmetric.double())
    return team.sent(values), team.sent(vectors)


def _range_weights(K: Tensor, Q: Tensor, alpha: float) -> Tensor:
    """Qᵀ K (K + α I)⁻¹, (l, n): what multiplies targets to give their predictions' coordinates along Q (n, l)."""
    return (Q - alpha * torch.cholesky_solve(Q, factor(K, alpha))).T


def find_range(
    K: Tensor,
    Y: np.ndarray,
    columns: Columns,
    rank: int,
    rows: np.ndarray,
    directions: Tensor,
    rounds: int,
    team: Team = ALONE,
) -> Factors:
    """The leading `rank` directions of the predictions for Y[rows], each target with its alpha.

    K (n, n): Gram matrix of `rows`, centred on them. Y (N, q), `columns` and `directions` (q, l), l ≥ rank, are of this process's
    share of the targets: two rounds if directions are random, one if they are already those of almost the same predictions.
    """
    alphas, n = list(columns), len(K)
    for _ in range(rounds):
        sketches = _sketch(Y, directions, columns, rows, team)
        dual = K.new_zeros(n, directions.shape[1])
        for alpha in alphas[team.rank :: team.size]:
            dual += torch.cholesky_solve(sketches[alpha], factor(K, alpha))
        del sketches
        team.sum(dual)
        S = team.joined((K[team.share(n)] @ dual).T, n).T
        values, vectors = _eigenvectors(S.T @ S, team)
        keep = values > values[-1] * 1e-9
        turn = (vectors[:, keep] / values[keep].sqrt()).float()
        Q, dual = S @ turn, dual @ turn
        weights = dict(zip(alphas, team.each(alphas, partial(_range_weights, K, Q), Q.T)))
        up, mean = multiply(weights, Y, columns, rows)
        subtract_means(up, weights, columns, mean)
        directions = up.T.to(K.device)
    _, vectors = _eigenvectors(team.sum(up @ up.T), team)
    turn = vectors[:, -rank:].flip(1).float()
    return Factors(dual @ turn.to(K.device), turn.T @ up, mean)


def _orthonormal(up: Tensor, mine: slice, team: Team) -> np.ndarray:
    """up (r, q) of this process's share `mine` -> (r, q) of an orthonormal basis of the rows over all targets, leading ones first.

    QR, for the last rows of `up` may be too small to be orthogonal in float32: of each share, then of the triangles together
    (Demmel et al. 2012). The first r targets stay as they are: the signs, which depend on them, are those of one QR of everything.
    """
    r = len(up)
    k = min(max(r - mine.start, 0), up.shape[1])  # so many of the first r targets are here
    Q, R = torch.linalg.qr(up[:, k:].T)
    top, below = slice(mine.start, mine.start + k), slice((team.rank + 1) * r, (team.rank + 1) * r + len(R))
    stacked = up.new_zeros((team.size + 1) * r, r)
    stacked[top], stacked[below] = up[:, :k].T, R
    turn = team.sent(torch.linalg.qr(team.sum(stacked)).Q)
    basis = up.new_empty(up.shape[1], r)
    basis[:k] = turn[top]
    torch.mm(Q, turn[below], out=basis[k:])
    return basis.T.numpy()


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
    Memory, in float32 values: n p; 4 n² for two Gram matrices, a factor and its copy; n q / 5 for held-out predictions and truth;
    3 · 1,056 q. Every process of a team has the matrices and the model, and of the rest its share; all of them call this, and get
    the same but for `report`'s two arrays.
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
    truth = np.asarray(targets[held], np.float32)
    predicted, mean = predict_held_out(inner, cross, targets, rows, columns, team)
    check_finite(team.joined(mean + truth.mean(0), q), "target")
    others = find_range(inner, targets, columns, most, rows, random_directions(most, Y, seed)[mine], 2, team)
    del inner, cross
    basis = _orthonormal(others.up, mine, team)
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
