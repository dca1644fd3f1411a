"""The code that runs the demo's small stage 2 drives Stable Diffusion 1.5 with an LCM-LoRA too, here with random weights."""

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from full_size import ALPHA, RANK, lora_with_published_keys, random_stable_diffusion
from safetensors.torch import save_file

from recon.decoders.diffusion import Diffusion, Meaning, refine
from recon.decoders.lora import fuse_lora
from recon.settings import LCMSettings


@pytest.mark.slow
def test_stable_diffusion_1_5_with_an_lcm_lora_takes_the_same_path(tmp_path):
    torch.manual_seed(0)
    pipe = random_stable_diffusion()
    assert sum(p.numel() for p in pipe.unet.parameters()) == 859_520_964  # as published
    lora = lora_with_published_keys(pipe.unet)
    save_file(lora, tmp_path / "lora.safetensors")
    to_q = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_q
    key, before = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q", to_q.weight.detach().clone()
    fuse_lora(pipe, tmp_path / "lora.safetensors")
    after = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_q.weight
    expected = before + ALPHA / RANK * lora[f"{key}.lora_up.weight"] @ lora[f"{key}.lora_down.weight"]
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)

    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    model = Diffusion(pipe, pipe.vae)
    assert model.size == 512 and model.prompt_shape == (77, 768)
    pipe.unet.register_to_config(sample_size=16)  # the same network on a sixteenth of the picture takes seconds
    layout = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    previews = list(refine(model, layout, Meaning(model.embed(["a red boat"])), LCMSettings(steps=1, strength=0.6)))
    assert [p.images.shape for p in previews] == [(1, 128, 128, 3)] and previews[0].images.std() > 0
