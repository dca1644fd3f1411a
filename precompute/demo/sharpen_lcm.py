"""Sharpens the LCM-LoRA: its estimates must pass for the teacher's pictures, also where its own sampling leads.

`train_lcm` regresses; where a state leaves open what the picture is, the answer is a soft mean, and in several steps the student
meets its own soft estimates, noised again, from which not even the teacher finds back to sharp pictures. A small discriminator of
latents that knows the prompt sees the difference and teaches the student not to be caught (consistency models with an adversarial
loss: Kim et al. 2024, CTM; Sauer et al. 2023, ADD), by the relativistic loss with zero-centred gradient penalties of R3GAN
(Huang et al. 2024). Half of a batch lies on the teacher's walks, half on walks that begin where the student samples; regression
goes on.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from precompute.demo.train_lcm import Student, Walked, huber, save_lora
from precompute.demo.training import Schedule, step_rng, train

PENALTY, OWN = 0.05, 0.25  # weights of the gradient penalties, and of regression to the ends of the student's own walks


class Discriminator(nn.Module):
    """Clean latents (B, K, S, S) and prompt embeddings (B, tokens, width) -> (B,): how real they look together."""

    def __init__(self, channels: int, width: int, hidden: int = 64):
        super().__init__()
        layers = [nn.Conv2d(channels, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 3, padding=1)]
        layers += [nn.Conv2d(hidden, 2 * hidden, 4, 2, 1), nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1)]
        self.body = nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(0.2))))
        self.head, self.project = nn.Conv2d(2 * hidden, 1, 1), nn.Linear(width, 2 * hidden)

    def forward(self, latents: Tensor, prompt: Tensor) -> Tensor:
        features = self.body(latents)
        matching = (features * self.project(prompt.mean(1))[:, :, None, None]).mean(1, keepdim=True)
        return (self.head(features) + matching).mean((1, 2, 3))


def slope(output: Tensor, at: Tensor) -> Tensor:
    """Mean squared norm of the gradient, differentiable."""
    (gradient,) = torch.autograd.grad(output.sum(), at, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def relativistic(winning: Tensor, losing: Tensor) -> Tensor:
    """softplus(losing - winning), summed over both halves of what is compared with the same real latents."""
    return F.softplus(losing - winning).mean(1).sum()


def sharpen_lcm(walks: Path, own_walks: Path, unet: Path, lora: Path, out: Path, schedule: Schedule, seed: int) -> dict:
    """Goes on from the LoRA in `lora`; saves it to `out` (safetensors) and a report beside it.

    One optimiser serves both networks: each loss reaches its own alone. The adversarial gradient at the student's estimates is
    given the norm of the regression's.
    """
    teacher, own = Walked.load(walks), Walked.load(own_walks)
    torch.manual_seed(seed)
    student = Student.load(unet, lora, 0)
    discriminator = Discriminator(teacher.arrays["ends"].shape[1], teacher.arrays["prompts"].shape[2])
    half = schedule.batch // 2

    def halves(scores: Tensor) -> Tensor:
        return scores.unflatten(0, (2, half))

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed + 1, step)
        both = [torch.cat(pair) for pair in zip(teacher.draw(half, rng), own.draw(half, rng))]
        x, t, ends, prompt = both
        real = ends[:half]
        clean = student.clean(x.contiguous(memory_format=torch.channels_last), t, prompt)
        regression = huber(clean[:half] - real) + OWN * huber(clean[half:] - ends[half:])

        frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
        judged = functional_call(discriminator, frozen, (clean, prompt))
        wanted = functional_call(discriminator, frozen, (real, prompt[:half]))
        adversarial = relativistic(halves(judged), wanted)
        norms = [torch.autograd.grad(part, clean, retain_graph=True)[0].norm() for part in (regression, adversarial)]

        fake, real = clean.detach().requires_grad_(True), real.clone().requires_grad_(True)
        found, true = discriminator(fake, prompt), discriminator(real, prompt[:half])
        discerning = relativistic(true, halves(found))
        penalty = slope(true, real) + slope(found, fake)
        total = regression + norms[0] / norms[1].clamp(min=1e-12) * adversarial + discerning + PENALTY * penalty
        return {"loss": total, "regression": regression, "adversarial": adversarial, "discriminator": discerning}

    checkpoint = out.with_suffix(".checkpoint.pt")
    networks = nn.ModuleDict({"student": student.unet, "discriminator": discriminator})
    best, report = train(networks, loss, checkpoint, schedule, seed)
    save_lora(best["student"], out, report, checkpoint)
    return report
