"""The encoding model of the page: the best low-rank approximation of what it predicts."""

import numpy as np
import pytest

from precompute.fitting.response_model import factorise, fit_response
from recon.regressors.low_rank import LowRank


@pytest.fixture
def problem(rng):
    Z = rng.normal(size=(200, 9)) @ rng.normal(size=(9, 9))
    return rng.normal(size=(9, 14)), Z - Z.mean(0)


@pytest.mark.parametrize("rank", [2, 9])
def test_factors_give_the_best_approximation_of_the_predictions_in_order(problem, rank):
    weights, Z = problem
    down, up, share = factorise(weights, Z, rank)
    u, s, vt = np.linalg.svd(Z @ weights, full_matrices=False)
    np.testing.assert_allclose(Z @ down @ up, (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-3)
    assert share == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum(), abs=1e-5)
    first = factorise(weights, Z, 1)
    np.testing.assert_allclose(Z @ down[:, :1] @ up[:1], Z @ first[0] @ first[1], atol=1e-6)


def test_coordinates_have_unit_variance(problem):
    weights, Z = problem
    down, _, _ = factorise(weights, Z, 4)
    np.testing.assert_allclose((Z @ down).T @ (Z @ down) / len(Z), np.eye(4), atol=1e-4)


def test_of_few_images_no_component_is_rounding_errors(rng, tmp_path):
    latents = {split: tmp_path / f"{split}.npy" for split in ("train", "test")}
    np.save(latents["train"], rng.normal(size=(30, 400)).astype(np.float32))
    np.save(latents["test"], rng.normal(size=(6, 400)).astype(np.float32))
    np.save(tmp_path / "voxels.npy", rng.normal(size=(30, 50)).astype(np.float32))
    fit_response(latents, tmp_path / "voxels.npy", tmp_path)
    response = LowRank.load(tmp_path / "response.safetensors")
    coordinates = np.load(tmp_path / "response_test.npy").astype(float)
    assert response.n_components == 29 and np.isfinite(response.down).all()
    assert np.abs(coordinates).max() < 100  # of training images they have unit variance
