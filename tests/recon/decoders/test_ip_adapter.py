"""An image adapter: as diffusers' own pipeline runs it, read whole or refused by name, and never before the LoRA is fused."""

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from published import write_taesd
from safetensors.torch import load_file, save_file
from tiny_diffusion import EMBEDDING, tiny_adapter, tiny_lora, tiny_pipeline

from recon.decoders.diffusion import Meaning, fuse_lora, load_diffusion, load_pipeline, refine
from recon.decoders.ip_adapter import adapter_shapes, attach, cross_attentions, load_adapter
from recon.files import BadFile
from recon.images import to_pixels
from recon.settings import LCMSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    pipe = tiny_pipeline()
    pipe.vae.decoder.layers[-1].weight.data *= 20  # so that images of random weights have contrast
    pipe.vae.decoder.layers[-1].bias.data[:] = 0
    pipe.save_pretrained(folder / "pipe")
    tiny_lora(pipe, folder / "lora.safetensors")
    tiny_adapter(pipe, folder / "ip_adapter.safetensors")
    return folder


def load(folder, adapter=True):
    file = folder / "ip_adapter.safetensors" if adapter else None
    return load_diffusion(folder / "pipe", folder / "lora.safetensors", adapter=file)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.fixture
def meaning(model, rng):
    return Meaning(model.embed(["a red cat", "boat"]), 3 * rng.normal(size=(2, EMBEDDING)).astype(np.float32), 0.8)


def last(model, pictures, meaning, settings):
    *_, preview = refine(model, pictures, meaning, settings)
    return preview.images.astype(int)


def by_diffusers(folder, picture, meaning, empty, settings):
    """The same image by diffusers' own loading, order and loop, given the timesteps that we chose."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder / "pipe", safety_checker=None)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.load_ip_adapter(folder, subfolder="", weight_name="ip_adapter.safetensors", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(meaning.scale)
    pipe.scheduler, chosen = (LCMScheduler.from_config(pipe.scheduler.config) for _ in range(2))
    chosen.set_timesteps(settings.steps, strength=settings.strength)
    image = torch.tensor(meaning.embeddings[:1, None])
    both = torch.cat([torch.zeros_like(image), image]) if settings.guidance > 1 else image
    made = pipe(
        image=(to_pixels(picture[None], 32) + 1) / 2,
        prompt_embeds=torch.tensor(meaning.prompts[:1]),
        negative_prompt_embeds=torch.tensor(empty),
        ip_adapter_image_embeds=[both],
        timesteps=chosen.timesteps.tolist(),
        strength=1.0,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="np",
    ).images
    return (made[0] * 255).round().astype(int)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_the_image_is_that_of_diffusers_own_pipeline_with_its_adapter(
    folder, model, pictures, meaning, guidance, scale
):
    settings, meaning = LCMSettings(3, guidance, 0.6, seed=5), Meaning(meaning.prompts, meaning.embeddings, scale)
    ours = last(model, pictures[:1], meaning[:1], settings)
    theirs = by_diffusers(folder, pictures[0], meaning, model.embed([""]), settings)
    assert np.abs(ours[0] - theirs).max() <= 1
    without = last(model, pictures[:1], Meaning(meaning.prompts[:1]), settings)
    assert np.abs(ours - without).max() > 20


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_at_scale_0_it_is_the_image_of_a_model_without_adapter(folder, model, pictures, meaning, guidance):
    settings, plain = LCMSettings(2, guidance), load(folder, adapter=False)
    expected = last(plain, pictures, Meaning(meaning.prompts), settings)
    for embeddings in (None, meaning.embeddings):
        assert np.abs(last(model, pictures, Meaning(meaning.prompts, embeddings), settings) - expected).max() <= 1


def test_runs_that_take_turns_keep_their_scales(model, pictures, meaning):
    settings, other = LCMSettings(3), Meaning(meaning.prompts, meaning.embeddings, 0.1)
    expected = [last(model, pictures, m, settings) for m in (meaning, other)]
    *_, (one, two) = zip(*(refine(model, pictures, m, settings) for m in (meaning, other)), strict=True)
    assert [np.abs(p.images - e).max() for p, e in zip((one, two), expected)] == [0, 0]


def test_a_preview_decoder_leaves_the_adapter_in_use(folder, model, pictures, meaning, tmp_path):
    write_taesd(tmp_path / "preview")
    files = folder / "pipe", folder / "lora.safetensors", tmp_path / "preview"
    large = load_diffusion(*files, adapter=folder / "ip_adapter.safetensors")
    assert large.embedding_width == EMBEDDING
    found = last(large, pictures, Meaning(meaning.prompts), LCMSettings(2))
    without = last(load_diffusion(*files), pictures, Meaning(meaning.prompts), LCMSettings(2))
    assert np.abs(found - without).max() <= 1


# --- the order --------------------------------------------------------------------------------------------------------


def test_the_lora_is_in_the_weights_with_an_adapter_as_without(folder, model):
    plain, before = load(folder, adapter=False).pipe.unet, load_pipeline(folder / "pipe").unet
    for n, attention in cross_attentions(model.pipe.unet).items():
        expected = cross_attentions(plain)[n].to_k.weight
        assert torch.equal(attention.to_k.weight, expected)
        assert not torch.allclose(expected, cross_attentions(before)[n].to_k.weight)


def test_a_lora_cannot_come_after_the_adapter(folder):
    pipe = load_pipeline(folder / "pipe")
    load_adapter(pipe.unet, folder / "ip_adapter.safetensors")
    with pytest.raises(ValueError, match="fuse the LoRA first"):
        fuse_lora(pipe, folder / "lora.safetensors")


# --- the file ---------------------------------------------------------------------------------------------------------

# of models/ip-adapter_sd15.safetensors: N -> channels of its cross-attention
CHANNELS = {1: 320, 3: 320, 5: 640, 7: 640, 9: 1280, 11: 1280, 13: 1280, 15: 1280, 17: 1280}
CHANNELS |= {19: 640, 21: 640, 23: 640, 25: 320, 27: 320, 29: 320, 31: 1280}
PUBLISHED = {
    "image_proj.proj.weight": (3072, 1024),
    "image_proj.proj.bias": (3072,),
    "image_proj.norm.weight": (768,),
    "image_proj.norm.bias": (768,),
} | {f"ip_adapter.{n}.to_{part}_ip.weight": (c, 768) for n, c in CHANNELS.items() for part in "kv"}


def published_unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


def test_the_full_size_unet_takes_exactly_the_published_adapters_tensors():
    unet = published_unet()
    assert adapter_shapes(unet, 1024) == PUBLISHED
    before = {id(p) for p in unet.parameters()}
    attach(unet, {name: torch.empty(shape, device="meta") for name, shape in PUBLISHED.items()})
    taken = [tuple(p.shape) for p in unet.parameters() if id(p) not in before]
    assert sorted(taken) == sorted(PUBLISHED.values())


def test_a_tensor_missing_misshapen_or_unknown_is_refused_by_name(folder, tmp_path):
    tensors, key = load_file(folder / "ip_adapter.safetensors"), "ip_adapter.3.to_v_ip.weight"
    wrong = {
        f"it lacks {key}": {k: v for k, v in tensors.items() if k != key},
        "it lacks image_proj.proj.weight": {k: v for k, v in tensors.items() if k != "image_proj.proj.weight"},
        r"expected image_proj.norm.bias of shape \(16,\), got \(15,\)": tensors
        | {"image_proj.norm.bias": torch.zeros(15)},
        r"expected ip_adapter.3.to_v_ip.weight of shape \(32, 16\), got \(16, 8\)": tensors | {key: torch.zeros(16, 8)},
        "it has ip_adapter.99.to_k_ip.weight, which is no part": tensors
        | {"ip_adapter.99.to_k_ip.weight": torch.zeros(16, 16)},
        "it has more, which is no part": tensors | {"more": torch.zeros(1)},
    }
    for k, (complaint, content) in enumerate(wrong.items()):
        save_file({name: value.contiguous() for name, value in content.items()}, tmp_path / f"{k}.safetensors")
        with pytest.raises(BadFile, match=f"^[^\n]*is no image adapter of this UNet [^\n]*{complaint}[^\n]*$"):
            load_adapter(load_pipeline(folder / "pipe").unet, tmp_path / f"{k}.safetensors")


def test_an_adapter_of_another_base_model_and_what_is_none_are_told(folder, tmp_path):
    with pytest.raises(BadFile, match="of another base model.*: it lacks ip_adapter.15.to_k_ip.weight"):
        load_adapter(published_unet(), folder / "ip_adapter.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("text", "none"):
        with pytest.raises(BadFile, match="is not a readable image adapter"):
            load_adapter(published_unet(), tmp_path / f"{name}.safetensors")


def test_embeddings_of_another_width_and_a_scale_without_adapter_are_told(folder, model, pictures, meaning):
    wide = Meaning(meaning.prompts, np.zeros((2, 1024), np.float32), 0.5)
    with pytest.raises(ValueError, match=r"expected image embeddings of shape \(2, 6\), got \(2, 1024\)"):
        next(refine(model, pictures, wide, LCMSettings()))
    with pytest.raises(ValueError, match=r"expected image embeddings of shape \(2, 6\), got None"):
        next(refine(model, pictures, Meaning(meaning.prompts, None, 0.5), LCMSettings()))
    with pytest.raises(ValueError, match="expected a diffusion model with an image adapter"):
        next(refine(load(folder, adapter=False), pictures, meaning, LCMSettings()))
