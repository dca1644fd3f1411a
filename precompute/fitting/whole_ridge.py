"""Brain-Diffuser's ridge of the latents: of full rank, and rescaled by statistics of the test images' predictions.

Ozcelik & VanRullen 2023, `vdvae_regression.py`. That rescaling is transductive: it needs the responses to all test images, and what
is made of one of them depends on the others. A bundle says so (`recon.recipes`).
"""

from __future__ import annotations

import numpy as np

from precompute.fitting.alphas import columns_of
from precompute.fitting.dual import gram, standardised
from precompute.fitting.range_finder import whole_range
from precompute.fitting.spectrum import column_blocks
from recon.regressors.low_rank import LowRank
from recon.regressors.rows import read_rows
from recon.regressors.standardise import Rescaler


def fit_whole(X, Y, chosen: np.ndarray, X_test: np.ndarray) -> LowRank:
    """Ridge from X (n, n_voxels) to Y (n, n_targets), a memory map, each target with its alpha in `chosen` (n_targets,).

    Gains bring the predictions for X_test (n_test, n_voxels) to the mean and SD of Y, without a cap.
    Time, in operations, beside those of `fit_ridge`: 10 n³ for eigenvectors, 4 n² q for all components. Memory, in float32 values:
    n (p + 2 q) for voxels and weights, 6 n².
    """
    standardise, Z = standardised(X)
    found = whole_range(gram(Z), Y, columns_of(chosen), np.arange(len(X)))
    unit = np.float32(np.sqrt(len(X)))
    down, up, mean = (Z.T @ found.dual).cpu().numpy() * unit, found.up.numpy() / unit, found.mean.numpy()
    predicted = standardise(X_test) @ down @ up + mean
    spread = np.concatenate([read_rows(Y[:, part]).std(0, dtype=np.float64) for part in column_blocks(Y.shape[1])])
    rescale = Rescaler.fit(predicted.mean(0, dtype=np.float64), predicted.std(0), mean, spread, cap=np.inf)
    return LowRank(standardise, down, up, mean, rescale)
