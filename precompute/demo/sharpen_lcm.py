"""Sharpens the LCM-LoRA: its estimates must pass for the teacher's pictures, also where its own sampling leads.

`train_lcm` regresses; where a state leaves open what the picture is, the answer is a soft mean, and in several steps the student
meets its own soft estimates, noised again, from which not even the teacher finds back to sharp pictures. A discriminator sees the
difference and teaches the student not to be caught: small heads on the frozen teacher's features of the estimate, noised a little
once more, and of the prompt (latent adversarial diffusion distillation, Sauer et al. 2024), by the relativistic loss of
Jolicoeur-Martineau (2018). Half of a batch lies on the teacher's walks, half on walks that begin where the student samples;
regression goes on.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call

from precompute.demo.condition import Adapted, Condition
from precompute.demo.train_lcm import Student, Walked, huber, save_lora
from precompute.demo.train_unet import on_this_hardware
from precompute.demo.training import Schedule, Weights, step_rng, train
from recon.device import choose_device

ADVERSARIAL = 0.2  # weight of the adversarial loss
OWN = 0.25  # weight of regression to the ends of the student's own walks
ALONE = 100  # steps that the discriminator learns alone
NOISED = (0, 260)  # from and below which timestep what it sees is noised, by the same noise for real and found
HIDDEN = 64  # channels of its heads


class Discriminator(nn.Module):
    """Noisy latents (B, K, S, S), times (B,), prompts (B, tokens, width) -> (B, places): how real each place looks."""

    def __init__(self, teacher: UNet2DConditionModel):
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        widths = [*teacher.config.block_out_channels, teacher.config.block_out_channels[-1]]
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, width, affine=False),
                nn.Conv2d(width, HIDDEN, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(HIDDEN, 1, 1),
            )
            for width in widths
        )

    def forward(self, latents: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        maps = features(self.teacher, latents, t, prompt)
        return torch.cat([head(x).flatten(1) for head, x in zip(self.heads, maps)], 1)


def features(unet: UNet2DConditionModel, x: Tensor, t: Tensor, prompt: Tensor) -> list[Tensor]:
    """What the UNet makes of noisy latents on its way down, before each halving, and in the middle."""
    time = unet.time_embedding(unet.time_proj(t).to(x.dtype))
    h, maps = unet.conv_in(x), []
    for block in unet.down_blocks:
        h, passed = block(h, time, encoder_hidden_states=prompt)
        maps.append(passed[len(block.resnets) - 1])
    return [*maps, unet.mid_block(h, time, encoder_hidden_states=prompt)]


def relativistic(winning: Tensor, losing: Tensor) -> Tensor:
    """softplus(losing - winning), mean over rows and places; the halves of a batch are compared with the same real latents."""
    return F.softplus(losing - winning).mean()


def sharpen_lcm(
    walks: Path, own_walks: Path, networks: Adapted, weights: Weights, schedule: Schedule, seed: int
) -> dict:
    """Goes on from the LoRA that the weights start from, and saves the sharper one (safetensors). Returns a report.

    One optimiser serves both networks: each loss reaches its own alone.
    """
    teacher, own = Walked.load(walks), Walked.load(own_walks)
    torch.manual_seed(seed)
    student, noise_schedule = Student.load(networks, weights.start, 0), DDPMScheduler.from_pretrained(networks.unet)
    plain = on_this_hardware(UNet2DConditionModel.from_pretrained(networks.unet))  # it judges by the prompt alone
    discriminator = Discriminator(plain).to(choose_device())
    half = schedule.batch // 2

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed + 1, step)
        *pairs, conditions = zip(teacher.draw(half, rng), own.draw(half, rng))
        x, t, ends = map(torch.cat, pairs)
        condition, real = Condition.joined(conditions), ends[:half]
        clean, prompt = student.clean(x.contiguous(memory_format=torch.channels_last), t, condition), condition.prompt
        regression = huber(clean[:half] - real) + OWN * huber(clean[half:] - ends[half:])

        again = torch.as_tensor(rng.integers(*NOISED, half), device=real.device).repeat(2)
        noise = torch.randn_like(real).repeat(2, 1, 1, 1)
        fake = noise_schedule.add_noise(clean, noise, again)
        true = discriminator(noise_schedule.add_noise(real, noise[:half], again[:half]), again[:half], prompt[:half])
        found = discriminator(fake.detach(), again, prompt)
        discerning = relativistic(true, found.unflatten(0, (2, half)))
        parts = {"regression": regression, "discriminator": discerning}
        if step < ALONE:
            return {"loss": regression + discerning, **parts, "adversarial": discerning.detach()}
        frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
        judged = functional_call(discriminator, frozen, (fake, again, prompt))
        adversarial = relativistic(judged.unflatten(0, (2, half)), true.detach())
        return {"loss": regression + discerning + ADVERSARIAL * adversarial, **parts, "adversarial": adversarial}

    networks = nn.ModuleDict({"student": student.unet, "discriminator": discriminator})
    best, report = train(networks, loss, weights.checkpoint(), schedule, seed)
    save_lora(best["student"], weights.out)
    return report
