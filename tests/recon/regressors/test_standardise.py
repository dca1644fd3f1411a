"""Inputs are checked and standardised; R² is scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import Rescaler, Standardiser, r2_per_target


def test_training_voxels_become_z_scores(rng):
    X = rng.normal(3, 2, size=(50, 7)).astype(np.float32)
    X[:, 2] = 4
    z = Standardiser.fit(X)(X)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(z, 2, 1).std(0, ddof=1), 1, rtol=1e-5)
    assert (z[:, 2] == 0).all()


def test_wrong_voxel_count_is_told(rng):
    with pytest.raises(ValueError, match=r"expected voxels of shape \(n, 7\), got \(1, 8\)"):
        Standardiser.fit(rng.normal(size=(5, 7)))(np.zeros((1, 8)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_told_not_zeroed(rng, bad):
    x = np.zeros((2, 7))
    x[1, 3] = bad
    with pytest.raises(ValueError, match=r"1 of them \(first: voxel 3\)"):
        Standardiser.fit(rng.normal(size=(5, 7)))(x)


def test_r2_is_scikit_learns_and_may_be_negative(rng):
    truth, guess = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    ours = r2_per_target(truth, guess)
    np.testing.assert_allclose(ours, r2_score(truth, guess, multioutput="raw_values"))
    assert ours.min() < 0


def test_r2_of_a_constant_target_is_undefined():
    assert np.isnan(r2_per_target(np.ones((4, 1)), np.ones((4, 1)))).all()


def two_tokens(rng, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """(n, 16) float32: a first token that is the same for every text but for rounding, among it a number near 0; a second one."""
    first = np.array([33.1, -28.4, 0.7, 1.0, -0.3, 0.001, 0.0, 2.0])
    truth = np.hstack([first + 1e-6 * rng.normal(size=(n, 8)), rng.normal(size=(n, 8))])
    guess = np.hstack([first + 1e-5 * rng.normal(size=(n, 8)), truth[:, 8:] + 0.9 * rng.normal(size=(n, 8))])
    return truth.astype(np.float32), guess.astype(np.float32)


def test_a_token_that_varies_by_rounding_alone_is_left_out_of_the_mean_r2(rng):
    truth, guess = two_tokens(rng)
    r2 = r2_per_target(truth, guess)
    assert np.isnan(r2[:8]).all()
    assert np.nanmean(r2) == pytest.approx(r2_score(truth[:, 8:], guess[:, 8:]), abs=1e-6)
    assert r2_score(truth, guess) < -1  # what a mean over all of them would say


def test_small_targets_beside_large_ones_count(rng):
    truth = rng.normal(size=(200, 3)) * [1, 0.01, 30] + [5, 0.1, 0]
    assert np.isfinite(r2_per_target(truth, truth)).all()


def test_rescaling_maps_moments_and_caps_the_gain_of_unknown_latents():
    rescale = Rescaler.fit(np.array([1.0, 0.0]), np.array([0.5, 1e-9]), np.array([3.0, 2.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(rescale(np.array([[1.5, 0.0]])), [[4.0, 2.0]])
    assert rescale.gain[1] == Rescaler.MAX_GAIN


def test_softened_gains_keep_the_mean_and_go_from_least_squares_to_the_whole_spread(rng):
    predicted = rng.normal([2.0, -1.0, 5.0], [0.5, 0.25, 0.8], (4000, 3))
    mean_to, sd_to = np.array([3.0, 1.0, 0.0]), np.array([1.0, 0.5, 2.0])
    whole = Rescaler.fit(predicted.mean(0), predicted.std(0), mean_to, sd_to)
    made = whole.softened(np.array([0.0, 0.5, 1.0]), mean_to)(predicted)
    np.testing.assert_allclose(made.mean(0), mean_to, atol=1e-5)
    between = np.sqrt(predicted.std(0)[1] * sd_to[1])  # half way, on a logarithmic scale
    np.testing.assert_allclose(made.std(0), [predicted.std(0)[0], between, sd_to[2]], rtol=1e-5)


def test_statistics_of_many_voxels_are_numpys_in_float64_block_by_block(rng):
    X = (rng.normal(size=(7, 2050)) * 0.3 + 100).astype(np.float32)
    X[:, 2049] = 5
    found = Standardiser.fit(X)
    np.testing.assert_allclose(found.mean, X.mean(0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(found.sd[:2049], X[:, :2049].std(0, ddof=1, dtype=np.float64), rtol=1e-6)
    assert found.sd[2049] == 1 and found.mean.dtype == found.sd.dtype == np.float32


def test_r2_does_not_depend_on_how_many_targets_go_together(rng):
    truth = rng.normal(size=(30, 7)).astype(np.float32)
    predicted = truth + rng.normal(size=(30, 7)).astype(np.float32)
    found = r2_per_target(truth, predicted, width=3)
    np.testing.assert_allclose(found, r2_score(truth, predicted, multioutput="raw_values"), rtol=1e-6)
    truth[:, 4] = 2.5
    assert np.isnan(r2_per_target(truth, predicted, width=3)).nonzero()[0].tolist() == [4]


@pytest.mark.parametrize("components", [None, 0, 1, 3])
def test_a_regressor_of_constant_targets_has_no_components_and_says_their_mean(components, rng):
    nothing, mean = np.zeros((7, 0), np.float32), rng.normal(size=4).astype(np.float32)
    rescale = Rescaler(np.ones(4, np.float32), np.zeros(4, np.float32))
    model = LowRank(Standardiser.none(7), nothing, np.zeros((0, 4), np.float32), mean, rescale)
    np.testing.assert_array_equal(model.predict(rng.normal(size=(2, 7)), components), [mean, mean])
