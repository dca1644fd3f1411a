"""How alike two pictures are, and how well pictures are told apart."""

from __future__ import annotations

import numpy as np


def _centred_rows(images: np.ndarray) -> np.ndarray:
    """(n, …) -> (n, d) float32 rows of mean 0 and length 1; a constant picture becomes 0."""
    rows = np.asarray(images, np.float32).reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def pixel_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation over all pixels and colours of picture pairs (n, h, w, 3): (n,), in [-1, 1]."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"expected pictures of one shape, got {np.shape(a)} and {np.shape(b)}")
    return (_centred_rows(a) * _centred_rows(b)).sum(1)


def two_way_identification(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """For each prediction, the share of the other n - 1 truths that correlate less with it than its own; chance 0.5.

    (n, …) pictures or features. Ties count half. Raises ValueError for fewer than two.
    """
    if len(predicted) != len(truth) or len(truth) < 2:
        raise ValueError(f"expected the same number of at least 2 rows, got {len(predicted)} and {len(truth)}")
    r = _centred_rows(predicted) @ _centred_rows(truth).T
    own = np.diag(r)[:, None]
    beaten = (r < own).sum(1) + 0.5 * ((r == own).sum(1) - 1)
    return beaten / (len(truth) - 1)
