"""The Fréchet distance against its closed form by a matrix root, and where it is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from precompute.evaluation.frechet import frechet_distance


@pytest.mark.parametrize("n, m, d", [(60, 45, 7), (9, 12, 20)])
def test_it_is_that_of_the_matrix_root(rng, n, m, d):
    a, b = rng.normal(size=(n, d)), 2 + rng.normal(size=(m, d)) @ rng.normal(size=(d, d))
    A, B = (np.cov(x, rowvar=False) for x in (a, b))
    root = sqrtm(A @ B).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A + B - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-5)


def test_equal_sets_lie_at_zero_and_shifted_ones_at_the_square_of_the_shift(rng):
    a = rng.normal(size=(30, 5))
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(5 * 9)


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (6,)])
def test_features_that_do_not_fit_are_refused(rng, shape):
    with pytest.raises(ValueError, match=r"expected features \(n, d\) and \(m, d\) of two images or more, got"):
        frechet_distance(rng.normal(size=shape), rng.normal(size=(8, 6)))
