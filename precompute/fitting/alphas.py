"""Ridge's alphas by R² of held-out training images: one for each group of targets, or one for each target."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from precompute.fitting.dual import stream
from precompute.fitting.spectrum import column_blocks
from precompute.team import ALONE, Team
from recon.device import choose_device
from recon.regressors.rows import read_rows
from recon.regressors.standardise import constant

VOTES = 256  # targets of each group that vote on its alpha

Columns = dict[float, np.ndarray | slice]  # alpha -> the targets that it is for


def _gather(Y: np.ndarray, columns: np.ndarray) -> Tensor:
    out = torch.empty(len(Y), len(columns), device=choose_device())
    for span, block in stream(Y):
        out[span] = block[:, columns]
    return out


def _scores(weights: Iterable[Tensor], Y: Tensor, rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """R² of each column of Y (n, q) over `held`, by each of the weights from `rows`: (n_weights, q), NaN where constant."""
    about_zero = Y[held].square().sum(0).cpu().numpy()
    Y = Y - Y[rows].mean(0)
    known, truth = Y[rows], Y[held]
    total = (truth - truth.mean(0)).square().sum(0)
    total[torch.as_tensor(constant(total.cpu().numpy(), about_zero))] = torch.nan
    return np.stack([(1 - (truth - w @ known).square().sum(0) / total).cpu().numpy() for w in weights])


def choose_alphas(
    weights: Iterable[Tensor],
    Y: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    groups: dict[str, slice],
    alphas: np.ndarray,
    seed: int,
    team: Team = ALONE,
) -> tuple[dict[str, list[float]], np.ndarray]:
    """By `dual_weights` at every alpha: group -> mean R² at each, and the best of its group for each target (n_targets,).

    At most 256 targets of each group vote. Each process of the team scores those of its share.
    """
    rng, mine = np.random.default_rng(seed), team.share(Y.shape[1])
    voters = [
        np.sort(rng.choice(np.arange(g.start, g.stop), min(VOTES, g.stop - g.start), replace=False))
        for g in groups.values()
    ]
    here = [v[(mine.start <= v) & (v < mine.stop)] - mine.start for v in voters]
    scores = _scores(weights, _gather(Y[:, mine], np.concatenate(here)), rows, held)
    parts = np.split(scores, np.cumsum([len(v) for v in here])[:-1], 1)
    sums = team.sum(np.stack([np.nansum(part, 1, dtype=np.float64) for part in parts]))
    counts = team.sum(np.array([np.isfinite(part[0]).sum() for part in parts], np.float64))
    curve = {name: (s / max(n, 1)).tolist() for name, s, n in zip(groups, sums, counts)}
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
    team: Team = ALONE,
) -> tuple[dict[str, list[float]], np.ndarray]:
    """Like `choose_alphas`, but each target takes the alpha that is best for itself. Some columns of Y at a time."""
    mine = team.share(Y.shape[1])
    sums, counts, chosen = np.zeros((len(groups), len(alphas))), np.zeros(len(groups)), np.zeros(Y.shape[1])
    for k, (total, g) in enumerate(zip(sums, groups.values())):
        for part in column_blocks(min(g.stop, mine.stop), start=max(g.start, mine.start)):
            values = torch.as_tensor(read_rows(Y[:, part]), device=choose_device())
            scores = _scores(weights, values, rows, held)
            chosen[part] = alphas[scores.argmax(0)]
            total += np.nansum(scores, 1, dtype=np.float64)
            counts[k] += np.isfinite(scores[0]).sum()
    curve = {name: (s / max(n, 1)).tolist() for name, s, n in zip(groups, team.sum(sums), team.sum(counts))}
    return curve, team.sum(chosen)


def columns_of(chosen: np.ndarray, mine: slice = slice(None)) -> Columns:
    """alpha -> those of targets `mine` that have it, counted from the first of them; `chosen` (n_targets,)."""
    return {float(alpha): np.flatnonzero(chosen[mine] == alpha) for alpha in np.unique(chosen)}
