"""Ridge's alphas by R² of held-out training images: one for each group of targets, or one for each target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precompute.fitting.dual import Columns, stream
from precompute.fitting.spectrum import column_blocks
from recon.device import choose_device
from recon.regressors.rows import read_rows
from recon.regressors.standardise import constant

VOTES = 256  # targets of each group that vote on its alpha

RUN = 64  # targets in a run, on average, above which runs are worth it


@dataclass(frozen=True)
class Split:
    """Rows of the training images that a fit uses, and those that it is scored on."""

    rows: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Grid:
    """Alphas to choose from, and the targets' columns that share one."""

    alphas: np.ndarray
    groups: dict[str, slice]


@dataclass(frozen=True)
class Choice:
    curve: dict[str, list[float]]  # group -> mean R² at each alpha
    chosen: np.ndarray  # (n_targets,) alpha of each


def _gather(Y: np.ndarray, columns: np.ndarray) -> Tensor:
    out = torch.empty(len(Y), len(columns), device=choose_device())
    for span, block in stream(Y):
        out[span] = block[:, columns]
    return out


def _scores(weights: Iterable[Tensor], Y: Tensor, split: Split) -> np.ndarray:
    """R² of each column of Y (n, q) over the held-out rows, by each of the weights: (n_weights, q), NaN where constant."""
    known, truth = Y[split.rows], Y[split.held]
    mean, about_zero = known.mean(0), truth.square().sum(0)
    known.sub_(mean)
    truth.sub_(mean)
    total = (truth - truth.mean(0)).square().sum(0)
    without = constant(total.cpu().numpy(), about_zero.cpu().numpy())
    total[torch.as_tensor(without, device=total.device)] = torch.nan
    return np.stack([(1 - (truth - w @ known).square().sum(0) / total).cpu().numpy() for w in weights])


def _means(scores: np.ndarray) -> list[float]:
    """R² (n_weights, q) -> its mean over the targets that vary, for each of the weights; 0 where none does."""
    varying = scores[:, np.isfinite(scores[0])]
    return (varying.sum(1, dtype=np.float64) / max(varying.shape[1], 1)).tolist()


def choose_alphas(weights: Iterable[Tensor], Y: np.ndarray, split: Split, grid: Grid, seed: int) -> Choice:
    """By `dual_weights` at every alpha of the grid: the best for each group of targets. At most 256 of each group vote."""
    rng, groups = np.random.default_rng(seed), grid.groups
    voters = [
        np.sort(rng.choice(np.arange(g.start, g.stop), min(VOTES, g.stop - g.start), replace=False))
        for g in groups.values()
    ]
    scores = _scores(weights, _gather(Y, np.concatenate(voters)), split)
    parts = np.split(scores, np.cumsum([len(v) for v in voters])[:-1], 1)
    curve = {name: _means(part) for name, part in zip(groups, parts)}
    chosen = np.empty(Y.shape[1])
    for name, g in groups.items():
        chosen[g] = grid.alphas[np.argmax(curve[name])]
    return Choice(curve, chosen)


def choose_alphas_per_target(weights: list[Tensor], Y: np.ndarray, split: Split, grid: Grid) -> Choice:
    """Like `choose_alphas`, but each target takes the alpha that is best for itself. Some columns of Y at a time."""
    curve, chosen = {}, np.empty(Y.shape[1])
    for name, g in grid.groups.items():
        scores = []
        for part in column_blocks(g.stop, start=g.start):
            values = torch.as_tensor(read_rows(Y[:, part]), device=choose_device())
            scores.append(_scores(weights, values, split))
            chosen[part] = grid.alphas[scores[-1].argmax(0)]
        curve[name] = _means(np.hstack(scores))
    return Choice(curve, chosen)


def columns_of(chosen: np.ndarray) -> Columns:
    """Which targets have which alpha, `chosen` (n_targets,): by runs of neighbours where these are long, which spares copies."""
    edges = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist(), len(chosen)]
    if len(edges) - 1 <= max(1, len(chosen) // RUN):
        return [(float(chosen[a]), slice(a, b)) for a, b in zip(edges, edges[1:])]
    return [(float(alpha), np.flatnonzero(chosen == alpha)) for alpha in np.unique(chosen)]
