"""Areas weakened, strengthened, driven alone; nulls; predicted responses and their noise."""

from dataclasses import replace

import numpy as np
import pytest

from recon.brain.space import with_unlabelled
from recon.bundle.bundle import load_bundle
from recon.reconstruct import reconstruct
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import Rescaler, Standardiser
from recon.responses import (
    another_image,
    apply_gains,
    optimal_response,
    predicted_response,
    response_around,
    response_to,
    with_noise,
)
from recon.settings import RESPONSES, Settings

ROIS = {"V1": np.array([1, 1, 0, 0, 0], bool), "V2": np.array([0, 1, 1, 0, 0], bool)}


def test_gains_multiply_voxels_of_their_area_and_of_several_areas_by_all(rng):
    response = rng.normal(size=5).astype(np.float32)
    got = apply_gains(response, ROIS, (("V1", 0.5), ("V2", 2.0)))
    np.testing.assert_allclose(got, response * [0.5, 1, 2, 1, 1], rtol=1e-6)
    assert np.array_equal(apply_gains(response, ROIS, ()), response)


def test_lesioning_every_area_leaves_nothing_to_read_as_unlabelled_voxels_are_one(tiny_bundle):
    subject = load_bundle(tiny_bundle).subject
    labelled = tuple((name, 0.0) for name in subject.geometry.rois)
    assert response_to(subject, 1, Settings(gains=labelled)).any()
    everything = tuple((name, 0.0) for name in subject.geometry.areas)
    assert everything[-1] == ("unlabelled", 0.0)
    assert not response_to(subject, 1, Settings(gains=everything)).any()


def test_areas_together_are_all_voxels_and_without_areas_there_is_none():
    assert with_unlabelled(ROIS)["unlabelled"].tolist() == [False, False, False, True, True]
    assert with_unlabelled({"all": np.ones(5, bool)}).keys() == {"all"} and with_unlabelled({}) == {}


def test_nulls_stand_in_for_the_response(tiny_bundle):
    subject = load_bundle(tiny_bundle).subject
    own, other, shuffled, none = (response_to(subject, 1, Settings(response=name)) for name in RESPONSES)
    assert np.array_equal(own, subject.test.response(1)) and not none.any() and none.shape == own.shape
    assert np.array_equal(other, subject.test.response(another_image(1, 5))) and not np.array_equal(other, own)
    assert np.array_equal(np.sort(shuffled), np.sort(own)) and not np.array_equal(shuffled, own)
    for name in RESPONSES:
        again = response_to(subject, 1, Settings(response=name, gains=(("V1", 0.0),)))
        assert not again[:3].any() and np.array_equal(again[3:], response_to(subject, 1, Settings(response=name))[3:])


def test_another_image_is_never_the_image_itself_and_stays_the_same():
    others = [another_image(k, 30) for k in range(30)]
    assert all(0 <= other < 30 and other != k for k, other in enumerate(others)) and len(set(others)) > 10
    assert others == [another_image(k, 30) for k in range(30)] and another_image(0, 1) == 0


def test_stage_1_of_a_null_is_not_taken_for_that_of_the_response():
    assert len({Settings(response=name).reading for name in RESPONSES}) == 4


def test_an_unknown_area_is_told():
    with pytest.raises(ValueError, match="ROI: expected one of V1, V2, got 'V9'"):
        apply_gains(np.zeros(5), ROIS, (("V9", 0),))


def test_driven_areas_are_at_their_level_and_all_other_voxels_rest():
    assert optimal_response(ROIS, {"V1": 2.0, "V2": -0.5}, 5).tolist() == [2, 1.5, -0.5, 0, 0]
    with pytest.raises(ValueError, match="level of V1: expected a finite number, got nan"):
        optimal_response(ROIS, {"V1": float("nan")}, 5)


def test_predicted_responses_have_the_spread_of_noiseless_ones(tiny_bundle, rng):
    bundle = load_bundle(tiny_bundle)
    n = bundle.vdvae.n_latents(bundle.n_layers)
    up = np.linalg.qr(rng.normal(size=(7, 3)))[0].T.astype(np.float32) * 0.4
    down = np.linalg.qr(rng.normal(size=(n, 3)))[0].astype(np.float32)
    plain = Standardiser.none(n)
    model = LowRank(plain, down, up, np.arange(7, dtype=np.float32), Rescaler(np.ones(7), np.zeros(7)))
    ncsnr = np.array([0.3, 0.6, 1.0, 0.0, np.nan, 0.5, 0.8], np.float32)
    seen = type("Bundle", (), {"response": model, "subject": replace(bundle.subject, ncsnr=ncsnr)})()
    seen.own_latents = lambda images: images  # of which the model is linear
    latents = rng.normal(size=(20_000, n)).astype(np.float32)
    found = predicted_response(latents, seen)
    np.testing.assert_allclose(found.mean(0), np.arange(7), atol=0.02)
    known = np.array([0, 1, 2, 3, 5, 6])
    spread = np.minimum(ncsnr / np.sqrt(1 + ncsnr**2), 4 * np.sqrt((up**2).sum(0)))
    np.testing.assert_allclose(found.std(0)[known], spread[known], rtol=0.03)
    np.testing.assert_allclose(found[:, 4], model.predict(latents)[:, 4], atol=1e-5)
    np.testing.assert_allclose(np.corrcoef(found[:, 0], model.predict(latents)[:, 0])[0, 1], 1, atol=1e-5)


def test_noise_has_the_level_that_ncsnr_says(rng):
    ncsnr = np.repeat([0.5, 2.0], 20_000)
    noisy = with_noise(np.zeros(40_000), ncsnr, 3, seed=1)
    for k, value in ((0, 0.5), (1, 2.0)):
        part = noisy[20_000 * k : 20_000 * (k + 1)]
        assert part.var() == pytest.approx(1 / (1 + value**2) / 3, rel=0.05)


def test_without_a_picture_there_is_no_ceiling(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    frames = reconstruct(bundle.subject.test.response(0), bundle, Settings())
    assert set().union(*(frame.images for frame in frames)) == {"ridge", "mlp", "lcm"}


def test_another_picture_is_predicted_another_response(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    a, b = predicted_response(bundle.subject.test.images[:2], bundle)
    assert a.shape == (7,) and not np.allclose(a, b)


def test_a_response_averages_the_first_repeats_that_there_are(tiny_bundle):
    test = load_bundle(tiny_bundle).subject.test
    np.testing.assert_allclose(test.response(1, 2), test.voxels[1, :2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(test.response(0, 3), test.voxels[0, :2].mean(0), rtol=1e-6)  # it has two


def test_a_test_image_is_read_with_the_repeats_and_gains_that_the_settings_want(tiny_bundle):
    subject = load_bundle(tiny_bundle).subject
    everything, first = subject.test.voxels[1].mean(0), subject.test.voxels[1, 0]
    gain = np.where(subject.geometry.rois["V1"], 0.5, 1)
    np.testing.assert_allclose(response_to(subject, 1, Settings()), everything, rtol=1e-6)
    np.testing.assert_allclose(response_to(subject, 1, Settings(repeats=1)), first, rtol=1e-6)
    weakened = response_to(subject, 1, Settings(repeats=1, gains=(("V1", 0.5),)))
    np.testing.assert_allclose(weakened, first * gain, rtol=1e-6)
    with pytest.raises(IndexError, match="test image 5 does not exist"):
        response_to(subject, 5, Settings())


def test_noise_is_that_of_its_seed_and_whole_where_a_voxel_has_no_signal():
    first, again, other = (with_noise(np.ones(9), np.full(9, 0.5), 3, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and first.dtype == np.float32
    ncsnr = np.array([0.0, np.nan, 1.0])
    drawn = with_noise(np.zeros(3), ncsnr, 1, seed=4)
    assert np.array_equal(drawn, with_noise(np.zeros(3), np.array([0.0, 0.0, 1.0]), 1, seed=4))
    with pytest.raises(ValueError, match="^noise: nobody knows its level"):
        with_noise(np.zeros(3), np.full(3, np.nan), 1, seed=0)


def test_nothing_as_far_from_the_mean_drives_a_voxel_more_than_what_is_drawn_for_it(demo_bundle, rng):
    model, ncsnr = demo_bundle.response, demo_bundle.subject.ncsnr
    for voxel in (5, 400, 3600):
        found = response_around(voxel, 2.0, demo_bundle)
        others = rng.normal(size=(500, model.n_components))
        others *= 2 / np.linalg.norm(others, axis=1, keepdims=True)
        expected = model.intercept[voxel] + others @ model.up[:, voxel]
        gain = (found[voxel] - model.intercept[voxel]) / (2 * np.linalg.norm(model.up[:, voxel]))
        assert gain > 0 and (gain * (expected - model.intercept[voxel]) < found[voxel] - model.intercept[voxel]).all()
    known = np.sqrt(np.square(model.up).sum(0)) > 0.2  # their spread is not capped
    for voxel in np.flatnonzero(known)[:5]:  # two SD of its own noiseless responses
        wanted = 2 * ncsnr[voxel] / np.sqrt(1 + ncsnr[voxel] ** 2)
        assert response_around(int(voxel), 2.0, demo_bundle)[voxel] - model.intercept[voxel] == pytest.approx(
            wanted, rel=1e-3
        )


def test_a_voxel_that_there_is_not_or_that_nothing_drives_is_told(demo_bundle):
    for voxel in (-1, 3672, 1.5, "3", None):
        with pytest.raises(ValueError, match="^voxel: expected a whole number from 0 to 3671, got"):
            response_around(voxel, 2.0, demo_bundle)
    still = replace(demo_bundle.response, up=demo_bundle.response.up * (np.arange(3672) != 9))
    with pytest.raises(ValueError, match="^voxel 9: the response model expects the same of it"):
        response_around(9, 2.0, replace(demo_bundle, response=still))
