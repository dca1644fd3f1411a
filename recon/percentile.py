"""Where one number stands among many."""

from __future__ import annotations

import numpy as np


def percentile(value: float, distribution: np.ndarray) -> float:
    """Share of `distribution` (n,) below `value`, in percent, 0 to 100; equal ones count half, NaN are left out.

    50 is the median whichever way is better. NaN if there is nothing to compare with.
    """
    known = np.asarray(distribution)[np.isfinite(distribution)]
    if not len(known) or not np.isfinite(value):
        return float("nan")
    return float(100 * ((known < value).mean() + 0.5 * (known == value).mean()))
