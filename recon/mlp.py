"""A mini-batch MLP from voxels to targets: a hidden layer beside a linear path, averaged with a linear model.

    a = A x + C gelu(norm(B x)),   targets = a · basis + intercept

The basis (r × n_targets, orthonormal rows) is fixed while the network learns r coefficients, so that batches are read from a memory
map of r numbers an image. Afterwards the network is averaged with a linear model of the same targets (ridge): the network knows its
training images' kind better, ridge errs less on others. The network's share is the one with the highest R² on held-out training
images, and the linear model disappears into A. Early stopping and the rescaling statistics use held-out training images too.

`STUDENT` is the plain network of the student project that this one grew from: no linear path, no basis, no z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from tqdm import tqdm

from recon.device import autocast, choose_device
from recon.files import read_tensors, whole_file
from recon.regression import (
    Rescaler,
    Standardiser,
    check_components,
    r2_per_target,
    split_rows,
    statistics_from_tensors,
    statistics_to_tensors,
)

FORMAT = "recon-mlp-1"
ROWS = 512  # at a time, outside training


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


class Network(nn.Module):
    def __init__(self, n_voxels: int, n_out: int, training: Training):
        super().__init__()
        self.linear = None if training.plain else nn.Linear(n_voxels, n_out)
        self.inward = nn.Linear(n_voxels, training.hidden)
        self.norm = nn.LayerNorm(training.hidden)
        self.activation = nn.ReLU() if training.plain else nn.GELU()
        self.outward = nn.Linear(training.hidden, n_out)
        self.drop_in, self.drop = nn.Dropout(training.input_dropout), nn.Dropout(training.hidden_dropout)
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.outward.weight)

    def forward(self, x):
        x = self.drop_in(x)
        out = self.outward(self.drop(self.activation(self.norm(self.inward(x)))))
        return out if self.linear is None else self.linear(x) + out

    @property
    def last_layers(self) -> list[nn.Linear]:
        """Their sum is what comes out."""
        return [self.outward] if self.linear is None else [self.linear, self.outward]


@dataclass(frozen=True)
class MLP:
    """A fitted network with its fixed basis.

    Components are ordered: the first k of them are the best rank-k model of the predictions for training images.
    """

    standardise: Standardiser
    network: Network
    basis: np.ndarray  # (r, n_targets) float32, orthonormal rows
    intercept: np.ndarray  # (n_targets,) float32
    rescale: Rescaler

    def coefficients(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) betas -> (n, r)."""
        return _predict(self.network, self.standardise(X))

    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components.

        `components`: 1 to r, all if None. Raises ValueError for others, and for voxels that do not fit.
        """
        k = check_components(components, len(self.basis))
        return self.coefficients(X)[:, :k] @ self.basis[:k] + self.intercept

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
        hidden, n_voxels = state["inward.weight"].shape
        training = Training(hidden, plain="linear.weight" not in state)
        network = Network(n_voxels, len(state["outward.weight"]), training).eval()
        network.load_state_dict(state)
        standardise, rescale = statistics_from_tensors(t)
        return cls(standardise, network, t["basis"].astype(np.float32), t["intercept"], rescale)


def _variance_weighted_r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def _predict(network: Network, X: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return network(torch.as_tensor(X, device=network.outward.weight.device)).cpu().numpy()


@dataclass(frozen=True)
class MLPReport:
    curve: list[list[float]]  # epoch, training loss, validation R² (variance-weighted over what the network learns)
    best_epoch: int
    validation_rows: np.ndarray  # training images held out from the gradient
    validation_coefficients: np.ndarray  # (n_validation, r) predictions for them
    share: float = 1.0  # of the network in the average with the linear model


def fit_network(X, Z, standardise: Standardiser, training: Training, checkpoint: Path) -> tuple[Network, MLPReport]:
    """Fits voxels X (n, n_voxels) to coefficients Z (n, r), both possibly memory-mapped; the best epoch's weights win.

    Resumes from `checkpoint`, which must be of the same call; the caller removes it. bfloat16 where the hardware is faster in it.
    Raises ValueError if X and Z differ in length.
    """
    if len(X) != len(Z):
        raise ValueError(f"expected as many rows of coefficients as of voxels, got {len(Z)} and {len(X)}")
    device = choose_device()
    validation, rows = split_rows(len(X), training.validation_share, training.seed)
    X_validation, Z_validation = standardise(X[validation]), np.asarray(Z[validation], np.float32)
    # one scale for all coefficients: keeps their relative weight
    unit = 1.0 if training.plain else float(np.sqrt(np.mean(Z_validation.var(0))))

    torch.manual_seed(training.seed)
    network = Network(X.shape[1], Z.shape[1], training).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.max_epochs)
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

    bar = tqdm(range(first, training.max_epochs), initial=first, total=training.max_epochs, desc="MLP", mininterval=5)
    for epoch in bar:
        if epoch - best_epoch >= training.patience:
            break
        torch.manual_seed(training.seed * 1_000_003 + epoch)
        shuffled = np.random.default_rng((training.seed, 41, epoch)).permutation(rows)
        network.train()
        losses = []
        for k in range(0, len(rows), training.batch):
            chosen = np.sort(shuffled[k : k + training.batch])  # ascending: the memory map is read forwards, whole rows
            target = torch.as_tensor(np.asarray(Z[chosen], np.float32) / np.float32(unit), device=device)
            voxels = torch.as_tensor(standardise(X[chosen]), device=device)
            with autocast():
                out = network(voxels)
            loss = nn.functional.mse_loss(out.float(), target)
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
    network.load_state_dict(best)
    with torch.no_grad():
        for layer in network.last_layers:
            layer.weight *= unit
            layer.bias *= unit
    return network.eval().cpu(), MLPReport(curve, best_epoch, validation, _predict(network, X_validation))


# --- what becomes of the network --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """A linear model of the same targets: ((x - mean)/sd · weights) · basis + intercept."""

    weights: np.ndarray  # (n_voxels, r) float32, fitted to all training images
    basis: np.ndarray  # (r, n_targets) float32, orthonormal rows
    intercept: np.ndarray  # (n_targets,) float32
    held_out: np.ndarray  # (n_validation, r) coefficients for the validation images, by a fit to the others


def best_share(truth: np.ndarray, linear: np.ndarray, network: np.ndarray, basis: np.ndarray) -> float:
    """The share w in [0, 1] with which w · network + (1 - w) · linear has the highest mean R² over targets, in closed form.

    truth (n, n_targets) less the intercept; linear and network (n, r) coefficients of `basis` (r, n_targets).
    """
    variance = truth.var(0)
    varies = variance > 1e-6 * variance.mean()  # others have no R²
    scaled = basis * np.where(varies, 1 / np.where(varies, variance, 1), 0)  # R² counts each target by its own variance
    metric, step = basis @ scaled.T, network - linear
    gain, cost = ((truth @ scaled.T - linear @ metric) * step).sum(), (step @ metric * step).sum()
    return float(np.clip(gain / max(cost, 1e-12), 0, 1))


@torch.no_grad()
def average(network: Network, weights: np.ndarray, share: float) -> None:
    """The network becomes share · network + (1 - share) · (x · weights), in place."""
    for layer in network.last_layers:
        layer.weight *= share
        layer.bias *= share
    network.linear.weight += (1 - share) * torch.as_tensor(weights).T


@torch.no_grad()
def split_outward(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Makes a plain network's last layer (n_targets, hidden) the product of a basis and a small one: basis, intercept."""
    Q, R = torch.linalg.qr(network.outward.weight)
    intercept = network.outward.bias.numpy().copy()
    network.outward = nn.Linear(R.shape[1], R.shape[0])
    network.outward.weight.copy_(R)
    network.outward.bias.zero_()
    return np.ascontiguousarray(Q.T.numpy()), intercept


@torch.no_grad()
def turn_to_principal_axes(network: Network, standardise: Standardiser, X) -> tuple[np.ndarray, np.ndarray]:
    """Turns the network's outputs, in place, to the principal axes of its predictions for X, mean 0.

    Returns turn (r, r) and mean (r,): new outputs = (old - mean) @ turn.
    """
    outputs = np.concatenate([_predict(network, standardise(X[k : k + ROWS])) for k in range(0, len(X), ROWS)])
    mean = outputs.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.cov(outputs.T.astype(np.float64)).reshape(len(mean), -1))
    turn = vectors[:, ::-1].astype(np.float32)
    T = torch.as_tensor(turn.T.copy())
    network.outward.bias -= torch.as_tensor(mean, dtype=torch.float32)
    for layer in network.last_layers:
        layer.weight.copy_(T @ layer.weight)
        layer.bias.copy_(T @ layer.bias)
    return turn, mean.astype(np.float32)


def _project(Y, linear: Linear, path: Path) -> np.ndarray:
    """Coefficients of Y (n, n_targets) in the basis, (n, r), as a memory map at `path`."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (len(Y), len(linear.basis)))
    for k in range(0, len(Y), ROWS):
        out[k : k + ROWS] = (np.asarray(Y[k : k + ROWS], np.float32) - linear.intercept) @ linear.basis.T
    return out


def fit_mlp(X, Y, linear: Linear, training: Training, work: Path) -> tuple[MLP, MLPReport]:
    """MLP from X (n, n_voxels) to Y (n, n_targets), a memory map, through the basis of `linear`, averaged with it.

    With `training.plain` the network predicts Y itself, and `linear` does not matter.
    `work` is a folder for the projected targets and the checkpoint; the caller removes it. Rescaling statistics come from
    the predictions of held-out training images.
    """
    n_voxels, checkpoint = X.shape[1], work / "mlp.checkpoint.pt"
    standardise = Standardiser.fit(X) if training.standardise else Standardiser.none(n_voxels)
    if training.plain:
        network, report = fit_network(X, Y, standardise, training, checkpoint)
        truth = np.asarray(Y[report.validation_rows], np.float32)
        basis, intercept = split_outward(network)
        held, share = (report.validation_coefficients - intercept) @ basis.T, 1.0
    else:
        Z = _project(Y, linear, work / "coefficients.npy")
        network, report = fit_network(X, Z, standardise, training, checkpoint)
        truth = np.asarray(Y[report.validation_rows], np.float32)
        share = best_share(truth - linear.intercept, linear.held_out, report.validation_coefficients, linear.basis)
        held = share * report.validation_coefficients + (1 - share) * linear.held_out
        average(network, linear.weights, share)
        basis, intercept = linear.basis, linear.intercept
    turn, mean = turn_to_principal_axes(network, standardise, X)
    held, intercept, basis = (held - mean) @ turn, intercept + mean @ basis, turn.T @ basis
    report = MLPReport(report.curve, report.best_epoch, report.validation_rows, held, share)
    predicted = held @ basis + intercept
    rescale = Rescaler.fit(predicted.mean(0), predicted.std(0), truth.mean(0), truth.std(0))
    return MLP(standardise, network, basis, intercept, rescale), report


def validation_r2(Y, mlp: MLP, report: MLPReport) -> np.ndarray:
    """(n_targets,) R² on the held-out training images."""
    return r2_per_target(Y[report.validation_rows], report.validation_coefficients @ mlp.basis + mlp.intercept)
