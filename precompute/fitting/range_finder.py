"""The best low-rank approximation of ridge's predictions Ŷ = K (K + α I)⁻¹ Y, without forming them.

By a randomised range finder (Halko et al. 2011, algorithm 4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precompute.fitting.dual import Columns, factor, multiply, stream
from precompute.fitting.spectrum import column_blocks
from recon.device import choose_device

OVERSAMPLE = 32  # directions beyond the rank asked for
RESOLVED = 1e-6  # of the largest eigenvalue: smaller ones of a float32 Gram matrix are rounding errors
KEPT = 2  # Cholesky factors that are kept from one step to the next; others are computed again


@dataclass(frozen=True)
class Factors:
    """Ŷ ≈ coordinates · up: of training rows, and Zᵀ · dual of any. Ordered: the first k are the best rank-k approximation."""

    dual: Tensor  # (n, r): coordinates = Z Zᵀ dual, orthonormal columns over training rows
    up: Tensor  # (r, q), orthogonal rows
    mean: Tensor  # (q,) of the targets


def _sketch(Y: np.ndarray, directions: Tensor, columns: Columns, rows: np.ndarray) -> dict[float, Tensor]:
    """Centred Y[rows][:, columns of α] @ directions[columns of α], (n, l) for each alpha."""
    sums = {alpha: directions.new_zeros(len(Y), directions.shape[1]) for alpha, _ in columns}
    for span, block in stream(Y):
        for alpha, chosen in columns:
            sums[alpha][span].addmm_(block[:, chosen], directions[chosen])
    return {alpha: (T := whole[rows]) - T.mean(0) for alpha, whole in sums.items()}


def random_directions(rank: int, Y: np.ndarray, seed: int) -> Tensor:
    """(q, l) to find that many leading directions from; drawn some targets at a time."""
    n_targets, size = Y.shape[1], min(rank + OVERSAMPLE, *Y.shape)
    generator, directions = torch.Generator().manual_seed(seed), torch.empty(n_targets, size)
    for part in column_blocks(n_targets):
        directions[part] = torch.randn(part.stop - part.start, size, generator=generator)
    return directions.to(choose_device())


def _factors(K: Tensor) -> Callable[[float], Tensor]:
    """alpha -> Cholesky factor of K + α I; the first KEPT of them are made once."""
    kept: dict[float, Tensor] = {}

    def get(alpha: float) -> Tensor:
        if alpha in kept:
            return kept[alpha]
        L = factor(K, alpha)
        if len(kept) < KEPT:
            kept[alpha] = L
        return L

    return get


def find_range(K: Tensor, Y: np.ndarray, columns: Columns, rank: int, rows: np.ndarray, directions: Tensor) -> Factors:
    """The leading `rank` directions of the predictions for Y[rows] (N, q), each target with its alpha.

    K (n, n): Gram matrix of `rows`, centred on them. directions (q, l), l ≥ rank: those of almost the same predictions; random
    ones need `find_range_anew`.
    """
    found = _one_round(K, Y, columns, rows, directions, _factors(K))
    return _leading(found, rank)


def find_range_anew(K: Tensor, Y: np.ndarray, columns: Columns, rank: int, rows: np.ndarray, seed: int) -> Factors:
    """Like `find_range`, from random directions: two rounds."""
    factors = _factors(K)
    first = _one_round(K, Y, columns, rows, random_directions(rank, Y, seed), factors)
    return _leading(_one_round(K, Y, columns, rows, first.up.T.to(K.device), factors), rank)


def whole_range(K: Tensor, Y: np.ndarray, columns: Columns, rows: np.ndarray) -> Factors:
    """All directions of the predictions for Y[rows] (N, q), each target with its alpha, by the Gram matrix's eigenvectors."""
    values, vectors = torch.linalg.eigh(K.double())
    keep = values > values[-1] * RESOLVED
    values, U = values[keep].float(), vectors[:, keep].float()
    weights = {alpha: (values / (values + alpha))[:, None] * U.T for alpha in dict.fromkeys(a for a, _ in columns)}
    up, mean = multiply(weights, Y, columns, rows)
    return _leading(Factors(U / values, up, mean), len(values))


def _one_round(
    K: Tensor, Y: np.ndarray, columns: Columns, rows: np.ndarray, directions: Tensor, factors: Callable[[float], Tensor]
) -> Factors:
    """One step of a power iteration, and the predictions along what it finds; these are not ordered yet."""
    dual, alphas = K.new_zeros(len(K), directions.shape[1]), dict.fromkeys(alpha for alpha, _ in columns)
    for alpha, sketch in _sketch(Y, directions, columns, rows).items():
        dual += torch.cholesky_solve(sketch, factors(alpha))
    S = K @ dual
    values, vectors = torch.linalg.eigh((S.T @ S).double())
    keep = values > values[-1] * 1e-9
    turn = (vectors[:, keep] / values[keep].sqrt()).float()
    Q, dual = S @ turn, dual @ turn
    # Qᵀ K (K + α I)⁻¹ = (Q - α (K + α I)⁻¹ Q)ᵀ: what multiplies targets to give their predictions' coordinates along Q
    weights = {alpha: (Q - alpha * torch.cholesky_solve(Q, factors(alpha))).T for alpha in alphas}
    up, mean = multiply(weights, Y, columns, rows)
    return Factors(dual, up, mean)


def _leading(found: Factors, rank: int) -> Factors:
    """The first `rank` components, turned to the principal axes of the predictions."""
    _, vectors = torch.linalg.eigh((found.up @ found.up.T).double())
    turn = vectors[:, -rank:].flip(1).float()
    return Factors(found.dual @ turn.to(found.dual.device), turn.T @ found.up, found.mean)


def orthonormal(up: Tensor) -> np.ndarray:
    """up (r, q) -> (r, q), an orthonormal basis of its rows, leading ones first.

    By QR: the last rows of `up` may be too small to be orthogonal in float32.
    """
    return np.ascontiguousarray(torch.linalg.qr(up.T).Q.T.numpy())
