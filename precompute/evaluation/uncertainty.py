"""How sure a mean over test images is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import wilcoxon

RESAMPLES = 2000


@lru_cache(maxsize=4)
def _shares(n: int) -> np.ndarray:
    """(RESAMPLES, n): how large a part of each bootstrap sample of n images every image is."""
    return (np.random.default_rng((n, 70)).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n).astype(np.float32)


def interval(scores: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of (n,) scores (Efron 1979); the same samples for all scores of n images."""
    low, high = np.percentile(_shares(len(scores)) @ scores.astype(np.float32), [2.5, 97.5])
    return float(low), float(high)


def paired_p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of (n,) scores of the same images; 1 where none differs."""
    return float(wilcoxon(a, b).pvalue) if np.any(a != b) else 1.0
