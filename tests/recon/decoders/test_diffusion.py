import json

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionImg2ImgPipeline
from published import write_taesd
from safetensors.torch import load_file, save_file
from tiny_diffusion import TOKENS, WIDTH, tiny_lora, tiny_pipeline

from recon.decoders.diffusion import Meaning, load_diffusion, refine
from recon.files import BadFile
from recon.images import to_pixels
from recon.settings import LCMSettings, Settings


@pytest.fixture(scope="module", params=[False, True], ids=["tiny autoencoder", "KL autoencoder"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion")
    pipe = tiny_pipeline(kl=request.param, prediction="epsilon" if request.param else "v_prediction")
    pipe.save_pretrained(folder / "pipe")
    tiny_lora(pipe, folder / "lora.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_diffusion(folder / "pipe", folder / "lora.safetensors")


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.fixture
def meaning(model):
    return Meaning(model.embed(["a red cat", "boat"]))


def by_diffusers(folder, picture, prompt, empty, settings, n_timesteps):
    """The same picture by diffusers' own loading and loop, given the timesteps that we chose."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder / "pipe", safety_checker=None)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    chosen = LCMScheduler.from_config(pipe.scheduler.config)
    chosen.set_timesteps(n_timesteps, strength=settings.strength)
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        image=(to_pixels(picture[None], 32) + 1) / 2,
        prompt_embeds=torch.tensor(prompt[None]),
        negative_prompt_embeds=torch.tensor(empty),
        timesteps=chosen.timesteps.tolist(),
        strength=1.0,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="np",
    ).images
    return (image[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize("guidance", [1.0, 1.7])
def test_the_last_preview_is_the_picture_of_diffusers_own_pipeline(folder, model, pictures, meaning, guidance):
    settings = LCMSettings(steps=3, guidance=guidance, strength=0.6, seed=5)
    *_, last = refine(model, pictures[:1], meaning[:1], settings)
    theirs = by_diffusers(folder, pictures[0], meaning.prompts[0], model.embed([""]), settings, 3)
    assert np.abs(last.images[0].astype(int) - theirs).max() <= 1


def test_our_lora_loading_gives_the_weights_of_diffusers_own(folder, model):
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder / "pipe", safety_checker=None)
    before = {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    theirs, ours = pipe.unet.state_dict(), model.pipe.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-6) for k in theirs)
    changed = sum(not torch.equal(ours[k], before[k]) for k in before)
    n_modules = sum(k.endswith("lora_A.weight") for k in load_file(folder / "lora.safetensors"))
    assert changed == n_modules > 20


@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_n_steps_are_n_steps_at_any_strength(model, pictures, meaning, steps, strength):
    previews = list(refine(model, pictures, meaning, LCMSettings(steps, strength=strength)))
    assert [p.step for p in previews] == list(range(1, steps + 1))
    assert previews[0].timestep < 1000 * strength
    assert all(p.images.shape == (2, 32, 32, 3) and p.images.dtype == np.uint8 for p in previews)


def test_a_picture_does_not_depend_on_its_batch(model, pictures, meaning):
    *_, both = refine(model, pictures, meaning, LCMSettings(2), seeds=[3, 4])
    *_, alone = refine(model, pictures[1:], meaning[1:], LCMSettings(2, seed=4))
    assert np.abs(both.images[1].astype(int) - alone.images[0]).max() <= 1


def test_the_seed_decides(model, pictures, meaning):
    a, b, c = (list(refine(model, pictures, meaning, LCMSettings(2, seed=s)))[-1].images for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 50},
        {"steps": 2.5},
        {"steps": True},
        {"guidance": float("nan")},
        {"guidance": 3},
        {"strength": 0.1},
        {"strength": float("inf")},
        {"seed": -1},
        {"seed": "x"},
    ],
)
def test_settings_out_of_range_are_told_in_one_sentence(wrong):
    with pytest.raises(ValueError, match=r"^[\w ]+: expected a (whole )?number from .* to .*, got .*$"):
        LCMSettings(**wrong)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"image_scale": float("nan")}, "image scale: expected a number from 0 to 1.5, got nan"),
        ({"image_scale": 9}, "image scale: expected a number from 0 to 1.5, got 9"),
        ({"balance": -0.1}, "balance of text and image: expected a number from 0 to 1, got -0.1"),
        ({"balance": "both"}, "balance of text and image: expected a number from 0 to 1, got 'both'"),
        ({"guide": "mine"}, "image embedding: expected one of decoded, nearest, oracle, got 'mine'"),
    ],
)
def test_guidance_out_of_range_is_told_in_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Settings(**wrong)


def test_prompt_embeddings_of_another_encoder_are_told(model, pictures):
    with pytest.raises(
        ValueError, match=rf"expected prompt embeddings of shape \(2, {TOKENS}, {WIDTH}\), got \(2, 77, 768\)"
    ):
        next(refine(model, pictures, Meaning(np.zeros((2, 77, 768), np.float32)), LCMSettings()))


def test_a_far_too_long_prompt_is_told(model):
    with pytest.raises(ValueError, match="expected at most 300 characters, got 10000"):
        model.embed(["x" * 10_000])


def test_missing_and_misfit_weights_are_told(folder, tmp_path):
    with pytest.raises(BadFile, match="not a complete diffusion pipeline"):
        load_diffusion(tmp_path, folder / "lora.safetensors")
    with pytest.raises(BadFile, match="is missing"):
        load_diffusion(folder / "pipe", tmp_path / "none.safetensors")
    tensors = load_file(folder / "lora.safetensors")
    renamed = {k.replace("down_blocks.0", "down_blocks.7"): v for k, v in tensors.items()}
    short = {k: v[:, :-1].contiguous() if k.endswith("lora_A.weight") else v for k, v in tensors.items()}
    zero = {k: torch.zeros_like(v) if "lora_B" in k else v for k, v in tensors.items()}
    for name, content, complaint in (
        ("renamed", renamed, "does not fit the UNet"),
        ("short", short, "does not fit the UNet"),
        ("zero", zero, "changes nothing"),
    ):
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(BadFile, match=complaint):
            load_diffusion(folder / "pipe", tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text(json.dumps({"a": 1}))
    with pytest.raises(BadFile, match="does not fit the UNet"):
        load_diffusion(folder / "pipe", tmp_path / "text.safetensors")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_pipeline_that_lacks_a_weight_under_its_name_is_refused(tmp_path, part):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "pipe")
    lora = tiny_lora(pipe, tmp_path / "lora.safetensors")
    path = tmp_path / "pipe" / part / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("conv1.weight") or name.endswith("weight"))
    save_file({("x" + key if key == name else key): value for key, value in weights.items()}, path)
    with pytest.raises(BadFile, match="not a complete diffusion pipeline"):
        load_diffusion(tmp_path / "pipe", lora)


@pytest.mark.parametrize("dtype, share", [(torch.float32, 0.75), (torch.bfloat16, 1), (torch.float16, 1)])
def test_large_pictures_are_smaller_where_arithmetic_is_plain_float32(folder, tmp_path, monkeypatch, dtype, share):
    monkeypatch.setattr("recon.device.choose_dtype", lambda: dtype)
    write_taesd(tmp_path / "preview")
    own = load_diffusion(folder / "pipe", folder / "lora.safetensors")
    large = load_diffusion(folder / "pipe", folder / "lora.safetensors", tmp_path / "preview")
    assert large.size == share * own.size
