"""One training loop for every demo network: AdamW, warm-up and cosine, clipping, averaged weights, checkpoints.

Every step is a function of its number and the seed, so that a run that was stopped and resumed agrees with one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from recon.files import save_json, whole_file

WARMUP, EVERY = 100, 50  # steps of warm-up; steps averaged into one point of the curve


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    steps: int
    learning_rate: float
    batch: int
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    skip_norm: float = 1e9  # a step with a larger gradient norm is left out
    average: float = 0.999  # decay of the averaged weights
    save_every: int = 250

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, cosine to zero."""
        return self.learning_rate * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step; torch is seeded by the loop in the same way."""
    return np.random.default_rng((seed, step))


def draw_rows(n: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `batch` of n rows, each once, sorted: memory-mapped arrays are read in order."""
    return np.sort(rng.choice(n, min(batch, n), replace=False))


def shifted(pixels: Tensor, by: int, rng: np.random.Generator) -> Tensor:
    """The whole batch (n, 3, S, S) moved by up to `by` pixels each way, edges repeated."""
    dy, dx = rng.integers(0, 2 * by + 1, 2)
    height, width = pixels.shape[2:]
    return F.pad(pixels, (by,) * 4, mode="replicate")[:, :, dy : dy + height, dx : dx + width]


def save_report(out: Path, report: dict, *checkpoints: Path) -> None:
    """The report of what was saved as `out`, beside it; the checkpoints are of no more use."""
    save_json(out.with_suffix(".training.json"), report)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)


def train(
    model: nn.Module, loss: Callable[[int], dict[str, Tensor]], checkpoint: Path, schedule: Schedule, seed: int
) -> tuple[nn.Module, dict]:
    """Minimises the first entry of `loss(step)`; the others are only reported.

    Returns the averaged model and a report (steps, seconds, parameters, skipped steps, curve). Only parameters that need
    a gradient are trained, averaged and kept in `checkpoint`, which is removed by the caller once its output is saved.
    """
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    average = {k: p.detach().clone() for k, p in trained.items()}
    optimiser = torch.optim.AdamW(
        trained.values(), schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    first, curve, before, skipped, names = 0, [], 0.0, 0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"], strict=False)
        average = saved["average"]
        optimiser.load_state_dict(saved["optimiser"])
        first, curve, before, skipped = saved["step"], saved["curve"], saved["seconds"], saved["skipped"]
        names = saved["names"]

    since, recent = time.perf_counter(), []
    bar = tqdm(range(first, schedule.steps), initial=first, total=schedule.steps, desc=checkpoint.stem, mininterval=10)
    for step in bar:
        torch.manual_seed(seed * 1_000_003 + step)
        parts = loss(step)
        total, names = next(iter(parts.values())), list(parts)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), schedule.clip_norm)
        if total.isfinite() and norm < schedule.skip_norm:
            optimiser.step()
        else:
            skipped += 1
        decay = min(schedule.average, (1 + step) / (10 + step))
        for name, p in trained.items():
            average[name].lerp_(p.detach(), 1 - decay)
        recent.append([float(v.detach()) for v in parts.values()])
        if (step + 1) % EVERY == 0 or step + 1 == schedule.steps:
            means = dict(zip(parts, np.mean(recent, 0)))
            curve.append([step + 1, *(round(float(v), 4) for v in means.values())])
            bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()}, skipped=skipped)
            recent = []
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
            with whole_file(checkpoint) as part:
                torch.save(
                    {
                        "model": {k: p.detach() for k, p in trained.items()},
                        "average": average,
                        "optimiser": optimiser.state_dict(),
                        "step": step + 1,
                        "curve": curve,
                        "seconds": before + time.perf_counter() - since,
                        "skipped": skipped,
                        "names": names,
                    },
                    part,
                )
    result = copy.deepcopy(model)
    result.load_state_dict(average, strict=False)
    return result.eval(), {
        "steps": schedule.steps,
        "seed": seed,
        "batch": schedule.batch,
        "seconds": round(before + time.perf_counter() - since),
        "parameters": sum(p.numel() for p in trained.values()),
        "skipped_steps": skipped,
        "curve_columns": ["step", *names],
        "curve": curve,
    }
