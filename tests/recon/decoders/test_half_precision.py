"""What overflows in half precision is computed again in float32, or told: no NaN becomes a black image."""

import numpy as np
import pytest
import torch
from tiny_diffusion import TOKENS, WIDTH, tiny_lora, tiny_pipeline

from recon.decoders.diffusion import Meaning, load_diffusion, refine, refine_all
from recon.decoders.half_precision import finite
from recon.settings import LCMSettings

SETTINGS = LCMSettings(steps=2, seed=3)


@pytest.fixture(scope="module", params=[False, True], ids=["tiny autoencoder", "KL autoencoder"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    pipe = tiny_pipeline(kl=request.param)
    pipe.save_pretrained(folder / "pipe")
    tiny_lora(pipe, folder / "lora.safetensors")
    return folder


def overflowing(module: torch.nn.Module, rows=slice(None)) -> None:
    """Makes a network answer NaN in half precision, and as before in float32."""

    def hook(network, _, output):
        values = output if isinstance(output, (tuple, dict)) else getattr(output, "sample", output)
        if next(network.parameters()).dtype != torch.float32:
            for one in (
                values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else [values]
            ):
                one[rows] = float("nan")

    module.register_forward_hook(hook)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 16, 16, 3), np.uint8), Meaning(
        rng.normal(size=(3, TOKENS, WIDTH)).astype(np.float32)
    )


def opened(folder, dtype):
    return load_diffusion(folder / "pipe", folder / "lora.safetensors", dtype=dtype)


PARTS = {
    "UNet": lambda model: model.pipe.unet,
    "autoencoder, encoding": lambda model: model.pipe.vae.encoder,
    "autoencoder, decoding": lambda model: model.pipe.vae.decoder,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nan_in_half_precision_is_computed_again_in_float32(folder, inputs, part, dtype):
    *_, whole = refine(opened(folder, torch.float32), *inputs, SETTINGS)
    model = opened(folder, dtype)
    overflowing(PARTS[part](model))
    shown = [preview.images for preview in refine(model, *inputs, SETTINGS)]
    assert all(images.std() > 5 for images in shown)  # none is black
    assert np.abs(shown[-1].astype(int) - whole.images).mean() < 4
    assert next(PARTS[part](model).parameters()).dtype == dtype


def test_what_overflows_for_one_image_leaves_the_others_as_they_were(folder, inputs):
    model = opened(folder, torch.bfloat16)
    before = refine_all(model, *inputs, SETTINGS)
    overflowing(model.pipe.unet, rows=slice(1, 2))
    after = refine_all(model, *inputs, SETTINGS)
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert after[1].std() > 5 and np.abs(after[1].astype(int) - before[1]).mean() < 4


@pytest.mark.parametrize("part", PARTS)
def test_nan_in_float32_is_told_and_never_shown(folder, inputs, part):
    model = opened(folder, torch.float32)
    next(PARTS[part](model).parameters()).data.fill_(float("nan"))
    for call in (lambda: list(refine(model, *inputs, SETTINGS)), lambda: refine_all(model, *inputs, SETTINGS)):
        with pytest.raises(ValueError, match="^stage 2, .*got NaN or infinity for 3 of 3 images"):
            call()


def test_prompts_beyond_half_precision_are_told(folder, inputs):
    images, meaning = inputs
    with pytest.raises(ValueError, match="^stage 2"):
        list(refine(opened(folder, torch.float16), images, Meaning(meaning.prompts * np.float32(1e30)), SETTINGS))


def test_a_layout_that_overflows_is_decoded_again_in_float32_or_told(tiny_vdvae):
    latents = np.random.default_rng(0).normal(size=(2, 290)).astype(np.float32)
    expected = tiny_vdvae.decode(latents)
    half = tiny_vdvae.to(torch.bfloat16)
    overflowing(half.decoder.out_net)
    assert np.abs(half.decode(latents).astype(int) - expected).max() <= 1
    *_, (_, last) = half.decode_progressively(latents)
    assert np.abs(last.astype(int) - expected).max() <= 1
    with pytest.raises(ValueError, match="^stage 1, decoding a layout: .*for 2 of 2 images"):
        half.decode(latents * np.float32(np.inf))


def test_images_whose_latents_overflow_are_encoded_again_or_told(tiny_vdvae):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = tiny_vdvae.encode(images)
    half = tiny_vdvae.to(torch.bfloat16)
    overflowing(half.encoder)
    assert np.abs(half.encode(images) - expected).max() < 0.5


def test_only_rows_that_are_not_finite_are_computed_again():
    network, seen = torch.nn.Linear(2, 2).to(torch.bfloat16), []

    def run(module, x):
        seen.append((next(module.parameters()).dtype, len(x)))
        return torch.where(x > 1, torch.inf, x) if x.dtype != torch.float32 else x

    got = finite("it", run, network, torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.bfloat16))
    assert got.tolist() == [[0, 1], [2, 0]] and seen == [(torch.bfloat16, 2), (torch.float32, 1)]
