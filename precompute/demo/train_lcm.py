"""Distils the demo's UNet into an LCM-LoRA, after latent consistency distillation (Luo et al. 2023, LCM and LCM-LoRA).

The guided teacher walks down its probability flow with DDIM (Song et al. 2021) and every place it passes is kept; the student, the
same UNet with a LoRA, learns to jump from any of them to where the walk ends. (Learning from its own estimate one step further
down, as the papers do, collapsed within a few hundred steps here; the frozen teacher's own solution cannot, and a kept walk
serves for many steps.) Saved as diffusers reads LoRA weights: the raw peft keys under "unet.".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, LCMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from tqdm import trange

from precompute.demo.train_unet import Examples
from precompute.demo.training import Schedule, save_report, step_rng, train
from recon.files import whole_file

GRID = torch.arange(1, 51) * 20 - 1  # the timesteps an LCM is sampled on: 19, 39 … 999
STRIDE = 3  # of them to one DDIM step of the teacher
WALK_BATCH = 100
HUBER = 0.03
MODULES = [
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
]


@dataclass(frozen=True)
class Distillation:
    """The teacher's walks and their guidance, and the LoRA's rank."""

    walks: int = 3000
    guidance: float = 3.0
    rank: int = 32


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _clean_and_noise(v: Tensor, x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A v-prediction at noisy latents x with cumulative signal variance alpha (B,) -> clean latents and noise."""
    signal, noise = _column(alpha.sqrt()), _column((1 - alpha).sqrt())
    return signal * x - noise * v, signal * v + noise * x


@torch.no_grad()
def extract_walks(scenes: Path, codes: Path, clip: Path, unet: Path, out: Path, how: Distillation, seed: int) -> None:
    """Guided DDIM walks from training latents, noised to a random time, down to clean ones; some with the empty prompt.

    Arrays of `out` (.npz), for W walks and P places on them: `ends` (W, K, S, S) and `prompts` (W, tokens, width), float16;
    `places` (P, K, S, S) float16, `times` (P,) int16 and `walks` (P,) int32, the row of `ends` that each place leads to.
    """
    examples = Examples.load(scenes, codes, clip)
    alphas = DDPMScheduler.from_pretrained(unet).alphas_cumprod
    teacher = UNet2DConditionModel.from_pretrained(unet).to(memory_format=torch.channels_last)
    ends, prompts, places, times, walks = [], [], [], [], []
    for number in trange(math.ceil(how.walks / WALK_BATCH), desc="walks", mininterval=10):
        rng = step_rng(seed, number)
        torch.manual_seed(seed * 1_000_003 + number)
        clean, prompt = examples.draw(WALK_BATCH, rng)
        prompt = torch.where(examples.forgotten(len(clean), rng), examples.empty, prompt)
        down = GRID[number % STRIDE :: STRIDE].flip(0)
        first = torch.as_tensor(rng.permutation(len(clean)) * len(down) // len(clean))  # where on `down` a row starts
        alpha = _column(alphas[down[first]])
        x = alpha.sqrt() * clean + (1 - alpha).sqrt() * torch.randn_like(clean)
        for level, t in enumerate(down):
            on = (first <= level).nonzero()[:, 0]
            places.append(x[on].half().numpy())
            times.append(np.full(len(on), int(t), np.int16))
            walks.append((number * len(clean) + on).numpy().astype(np.int32))
            both = torch.cat([x[on], x[on]]).contiguous(memory_format=torch.channels_last)
            condition = torch.cat([examples.empty.expand_as(prompt[on]), prompt[on]])
            without, given = teacher(both, t, condition).sample.chunk(2)
            v = without + how.guidance * (given - without)
            clean[on], noise = _clean_and_noise(v, x[on], alphas[t].expand(len(on)))
            if level + 1 < len(down):
                after = alphas[down[level + 1]]
                x[on] = after.sqrt() * clean[on] + (1 - after).sqrt() * noise
        ends.append(clean.half().numpy())
        prompts.append(prompt.half().numpy())
    arrays = {"ends": ends, "prompts": prompts, "places": places, "times": times, "walks": walks}
    with whole_file(out) as part, part.open("wb") as file:
        np.savez(file, **{name: np.concatenate(parts) for name, parts in arrays.items()})


def train_lcm(walks: Path, unet: Path, out: Path, schedule: Schedule, how: Distillation, seed: int) -> dict:
    """Learns from what `extract_walks` wrote; saves the LoRA to `out` (safetensors) and a report beside it.

    Raises ValueError if the schedule asks for torch.compile: with it one module of the LoRA got no gradient (torch 2.13).
    """
    if schedule.compiled:
        raise ValueError("LCM-LoRA: expected a schedule that is not compiled: one of its modules would learn nothing")
    with np.load(walks, allow_pickle=False) as file:
        walked = {name: file[name] for name in file.files}
    noise_schedule = DDPMScheduler.from_pretrained(unet)
    boundary = LCMScheduler.from_config(noise_schedule.config)
    student = UNet2DConditionModel.from_pretrained(unet).requires_grad_(False).to(memory_format=torch.channels_last)
    student.set_attn_processor(AttnProcessor())
    torch.manual_seed(seed)
    student.add_adapter(LoraConfig(r=how.rank, lora_alpha=how.rank, target_modules=MODULES), adapter_name="lcm")

    def consistent(x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """The student's clean estimate, equal to its input at t = 0."""
        skip, scale = (_column(s) for s in boundary.get_scalings_for_boundary_condition_discrete(t))
        clean, _ = _clean_and_noise(student(x, t, prompt).sample, x, noise_schedule.alphas_cumprod[t])
        return skip * x + scale * clean

    def loss(step: int) -> dict[str, Tensor]:
        rows = step_rng(seed + 1, step).integers(0, len(walked["times"]), schedule.batch)
        walk = walked["walks"][rows]
        x, end, prompt = (
            torch.from_numpy(a.astype(np.float32))
            for a in (walked["places"][rows], walked["ends"][walk], walked["prompts"][walk])
        )
        x = x.contiguous(memory_format=torch.channels_last)
        error = consistent(x, torch.from_numpy(walked["times"][rows].astype(np.int64)), prompt) - end
        return {"loss": ((error.square() + HUBER**2).sqrt() - HUBER).mean()}

    checkpoint = out.with_suffix(".checkpoint.pt")
    best, report = train(student, loss, checkpoint, schedule, seed)
    weights = {k: v.half() for k, v in get_peft_model_state_dict(best, adapter_name="lcm").items()}
    if idle := [k for k, v in weights.items() if not v.any()]:
        raise RuntimeError(f"modules of the LoRA that learned nothing: {', '.join(idle)}")
    with whole_file(out) as part:
        StableDiffusionImg2ImgPipeline.save_lora_weights(part.parent, weights, weight_name=part.name)
    save_report(out, report, checkpoint)
    return report
