"""The MLP's network and its training: mini-batches from memory maps, early stopping, resumable.

`STUDENT` is the plain network of the student project that this one grew from: no linear path, no basis, no z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from precompute.team import ALONE, Team
from recon.device import autocast, choose_device
from recon.files import whole_file
from recon.regressors.mlp import Network, predict
from recon.regressors.rows import read_rows
from recon.regressors.standardise import Standardiser, split_rows


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


def dropout(n: int, rows: slice, x: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout with probability p of `rows` of a batch of n, x (rows, width).

    The mask is drawn for the whole batch, so that it does not depend on how many processes share it.
    """
    if p == 0:
        return x
    mask = x.new_empty(n, x.shape[1]).bernoulli_(1 - p).div_(1 - p)
    return x * mask[rows]


def _variance_weighted_r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


@dataclass(frozen=True)
class NetworkReport:
    curve: list[list[float]]  # epoch, training loss, validation R² (variance-weighted over what the network learns)
    best_epoch: int
    validation_rows: np.ndarray  # training images held out from the gradient
    validation_coefficients: np.ndarray  # (n_validation, r) predictions for them


def new_network(n_voxels: int, n_out: int, training: Training) -> Network:
    """An untrained network of the kind that `training` describes."""
    dropout = training.input_dropout, training.hidden_dropout
    return Network(n_voxels, n_out, training.hidden, training.plain, dropout)


def fit_network(
    X, Z, standardise: Standardiser, training: Training, checkpoint: Path, team: Team = ALONE
) -> tuple[Network, NetworkReport]:
    """Fits voxels X (n, n_voxels) to coefficients Z (n, r), both possibly memory-mapped; the best epoch's weights win.

    Resumes from `checkpoint`, which must be of the same call; the caller removes it. bfloat16 where the hardware is faster in it.
    The processes of a team share each batch and sum its gradients: the same network as by one, but for the order of sums.
    Raises ValueError if X and Z differ in length.
    """
    if len(X) != len(Z):
        raise ValueError(f"expected as many rows of coefficients as of voxels, got {len(Z)} and {len(X)}")
    device = choose_device()
    validation, rows = split_rows(len(X), training.validation_share, training.seed)
    X_validation = standardise(read_rows(X, validation[team.share(len(validation))]))
    Z_validation = read_rows(Z, validation)
    # one scale for all coefficients: keeps their relative weight
    unit = 1.0 if training.plain else float(np.sqrt(np.mean(Z_validation.var(0))))

    torch.manual_seed(training.seed)
    network = new_network(X.shape[1], Z.shape[1], training).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.max_epochs)

    def validate() -> np.ndarray:
        return team.joined(predict(network, X_validation).T, len(validation)).T

    first, curve, best_r2, best_epoch = 0, [], -np.inf, 0
    best = {k: v.clone() for k, v in network.state_dict().items()}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first, curve, best, best_r2, best_epoch = (
            saved[k] for k in ("epoch", "curve", "best", "best_r2", "best_epoch")
        )

    epochs, total = range(first, training.max_epochs), training.max_epochs
    bar = tqdm(epochs, initial=first, total=total, desc="MLP", mininterval=5, disable=not team.first)
    for epoch in bar:
        if epoch - best_epoch >= training.patience:
            break
        torch.manual_seed(training.seed * 1_000_003 + epoch)
        shuffled = np.random.default_rng((training.seed, 41, epoch)).permutation(rows)
        losses = []
        for k in range(0, len(rows), training.batch):
            batch = np.sort(shuffled[k : k + training.batch])  # ascending: the memory map is read forwards, whole rows
            share = team.share(len(batch))
            chosen = batch[share]
            target = torch.as_tensor(read_rows(Z, chosen) / np.float32(unit), device=device)
            voxels = torch.as_tensor(standardise(read_rows(X, chosen)), device=device)
            with autocast():
                out = network(voxels, partial(dropout, len(batch), share))
            loss = nn.functional.mse_loss(out.float(), target, reduction="sum") / (len(batch) * target.shape[1])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            team.sum_all([parameter.grad for parameter in network.parameters()])
            nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimiser.step()
            losses.append(loss.item())
        schedule.step()
        loss, r2 = np.mean(team.sum(np.array(losses))), _variance_weighted_r2(Z_validation, unit * validate())
        curve.append([epoch + 1, float(loss), r2])
        bar.set_postfix(loss=f"{loss:.4f}", validation_r2=f"{r2:.4f}")
        if r2 > best_r2:
            best_r2, best_epoch = r2, epoch + 1
            for k, v in network.state_dict().items():
                best[k].copy_(v)
        state = {
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        }
        state |= {"epoch": epoch + 1, "curve": curve, "best": best, "best_r2": best_r2, "best_epoch": best_epoch}
        if team.first:
            with whole_file(checkpoint) as part:
                torch.save(state, part)
    network.load_state_dict(best)
    with torch.no_grad():
        for layer in network.last_layers:
            layer.weight *= unit
            layer.bias *= unit
    return network.cpu(), NetworkReport(curve, best_epoch, validation, validate())
