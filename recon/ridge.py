"""Ridge from voxels to targets that stay on disk (`recon.dual`), and the low-rank weights that a live page can hold.

Alphas and R² come from held-out training images: the Gram matrix of the rest is a part of that of all. Then all training images
are used. The best rank-r approximation of the predictions Ŷ = K (K + α I)⁻¹ Y is found without forming Ŷ, by a randomised range
finder (Halko et al. 2011, algorithm 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from recon.device import choose_device
from recon.dual import centred, dual_weights, factor, gram, multiply, standardised, stream, subtract_means
from recon.files import read_tensors, whole_file
from recon.regression import Rescaler, Standardiser, r2_per_target, statistics_from_tensors, statistics_to_tensors

VOTES = 256  # targets of each group that vote on its alpha
OVERSAMPLE, ITERATIONS = 32, 1  # of the range finder
FORMAT = "recon-lowrank-1"

Columns = dict[float, np.ndarray | slice]  # alpha -> the targets that it is for


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
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components."""
        return self.coordinates(X)[:, :components] @ self.up[:components] + self.intercept

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
    curve: dict[str, list[float]]  # group -> mean R² of its voters at each alpha
    chosen: dict[str, float]
    r2: np.ndarray  # (n_targets,) at the chosen alpha, full rank
    rank_curve: dict[str, float]  # components kept -> R² (variance-weighted); "all": of the full ridge


def _gather(Y: np.ndarray, columns: np.ndarray) -> Tensor:
    out = torch.empty(len(Y), len(columns), device=choose_device())
    for span, block in stream(Y):
        out[span] = block[:, columns]
    return out


def choose_alphas(
    inner: Tensor,
    cross: Tensor,
    Y: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    groups: dict[str, slice],
    alphas,
    seed: int,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Fits `rows` and scores `held` for every alpha: group -> mean R² at each, and -> the best."""
    rng = np.random.default_rng(seed)
    voters = {
        name: np.sort(rng.choice(np.arange(g.start, g.stop), min(VOTES, g.stop - g.start), replace=False))
        for name, g in groups.items()
    }
    ends = np.cumsum([len(v) for v in voters.values()])[:-1]
    some = _gather(Y, np.concatenate(list(voters.values())))
    mean = some[rows].mean(0)
    some -= mean
    known, truth = some[rows], some[held]
    total = (truth - truth.mean(0)).square().sum(0).clamp(min=1e-12)
    scores = [1 - (truth - dual_weights(inner, cross, a) @ known).square().sum(0) / total for a in alphas]
    by_group = [[float(part.mean()) for part in torch.tensor_split(s, ends.tolist())] for s in scores]
    curve = {name: [row[k] for row in by_group] for k, name in enumerate(groups)}
    return curve, {name: float(alphas[int(np.argmax(values))]) for name, values in curve.items()}


def columns_of(chosen: dict[str, float], groups: dict[str, slice]) -> Columns:
    """alpha -> all targets of the groups that chose it."""
    found = {}
    for name, g in groups.items():
        found.setdefault(chosen[name], []).append(np.arange(g.start, g.stop))
    return {alpha: np.concatenate(parts) for alpha, parts in found.items()}


def predict_held_out(
    inner: Tensor, cross: Tensor, Y, rows: np.ndarray, held: np.ndarray, columns: Columns
) -> np.ndarray:
    """(n_held, q) predictions for `held` by a fit to `rows`, intercept included."""
    weights = {}
    for alpha in columns:
        weights[alpha] = cross.new_zeros(len(held), len(Y))
        weights[alpha][:, rows] = dual_weights(inner, cross, alpha)
    predicted, total = multiply(weights, Y, columns)
    mean = ((total - torch.as_tensor(np.asarray(Y[held], np.float32)).sum(0, dtype=torch.float64)) / len(rows)).float()
    subtract_means(predicted, weights, columns, mean)
    return predicted.add_(mean).numpy()


@dataclass(frozen=True)
class Factors:
    """Ŷ ≈ coordinates · up: of training rows, and Zᵀ · dual of any."""

    dual: Tensor  # (n, l): coordinates = Z Zᵀ dual, orthonormal columns over training rows
    up: Tensor  # (l, q)
    mean: Tensor  # (q,) of the targets


def _sketch(Y: np.ndarray, directions: Tensor, columns: Columns) -> dict[float, Tensor]:
    """Centred Y[:, columns[α]] @ directions[columns[α]], (n, l) for each alpha."""
    parts = {alpha: [] for alpha in columns}
    for _, block in stream(Y):
        for alpha, chosen in columns.items():
            parts[alpha].append(block[:, chosen] @ directions[chosen])
    return {alpha: (T := torch.cat(p)) - T.mean(0) for alpha, p in parts.items()}


def find_range(K: Tensor, Y: np.ndarray, columns: Columns, size: int, seed: int) -> Factors:
    """The leading `size` or so directions of the predictions, each group with its alpha."""
    size = min(size, *Y.shape)
    directions = torch.randn(Y.shape[1], size, generator=torch.Generator().manual_seed(seed)).to(K.device)
    for _ in range(1 + ITERATIONS):
        sketches = _sketch(Y, directions, columns)
        dual = sum(torch.cholesky_solve(T, factor(K, alpha)) for alpha, T in sketches.items())
        S = K @ dual
        values, vectors = torch.linalg.eigh((S.T @ S).double())
        keep = values > values[-1] * 1e-9
        turn = (vectors[:, keep] / values[keep].sqrt()).float()
        Q, dual = S @ turn, dual @ turn
        weights = {alpha: (Q - alpha * torch.cholesky_solve(Q, factor(K, alpha))).T for alpha in columns}
        up, total = multiply(weights, Y, columns)
        mean = (total / len(Y)).float()
        subtract_means(up, weights, columns, mean)
        directions = up.T.to(K.device)
    return Factors(dual, up, mean)


def _rank_curve(up: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Variance-weighted R² of held-out predictions of which the first 8, 16, … components are kept.

    The predictions have not seen the held-out images; the components, `up`, are those of the fit to all, which has.
    """
    basis = up / np.linalg.norm(up, axis=1, keepdims=True)
    mean = truth.mean(0)
    p, t = (predicted - mean) @ basis.T, (truth - mean) @ basis.T
    total, gain = float(((truth - mean) ** 2).sum()), (2 * p * t - p**2).sum(0).cumsum()
    ranks = [r for r in 2 ** np.arange(3, 20) if r < len(basis)] + [len(basis)]
    full = float(1 - ((truth - predicted) ** 2).sum() / total)
    return {str(r): float(gain[r - 1] / total) for r in ranks} | {"all": full}


def fit_ridge(
    X, Y, groups: dict[str, slice], alphas, rank: int, held: np.ndarray, seed: int = 0
) -> tuple[LowRank, RidgeReport]:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), which may be a memory map far larger than memory.

    groups: contiguous columns of Y that share one alpha, covering all of them; each alpha maximises the mean R² of (at most
    256 targets of) its group over the images of rows `held`, fitted to the others. R² of every target and the statistics of
    rescaling are of the same images and fit. Memory: X, two Gram matrices, and held-out predictions and truth.
    Raises ValueError if X and Y differ in length, or X holds NaN or infinity.
    """
    if len(X) != len(Y):
        raise ValueError(f"expected as many rows of targets as of voxels, got {len(Y)} and {len(X)}")
    alphas, rows = np.asarray(alphas, np.float64), np.setdiff1d(np.arange(len(X)), held)
    standardise, Z = standardised(X)
    K = gram(Z)
    inner, cross = centred(K, rows, held)
    curve, chosen = choose_alphas(inner, cross, Y, rows, held, groups, alphas, seed)
    columns = columns_of(chosen, groups)
    predicted, truth = predict_held_out(inner, cross, Y, rows, held, columns), np.asarray(Y[held], np.float32)
    del inner, cross

    found = find_range(K, Y, columns, rank + OVERSAMPLE, seed)
    values, vectors = torch.linalg.eigh((found.up @ found.up.T).double())
    rank = min(rank, len(values))
    turn = vectors[:, -rank:].flip(1).float()
    unit = np.float32(np.sqrt(len(X)))  # coordinates of unit variance
    down = (Z.T @ (found.dual @ turn.to(Z.device))).cpu().numpy() * unit
    up = (turn.T @ found.up).numpy() / unit
    mean = found.mean.numpy()  # of predictions too: the held-out images' own would only be less certain
    rescale = Rescaler.fit(mean, predicted.std(0), mean, truth.std(0))
    report = RidgeReport(alphas, curve, chosen, r2_per_target(truth, predicted), _rank_curve(up, predicted, truth))
    return LowRank(standardise, down, up, mean, rescale), report
