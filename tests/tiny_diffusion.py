"""A diffusion pipeline with random weights, small enough to run in milliseconds, and LoRA weights for it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, StableDiffusionImg2ImgPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from precompute.demo.train_lcm import MODULES
from precompute.demo.train_unet import NOISE_SCHEDULE, UNetSize, make_unet
from recon.decoders.ip_adapter import adapter_shapes

TOKENS, WIDTH, SIDE = 10, 16, 4
EMBEDDING = 6  # numbers of an image embedding


def tiny_tokenizer() -> CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[])
    tokenizer.model_max_length = TOKENS
    return tokenizer


def tiny_pipeline(kl: bool = False, prediction: str = "v_prediction") -> StableDiffusionImg2ImgPipeline:
    """With AutoencoderTiny, or AutoencoderKL; pictures of 32 × 32 pixels."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if kl:
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4, sample_size=32, **blocks)
    else:
        widths = {f"{half}_block_out_channels": (8,) * 4 for half in ("encoder", "decoder")}
        counts = {f"num_{half}_blocks": (0, 0, 0, 1) for half in ("encoder", "decoder")}
        vae = AutoencoderTiny(latent_channels=4, **widths, **counts)
    return StableDiffusionImg2ImgPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=make_unet(UNetSize((16, 32), heads=2, groups=4), SIDE, 4, WIDTH),
        scheduler=DDPMScheduler(**NOISE_SCHEDULE | {"prediction_type": prediction}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_lora(pipe: StableDiffusionImg2ImgPipeline, path: Path, scale: float = 0.3) -> Path:
    """Saves LoRA weights for a copy of the pipeline's UNet; `scale` 0 leaves its B matrices at zero."""
    unet = type(pipe.unet).from_config(pipe.unet.config)
    unet.add_adapter(LoraConfig(r=3, lora_alpha=3, target_modules=MODULES), adapter_name="lcm")
    torch.manual_seed(1)
    weights = {k: scale * torch.randn_like(v) for k, v in get_peft_model_state_dict(unet, adapter_name="lcm").items()}
    StableDiffusionImg2ImgPipeline.save_lora_weights(path.parent, weights, weight_name=path.name)
    return path


def tiny_adapter(pipe: StableDiffusionImg2ImgPipeline, path: Path, width: int = EMBEDDING, gain: float = 20) -> Path:
    """Saves an image adapter with random weights for the pipeline's UNet, in the published layout."""
    torch.manual_seed(2)
    shapes = adapter_shapes(pipe.unet, width)
    tensors = {
        name: torch.randn(shape) for name, shape in shapes.items()
    }  # with a large gain an image shows what it does
    save_file({name: value * gain ** name.endswith("to_v_ip.weight") for name, value in tensors.items()}, path)
    return path
