"""Ridge with many alphas by the singular values of X, where one side of X is small: cross-validated R² in closed form.

With X = U S Vᵀ and centred targets Y, ridge predicts U diag(s²/(s² + α)) Uᵀ Y (Hoerl & Kennard 1970). Unlike the Cholesky
factors of `precompute.fitting.dual`, one an alpha, this gives every voxel its own alpha, and the hat matrix's
trace, for one decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from precompute.fitting.dual import gram

BLOCK = 2048  # targets at a time


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
    values, vectors = torch.linalg.eigh(gram(X if wide else X.T).double())
    keep = values > values[-1] * 1e-10
    s = values[keep].sqrt().flip(0).float()
    near = vectors[:, keep].flip(1).float()
    far = (X.T @ near if wide else X @ near) / s
    return Spectrum(near, s, far) if wide else Spectrum(far, s, near)


def shrinkage(s: torch.Tensor, alphas) -> torch.Tensor:
    """s (k,), alphas (t,) -> s²/(s² + α), (k, t)."""
    return s[:, None] ** 2 / (s[:, None] ** 2 + torch.as_tensor(alphas, dtype=s.dtype)[None])


def gcv_r2(spectrum: Spectrum, Y: torch.Tensor, alphas: np.ndarray) -> np.ndarray:
    """R² that generalised cross-validation (Golub, Heath & Wahba 1979) expects of centred Y (n, t) at every alpha: (n_alphas, t).

    Leave-one-out in which every image has the hat matrix's mean diagonal h: its sum of squares is that of the fit over (1 - h)².
    """
    n, d = len(Y), shrinkage(spectrum.s, alphas)
    total = (Y**2).sum(0).clamp(min=1e-12)
    explained = (2 * d - d**2).T @ (spectrum.U.T @ Y) ** 2
    hat = (d.sum(0) + 1) / n  # 1: the intercept
    return (1 - (total - explained) / total / (1 - hat[:, None]) ** 2).numpy()


def column_blocks(stop: int, block: int = BLOCK, start: int = 0) -> Iterator[slice]:
    """Columns start…stop-1 as slices of at most `block`."""
    return (slice(k, min(k + block, stop)) for k in range(start, stop, block))
