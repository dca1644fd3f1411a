"""Brain-Diffuser's ridge against their arithmetic, written with scikit-learn and numpy."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from precompute.fitting.whole_ridge import fit_whole
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import Rescaler

N, N_TEST, VOXELS, TARGETS = 90, 25, 130, 300


@pytest.fixture
def data(rng):
    """Voxels and latents of training images, and voxels of test images: more voxels and latents than images."""
    hidden, to_voxels, to_latents = (
        rng.normal(size=(N + N_TEST, 6)),
        rng.normal(size=(6, VOXELS)),
        rng.normal(size=(6, TARGETS)),
    )
    X = (hidden @ to_voxels + 2 * rng.normal(size=(N + N_TEST, VOXELS)) + 1).astype(np.float32)
    Y = (0.3 * hidden @ to_latents + rng.normal(size=(N + N_TEST, TARGETS)) + 2).astype(np.float32)[:N]
    return X[:N], Y, X[N:]


def theirs(X, Y, X_test, alpha):
    """`vdvae_regression.py`: predictions for the test images, and these renormalised."""
    mean, sd = X.mean(0), X.std(0, ddof=1)
    model = Ridge(alpha=alpha, max_iter=10000, fit_intercept=True)
    model.fit((X - mean) / sd, Y)
    predicted = model.predict((X_test - mean) / sd)
    standardised = (predicted - np.mean(predicted, axis=0)) / np.std(predicted, axis=0)
    return predicted, standardised * np.std(Y, axis=0) + np.mean(Y, axis=0)


@pytest.mark.parametrize("alpha", [20.0, 5e4])
def test_predictions_and_their_rescaling_are_the_papers_to_a_thousandth_even_from_the_file(data, alpha, tmp_path):
    X, Y, X_test = data
    predicted, renormalised = theirs(*(a.astype(np.float64) for a in data), alpha)
    fit_whole(X, Y, np.full(TARGETS, alpha), X_test).save(tmp_path / "r.safetensors", np.float32)
    model = LowRank.load(tmp_path / "r.safetensors")
    ours, about = model.predict(X_test), Y.mean(0)
    assert np.linalg.norm(ours - predicted) <= 1e-3 * np.linalg.norm(predicted - about)
    assert np.linalg.norm(model.rescale(ours) - renormalised) <= 1e-3 * np.linalg.norm(renormalised - about)


def test_gains_are_not_capped_and_bring_test_predictions_to_the_training_spread(data):
    X, Y, X_test = data
    model = fit_whole(X, Y, np.full(TARGETS, 5e4), X_test)
    assert np.median(model.rescale.gain) > 10 * Rescaler.MAX_GAIN
    rescaled = model.rescale(model.predict(X_test))
    np.testing.assert_allclose(rescaled.std(0), Y.std(0), rtol=1e-3)
    np.testing.assert_allclose(rescaled.mean(0), Y.mean(0), atol=1e-2)


def test_components_are_ordered_and_none_that_counts_is_left_out(data):
    X, Y, X_test = data
    model = fit_whole(X, Y, np.full(TARGETS, 20.0), X_test)
    strength = np.linalg.norm(model.up, axis=1)
    assert model.n_components == N - 1 and (np.diff(strength) <= 1e-4 * strength[0]).all()
    coordinates = model.coordinates(X)
    np.testing.assert_allclose(coordinates.T @ coordinates / N, np.eye(N - 1), atol=1e-2)
