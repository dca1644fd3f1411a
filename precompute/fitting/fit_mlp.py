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
from precompute.team import ALONE, Team
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
    """A linear model of the same targets: ((x - mean)/sd · weights) · basis + intercept. Of a process's share of q targets."""

    weights: np.ndarray  # (n_voxels, r) float32, fitted to all training images
    basis: np.ndarray  # (r, q) float32; the rows over all targets are orthonormal
    intercept: np.ndarray  # (q,) float32
    held_out: np.ndarray  # (n_validation, r) coefficients for the validation images, by a fit to the others


def best_share(
    truth: np.ndarray, linear: np.ndarray, network: np.ndarray, basis: np.ndarray, team: Team = ALONE
) -> float:
    """The share w in [0, 1] with which w · network + (1 - w) · linear has the highest mean R² over targets, in closed form.

    truth (n, q) less the intercept and `basis` (r, q): this process's share of the targets; linear and network (n, r) coefficients.
    """
    variance = truth.var(0)
    total, count = team.sum(np.array([variance.sum(dtype=np.float64), len(variance)]))
    varies = variance > RELATIVE_VARIANCE * total / count  # others have no R²
    scaled = basis * np.where(varies, 1 / np.where(varies, variance, 1), 0)  # R² counts each target by its own variance
    metric, step = team.sum(basis @ scaled.T), network - linear
    gain, cost = ((team.sum(truth @ scaled.T) - linear @ metric) * step).sum(), (step @ metric * step).sum()
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
def turn_to_principal_axes(
    network: Network, standardise: Standardiser, X, team: Team = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """Turns the network's outputs, in place, to the principal axes of its predictions for X, mean 0.

    Returns turn (r, r) and mean (r,): new outputs = (old - mean) @ turn.
    """
    mine = team.share(len(X))
    spans = [slice(k, min(k + ROWS, mine.stop)) for k in range(mine.start, mine.stop, ROWS)]
    outputs = team.joined(
        np.concatenate([predict(network, standardise(read_rows(X, span))) for span in spans]).T, len(X)
    ).T
    mean = outputs.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.cov(outputs.T.astype(np.float64)).reshape(len(mean), -1))
    T = team.sent(torch.as_tensor(vectors.T[::-1].astype(np.float32)))  # of the first: others may find other signs
    turn = T.numpy().T
    network.outward.bias -= torch.as_tensor(mean, dtype=torch.float32)
    for layer in network.last_layers:
        layer.weight.copy_(T @ layer.weight)
        layer.bias.copy_(T @ layer.bias)
    return turn, mean.astype(np.float32)


def _project(Y, linear: Linear, path: Path, team: Team) -> np.ndarray:
    """Coefficients of Y (n, n_targets) in the basis, (n, r), as a memory map at `path`; some targets by each process."""
    Y = Y[:, team.share(Y.shape[1])]
    if team.first:
        out = np.lib.format.open_memmap(path, "w+", np.float32, (len(Y), len(linear.basis)))
    for k in range(0, len(Y), ROWS):
        block = team.sum((read_rows(Y, slice(k, k + ROWS)) - linear.intercept) @ linear.basis.T)
        if team.first:
            out[k : k + ROWS] = block
    if team.first:
        out.flush()
    team.wait()
    return np.load(path, mmap_mode="r")


def fit_mlp(X, Y, linear: Linear, training: Training, work: Path, team: Team = ALONE) -> tuple[MLP, MLPReport]:
    """MLP from X (n, n_voxels) to Y (n, n_targets), a memory map, through the basis of `linear`, averaged with it.

    With `training.plain` the network predicts Y itself, and `linear` does not matter.
    `work` is a folder for the projected targets and the checkpoint; the caller removes it. Rescaling statistics come from
    the predictions of held-out training images. All processes of a team call this, and get the same.
    Time, in operations, with w = p (r + hidden) + hidden · r weights: 2 n q r for the basis, and 6 n w an epoch.
    Memory, in float32 values: 6 w for weights, gradients, two moments, the best so far and what is cast of them, in every
    process; n p / 10 held-out voxels.
    """
    (n_voxels, n_targets), checkpoint = (X.shape[1], Y.shape[1]), work / "mlp.checkpoint.pt"
    standardise = Standardiser.fit(X) if training.standardise else Standardiser.none(n_voxels)
    Z = Y if training.plain else _project(Y, linear, work / "coefficients.npy", team)
    network, report = fit_network(X, Z, standardise, training, checkpoint, team)
    mine = team.share(n_targets)  # of the targets, as `linear`'s
    truth = read_rows(Y[:, mine], report.validation_rows)
    if training.plain:
        basis, intercept = split_outward(network)
        held, share = (report.validation_coefficients - intercept) @ basis.T, 1.0
        basis, intercept = basis[:, mine], intercept[mine]
    else:
        found = report.validation_coefficients
        share = best_share(truth - linear.intercept, linear.held_out, found, linear.basis, team)
        held = share * found + (1 - share) * linear.held_out
        average(network, linear.weights, share)
        basis, intercept = linear.basis, linear.intercept
    turn, mean = turn_to_principal_axes(network, standardise, X, team)
    held, intercept, basis = (held - mean) @ turn, intercept + mean @ basis, turn.T @ basis
    report = MLPReport(report.curve, report.best_epoch, report.validation_rows, held, share)
    predicted = held @ basis + intercept
    rescale = Rescaler.fit(predicted.mean(0), predicted.std(0), truth.mean(0), truth.std(0))
    whole = [team.joined(part, n_targets) for part in (basis, intercept, rescale.gain, rescale.offset)]
    return MLP(standardise, network, whole[0], whole[1], Rescaler(*whole[2:])), report


def validation_r2(Y, mlp: MLP, report: MLPReport, team: Team = ALONE) -> np.ndarray:
    """(n_targets,) R² on the held-out training images, of some targets by each process."""
    mine = team.share(Y.shape[1])
    predicted = report.validation_coefficients @ mlp.basis[:, mine] + mlp.intercept[mine]
    return team.joined(r2_per_target(read_rows(Y[:, mine], report.validation_rows), predicted), Y.shape[1])
