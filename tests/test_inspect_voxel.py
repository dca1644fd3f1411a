"""What is told of a voxel, an area, a picture's rank and a regressor's weights: against NumPy, SciPy and autograd."""

import numpy as np
import pytest
import torch
from conftest import random_regressors
from scipy.stats import percentileofscore, rankdata

from recon.bundle import load_bundle
from recon.captions import CaptionIndex
from recon.encoding import VoxelScores
from recon.files import BadFile
from recon.inspect_voxel import inspect_voxel, predicted_tests, roi_statistics
from recon.percentile import percentile
from recon.reconstruct import decoded, decoded_rank
from recon.regression import Rescaler, Standardiser
from recon.ridge import LowRank
from recon.weights import N_RESPONSES, weight_magnitude


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_a_voxel_is_reported_with_its_pictures_in_order(bundle):
    report = inspect_voxel(bundle, 1)
    np.testing.assert_allclose(report.measured, bundle.subject.test.averaged()[:, 1], rtol=1e-6)
    assert report.rois == ["V1"] and inspect_voxel(bundle, 6).rois == []
    assert report.best.tolist() == np.argsort(-report.measured).tolist()
    assert report.worst.tolist() == np.argsort(report.measured).tolist()
    assert report.r2 == bundle.scores.r2[1] and report.ncsnr == 1 and report.predicted is None


def test_predicted_responses_are_those_of_the_pictures_own_latents(bundle):
    predicted = predicted_tests(bundle)
    latents = bundle.vdvae.encode(bundle.subject.test.images[2:3], bundle.n_layers)
    np.testing.assert_allclose(predicted[2], bundle.response.predict(latents)[0], rtol=1e-3, atol=1e-3)
    assert np.array_equal(inspect_voxel(bundle, 4, predicted).predicted, predicted[:, 4])


def test_voxels_and_areas_that_do_not_exist_are_told(bundle):
    for voxel in (-1, 7):
        with pytest.raises(IndexError, match=f"voxel {voxel} does not exist: this subject has voxels 0 to 6"):
            inspect_voxel(bundle, voxel)
    with pytest.raises(ValueError, match="expected one of V1, got 'V9'"):
        roi_statistics(bundle, "V9")


def test_an_area_has_the_medians_of_its_voxels(bundle):
    r2, ceiling = np.array([0.1, 0.2, 0.6, 9, 9, 9, 9]), np.array([50.0, 9.9, 60.0, 99, 99, 99, 99])
    known = vars(bundle.scores) | {"r2": r2, "r": r2, "noise_ceiling": ceiling}
    object.__setattr__(bundle, "scores", VoxelScores(**known))
    found = roi_statistics(bundle, "V1")
    assert (found.n_voxels, found.r2, found.noise_ceiling, found.n_ceiling_10) == (3, 0.2, 50, 2)
    assert found.r2_over_ceiling == pytest.approx((20 + 100) / 2)


def test_the_percentile_is_scipys(rng):
    values = rng.integers(0, 9, 50).astype(float)
    for value in (-1, 0, 4, 4.5, 8, 20):
        assert percentile(value, values) == pytest.approx(percentileofscore(values, value, "mean"))
    assert percentile(4, [*values, np.nan]) == percentile(4, values)
    assert np.isnan(percentile(np.nan, values)) and np.isnan(percentile(1.0, [np.nan]))


def test_the_rank_is_that_of_the_cosines_about_the_training_mean(rng):
    training, test = rng.normal(size=(9, 4)), rng.normal(size=(20, 4))
    index, embedding, centre = CaptionIndex(["a"] * 9, training, test), rng.normal(size=4), training.mean(0)
    cosines = [(embedding - centre) @ (t - centre) / np.linalg.norm(t - centre) for t in test]
    for k, expected in enumerate(rankdata([-c for c in cosines])):
        assert index.rank(embedding, k) == expected
        assert index.rank(test[k], k) == 1
    twins = CaptionIndex(["a"] * 9, training, np.repeat(test[:2], 2, 0))
    assert twins.rank(test[0], 1) == 1.5


def test_ranks_of_unrelated_embeddings_average_to_chance(rng):
    index = CaptionIndex(["a"] * 50, rng.normal(size=(50, 8)), rng.normal(size=(100, 8)))
    ranks = [index.rank(rng.normal(size=8), k % 100) for k in range(1000)]
    assert np.mean(ranks) == pytest.approx(50.5, abs=3 * 28.9 / np.sqrt(1000))


def test_the_decoded_rank_is_that_of_the_decoded_embedding(bundle, rng):
    response = bundle.subject.test.response(1)
    assert decoded_rank(response, 1, bundle, "mlp") is None
    index = CaptionIndex(bundle.captions.captions, bundle.captions.embeddings, rng.normal(size=(5, 6)))
    object.__setattr__(bundle, "captions", index)
    embedding = decoded("image", response[None], bundle, "ridge", 2)[0]
    assert decoded_rank(response, 1, bundle, "ridge", 2) == index.rank(embedding, 1)


def test_test_embeddings_survive_the_disk_and_have_to_fit(tiny_bundle, tmp_path, rng):
    training, test = rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    CaptionIndex(["a"] * 4, training, test).save(tmp_path / "c.h5")
    np.testing.assert_allclose(CaptionIndex.load(tmp_path / "c.h5").test_embeddings, test, atol=2e-3)
    CaptionIndex(["a"] * 4, training, test[:, :5]).save(tmp_path / "c.h5")
    with pytest.raises(BadFile, match=r"embeddings of \(6,\), but of \(5,\) for test pictures"):
        CaptionIndex.load(tmp_path / "c.h5")


def test_ridges_weight_magnitude_is_the_norm_of_the_whole_weights(rng):
    down, up = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(3, 20)).astype(np.float32)
    none, same = Standardiser.none(7), Rescaler(np.ones(20, np.float32), np.zeros(20, np.float32))
    model = LowRank(none, down, up, np.zeros(20, np.float32), same)
    np.testing.assert_allclose(weight_magnitude(model), np.linalg.norm(down @ up, axis=1), rtol=1e-5)


def test_the_mlps_weight_magnitude_is_that_of_autograds_mean_gradient(rng):
    model = random_regressors(7, 20, rng)["mlp"]
    torch.nn.init.normal_(model.network.linear.weight)
    torch.nn.init.normal_(model.network.outward.weight)
    responses = torch.randn(N_RESPONSES, 7, generator=torch.Generator().manual_seed(0))
    basis = torch.as_tensor(model.basis)
    gradients = [torch.autograd.functional.jacobian(lambda x: model.network(x) @ basis, r) for r in responses]
    expected = torch.stack(gradients).mean(0).norm(dim=0).numpy()
    np.testing.assert_allclose(weight_magnitude(model), expected, rtol=1e-4)
    torch.nn.init.zeros_(model.network.outward.weight)
    linear = model.network.linear.weight.detach().numpy().T @ model.basis
    np.testing.assert_allclose(weight_magnitude(model), np.linalg.norm(linear, axis=1), rtol=1e-5)
