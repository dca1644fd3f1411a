"""Distils the demo's UNet into an LCM-LoRA, after latent consistency distillation (Luo et al. 2023, LCM and LCM-LoRA).

The guided teacher walks down its probability flow with DDIM (Song et al. 2021) and every place it passes is kept; the student, the
same UNet with a LoRA, learns to jump from any of them to where the walk ends. (Learning from its own estimate one step further
down, as the papers do, collapsed within a few hundred steps here; the frozen teacher's own solution cannot, and a kept walk
serves for many steps.) What it learns is soft, and in sampling it meets its own soft estimates, noised again: `sharpen_lcm` mends
that. Saved as diffusers reads LoRA weights: the raw peft keys under "unet.".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, LCMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from tqdm import trange

from precompute.demo.condition import Adapted, Condition
from precompute.demo.train_adapter import blended
from precompute.demo.train_unet import Examples, Sources, on_this_hardware
from precompute.demo.training import Schedule, Weights, resident, rows_of, step_rng, train
from recon.device import autocast, choose_device
from recon.files import whole_file

GRID = torch.arange(1, 51) * 20 - 1  # the timesteps an LCM is sampled on: 19, 39 … 999
GUIDED = 0.5  # share of walks in which an image embedding counts beside the prompt
STRIDE = 3  # of them to one DDIM step of the teacher
WALK_BATCH = 600
SAMPLED = (2, 4, 8)  # denoising steps of the sampling that the student's own walks begin in
HUBER = 0.03
MODULES = [
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
]


@dataclass(frozen=True)
class Distillation:
    """The teacher's walks, those from where the student samples, their guidance, and the LoRA's rank."""

    walks: int = 12_000
    own_walks: int = 4_800
    guidance: float = 3.0
    rank: int = 48


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _clean_and_noise(v: Tensor, x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A v-prediction at noisy latents x with cumulative signal variance alpha (B,) -> clean latents and noise, float32."""
    v = v.float()
    signal, noise = _column(alpha.sqrt()), _column((1 - alpha).sqrt())
    return signal * x - noise * v, signal * v + noise * x


@dataclass(frozen=True)
class Student:
    """A UNet with a LoRA and the boundary condition of consistency models: at t = 0 its clean estimate is its input."""

    unet: UNet2DConditionModel
    schedule: LCMScheduler

    @classmethod
    def load(cls, networks: Adapted, lora: Path | None, rank: int) -> Student:
        """The adapted UNet with the LoRA weights of the file `lora`, or new ones; only they need a gradient."""
        model = on_this_hardware(networks.load().requires_grad_(False))
        if lora is None:
            model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=MODULES), adapter_name="lcm")
        else:
            model.load_lora_adapter(load_file(lora), prefix="unet", adapter_name="lcm")
        for name, weight in model.named_parameters():
            weight.requires_grad_("lora_" in name)
        schedule = LCMScheduler.from_config(DDPMScheduler.from_pretrained(networks.unet).config)
        schedule.alphas_cumprod = schedule.alphas_cumprod.to(model.device)
        return cls(model.to(choose_device()), schedule)

    def clean(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Noisy latents (B, K, S, S) at times (B,) -> clean ones."""
        skip, scale = (_column(s) for s in self.schedule.get_scalings_for_boundary_condition_discrete(t))
        clean, _ = _clean_and_noise(condition.predict(self.unet, x, t), x, self.schedule.alphas_cumprod[t])
        return skip * x + scale * clean

    def sample(self, condition: Condition, shape: Sequence[int], steps: int, until: Tensor) -> Tensor:
        """Clean estimates (B, *shape) of those of `steps` denoising steps from noise that lie above the times `until` (B,)."""
        clean = torch.zeros(len(condition), *shape, device=until.device)
        self.schedule.set_timesteps(steps, until.device)
        for t in self.schedule.timesteps:
            on = (t > until).nonzero()[:, 0]
            if len(on):
                x = _noised(clean[on], self.schedule.alphas_cumprod[t])
                clean[on] = self.clean(
                    x.contiguous(memory_format=torch.channels_last), t.expand(len(on)), condition[on]
                )
        return clean


def _noised(clean: Tensor, alpha: Tensor) -> Tensor:
    """Latents with noise, of cumulative signal variance alpha."""
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * torch.randn_like(clean)


@dataclass(frozen=True)
class Walking:
    """How many walks are made, how strongly the teacher is guided, and the seed."""

    n: int
    guidance: float
    seed: int


@dataclass(frozen=True)
class Walker:
    """The teacher, and what it walks from: training latents, or what a student has sampled."""

    examples: Examples
    embeddings: Tensor  # (2, n, d) of the examples' images
    teacher: UNet2DConditionModel
    student: Student | None
    alphas: Tensor  # cumulative signal variances of the noise schedule
    guidance: float

    @classmethod
    def load(cls, files: Sources, networks: Adapted, lora: Path | None, guidance: float) -> Walker:
        alphas = DDPMScheduler.from_pretrained(networks.unet).alphas_cumprod.to(choose_device())
        teacher = networks.load().to(choose_device(), memory_format=torch.channels_last)
        student = Student.load(networks, lora, 0) if lora else None
        return cls(Examples.load(files), resident(files.embeddings), teacher, student, alphas, guidance)

    def starts(self, batch: int, down: Tensor, rng: np.random.Generator) -> tuple[Tensor, Condition, Tensor]:
        """Clean latents (B, K, S, S), what guides them, and where on the timesteps `down` each walk starts (B,)."""
        rows = self.examples.draw_rows(batch, rng)
        clean, prompt = self.examples.at(rows, rng)
        prompt = torch.where(self.examples.forgotten(len(clean), rng), self.examples.empty, prompt)
        image = blended(rows_of(self.embeddings.flatten(0, 1), rows).float(), rng)
        guided = torch.as_tensor(rng.random(len(rows)) < GUIDED, device=image.device)
        condition = Condition(prompt, image, guided)
        first = rng.permutation(len(clean)) * len(down) // len(clean)
        first = torch.as_tensor(first, device=clean.device)
        if self.student:
            with autocast():
                clean = self.student.sample(
                    condition, clean.shape[1:], SAMPLED[rng.integers(len(SAMPLED))], down[first]
                )
        return clean, condition, first

    def estimate(self, x: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The guided teacher's clean latents and noise at noisy latents x (B, K, S, S) of one time."""
        both = torch.cat([x, x]).contiguous(memory_format=torch.channels_last)
        condition = Condition.joined([condition.negative(self.examples.empty), condition])
        with autocast():
            without, given = condition.predict(self.teacher, both, t).float().chunk(2)
        return _clean_and_noise(without + self.guidance * (given - without), x, self.alphas[t].expand(len(x)))

    def walk(self, batch: int, down: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Walks down the timesteps: arrays as `extract_walks` writes them, of this batch."""
        clean, condition, first = self.starts(batch, down, rng)
        x, kept = _noised(clean, _column(self.alphas[down[first]])), []
        for level, t in enumerate(down):
            on = (first <= level).nonzero()[:, 0]
            kept.append((x[on].half().cpu(), t.cpu().short().expand(len(on)), on.cpu().int()))
            clean[on], noise = self.estimate(x[on], t, condition[on])
            if level + 1 < len(down):
                after = self.alphas[down[level + 1]]
                x[on] = after.sqrt() * clean[on] + (1 - after).sqrt() * noise
        arrays = dict(zip(("places", "times", "walks"), map(torch.cat, zip(*kept))))
        arrays |= {"prompts": condition.prompt.half().cpu(), "images": condition.image.half().cpu()}
        return arrays | {"ends": clean.half().cpu(), "guided": condition.guided.cpu()}


@torch.no_grad()
def extract_walks(files: Sources, networks: Adapted, out: Path, how: Walking, lora: Path | None = None) -> None:
    """Guided DDIM walks, from latents noised to a random time, down to clean ones; some with the empty prompt, and in half of them
    an image embedding guides, too.

    Without `lora` they begin at training latents; with it, at what the UNet with that LoRA has sampled by that time.
    Arrays of `out` (.npz), for W walks and P places on them: `ends` (W, K, S, S), `prompts` (W, tokens, width) and `images`
    (W, d), float16; `guided` (W,) bool, whether the image counts;
    `places` (P, K, S, S) float16, `times` (P,) int16 and `walks` (P,) int32, the row of `ends` that each place leads to.
    """
    walker, parts = Walker.load(files, networks, lora, how.guidance), []
    batch = min(how.n, WALK_BATCH)
    for number in trange(math.ceil(how.n / batch), desc="walks", mininterval=10):
        torch.manual_seed(how.seed * 1_000_003 + number)
        down = GRID[number % STRIDE :: STRIDE].flip(0).to(walker.alphas.device)
        part = walker.walk(batch, down, step_rng(how.seed, number))
        parts.append(part | {"walks": part["walks"] + sum(len(earlier["ends"]) for earlier in parts)})
    with whole_file(out) as part, part.open("wb") as file:
        np.savez(file, **{name: torch.cat([p[name] for p in parts]).numpy() for name in parts[0]})


@dataclass(frozen=True)
class Walked:
    """What `extract_walks` wrote, in the memory of the device that trains."""

    arrays: dict[str, Tensor]

    @classmethod
    def load(cls, path: Path) -> Walked:
        with np.load(path, allow_pickle=False) as file:
            return cls({name: torch.from_numpy(file[name]).to(choose_device()) for name in file.files})

    def draw(self, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Condition]:
        """Places (B, K, S, S), their times (B,), where their walks end (B, K, S, S), and what guided them."""
        rows = rng.integers(0, len(self.arrays["times"]), batch)
        x, times, walk = (rows_of(self.arrays[name], rows) for name in ("places", "times", "walks"))
        end, prompt, image = (self.arrays[name][walk.long()].float() for name in ("ends", "prompts", "images"))
        condition = Condition(prompt, image, self.arrays["guided"][walk.long()])
        return x.float().contiguous(memory_format=torch.channels_last), times.long(), end, condition


def huber(error: Tensor) -> Tensor:
    """Pseudo-Huber, mean over everything."""
    return ((error.square() + HUBER**2).sqrt() - HUBER).mean()


def save_lora(unet: UNet2DConditionModel, out: Path) -> None:
    """Saves the LoRA's weights as diffusers reads them, float16. Raises RuntimeError if a module of the LoRA is still zero."""
    weights = {k: v.half().cpu().contiguous() for k, v in get_peft_model_state_dict(unet, adapter_name="lcm").items()}
    if idle := [k for k, v in weights.items() if not v.any()]:
        raise RuntimeError(f"modules of the LoRA that learned nothing: {', '.join(idle)}")
    with whole_file(out) as part:
        StableDiffusionImg2ImgPipeline.save_lora_weights(part.parent, weights, weight_name=part.name)


def train_lcm(walks: Path, networks: Adapted, weights: Weights, schedule: Schedule, rank: int, seed: int) -> dict:
    """Learns from what `extract_walks` wrote, and saves the LoRA (safetensors). Returns a report."""
    walked = Walked.load(walks)
    torch.manual_seed(seed)
    student = Student.load(networks, weights.start, rank)

    def loss(step: int) -> dict[str, Tensor]:
        x, t, end, condition = walked.draw(schedule.batch, step_rng(seed + 1, step))
        return {"loss": huber(student.clean(x, t, condition) - end)}

    best, report = train(student.unet, loss, weights.checkpoint(), schedule, seed)
    save_lora(best, weights.out)
    return report
