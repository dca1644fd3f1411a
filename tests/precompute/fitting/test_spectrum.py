"""Generalised cross-validation against the hat matrix itself, and against leaving images out."""

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from precompute.fitting.spectrum import decompose, gcv_r2


def test_the_expected_r2_is_that_of_the_hat_matrix(rng):
    for n, p in ((20, 6), (12, 30)):
        z = rng.normal(size=(n, p))
        z -= z.mean(0)
        Y = rng.normal(size=(n, 3)) + z[:, :1]
        Y -= Y.mean(0)
        for alpha in (0.7, 50.0):
            H = z @ np.linalg.solve(z.T @ z + alpha * np.eye(p), z.T) + 1 / n
            left = (((Y - H @ Y) / (1 - np.trace(H) / n)) ** 2).sum(0)
            ours = gcv_r2(decompose(z), torch.tensor(Y).float(), np.array([alpha]))[0]
            np.testing.assert_allclose(ours, 1 - left / (Y**2).sum(0), atol=1e-3)


def test_the_expected_r2_is_near_that_of_leaving_each_image_out(rng):
    X = rng.normal(size=(200, 6)).astype(np.float32)
    X -= X.mean(0)
    Y = X @ rng.normal(size=(6, 3)) + 2 * rng.normal(size=(200, 3))
    left_out = np.stack([Ridge(5.0).fit(np.delete(X, k, 0), np.delete(Y, k, 0)).predict(X[[k]])[0] for k in range(200)])
    ours = gcv_r2(decompose(X), torch.tensor(Y - Y.mean(0)).float(), np.array([5.0]))[0]
    np.testing.assert_allclose(ours, r2_score(Y, left_out, multioutput="raw_values"), atol=0.02)
