"""The live path: computed from the voxels given, step by step, and refusing what it cannot use."""

import time

import numpy as np
import pytest
from without import without

from recon.bundle.bundle import load_bundle
from recon.decoders.diffusion import Meaning, refine
from recon.reconstruct import Shown, decode_layouts, decoded, in_working_time, prompt_embeddings, reconstruct
from recon.settings import PROMPTS, LCMSettings, Settings


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def seen(bundle, index: int) -> Shown:
    return Shown(bundle.subject.test.images[index], bundle.subject.test.labels[index]["captions"])


def layouts(bundle, response, shown=None):
    """Stage 1's frames, where there is no stage 2."""
    return list(reconstruct(response, without(bundle, "diffusion"), Settings(), shown=shown))


def test_layouts_run_coarse_to_fine_and_the_ceiling_follows_what_comes_from_the_brain(bundle):
    response = bundle.subject.test.response(0)
    frames = layouts(bundle, response, seen(bundle, 0))
    assert [f.step for f in frames] == [4, 8, 8]
    assert [f.ready for f in frames] == [False, True, True] and [f.last for f in frames] == [False, False, True]
    assert [set(f.images) for f in frames] == [{"ridge", "mlp"}, {"ridge", "mlp"}, {"ridge", "mlp", "ceiling"}]
    assert frames[0].seconds < frames[-1].seconds
    nothing_shown = layouts(bundle, response)
    assert [f.step for f in nothing_shown] == [4, 8] and [f.last for f in nothing_shown] == [False, True]


def test_stage_2_starts_as_soon_as_its_layout_is_there_and_the_rest_of_stage_1_follows(bundle):
    frames = list(reconstruct(bundle.subject.test.response(0), bundle, Settings(), shown=seen(bundle, 0)))
    assert [f.stage for f in frames] == ["vdvae"] * 2 + ["lcm"] * 4 + ["vdvae"]
    assert [f.last for f in frames] == [False] * 6 + [True]
    assert "ceiling" not in frames[1].images and "ceiling" in frames[-1].images


@pytest.mark.parametrize("regressor", ["ridge", "mlp"])
def test_a_slow_decoder_makes_the_chosen_layout_first_and_stage_2_does_not_wait_for_the_other(
    bundle, regressor, monkeypatch
):
    response = bundle.subject.test.response(0)
    expected = layouts(bundle, response)[-1].images
    monkeypatch.setattr(type(bundle.vdvae), "slow", True)
    frames = list(reconstruct(response, bundle, Settings(regressor, lcm=LCMSettings(2))))
    assert [f.stage for f in frames] == ["vdvae", "lcm", "lcm", "vdvae"] and frames[-1].last
    assert set(frames[0].images) == {regressor}
    for name in ("ridge", "mlp"):
        assert np.abs(frames[-1].images[name].astype(int) - expected[name]).max() <= 1


def test_a_layout_that_is_known_is_not_decoded_again(bundle, monkeypatch):
    response, settings = bundle.subject.test.response(0), Settings(lcm=LCMSettings(2))
    frames = list(reconstruct(response, bundle, settings, shown=seen(bundle, 0)))
    for name in ("decode", "decode_progressively", "encode"):
        monkeypatch.setattr(type(bundle.vdvae), name, None)
    again = list(reconstruct(response, bundle, settings, shown=seen(bundle, 0), layout=frames[-1]))
    assert [f.stage for f in again] == ["vdvae", "lcm", "lcm"] and [f.last for f in again] == [False, False, True]
    assert np.array_equal(again[-1].images["lcm"], frames[-2].images["lcm"])


def test_without_the_vdvae_one_frame_says_so_and_what_was_read_all_the_same(bundle):
    response = bundle.subject.test.response(0)
    for gone in (("vdvae",), ("vdvae", "diffusion")):
        (frame,) = reconstruct(response, without(bundle, *gone), Settings(), shown=seen(bundle, 0))
        assert frame.stage == "none" and frame.last and not frame.images and set(frame.absent) == set(gone)
        assert np.array_equal(frame.reading.response, response)


def test_without_the_diffusion_model_stage_1_is_all_and_the_frames_say_so(bundle):
    frames = layouts(bundle, bundle.subject.test.response(0))
    assert {f.stage for f in frames} == {"vdvae"} and all(set(f.absent) == {"diffusion"} for f in frames)
    complete = reconstruct(bundle.subject.test.response(0), bundle, Settings())
    assert all(not f.absent for f in complete)


def test_the_embedding_is_decoded_once_whatever_reads_it(bundle, monkeypatch):
    asked, response = [], bundle.subject.test.response(1)
    regressor = type(bundle.regressors["image"]["mlp"])
    predict = regressor.predict
    monkeypatch.setattr(regressor, "predict", lambda self, *rest: asked.append(self) or predict(self, *rest))
    frames = list(reconstruct(response, bundle, Settings(prompt="caption"), shown=seen(bundle, 1)))
    assert sum(one is bundle.regressors["image"]["mlp"] for one in asked) == 1
    expected = decoded("image", response[None], bundle, "mlp")[0]
    assert all(np.array_equal(f.reading.embedding, expected) for f in frames)


def test_what_a_reader_does_between_two_frames_is_not_counted(bundle):
    def work():
        for frame in frames:
            time.sleep(0.02)
            yield frame

    frames, seconds = layouts(bundle, bundle.subject.test.response(0)) * 2, []
    for frame in in_working_time(work()):
        seconds.append(frame.seconds)
        time.sleep(0.1)
    steps = np.diff([0, *seconds])
    assert (steps >= 0.02).all() and steps.mean() < 0.06 and seconds == sorted(seconds)


def test_closing_the_generator_stops_the_work(bundle, monkeypatch):
    begun = []
    forward = type(bundle.diffusion.pipe.unet).forward

    def counted(self, *args, **kwargs):
        begun.append(None)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(bundle.diffusion.pipe.unet), "forward", counted)
    frames = reconstruct(bundle.subject.test.response(0), bundle, Settings())
    assert next(f for f in frames if f.stage == "lcm").step == 1
    frames.close()
    assert len(begun) == 1


def test_last_layout_is_the_decoded_prediction_of_these_voxels(bundle):
    voxels, image = bundle.subject.test.response(1), bundle.subject.test.images[1]
    *_, last = layouts(bundle, voxels, seen(bundle, 1))
    for source in ("ridge", "mlp"):
        expected = decode_layouts(decoded("latents", voxels[None], bundle, source), bundle)[0]
        assert np.abs(last.images[source].astype(int) - expected).max() <= 1
    expected = decode_layouts(bundle.own_latents(image[None]), bundle)[0]
    assert np.abs(last.images["ceiling"].astype(int) - expected).max() <= 1


def test_layouts_decoded_in_batches_are_those_decoded_together(bundle):
    latents = decoded("latents", bundle.subject.test.averaged(), bundle, "ridge")
    together, apart = (decode_layouts(latents, bundle, batch).astype(int) for batch in (64, 2))
    assert together.shape == (5, 64, 64, 3) and np.abs(together - apart).max() <= 1


def test_other_voxels_give_another_layout_but_the_same_ceiling(bundle):
    *_, a = layouts(bundle, bundle.subject.test.response(1), seen(bundle, 0))
    *_, b = layouts(bundle, 10 * bundle.subject.test.response(2), seen(bundle, 0))
    assert (a.images["ridge"] != b.images["ridge"]).any()
    assert (a.images["ceiling"] == b.images["ceiling"]).all()


def test_wrong_voxel_count_and_nan_are_told(bundle):
    for there in (bundle, without(bundle, "vdvae")):
        with pytest.raises(ValueError, match=r"\(n, 7\), got \(1, 6\)"):
            next(reconstruct(np.zeros(6), there, Settings()))
        with pytest.raises(ValueError, match="NaN or infinity in 7"):
            next(reconstruct(np.full(7, np.nan), there, Settings()))


@pytest.mark.parametrize("regressor", ["ridge", "mlp"])
def test_stage_2_refines_the_layout_with_the_prompt_that_the_same_voxels_say(bundle, regressor):
    voxels, settings = bundle.subject.test.response(1), Settings(regressor, lcm=LCMSettings(3, seed=4))
    frames = list(reconstruct(voxels, bundle, settings))
    steps = [f for f in frames if f.stage == "lcm"]
    assert [f.step for f in steps] == [1, 2, 3] and [f.last for f in steps] == [False, False, True]
    assert [f.ready for f in steps] == [False, False, True]
    prompt = decoded("prompt", voxels[None], bundle, regressor).reshape(1, *bundle.diffusion.prompt_shape)
    layout = next(f for f in frames if f.ready).images[regressor]
    *_, expected = refine(bundle.diffusion, layout[None], Meaning(prompt), settings.lcm)
    assert np.array_equal(frames[-1].images["lcm"], expected.images[0])


def test_where_nothing_was_shown_the_oracle_has_no_words(bundle):
    voxels = bundle.subject.test.response(1)
    *_, oracle = reconstruct(voxels, bundle, Settings(prompt="oracle"))
    *_, none = reconstruct(voxels, bundle, Settings(prompt="none"))
    assert np.array_equal(oracle.images["lcm"], none.images["lcm"])


def test_only_the_oracle_reads_the_true_captions(bundle):
    voxels = bundle.subject.test.response(1)[None]
    for source in PROMPTS:
        settings = Settings(prompt=source, own_prompt="a boat")
        one, other = (prompt_embeddings(voxels, bundle, settings, [[c, "b"]]) for c in ("a cat", "a dog at night"))
        assert one.shape == (1, *bundle.diffusion.prompt_shape)
        assert np.array_equal(one, other) == (source != "oracle"), source


def test_prompt_sources_are_what_their_names_say(bundle):
    voxels, embed = bundle.subject.test.response(1)[None], bundle.diffusion.embed

    def prompt(source, own=""):
        return prompt_embeddings(voxels, bundle, Settings(prompt=source, own_prompt=own), [["a cat", "cats"]])

    row = bundle.captions.nearest(decoded("image", voxels, bundle, "mlp"))[0][0]
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
    for prompt in ("own", "decoded"):
        with pytest.raises(ValueError, match="at most 300 characters, got 10000"):
            Settings(prompt=prompt, own_prompt="x" * 10_000)
