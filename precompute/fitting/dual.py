"""Ridge in its dual form, for inputs with more voxels than images and targets that stay on disk.

With standardised inputs Z (n × p) and centred targets Y (n × q), ridge predicts k(z) (Z Zᵀ + α I)⁻¹ Y with k(z) = z Zᵀ (Saunders et
al. 1998). One Gram matrix and one Cholesky factor an α serve every target, so that what is left is one product with Y, read
once, block of rows after block of rows, as it lies on disk.

Everything is float32 but sums of means. Against float64, predictions differ by about √p · 6e-8 · λ/α of their size, λ the Gram
matrix's largest eigenvalue: 1e-5 at NSD's shapes and alphas (measured in tests and by tests/bench/bench_ridge.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from recon.device import choose_device
from recon.regressors.rows import read_rows
from recon.regressors.standardise import Standardiser, check_finite

ROWS = 512  # of the targets read at a time
SIDE = 1024  # rows of the Gram matrix made at a time


def stream(array: np.ndarray, size: int = ROWS) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows, in order, on the device; the next one is read while the caller computes."""
    spans = [slice(k, min(k + size, len(array))) for k in range(0, len(array), size)]
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read_rows, array, spans[0])
        for k, span in enumerate(spans):
            block = torch.from_numpy(coming.result())
            if k + 1 < len(spans):
                coming = reader.submit(read_rows, array, spans[k + 1])
            yield span, block.to(choose_device())


def standardised(X: np.ndarray) -> tuple[Standardiser, Tensor]:
    """X (n, p) -> training statistics (p,), and z-scores (n, p) float32 in memory, once. Raises ValueError on NaN or infinity."""
    Z = torch.empty(X.shape, dtype=torch.float32)
    for span, block in stream(X):
        Z[span] = block.cpu()
    values = Z.numpy()
    standardise = Standardiser.fit(values)
    check_finite(standardise.mean, "voxel")
    for k in range(0, len(Z), ROWS):
        values[k : k + ROWS] = standardise(values[k : k + ROWS])
    return standardise, Z.to(choose_device())


def gram(Z: Tensor) -> Tensor:
    """Z Zᵀ (n, n): products of blocks of rows on and below the diagonal, mirrored."""
    n = len(Z)
    K = Z.new_empty(n, n)
    for i in range(0, n, SIDE):
        j = min(i + SIDE, n)
        K[i:j, :j] = Z[i:j] @ Z[:j].T
        K[:i, i:j] = K[i:j, :i].T
    return K


def factor(K: Tensor, alpha: float) -> Tensor:
    """Cholesky factor of K + α I. Raises ValueError when that is not positive definite in float32: α is too small."""
    A = K.clone()
    A.diagonal().add_(alpha)
    L, info = torch.linalg.cholesky_ex(A)
    if info.item():
        raise ValueError(f"expected an alpha large enough for float32, got {alpha:g}: K + αI is not positive definite")
    return L


def centred(K: Tensor, rows: np.ndarray, new: np.ndarray) -> tuple[Tensor, Tensor]:
    """Gram matrices of `rows` with themselves, and of `new` rows with them, as if inputs were centred on the former."""
    rows, new = torch.as_tensor(rows, device=K.device), torch.as_tensor(new, device=K.device)
    inner, cross = K[rows][:, rows], K[new][:, rows]
    mean = inner.mean(1)
    inner.sub_(mean[:, None]).sub_(mean - mean.mean())  # in place: these are the largest arrays there are
    cross.sub_(cross.mean(1, keepdim=True)).sub_(mean - mean.mean())
    return inner, cross


def dual_weights(inner: Tensor, cross: Tensor, alpha: float) -> Tensor:
    """(n_new, n): what multiplies centred targets to give predictions for the new rows."""
    return torch.cholesky_solve(cross.T, factor(inner, alpha)).T


Columns = list[tuple[float, slice | np.ndarray]]  # alpha, and some of the targets that it is for; together all targets


def multiply(weights: dict[float, Tensor], Y: np.ndarray, columns: Columns, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """weights[α] (m, n) @ (Y[rows] less its means)[:, columns of α] side by side, in one pass over Y (N, q).

    Returns the products (m, q) and the means of Y[rows] (q,), float32 on the CPU. The mean of a target with NaN or infinity
    among these rows is not finite.
    """
    m, device = len(next(iter(weights.values()))), choose_device()
    out, total = torch.zeros(m, Y.shape[1], device=device), torch.zeros(Y.shape[1], dtype=torch.float64, device=device)
    for span, block in stream(Y):
        first, last = np.searchsorted(rows, (span.start, span.stop))
        if last - first < len(block):
            block = block[torch.as_tensor(rows[first:last] - span.start, device=device)]
        total += block.new_ones(len(block)) @ block  # a float64 sum of every block would take as long as the products
        for alpha, chosen in columns:
            if isinstance(chosen, slice):
                out[:, chosen].addmm_(weights[alpha][:, first:last].contiguous(), block[:, chosen])
            else:
                out[:, chosen] += weights[alpha][:, first:last] @ block[:, chosen]
    mean = (total / len(rows)).float()
    for alpha, chosen in columns:
        _subtract(out, weights[alpha].sum(1), mean, chosen)
    return out.cpu(), mean.cpu()


def _subtract(out: Tensor, scale: Tensor, mean: Tensor, chosen: slice | np.ndarray) -> None:
    """out[:, chosen] -= scale (m,) ⊗ mean[chosen], in place."""
    if isinstance(chosen, slice):
        out[:, chosen].addr_(scale, mean[chosen], alpha=-1)
    else:
        for row, weight in zip(out, scale.tolist()):  # row by row: (m, q) of them would not fit beside `out`
            row[chosen] -= weight * mean[chosen]
