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
from torch import nn

from precompute.fitting.train_network import NetworkReport, Training, fit_network
from recon.regressors.mlp import MLP, Network, predict
from recon.regressors.rows import read_rows
from recon.regressors.standardise import RELATIVE_VARIANCE, Rescaler, Standardiser, r2_per_target

ROWS = 512  # at a time, outside training


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

    truth (n, q) less the intercept; basis (r, q); linear and network (n, r) coefficients.
    """
    variance = truth.var(0)
    varies = variance > RELATIVE_VARIANCE * variance.mean(dtype=np.float64)  # others have no R²
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
    spans = (slice(k, k + ROWS) for k in range(0, len(X), ROWS))
    outputs = np.concatenate([predict(network, standardise(read_rows(X, span))) for span in spans])
    mean = outputs.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.cov(outputs.T.astype(np.float64)).reshape(len(mean), -1))
    T = torch.as_tensor(vectors.T[::-1].astype(np.float32))
    network.outward.bias -= torch.as_tensor(mean, dtype=torch.float32)
    for layer in network.last_layers:
        layer.weight.copy_(T @ layer.weight)
        layer.bias.copy_(T @ layer.bias)
    return T.numpy().T, mean.astype(np.float32)


def _project(Y, linear: Linear, path: Path) -> np.ndarray:
    """Coefficients of Y (n, n_targets) in the basis, (n, r), as a memory map at `path`."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (len(Y), len(linear.basis)))
    for k in range(0, len(Y), ROWS):
        out[k : k + ROWS] = (read_rows(Y, slice(k, k + ROWS)) - linear.intercept) @ linear.basis.T
    out.flush()
    return np.load(path, mmap_mode="r")


def fit_mlp(X, Y, linear: Linear, training: Training, work: Path) -> tuple[MLP, MLPReport]:
    """MLP from X (n, n_voxels) to Y (n, n_targets), a memory map, through the basis of `linear`, averaged with it.

    With `training.plain` the network predicts Y itself, and `linear` does not matter.
    `work` is a folder for the projected targets and the checkpoint; the caller removes it. Rescaling statistics come from
    the predictions of held-out training images.
    Time, in operations, with w = p (r + hidden) + hidden · r weights: 2 n q r for the basis, and 6 n w an epoch.
    Memory, in float32 values: 6 w for weights, gradients, two moments, the best so far and what is cast of them; n p / 10 held-out
    voxels.
    """
    standardise = Standardiser.fit(X) if training.standardise else Standardiser.none(X.shape[1])
    Z = Y if training.plain else _project(Y, linear, work / "coefficients.npy")
    network, report = fit_network(X, Z, standardise, training, work / "mlp.checkpoint.pt")
    truth, held, share = read_rows(Y, report.validation_rows), report.validation_coefficients, 1.0
    if training.plain:
        basis, intercept = split_outward(network)
        held = (held - intercept) @ basis.T
    else:
        basis, intercept = linear.basis, linear.intercept
        share = best_share(truth - intercept, linear.held_out, held, basis)
        held = share * held + (1 - share) * linear.held_out
        average(network, linear.weights, share)
    turn, mean = turn_to_principal_axes(network, standardise, X)
    held, intercept, basis = (held - mean) @ turn, intercept + mean @ basis, turn.T @ basis
    report = MLPReport(**vars(report) | {"validation_coefficients": held}, share=share)
    predicted = held @ basis + intercept
    rescale = Rescaler.fit(predicted.mean(0), predicted.std(0), truth.mean(0), truth.std(0))
    return MLP(standardise, network, basis, intercept, rescale), report


def validation_r2(Y, mlp: MLP, report: MLPReport) -> np.ndarray:
    """(n_targets,) R² on the held-out training images."""
    predicted = report.validation_coefficients @ mlp.basis + mlp.intercept
    return r2_per_target(read_rows(Y, report.validation_rows), predicted)
