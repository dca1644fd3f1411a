"""Ridge's alphas by R² of held-out training images: one for each group of targets, or one for each target."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from recon.device import choose_device
from recon.dual import read_columns, stream
from recon.spectrum import column_blocks

VOTES = 256  # targets of each group that vote on its alpha

Columns = dict[float, np.ndarray | slice]  # alpha -> the targets that it is for


def _gather(Y: np.ndarray, columns: np.ndarray) -> Tensor:
    out = torch.empty(len(Y), len(columns), device=choose_device())
    for span, block in stream(Y):
        out[span] = block[:, columns]
    return out


def _scores(weights: Iterable[Tensor], Y: Tensor, rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """R² of each column of Y (n, q) over `held`, predicted by each of the weights from `rows`: (n_weights, q)."""
    Y = Y - Y[rows].mean(0)
    known, truth = Y[rows], Y[held]
    total = (truth - truth.mean(0)).square().sum(0).clamp(min=1e-12)
    return np.stack([(1 - (truth - w @ known).square().sum(0) / total).cpu().numpy() for w in weights])


def choose_alphas(
    weights: Iterable[Tensor],
    Y: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    groups: dict[str, slice],
    alphas: np.ndarray,
    seed: int,
) -> tuple[dict[str, list[float]], np.ndarray]:
    """By `dual_weights` at every alpha: group -> mean R² at each, and the best of its group for each target (n_targets,).

    At most 256 targets of each group vote.
    """
    rng = np.random.default_rng(seed)
    voters = [
        np.sort(rng.choice(np.arange(g.start, g.stop), min(VOTES, g.stop - g.start), replace=False))
        for g in groups.values()
    ]
    ends = np.cumsum([len(v) for v in voters])[:-1]
    scores = _scores(weights, _gather(Y, np.concatenate(voters)), rows, held)
    curve = {name: part.mean(1).tolist() for name, part in zip(groups, np.split(scores, ends, 1))}
    chosen = np.empty(Y.shape[1])
    for name, g in groups.items():
        chosen[g] = alphas[np.argmax(curve[name])]
    return curve, chosen


def choose_alphas_per_target(
    weights: list[Tensor],
    Y: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    groups: dict[str, slice],
    alphas: np.ndarray,
) -> tuple[dict[str, list[float]], np.ndarray]:
    """Like `choose_alphas`, but each target takes the alpha that is best for itself. Some columns of Y at a time."""
    sums, chosen = {name: np.zeros(len(alphas)) for name in groups}, np.empty(Y.shape[1])
    for name, g in groups.items():
        for part in column_blocks(g.stop, start=g.start):
            scores = _scores(weights, torch.as_tensor(read_columns(Y, part), device=choose_device()), rows, held)
            chosen[part] = alphas[scores.argmax(0)]
            sums[name] += scores.sum(1, dtype=np.float64)
    return {name: (s / (groups[name].stop - groups[name].start)).tolist() for name, s in sums.items()}, chosen


def columns_of(chosen: np.ndarray) -> Columns:
    """alpha -> the targets that have it; `chosen` (n_targets,)."""
    return {float(alpha): np.flatnonzero(chosen == alpha) for alpha in np.unique(chosen)}
