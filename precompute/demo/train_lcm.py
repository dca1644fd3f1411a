"""Distils the demo's UNet into an LCM-LoRA, by latent consistency distillation (Luo et al. 2023, LCM and LCM-LoRA).

The teacher, guided, makes one DDIM step (Song et al. 2021) from a noisy latent; the student, the same UNet with a LoRA, learns to
give for both ends of that step the same clean estimate. Saved as diffusers reads LoRA weights: the raw peft keys under "unet.".
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
HUBER = 0.001
MODULES = [
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
]


@dataclass(frozen=True)
class Distillation:
    """The teacher's guidance, the length of its step in places of the grid, and the LoRA's rank."""

    guidance: tuple[float, float] = (2.0, 4.0)  # drawn anew for each row
    skip: int = 1
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
    def teacher_step(x: Tensor, t: Tensor, earlier: Tensor, prompt: Tensor, rng: np.random.Generator) -> Tensor:
        """One guided DDIM step from t to `earlier`, the latter -1 where it ends at the clean latents."""
        both = torch.cat([examples.empty.expand_as(prompt), prompt])
        without, given = teacher(torch.cat([x, x]), torch.cat([t, t]), both).sample.chunk(2)
        w = _column(torch.as_tensor(rng.uniform(*how.guidance, len(x)), dtype=x.dtype))
        clean, noise = _clean_and_noise(without + w * (given - without), x, alphas[t])
        alpha = torch.where(earlier < 0, 1.0, alphas[earlier.clamp(min=0)])
        return _column(alpha.sqrt()) * clean + _column((1 - alpha).sqrt()) * noise

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed + 1, step)
        latents, prompt = examples.draw(schedule.batch, rng)
        places = torch.as_tensor(rng.integers(0, GRID, len(latents)))
        t, earlier = grid[places], torch.where(places >= how.skip, grid[(places - how.skip).clamp(min=0)], -1)
        x = noise_schedule.add_noise(latents, torch.randn_like(latents), t).contiguous(
            memory_format=torch.channels_last
        )
        nearer = teacher_step(x, t, earlier, prompt, rng)
        with torch.no_grad():
            at_nearer = consistent(nearer, earlier.clamp(min=0), prompt)
            goal = torch.where(_column(earlier) < 0, nearer, at_nearer)
        error = consistent(x, t, prompt) - goal
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
