"""The live path: computed from the voxels given, coarse to fine, and refusing what is not voxels."""

import numpy as np
import pytest

from recon.bundle import load_bundle
from recon.reconstruct import STAGES, decoded_latents, own_latents, reconstruct


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_frames_run_coarse_to_fine_with_a_picture_for_each_source(bundle):
    frames = list(reconstruct(bundle.subject.test.response(0), bundle.subject.test.images[0], bundle))
    assert [f.step for f in frames] == [1, 4, 8]
    assert [f.last for f in frames] == [False, False, True]
    assert all(set(f.images) == set(STAGES) for f in frames)
    assert frames[0].seconds < frames[-1].seconds


def test_last_frame_is_the_decoded_prediction_of_these_voxels(bundle):
    voxels, image = bundle.subject.test.response(1), bundle.subject.test.images[1]
    *_, last = reconstruct(voxels, image, bundle)
    for source in ("ridge", "mlp"):
        expected = bundle.vdvae.decode(decoded_latents(voxels[None], bundle, source))[0]
        assert np.abs(last.images[source].astype(int) - expected).max() <= 1
    expected = bundle.vdvae.decode(own_latents(image[None], bundle))[0]
    assert np.abs(last.images["ceiling"].astype(int) - expected).max() <= 1


def test_other_voxels_give_another_picture_but_the_same_ceiling(bundle):
    image = bundle.subject.test.images[0]
    *_, a = reconstruct(bundle.subject.test.response(1), image, bundle)
    *_, b = reconstruct(10 * bundle.subject.test.response(2), image, bundle)
    assert (a.images["ridge"] != b.images["ridge"]).any()
    assert (a.images["ceiling"] == b.images["ceiling"]).all()


def test_wrong_voxel_count_and_nan_are_told(bundle):
    image = bundle.subject.test.images[0]
    with pytest.raises(ValueError, match=r"\(n, 7\), got \(1, 6\)"):
        next(reconstruct(np.zeros(6), image, bundle))
    with pytest.raises(ValueError, match="NaN or infinity in 7"):
        next(reconstruct(np.full(7, np.nan), image, bundle))
