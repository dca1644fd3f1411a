"""The live path: computed from the voxels given, step by step, and refusing what it cannot use."""

import numpy as np
import pytest

from recon.bundle.bundle import load_bundle
from recon.decoders.diffusion import refine
from recon.reconstruct import (
    decode_caption,
    decoded,
    own_latents,
    prompt_embeddings,
    reconstruct_layout,
    reconstruct_picture,
)
from recon.settings import PROMPTS, LCMSettings, Settings


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_layouts_run_coarse_to_fine_and_the_ceiling_follows_what_comes_from_the_brain(bundle):
    response, image = bundle.subject.test.response(0), bundle.subject.test.images[0]
    frames = list(reconstruct_layout(response, image, bundle, "mlp"))
    assert [f.step for f in frames] == [4, 8, 8]
    assert [f.ready for f in frames] == [False, True, True] and [f.last for f in frames] == [False, False, True]
    assert [set(f.images) for f in frames] == [{"ridge", "mlp"}, {"ridge", "mlp"}, {"ridge", "mlp", "ceiling"}]
    assert frames[0].seconds < frames[-1].seconds
    without = list(reconstruct_layout(response, None, bundle, "mlp"))
    assert [f.step for f in without] == [4, 8] and [f.last for f in without] == [False, True]


def test_last_layout_is_the_decoded_prediction_of_these_voxels(bundle):
    voxels, image = bundle.subject.test.response(1), bundle.subject.test.images[1]
    *_, last = reconstruct_layout(voxels, image, bundle, "mlp")
    for source in ("ridge", "mlp"):
        expected = bundle.vdvae.decode(decoded("latents", voxels[None], bundle, source))[0]
        assert np.abs(last.images[source].astype(int) - expected).max() <= 1
    expected = bundle.vdvae.decode(own_latents(image[None], bundle))[0]
    assert np.abs(last.images["ceiling"].astype(int) - expected).max() <= 1


def test_other_voxels_give_another_layout_but_the_same_ceiling(bundle):
    image = bundle.subject.test.images[0]
    *_, a = reconstruct_layout(bundle.subject.test.response(1), image, bundle, "mlp")
    *_, b = reconstruct_layout(10 * bundle.subject.test.response(2), image, bundle, "mlp")
    assert (a.images["ridge"] != b.images["ridge"]).any()
    assert (a.images["ceiling"] == b.images["ceiling"]).all()


def test_wrong_voxel_count_and_nan_are_told(bundle):
    image = bundle.subject.test.images[0]
    with pytest.raises(ValueError, match=r"\(n, 7\), got \(1, 6\)"):
        next(reconstruct_layout(np.zeros(6), image, bundle, "mlp"))
    with pytest.raises(ValueError, match="NaN or infinity in 7"):
        next(reconstruct_layout(np.full(7, np.nan), image, bundle, "mlp"))
    with pytest.raises(ValueError, match="NaN or infinity in 7"):
        next(reconstruct_picture(image, np.full(7, np.nan), ["x"], bundle, Settings()))


@pytest.mark.parametrize("regressor", ["ridge", "mlp"])
def test_stage_2_refines_the_layout_with_the_prompt_that_the_same_voxels_say(bundle, regressor):
    voxels, layout = bundle.subject.test.response(1), bundle.subject.test.images[2]
    settings = Settings(regressor, lcm=LCMSettings(3, seed=4))
    frames = list(reconstruct_picture(layout, voxels, ["the answer"], bundle, settings))
    assert [f.step for f in frames] == [1, 2, 3] and [f.last for f in frames] == [False, False, True]
    prompt = decoded("prompt", voxels[None], bundle, regressor).reshape(1, *bundle.diffusion.prompt_shape)
    *_, expected = refine(bundle.diffusion, layout[None], prompt, settings.lcm)
    assert np.array_equal(frames[-1].images["lcm"], expected.images[0])


def test_only_the_oracle_reads_the_true_captions(bundle):
    voxels = bundle.subject.test.response(1)[None]
    for source in PROMPTS:
        settings = Settings(prompt=source, own_prompt="a boat")
        one, other = (prompt_embeddings(voxels, [[c, "b"]], bundle, settings) for c in ("a cat", "a dog at night"))
        assert one.shape == (1, *bundle.diffusion.prompt_shape)
        assert np.array_equal(one, other) == (source != "oracle"), source


def test_prompt_sources_are_what_their_names_say(bundle):
    voxels, embed = bundle.subject.test.response(1)[None], bundle.diffusion.embed

    def prompt(source, own=""):
        return prompt_embeddings(voxels, [["a cat", "cats"]], bundle, Settings(prompt=source, own_prompt=own))

    row = decode_caption(voxels, bundle, "mlp")[0][0]
    assert np.array_equal(prompt("caption"), embed([bundle.captions.captions[row]]))
    assert np.array_equal(prompt("own", "a red boat"), embed(["a red boat"]))
    assert np.array_equal(prompt("none"), embed([""]))
    np.testing.assert_allclose(prompt("oracle")[0], embed(["a cat", "cats"]).mean(0), atol=1e-6)


def test_the_decoded_caption_is_the_one_of_the_most_similar_training_picture(bundle):
    index = bundle.captions
    rows, cosine = index.nearest(index.embeddings)
    assert rows.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_unusable_settings_are_told_in_one_sentence(bundle):
    with pytest.raises(ValueError, match="regressor: expected one of ridge, mlp, got 'lasso'"):
        Settings("lasso")
    with pytest.raises(ValueError, match="prompt source: expected one of decoded, .*, got 'guess'"):
        Settings(prompt="guess")
    with pytest.raises(ValueError, match="own prompt: expected some words, got none"):
        Settings(prompt="own", own_prompt="  ")
    long = Settings(prompt="own", own_prompt="x" * 10_000)
    voxels = bundle.subject.test.response(1)
    with pytest.raises(ValueError, match="at most 300 characters, got 10000"):
        next(reconstruct_picture(bundle.subject.test.images[0], voxels, ["x"], bundle, long))
