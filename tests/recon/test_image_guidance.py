"""The live path with an image adapter: what is decoded guides stage 2 as the balance says, and without one nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import write_tiny_bundle
from safetensors.torch import load_file, save_file
from tiny_diffusion import EMBEDDING, tiny_adapter, tiny_pipeline

from recon.bundle.bundle import load_bundle
from recon.bundle.manifest import rewrite_manifest
from recon.decoders.diffusion import refine
from recon.files import BadFile, load_json, save_json
from recon.reconstruct import Shown, decoded, guide_embeddings, meanings, prompt_embeddings, reconstruct
from recon.settings import MEANINGS, LCMSettings, Settings


@pytest.fixture
def bundle(guided_bundle):
    return load_bundle(guided_bundle)


def rescaled(bundle, how):
    return replace(bundle, manifest=bundle.manifest | {"embedding": how})


def stage_2(bundle, settings, shown=None):
    return [f for f in reconstruct(bundle.subject.test.response(1), bundle, settings, shown=shown) if f.stage == "lcm"]


@pytest.mark.parametrize("balance, text, image", [(0, 1, 0), (0.25, 1, 0.5), (0.5, 1, 1), (0.6, 0.8, 1), (1, 0, 1)])
def test_the_balance_fades_from_text_over_both_to_the_image(bundle, balance, text, image):
    X, settings = bundle.subject.test.averaged(), Settings("ridge", balance=balance, image_scale=0.9)
    found = meanings(X, bundle, settings)
    empty, full = bundle.stage_2.embed([""]), prompt_embeddings(X, bundle, settings)
    np.testing.assert_allclose(found.prompts, text * full + (1 - text) * empty, atol=1e-5)
    assert found.scale == pytest.approx(0.9 * image)
    if image:
        np.testing.assert_array_equal(found.embeddings, decoded("image", X, bundle, "ridge"))


def test_presets_are_text_alone_both_in_full_and_the_image_alone():
    shares = {name: Settings(balance=b, image_scale=1) for name, b in MEANINGS.items()}
    shares = {name: (s.text_share, s.image_share) for name, s in shares.items()}
    assert shares["Text only"] == (1, 0) and shares["Both"] == (1, 1) and shares["Image only"] == (0, 1)
    text, image = shares["Brain-Diffuser’s balance"]
    assert text / (text + image) == pytest.approx(0.4, abs=0.05)  # theirs: .4 text, .6 image


@pytest.mark.parametrize("regressor", ["ridge", "mlp"])
def test_stage_2_is_guided_by_the_embedding_that_the_same_voxels_say(bundle, regressor):
    settings = Settings(regressor, balance=0.5, lcm=LCMSettings(2, seed=4))
    frames = stage_2(bundle, settings)
    X = bundle.subject.test.response(1)[None]
    layout = next(f for f in reconstruct(X[0], bundle, settings) if f.ready).images[regressor]
    *_, expected = refine(bundle.diffusion, layout[None], meanings(X, bundle, settings), settings.lcm)
    assert np.array_equal(frames[-1].images["lcm"], expected.images[0]) and not frames[-1].unguided
    text = stage_2(bundle, replace(settings, balance=0.0))
    assert not np.array_equal(frames[-1].images["lcm"], text[-1].images["lcm"])


def test_embeddings_are_rescaled_as_the_bundle_says(bundle):
    model = bundle.regressors["image"]["ridge"]
    gains = np.linspace(0.5, 2, EMBEDDING).astype(np.float32)
    bundle.regressors["image"]["ridge"] = model = replace(model, rescale=replace(model.rescale, gain=gains))
    X, settings = bundle.subject.test.averaged(), Settings("ridge", balance=1)
    plain = model.predict(X)
    found = {how: guide_embeddings(X, rescaled(bundle, how), settings) for how in ("gain", "norm", "none")}
    np.testing.assert_array_equal(found["none"], plain)
    np.testing.assert_allclose(found["gain"], plain * gains, rtol=1e-6)
    np.testing.assert_allclose(found["norm"] / np.linalg.norm(found["norm"], axis=1)[:, None],
                               plain / np.linalg.norm(plain, axis=1)[:, None], rtol=1e-5)  # fmt: skip
    norms = np.linalg.norm(bundle.captions.embeddings, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found["norm"], axis=1), norms.mean(), rtol=1e-5)
    few = replace(settings, components=1)
    np.testing.assert_array_equal(guide_embeddings(X, rescaled(bundle, "none"), few), model.predict(X, 1))


def test_the_embedding_may_be_that_of_the_nearest_training_image_or_of_the_image_shown(bundle):
    X, index = bundle.subject.test.averaged(), bundle.captions
    rows, _ = index.nearest(decoded("image", X, bundle, "mlp"))
    for how in ("gain", "none"):
        found = guide_embeddings(X, rescaled(bundle, how), Settings(balance=1, guide="nearest"))
        np.testing.assert_array_equal(found, index.embeddings[rows])
    own = [Shown(bundle.subject.test.images[k], [""], np.full(EMBEDDING, k, np.float32)) for k in range(len(X))]
    oracle = Settings(balance=1, guide="oracle")
    np.testing.assert_array_equal(guide_embeddings(X, bundle, oracle, own)[:, 0], np.arange(len(X)))
    for shown in ((), [*own[1:], replace(own[0], embedding=None)]):
        with pytest.raises(ValueError, match="oracle's image embedding: expected that of the image shown"):
            guide_embeddings(X, bundle, oracle, shown)


def test_an_oracle_is_known_as_one_where_it_enters():
    assert Settings(guide="oracle", balance=0.2).knows_the_answer and Settings(prompt="oracle").knows_the_answer
    assert not Settings(guide="oracle").knows_the_answer and not Settings(balance=1).knows_the_answer


# --- without one ------------------------------------------------------------------------------------------------------


def test_without_an_adapter_text_guides_alone_and_the_frames_say_what_brings_one(tiny_bundle):
    bundle, text = load_bundle(tiny_bundle), Settings(lcm=LCMSettings(2))
    expected, found = stage_2(bundle, text), stage_2(bundle, replace(text, balance=0.8))
    assert np.array_equal(expected[-1].images["lcm"], found[-1].images["lcm"])
    assert not expected[-1].unguided
    assert found[-1].unguided.endswith("has no image adapter: one is trained by `python -m precompute demo`")


def test_published_decoders_without_an_adapter_name_the_command_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_LOCK", str(tmp_path / "lock.json"))
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", decoders="published"))
    assert "'ip_adapter'" in bundle.no_adapter and "`python -m precompute fetch models`" in bundle.no_adapter


def test_embeddings_of_another_width_than_the_adapters_are_told_and_stage_2_works_by_text(guided_bundle):
    text = stage_2(load_bundle(guided_bundle), Settings(lcm=LCMSettings(2)))
    tiny_adapter(tiny_pipeline(), guided_bundle / "ip_adapter.safetensors", width=9)
    rewrite_manifest(guided_bundle)
    found = stage_2(load_bundle(guided_bundle), Settings(balance=1.0, lcm=LCMSettings(2)))
    assert np.array_equal(found[-1].images["lcm"], text[-1].images["lcm"])
    assert "takes embeddings of 9 numbers, this bundle's have 6" in found[-1].unguided
    assert "`python -m precompute features --target clip-vision`" in found[-1].unguided


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_an_adapter_that_the_manifest_does_not_list_is_not_read(guided_bundle):
    manifest = load_json(guided_bundle / "manifest.json")
    del manifest["files"]["ip_adapter.safetensors"]
    save_json(guided_bundle / "manifest.json", manifest)
    assert load_bundle(guided_bundle).no_adapter


def test_a_damaged_adapter_and_one_that_does_not_fit_are_refused(guided_bundle):
    file = guided_bundle / "ip_adapter.safetensors"
    tensors = load_file(file)
    tensors.pop("ip_adapter.1.to_k_ip.weight")
    save_file(tensors, file)
    with pytest.raises(BadFile, match="ip_adapter.safetensors"):
        load_bundle(guided_bundle)
    rewrite_manifest(guided_bundle)
    with pytest.raises(BadFile, match="it lacks ip_adapter.1.to_k_ip.weight"):
        load_bundle(guided_bundle).diffusion  # noqa: B018


def test_another_adapter_is_not_shared_with_a_bundle_that_is_open(guided_bundle, tiny_bundle):
    first, same = load_bundle(guided_bundle), load_bundle(guided_bundle)
    assert load_bundle(guided_bundle, like=first).diffusion is first.diffusion is not same.diffusion
    assert load_bundle(tiny_bundle, like=first).diffusion is not first.diffusion


@pytest.mark.parametrize("name, choices", [("embedding", "gain, norm, none"), ("adapter", "base, light")])
def test_a_manifest_with_an_unknown_choice_is_refused(guided_bundle, name, choices):
    save_json(guided_bundle / "manifest.json", load_json(guided_bundle / "manifest.json") | {name: "best"})
    with pytest.raises(BadFile, match=f"expected {name} to be one of {choices}"):
        load_bundle(guided_bundle)
