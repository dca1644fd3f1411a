"""Picture scores against scipy and brute force."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from recon.metrics import pixel_correlation, two_way_identification


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
