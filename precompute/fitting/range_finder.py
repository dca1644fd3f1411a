"""The best low-rank approximation of ridge's predictions Ŷ = K (K + α I)⁻¹ Y, without forming them.

By a randomised range finder (Halko et al. 2011, algorithm 4.4). The processes of a team share the targets, and the alphas for their
Cholesky factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from precompute.fitting.alphas import Columns
from precompute.fitting.dual import factor, multiply, stream, subtract_means
from precompute.fitting.spectrum import column_blocks
from precompute.team import ALONE, Team
from recon.device import choose_device

OVERSAMPLE = 32  # directions beyond the rank asked for


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


def random_directions(rank: int, Y: np.ndarray, seed: int, team: Team = ALONE) -> Tensor:
    """(q, l) for this process's share of the targets, to find that many leading directions from.

    All are drawn, some at a time, and its own kept: they do not depend on how many processes share them.
    """
    n_targets, size, mine = Y.shape[1], min(rank + OVERSAMPLE, *Y.shape), team.share(Y.shape[1])
    generator, kept = torch.Generator().manual_seed(seed), torch.empty(mine.stop - mine.start, size)
    for part in column_blocks(n_targets):
        block = torch.randn(part.stop - part.start, size, generator=generator)
        first, last = np.clip((part.start, part.stop), mine.start, mine.stop)
        kept[first - mine.start : last - mine.start] = block[first - part.start : last - part.start]
    return kept.to(choose_device())


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


def orthonormal(up: Tensor, mine: slice, team: Team) -> np.ndarray:
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
