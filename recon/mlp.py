"""A mini-batch MLP from voxels to targets: a hidden layer beside a linear path, averaged with a linear model.

    a = A x + C gelu(norm(B x)),   targets = a · basis + intercept

The basis (r × n_targets, orthonormal rows) is fixed while the network learns r coefficients, so that batches are read from a memory
map of r numbers an image. Afterwards the network is averaged with a linear model of the same targets (ridge): the network knows its
training images' kind better, ridge errs less on others. The network's share is the one with the highest R² on held-out training
images, and the linear model disappears into A. Early stopping and the rescaling statistics use held-out training images too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from recon.files import read_tensors, whole_file
from recon.network import Network, NetworkReport, Training, fit_network, predict
from recon.regression import (
    Rescaler,
    Standardiser,
    check_components,
    r2_per_target,
    statistics_from_tensors,
    statistics_to_tensors,
)

FORMAT = "recon-mlp-1"
ROWS = 512  # at a time, outside training


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
        return predict(self.network, self.standardise(X))

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


@dataclass(frozen=True)
class MLPReport(NetworkReport):
    """Coefficients are those of the average."""

    share: float  # of the network in the average with the linear model


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
    outputs = np.concatenate([predict(network, standardise(X[k : k + ROWS])) for k in range(0, len(X), ROWS)])
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
