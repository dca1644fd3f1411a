"""The MLP's network and its training: mini-batches from memory maps, early stopping, resumable.

`STUDENT` is the plain network of the student project that this one grew from: no linear path, no basis, no z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from recon.device import autocast, choose_device
from recon.files import whole_file
from recon.regressors.mlp import Network, predict
from recon.regressors.rows import read_rows
from recon.regressors.standardise import Standardiser, split_rows

STATEFUL = ("network", "optimiser", "schedule")  # of a checkpoint
PROGRESS = ("curve", "best", "best_r2", "best_epoch", "rolled_back")
JUMPS = 3  # epochs after which a training may be rolled back, before it is given up


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of `fit_mlp`."""

    hidden: int = 512
    plain: bool = (
        False  # ReLU, no linear path, no basis: predicts the targets themselves, and is not averaged with ridge
    )
    standardise: bool = True  # voxels
    input_dropout: float = 0.2
    hidden_dropout: float = 0.5
    learning_rate: float = 5e-4  # at the start; falls to 0 along a cosine
    weight_decay: float = 0.3
    batch: int = 128
    max_epochs: int = 60
    patience: int = 6  # epochs without a better validation R²
    clip_norm: float = 5.0
    validation_share: float = 0.1
    seed: int = 0


# Linear -> LayerNorm -> ReLU -> Linear by Adam on raw voxels; stopped early like any other
STUDENT = Training(128, True, False, 0.0, 0.0, learning_rate=1e-4, weight_decay=0.0, batch=8)


def _variance_weighted_r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


@dataclass(frozen=True)
class NetworkReport:
    curve: list[list[float]]  # epoch, training loss, validation R² (variance-weighted over what the network learns)
    best_epoch: int
    validation_rows: np.ndarray  # training images held out from the gradient
    validation_coefficients: np.ndarray  # (n_validation, r) predictions for them
    rolled_back: list[int]  # epochs in which the loss jumped, so that the best weights were taken up again


def new_network(n_voxels: int, n_out: int, training: Training) -> Network:
    """An untrained network of the kind that `training` describes."""
    dropout = training.input_dropout, training.hidden_dropout
    return Network(n_voxels, n_out, training.hidden, training.plain, dropout)


def jumped(loss: float, earlier: list[float]) -> bool:
    """Whether an epoch's mean loss undoes what the earlier epochs' achieved: over twice their lowest, and more than half of the way
    back to their first; or no number."""
    if not earlier:
        return not np.isfinite(loss)
    return not loss <= max(2 * min(earlier), (earlier[0] + min(earlier)) / 2)


class Trainer:
    """A network that learns coefficients Z (n, r) from voxels X (n, n_voxels), both possibly memory-mapped, epoch by epoch."""

    def __init__(self, X, Z, standardise: Standardiser, training: Training):
        self.X, self.Z, self.standardise, self.training = X, Z, standardise, training
        self.validation, self.rows = split_rows(len(X), training.validation_share, training.seed)
        self.X_validation = standardise(read_rows(X, self.validation))
        self.Z_validation = read_rows(Z, self.validation)
        # one scale for all coefficients: keeps their relative weight
        self.unit = 1.0 if training.plain else float(np.sqrt(np.mean(self.Z_validation.var(0))))
        torch.manual_seed(training.seed)
        self.network = new_network(X.shape[1], Z.shape[1], training).to(choose_device())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, training.max_epochs)
        self.curve: list[list[float]] = []
        self.best_r2, self.best_epoch = -np.inf, 0
        self.rolled_back: list[int] = []
        self.best = {k: v.clone() for k, v in self.network.state_dict().items()}

    def validate(self) -> np.ndarray:
        """(n_validation, r) predictions for the held-out images, in the network's unit."""
        return predict(self.network, self.X_validation)

    def step(self, batch: np.ndarray) -> float:
        """One step on the images of these rows; returns the loss."""
        device = choose_device()
        target = torch.as_tensor(read_rows(self.Z, batch) / np.float32(self.unit), device=device)
        voxels = torch.as_tensor(self.standardise(read_rows(self.X, batch)), device=device)
        with autocast():
            out = self.network(voxels)
        loss = nn.functional.mse_loss(out.float(), target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip_norm)
        self.optimiser.step()
        return loss.item()

    def epoch(self) -> None:
        """All training images once, in the epoch's own order; then validation. Raises ValueError where the loss keeps jumping."""
        number, size = len(self.curve), self.training.batch
        torch.manual_seed(self.training.seed * 1_000_003 + number)
        shuffled = np.random.default_rng((self.training.seed, 41, number)).permutation(self.rows)
        self.network.train()
        # ascending within a batch: the memory map is read forwards, whole rows
        losses = [self.step(np.sort(shuffled[k : k + size])) for k in range(0, len(shuffled), size)]
        self.schedule.step()
        loss = float(np.mean(losses))
        if jumped(loss, [earlier for _, earlier, _ in self.curve]):
            self.roll_back(number + 1, loss)
        r2 = _variance_weighted_r2(self.Z_validation, self.unit * self.validate())
        self.curve.append([number + 1, loss, r2])
        if r2 > self.best_r2:
            self.best_r2, self.best_epoch = r2, number + 1
            for k, v in self.network.state_dict().items():
                self.best[k].copy_(v)

    def roll_back(self, epoch: int, loss: float) -> None:
        """Takes up the best epoch's weights again, with fresh moments and half the learning rate."""
        self.rolled_back.append(epoch)
        if len(self.rolled_back) > JUMPS:
            raise ValueError(
                f"the MLP's training loss jumped in epochs {self.rolled_back}, last to {loss:.3g}: choose a learning rate "
                f"under {self.training.learning_rate:g}"
            )
        self.network.load_state_dict(self.best)
        self.optimiser.state.clear()
        for group in self.optimiser.param_groups:
            group["lr"] /= 2

    def save(self, path: Path) -> None:
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        with whole_file(path) as part:
            torch.save(parts | {name: getattr(self, name) for name in PROGRESS}, part)

    def load(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True, map_location=choose_device())
        for name in STATEFUL:
            getattr(self, name).load_state_dict(saved[name])
        for name in PROGRESS:
            setattr(self, name, saved[name])

    def finished(self) -> bool:
        done = len(self.curve)
        return done >= self.training.max_epochs or done - self.best_epoch >= self.training.patience

    @torch.no_grad()
    def result(self) -> tuple[Network, NetworkReport]:
        """The best epoch's network, in the coefficients' own unit."""
        self.network.load_state_dict(self.best)
        for layer in self.network.last_layers:
            layer.weight *= self.unit
            layer.bias *= self.unit
        report = NetworkReport(self.curve, self.best_epoch, self.validation, self.validate(), self.rolled_back)
        return self.network.cpu(), report


def fit_network(X, Z, standardise: Standardiser, training: Training, checkpoint: Path) -> tuple[Network, NetworkReport]:
    """Fits voxels X (n, n_voxels) to coefficients Z (n, r), both possibly memory-mapped; the best epoch's weights win.

    Resumes from `checkpoint`, which must be of the same call; the caller removes it. bfloat16 where the hardware is faster in it.
    Raises ValueError if X and Z differ in length.
    """
    if len(X) != len(Z):
        raise ValueError(f"expected as many rows of coefficients as of voxels, got {len(Z)} and {len(X)}")
    trainer = Trainer(X, Z, standardise, training)
    if checkpoint.exists():
        trainer.load(checkpoint)
    with tqdm(initial=len(trainer.curve), total=training.max_epochs, desc="MLP", mininterval=5) as bar:
        while not trainer.finished():
            trainer.epoch()
            trainer.save(checkpoint)
            _, loss, r2 = trainer.curve[-1]
            bar.set_postfix(loss=f"{loss:.4f}", validation_r2=f"{r2:.4f}")
            bar.update()
    return trainer.result()
