"""Leave-one-out in closed form against refitting without each image."""

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from precompute.fitting.spectrum import decompose, loo_r2


def test_leave_one_out_r2_is_that_of_refitting_without_each_image(rng):
    X, Y = rng.normal(size=(20, 6)), rng.normal(size=(20, 3))
    z = ((X - X.mean(0)) / X.std(0, ddof=1)).astype(np.float32)
    held_out = np.empty_like(Y)
    for k in range(20):
        rest = np.arange(20) != k
        # the hat matrix of the whole standardised problem: centring by the mean is the intercept
        held_out[k] = Ridge(5.0).fit(z[rest], Y[rest]).predict(z[k : k + 1])
    ours = loo_r2(decompose(z), torch.tensor(Y - Y.mean(0)).float(), np.array([5.0]))[0]
    np.testing.assert_allclose(ours, r2_score(Y, held_out, multioutput="raw_values"), atol=1e-4)
