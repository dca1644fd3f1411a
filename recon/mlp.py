"""A mini-batch MLP from voxels to targets, with a linear path beside the hidden layer.

    z = A x + C gelu(norm(B x)),   targets = z · basis + intercept

The basis (r × n_targets, orthonormal rows) is fixed: the network learns r coefficients, so that batches are read from a memory map
of r numbers an image. Early stopping and the rescaling statistics use training images held out from the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from tqdm import tqdm

from recon.files import read_tensors, whole_file
from recon.regression import (
    Rescaler,
    Standardiser,
    r2_per_target,
    split_rows,
    statistics_from_tensors,
    statistics_to_tensors,
)

FORMAT = "recon-mlp-1"


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of `fit_mlp`."""

    hidden: int = 512
    input_dropout: float = 0.2
    hidden_dropout: float = 0.5
    learning_rate: float = 5e-4
    weight_decay: float = 0.3
    batch: int = 128
    max_epochs: int = 60
    patience: int = 6  # epochs without a better validation R²
    clip_norm: float = 5.0
    validation_share: float = 0.1
    seed: int = 0


class Network(nn.Module):
    def __init__(self, n_voxels: int, n_out: int, training: Training):
        super().__init__()
        self.linear = nn.Linear(n_voxels, n_out)
        self.inward = nn.Linear(n_voxels, training.hidden)
        self.norm = nn.LayerNorm(training.hidden)
        self.outward = nn.Linear(training.hidden, n_out)
        self.drop_in, self.drop = nn.Dropout(training.input_dropout), nn.Dropout(training.hidden_dropout)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.outward.weight)

    def forward(self, x):
        x = self.drop_in(x)
        return self.linear(x) + self.outward(self.drop(nn.functional.gelu(self.norm(self.inward(x)))))


@dataclass(frozen=True)
class MLP:
    """A fitted network with its fixed basis."""

    standardise: Standardiser
    network: Network
    basis: np.ndarray  # (r, n_targets) float32
    intercept: np.ndarray  # (n_targets,) float32
    rescale: Rescaler

    def coefficients(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) betas -> (n, r)."""
        with torch.inference_mode():
            return self.network(torch.as_tensor(self.standardise(X))).numpy()

    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components."""
        return self.coefficients(X)[:, :components] @ self.basis[:components] + self.intercept

    def save(self, path: Path) -> None:
        """Weights in float16, statistics in float32."""
        tensors = {f"network.{k}": v.numpy().astype(np.float16) for k, v in self.network.state_dict().items()}
        tensors |= {"basis": self.basis.astype(np.float16), "intercept": self.intercept}
        tensors |= statistics_to_tensors(self.standardise, self.rescale)
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> MLP:
        """Raises BadFile if the file is missing, truncated or holds something else."""
        t, _ = read_tensors(path, FORMAT)
        state = {k.removeprefix("network."): torch.tensor(v).float() for k, v in t.items() if k.startswith("network.")}
        n_out, n_voxels = state["linear.weight"].shape
        network = Network(n_voxels, n_out, Training(hidden=len(state["inward.weight"]))).eval()
        network.load_state_dict(state)
        standardise, rescale = statistics_from_tensors(t)
        return cls(standardise, network, t["basis"].astype(np.float32), t["intercept"], rescale)


def _variance_weighted_r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def _predict(network: Network, X: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return network(torch.as_tensor(X)).numpy()


@dataclass(frozen=True)
class MLPReport:
    curve: list[list[float]]  # epoch, training loss, validation R² (variance-weighted over coefficients)
    best_epoch: int
    validation_rows: np.ndarray  # training images held out from the gradient
    validation_coefficients: np.ndarray  # (n_validation, r) predictions for them


def fit_network(X, Z, standardise: Standardiser, training: Training, checkpoint: Path) -> tuple[Network, MLPReport]:
    """Fits voxels X (n, n_voxels) to coefficients Z (n, r), both possibly memory-mapped; the best epoch's weights win.

    Resumes from `checkpoint` (removed at the end). Raises ValueError if X and Z differ in length.
    """
    if len(X) != len(Z):
        raise ValueError(f"expected as many rows of coefficients as of voxels, got {len(Z)} and {len(X)}")
    validation, rows = split_rows(len(X), training.validation_share, training.seed)
    X_validation, Z_validation = standardise(X[validation]), np.asarray(Z[validation], np.float32)
    unit = float(np.sqrt(np.mean(Z_validation.var(0))))  # one scale for all: keeps their relative weight

    torch.manual_seed(training.seed)
    network = Network(X.shape[1], Z.shape[1], training)
    optimiser = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.max_epochs)
    first, curve, best_r2, best_epoch = 0, [], -np.inf, 0
    best = {k: v.clone() for k, v in network.state_dict().items()}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first, curve, best, best_r2, best_epoch = (
            saved[k] for k in ("epoch", "curve", "best", "best_r2", "best_epoch")
        )

    bar = tqdm(range(first, training.max_epochs), initial=first, total=training.max_epochs, desc="MLP", mininterval=5)
    for epoch in bar:
        torch.manual_seed(training.seed * 1_000_003 + epoch)
        shuffled = np.random.default_rng((training.seed, 41, epoch)).permutation(rows)
        network.train()
        losses = []
        for k in range(0, len(rows), training.batch):
            chosen = np.sort(shuffled[k : k + training.batch])  # ascending: the memory map is read forwards
            target = torch.as_tensor(np.asarray(Z[chosen], np.float32) / unit)
            loss = nn.functional.mse_loss(network(torch.as_tensor(standardise(X[chosen]))), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimiser.step()
            losses.append(loss.item())
        schedule.step()
        r2 = _variance_weighted_r2(Z_validation, unit * _predict(network, X_validation))
        curve.append([epoch + 1, float(np.mean(losses)), r2])
        bar.set_postfix(loss=f"{np.mean(losses):.4f}", validation_r2=f"{r2:.4f}")
        if r2 > best_r2:
            best_r2, best_epoch = r2, epoch + 1
            best = {k: v.clone() for k, v in network.state_dict().items()}
        state = {
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        }
        state |= {"epoch": epoch + 1, "curve": curve, "best": best, "best_r2": best_r2, "best_epoch": best_epoch}
        with whole_file(checkpoint) as part:
            torch.save(state, part)
        if epoch + 1 - best_epoch >= training.patience:
            break
    network.load_state_dict(best)
    with torch.no_grad():
        for layer in (network.linear, network.outward):
            layer.weight *= unit
            layer.bias *= unit
    checkpoint.unlink(missing_ok=True)
    return network.eval(), MLPReport(curve, best_epoch, validation, _predict(network, X_validation))


def fit_mlp(X, Y, basis, intercept, training: Training, work: Path) -> tuple[MLP, MLPReport]:
    """MLP from X (n, n_voxels) to Y (n, n_targets), a memory map, through a fixed `basis` (r, n_targets), orthonormal rows.

    `work` is a folder for the projected targets and the checkpoint. Rescaling statistics come from the predictions of
    held-out training images.
    """
    standardise = Standardiser.fit(X)
    projected = np.lib.format.open_memmap(work / "coefficients.npy", "w+", np.float32, (len(Y), len(basis)))
    for k in range(0, len(Y), 512):
        projected[k : k + 512] = (np.asarray(Y[k : k + 512], np.float32) - intercept) @ basis.T
    network, report = fit_network(X, projected, standardise, training, work / "mlp.checkpoint.pt")
    held_out = report.validation_coefficients @ basis + intercept
    truth = np.asarray(Y[report.validation_rows], np.float32)
    rescale = Rescaler.fit(held_out.mean(0), held_out.std(0), truth.mean(0), truth.std(0))
    return MLP(standardise, network, basis, intercept, rescale), report


def validation_r2(Y, mlp: MLP, report: MLPReport) -> np.ndarray:
    """(n_targets,) R² on the held-out training images."""
    return r2_per_target(Y[report.validation_rows], report.validation_coefficients @ mlp.basis + mlp.intercept)
