"""Distils the demo's UNet into an LCM-LoRA, after latent consistency distillation (Luo et al. 2023, LCM and LCM-LoRA).

From a noisy latent the teacher, guided, walks down its probability flow in a few DDIM steps (Song et al. 2021); the student,
the same UNet with a LoRA, learns to jump to where that walk ends. (Learning from its own estimate one step further down, as the
papers do, collapsed within a few hundred steps here; the frozen teacher's own solution cannot.) Saved as diffusers reads LoRA
weights: the raw peft keys under "unet.".
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, LCMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from precompute.demo.train_unet import Examples
from precompute.demo.training import Schedule, step_rng, train
from recon.files import save_json, whole_file

GRID = 50  # timesteps that consistency is learned on: 19, 39 … 999
HUBER = 0.03
MODULES = [
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
]


@dataclass(frozen=True)
class Distillation:
    """The teacher's guidance, the number of its steps down to the clean latents, and the LoRA's rank."""

    guidance: tuple[float, float] = (2.0, 3.5)  # drawn anew for each row
    walk: int = 3
    rank: int = 32


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _clean_and_noise(v: Tensor, x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A v-prediction at noisy latents x with cumulative signal variance alpha (B,) -> clean latents and noise."""
    signal, noise = _column(alpha.sqrt()), _column((1 - alpha).sqrt())
    return signal * x - noise * v, signal * v + noise * x


def train_lcm(
    scenes: Path, codes: Path, clip: Path, unet: Path, out: Path, schedule: Schedule, how: Distillation, seed: int
) -> dict:
    """Saves the LoRA to `out` (safetensors) and a report beside it."""
    examples = Examples.load(scenes, codes, clip)
    noise_schedule = DDPMScheduler.from_pretrained(unet)
    alphas = noise_schedule.alphas_cumprod
    boundary = LCMScheduler.from_config(noise_schedule.config)
    torch.manual_seed(seed)
    teacher = UNet2DConditionModel.from_pretrained(unet).requires_grad_(False).to(memory_format=torch.channels_last)
    teacher.set_attn_processor(AttnProcessor())
    student = copy.deepcopy(teacher)
    student.add_adapter(LoraConfig(r=how.rank, lora_alpha=how.rank, target_modules=MODULES), adapter_name="lcm")
    grid = torch.arange(1, GRID + 1) * (1000 // GRID) - 1

    def consistent(x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """The student's clean estimate, equal to its input at t = 0."""
        skip, scale = (_column(s) for s in boundary.get_scalings_for_boundary_condition_discrete(t))
        clean, _ = _clean_and_noise(student(x, t, prompt).sample, x, alphas[t])
        return skip * x + scale * clean

    @torch.no_grad()
    def teacher_walk(x: Tensor, t: Tensor, prompt: Tensor, rng: np.random.Generator) -> Tensor:
        """Guided DDIM from t to the clean latents, in equal steps of time."""
        both = torch.cat([examples.empty.expand_as(prompt), prompt])
        w = _column(torch.as_tensor(rng.uniform(*how.guidance, len(x)), dtype=x.dtype))
        for left in range(how.walk, 0, -1):
            now, earlier = t * left // how.walk, t * (left - 1) // how.walk
            without, given = teacher(torch.cat([x, x]), torch.cat([now, now]), both).sample.chunk(2)
            clean, noise = _clean_and_noise(without + w * (given - without), x, alphas[now])
            alpha = _column(alphas[earlier])
            x = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        return clean

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed + 1, step)
        latents, prompt = examples.draw(schedule.batch, rng)
        places = (rng.permutation(len(latents)) + rng.random(len(latents))) / len(latents) * GRID
        t = grid[torch.as_tensor(places).long()]
        x = noise_schedule.add_noise(latents, torch.randn_like(latents), t).contiguous(
            memory_format=torch.channels_last
        )
        error = consistent(x, t, prompt) - teacher_walk(x, t, prompt, rng)
        return {"loss": ((error.square() + HUBER**2).sqrt() - HUBER).mean()}

    checkpoint = out.with_suffix(".checkpoint.pt")
    best, report = train(student, loss, checkpoint, schedule, seed)
    weights = {k: v.half() for k, v in get_peft_model_state_dict(best, adapter_name="lcm").items()}
    if not any(v.any() for k, v in weights.items() if "lora_B" in k):
        raise RuntimeError("the LoRA learned nothing: all its B matrices are zero")
    with whole_file(out) as part:
        StableDiffusionImg2ImgPipeline.save_lora_weights(part.parent, weights, weight_name=part.name)
    save_json(out.with_suffix(".training.json"), report)
    checkpoint.unlink(missing_ok=True)
    return report
