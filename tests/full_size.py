"""The published models' architectures with random weights: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDPMScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from tiny_diffusion import tiny_tokenizer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from precompute.demo.train_lcm import MODULES
from recon.decoders.vdvae import VDVAE
from recon.decoders.vdvae_layers import VDVAEConfig

RANK, ALPHA = 64, 32.0  # of lcm-lora-sdv1-5


@contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """Parameters are made in this type: no float32 copy of them is ever in memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_vdvae(seed: int = 0) -> VDVAE:
    """ImageNet-64's, with weights that let features grow slowly and pictures vary."""
    torch.manual_seed(seed)
    model = VDVAE(VDVAEConfig()).eval()
    for block in model.decoder.dec_blocks:
        nn.init.normal_(block.prior.c4.weight, std=0.02)
        nn.init.normal_(block.z_proj.weight, std=0.02)
    nn.init.normal_(model.decoder.out_net.out_conv.weight, std=0.05)
    return model


def long_tokenizer() -> CLIPTokenizer:
    """Of 77 tokens; it knows letters only."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 77
    return tokenizer


def random_stable_diffusion(dtype: torch.dtype = torch.float32) -> StableDiffusionImg2ImgPipeline:
    """The configuration of Stable Diffusion 1.5."""
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with made_in(dtype):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=512,
        )
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        encoder = CLIPTextModel(text)
    return StableDiffusionImg2ImgPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=long_tokenizer(),
        unet=unet,
        scheduler=DDPMScheduler(**schedule, steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def random_taesd(dtype: torch.dtype = torch.float32) -> AutoencoderTiny:
    with made_in(dtype):
        return AutoencoderTiny()


def lora_with_published_keys(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """LoRA weights named as those of lcm-lora-sdv1-5: kohya's scheme, with an alpha for every module."""
    tensors = {}
    for name, module in unet.named_modules():
        if name.endswith(tuple(f".{m}" for m in MODULES)):
            key, (out, into, *kernel) = f"lora_unet_{name.replace('.', '_')}", module.weight.shape
            tensors[f"{key}.lora_down.weight"] = 0.02 * torch.randn(RANK, into, *kernel)
            tensors[f"{key}.lora_up.weight"] = 0.02 * torch.randn(out, RANK, *(1 for _ in kernel))
            tensors[f"{key}.alpha"] = torch.tensor(ALPHA)
    return tensors
