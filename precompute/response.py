"""Pictures -> responses, small enough for the page: ridge from VDVAE latents to voxels, an alpha a voxel, low rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from precompute.encode import N_COMPONENTS, LatentComponents
from recon.files import open_plain
from recon.regression import split_rows
from recon.ridge import LowRank, fit_ridge

RANK = 48
ALPHAS = np.logspace(0, 6, 13)


def composed(components: LatentComponents, model: LowRank) -> LowRank:
    """A model of principal components as one of the latents themselves."""
    mean, sd = model.standardise.mean, model.standardise.sd
    down = model.down / sd[:, None]
    intercept = model.intercept - (mean @ down) @ model.up
    return LowRank(components.standardise, components.directions @ down, model.up, intercept, model.rescale)


def fit_response(latents: Path, voxels: Path, out: Path, rank: int = RANK) -> dict:
    """Fits training latents (n, n_latents) to averaged training responses (n, n_voxels); writes `response.safetensors`.

    Through 500 principal components of the latents: those of a large VDVAE do not fit in memory. Returns R² of held-out training
    images, mean over voxels, at full rank, and variance-weighted by rank. Raises BadFile for a truncated file.
    """
    Z, Y = open_plain(latents), open_plain(voxels)
    components = LatentComponents.fit(Z, N_COMPONENTS)
    held, _ = split_rows(len(Z))
    groups = {"voxels": slice(0, Y.shape[1])}
    model, report = fit_ridge(components(Z), Y, groups, ALPHAS, rank, held, per_target=True)
    composed(components, model).save(out / "response.safetensors")
    return {
        "rank": model.n_components,
        "validation_r2_mean": float(np.nanmean(report.r2)),
        "by_rank": report.rank_curve,
    }
