"""Picture scores against scipy and brute force."""

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import correlation, cosine
from scipy.stats import norm, pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from recon.metrics import (
    correlation_distance,
    d_prime,
    is_saturated,
    pixel_correlation,
    retrieval_ranks,
    ssim,
    ssim_legacy,
    two_way_identification,
)


def test_pixel_correlation_is_pearsons_over_all_colour_values(rng):
    a, b = rng.integers(0, 256, (2, 3, 8, 8, 3))
    expected = [pearsonr(x.ravel(), y.ravel())[0] for x, y in zip(a, b)]
    np.testing.assert_allclose(pixel_correlation(a, b), expected, atol=1e-5)


def test_identification_is_the_share_of_other_images_that_are_beaten(rng):
    truth = rng.normal(size=(6, 20))
    guess = truth + 2 * rng.normal(size=(6, 20))
    expected = []
    for k in range(6):
        r = [pearsonr(guess[k], t)[0] for t in truth]
        expected.append(np.mean([r[k] > r[j] for j in range(6) if j != k]))
    np.testing.assert_allclose(two_way_identification(guess, truth), expected)


def test_perfect_guesses_win_always_and_constant_ones_by_chance(rng):
    truth = rng.normal(size=(9, 20))
    assert two_way_identification(truth, truth).mean() == 1
    assert two_way_identification(np.ones((9, 20)), truth).mean() == 0.5


def test_shapes_must_match():
    with pytest.raises(ValueError, match="one shape"):
        pixel_correlation(np.zeros((1, 4, 4, 3)), np.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="at least 2"):
        two_way_identification(np.zeros((1, 4)), np.zeros((1, 4)))


def peak_of(metric, n: int, rng) -> int:
    """Bytes that a metric of n pairs takes beside them, at most."""
    a, b = rng.integers(0, 256, (2, n, 96, 96, 3), np.uint8)
    tracemalloc.start()
    metric(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("metric", [ssim, ssim_legacy, pixel_correlation])
def test_more_pictures_take_no_more_memory(metric, rng):
    peak_of(metric, 2, rng)  # imports
    assert peak_of(metric, 80, rng) < 1.3 * peak_of(metric, 16, rng)


def test_pictures_score_the_same_whatever_stands_beside_them(rng):
    a, b = rng.integers(0, 256, (2, 37, 24, 24, 3), np.uint8)
    for metric in (ssim, ssim_legacy, pixel_correlation):
        np.testing.assert_allclose(metric(a, b), [metric(a[[k]], b[[k]])[0] for k in range(37)], atol=1e-6)
    r = np.corrcoef(a.reshape(37, -1), b.reshape(37, -1))[:37, 37:]
    np.testing.assert_allclose(two_way_identification(a, b), (r < np.diag(r)[:, None]).sum(1) / 36, atol=1e-6)


# --- SSIM, distances, ranks -------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(rng):
    a = rng.integers(0, 256, (3, 40, 44, 3), np.uint8)
    noise = rng.integers(-60, 60, a.shape)
    return a, np.clip(a.astype(int) + noise, 0, 255).astype(np.uint8)


SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}


def test_ssim_is_scikit_images(pairs):
    expected = [structural_similarity(rgb2gray(a), rgb2gray(b), **SKIMAGE) for a, b in zip(*pairs)]
    np.testing.assert_allclose(ssim(*pairs), expected, atol=1e-5)


def test_legacy_ssim_is_scikit_images_with_columns_for_channels(pairs):
    expected = [structural_similarity(rgb2gray(a), rgb2gray(b), channel_axis=1, **SKIMAGE) for a, b in zip(*pairs)]
    np.testing.assert_allclose(ssim_legacy(*pairs), expected, atol=1e-5)
    assert np.abs(ssim_legacy(*pairs) - ssim(*pairs)).max() > 1e-3


def test_correlation_distance_is_scipys(rng):
    a, b = rng.normal(size=(2, 6, 50))
    np.testing.assert_allclose(correlation_distance(a, b), [correlation(x, y) for x, y in zip(a, b)], atol=1e-5)


def test_random_pictures_identify_at_chance_within_sampling_error_and_the_truth_always(rng):
    truth, guess = rng.normal(size=(2, 400, 60))
    share = two_way_identification(guess, truth)
    assert abs(share.mean() - 0.5) < 3 * 0.29 / np.sqrt(400)  # a rank among 400 is uniform: SD 1/√12
    assert (two_way_identification(truth, truth) == 1).all()


@pytest.mark.parametrize("d", [0.0, 0.7, 2.5])
def test_d_prime_is_the_distance_at_which_two_normal_choices_are_that_often_right(rng, d):
    right = (rng.normal(d, 1, 400_000) > rng.normal(0, 1, 400_000)).mean()
    assert d_prime(right) == pytest.approx(d, abs=0.02)
    assert d_prime(right) == pytest.approx(2**0.5 * norm.ppf(right))


def test_identification_alone_can_be_saturated():
    assert is_saturated("pixels", 0.995) and not is_saturated("pixels", 0.98) and not is_saturated("ssim", 1.0)
    assert d_prime(1.0) == np.inf


def test_retrieval_ranks_are_those_of_a_loop(rng):
    guess, truth, centre = rng.normal(size=(7, 9)), rng.normal(size=(7, 9)), rng.normal(size=9)
    expected = []
    for k in range(7):
        cosines = [1 - cosine(guess[k] - centre, t - centre) for t in truth]
        expected.append(1 + sum(c > cosines[k] for c in cosines))
    assert retrieval_ranks(guess, truth, centre).tolist() == expected


def test_equal_similarities_share_their_rank_and_two_images_are_enough():
    one = np.array([[1.0, 0], [1.0, 0], [0, 1.0]])
    assert retrieval_ranks(one, one, np.zeros(2)).tolist() == [1.5, 1.5, 1]
    two = np.array([[1.0, 2, 4], [3.0, 1, 0]])
    assert two_way_identification(two, two).tolist() == [1, 1]


def test_pictures_that_are_smaller_than_ssims_window_are_refused():
    small, enough = np.zeros((1, 10, 10, 3), np.uint8), np.zeros((1, 11, 11, 3), np.uint8)
    assert ssim(enough, enough).tolist() == [1]
    with pytest.raises(ValueError, match=r"more than 10 pixels a side, got \(10, 10\)"):
        ssim(small, small)
