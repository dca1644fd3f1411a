"""One training loop for every demo network: AdamW, warm-up and cosine, clipping, averaged weights, checkpoints.

Every step is a function of its number and the seed, so that a run that was stopped and resumed agrees with one that was not. It
runs on a GPU if there is one, in bfloat16 where the hardware has it. Weights stay float32.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from recon.device import autocast, choose_device
from recon.files import open_array, whole_file

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


@dataclass(frozen=True)
class Weights:
    """Where the weights of a training are saved, where it keeps what is unfinished, and what it starts from."""

    out: Path  # file or folder
    work: Path  # folder
    start: Path | None = None  # weights of an earlier training; random ones if None

    def checkpoint(self, phase: int = 1) -> Path:
        return self.work / f"{self.out.stem}.{phase}.pt"


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step; torch is seeded by the loop in the same way."""
    return np.random.default_rng((seed, step))


def resident(path: Path) -> Tensor:
    """A `.npy` file as a tensor: in the memory of the GPU if there is one, else a memory map, which is not to be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the map is read-only
        return torch.from_numpy(open_array(path)).to(choose_device())


def rows_of(stored: Tensor, rows: np.ndarray) -> Tensor:
    """Some rows of what `resident` opened, on the device that trains."""
    return stored[torch.as_tensor(rows, device=stored.device)]


def pixels_of(images: Tensor) -> Tensor:
    """(n, S, S, 3) uint8 -> (n, 3, S, S) float32 in [-1, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_rows(n: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `batch` of n rows, each once, sorted: memory-mapped arrays are read in order."""
    return np.sort(rng.choice(n, min(batch, n), replace=False))


def shifted(pixels: Tensor, by: int, rng: np.random.Generator) -> Tensor:
    """The whole batch (n, 3, S, S) moved by up to `by` pixels each way, edges repeated."""
    dy, dx = rng.integers(0, 2 * by + 1, 2)
    height, width = pixels.shape[2:]
    return F.pad(pixels, (by,) * 4, mode="replicate")[:, :, dy : dy + height, dx : dx + width]


class Run:
    """A training in progress: its optimiser, averaged weights and curve; saved to a checkpoint and resumed from it.

    Only parameters that need a gradient are trained, averaged and kept.
    """

    def __init__(self, model: nn.Module, checkpoint: Path, schedule: Schedule):
        self.model, self.checkpoint, self.schedule = model, checkpoint, schedule
        self.trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.average = {k: p.detach().clone() for k, p in self.trained.items()}
        self.optimiser = torch.optim.AdamW(
            self.trained.values(),
            schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self.step, self.curve, self.before, self.skipped, self.names = 0, [], 0.0, 0, []
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True, map_location=choose_device())
            model.load_state_dict(saved["model"], strict=False)
            self.optimiser.load_state_dict(saved["optimiser"])
            self.average, self.step, self.curve = saved["average"], saved["step"], saved["curve"]
            self.before, self.skipped, self.names = saved["seconds"], saved["skipped"], saved["names"]
        self.since = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.since

    def descend(self, total: Tensor) -> None:
        """One step of the optimiser, left out if the gradient explodes, and one of the averaged weights."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.schedule.clip_norm)
        if total.isfinite() and norm < self.schedule.skip_norm:
            self.optimiser.step()
        else:
            self.skipped += 1
        decay = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - decay)
        self.step += 1

    def save(self) -> None:
        content = {
            "model": {k: p.detach() for k, p in self.trained.items()},
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "curve": self.curve,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "names": self.names,
        }
        with whole_file(self.checkpoint) as part:
            torch.save(content, part)

    def averaged(self) -> nn.Module:
        """A copy of the model with the averaged weights, for evaluation."""
        result = copy.deepcopy(self.model)
        result.load_state_dict(self.average, strict=False)
        return result.eval()


def train(
    model: nn.Module, loss: Callable[[int], dict[str, Tensor]], checkpoint: Path, schedule: Schedule, seed: int
) -> tuple[nn.Module, dict]:
    """Minimises the first entry of `loss(step)`; the others are only reported.

    Returns the averaged model and a report (steps, seconds, parameters, skipped steps, curve).
    """
    run, recent = Run(model, checkpoint, schedule), []
    steps = tqdm(range(run.step, schedule.steps), desc=checkpoint.stem, mininterval=10)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        for step in steps:
            torch.manual_seed(seed * 1_000_003 + step)
            with autocast():
                parts = loss(step)
            run.names = list(parts)
            run.descend(next(iter(parts.values())))
            recent.append(torch.stack([v.detach().float() for v in parts.values()]))
            last = run.step == schedule.steps
            if run.step % EVERY == 0 or last:
                means = torch.stack(recent).mean(0).tolist()
                run.curve.append([run.step, *(round(v, 4) for v in means)])
                recent = []
                steps.set_postfix(dict(zip(run.names, means)), skipped=run.skipped)
            if run.step % schedule.save_every == 0 or last:
                run.save()
    return run.averaged(), {
        "steps": schedule.steps,
        "seed": seed,
        "batch": schedule.batch,
        "seconds": round(run.seconds),
        "parameters": sum(p.numel() for p in run.trained.values()),
        "skipped_steps": run.skipped,
        "curve_columns": ["step", *run.names],
        "curve": run.curve,
    }
