"""Claims about the values that the brain view is given."""

import base64

import numpy as np
import pytest

from recon.brain.maps import map_payload, response_map, score_maps, weight_map
from recon.brain.voxel_scores import VoxelScores

NCSNR = np.array([1.0, 0.5, 0.3], np.float32)


@pytest.fixture
def scores():
    r2 = np.array([0.25, -0.5, 0.04], np.float32)
    return VoxelScores(
        r2, np.sqrt(np.abs(r2)), np.array([50, 20, 8], np.float32), 30, r2, np.array([0.01, 0.2, 1], np.float32)
    )


def test_r2_and_its_ceiling_are_percent_on_one_scale(scores):
    maps = score_maps(scores, NCSNR)
    np.testing.assert_allclose(maps["r2"].values, [25, -50, 4], rtol=1e-6)
    np.testing.assert_allclose(maps["ceiling"].values, [50, 20, 8], rtol=1e-6)
    assert (maps["r2"].low, maps["r2"].high, maps["r2"].scale) == (0, 60, "inferno")
    assert (maps["ceiling"].low, maps["ceiling"].high, maps["ceiling"].scale) == (0, 60, "inferno")


def test_the_ratio_is_percent_of_the_ceiling_and_absent_below_ten_percent(scores):
    np.testing.assert_allclose(score_maps(scores, NCSNR)["ratio"].values, [50, -250, np.nan], rtol=1e-6)


def test_significance_is_a_map_of_q(scores):
    np.testing.assert_array_equal(score_maps(scores, NCSNR)["q"].values, scores.q)


def test_the_response_scale_is_symmetric_and_does_not_follow_the_values():
    small, large = response_map(np.zeros(3)), response_map(np.full(3, 9.0))
    assert small.low == -small.high and (small.low, small.high) == (large.low, large.high)


def test_one_extreme_weight_does_not_darken_the_others():
    magnitude = np.append(np.linspace(0, 1, 1000), 1e6).astype(np.float32)
    assert 0.98 < weight_map("ridge", magnitude).high < 1


def test_values_survive_the_journey_bit_for_bit():
    values = np.array([0.1, -3.5, np.nan, 1e-20], np.float32)
    payload = map_payload(response_map(values))
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(payload["values"]), "<f4"), values)
