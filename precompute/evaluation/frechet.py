"""How far a set of images lies from another, as a network sees both: the Fréchet distance of two Gaussians.

Heusel et al. (2017), equation 6, there with Inception's features. With fewer images than features the covariances have not
full rank and the distance comes out too large, alike for every set of the same size: compare only such sets.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians with the means and covariances of features (n, d) and (m, d), float64.

    Raises ValueError unless both have as many columns and at least two rows.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected features (n, d) and (m, d) of two images or more, got {a.shape} and {b.shape}")
    a, b = (x.astype(np.float64) for x in (a, b))
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    # the trace of (A'A B'B)^½ is the sum of the singular values of A B', which is n × m instead of d × d
    return float(means + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())
