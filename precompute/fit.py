"""Voxels -> latents, prompt embedding, image embedding: ridge and MLP, fitted to training images alone.

`python -m precompute demo` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.files import open_plain, save_array, save_json
from recon.mlp import Training, fit_mlp, validation_r2
from recon.regression import split_rows
from recon.ridge import fit_ridge
from recon.vdvae import VDVAE

ALPHAS = np.logspace(1, 7, 13)
BRAIN_DIFFUSER = {"latents": (5e4,), "prompt": (1e5,), "image": (6e4,)}  # Ozcelik & VanRullen's alphas, fixed by hand


def layer_groups(vdvae: VDVAE, n_layers: int) -> dict[str, slice]:
    """One group of columns per stochastic layer, named after its number and resolution."""
    ends = [vdvae.n_latents(k) for k in range(n_layers + 1)]
    shapes = vdvae.layer_shapes()
    return {f"layer {k} ({shapes[k][1]}×{shapes[k][1]})": slice(ends[k], ends[k + 1]) for k in range(n_layers)}


def fit(
    target: str,
    voxels: Path,
    targets: Path,
    groups: dict[str, slice],
    out: Path,
    rank: int,
    training: Training,
    alphas: Sequence[float] = ALPHAS,
) -> dict:
    """Writes `TARGET_ridge.safetensors`, `TARGET_mlp.safetensors`, R² of training images per column, and `TARGET_fit.json`.

    `targets` (n, n_targets); the columns of one of `groups` share one of the `alphas`. Returns what the JSON file holds.
    Raises BadFile for a truncated file, ValueError for voxels that are NaN or infinite, or numbers of rows that differ.
    """
    X, Y = open_plain(voxels), open_plain(targets)
    # the MLP's split: both are scored on the same images
    held, _ = split_rows(len(X), training.validation_share, training.seed)
    ridge, report = fit_ridge(X, Y, groups, alphas, rank, held)
    ridge.save(out / f"{target}_ridge.safetensors")
    save_array(out / f"{target}_ridge_cv_r2.npy", report.r2)

    basis = ridge.up / np.linalg.norm(ridge.up, axis=1, keepdims=True)
    work = out / f"{target}_mlp"  # of the projected targets and the checkpoint
    work.mkdir(exist_ok=True)
    mlp, mlp_report = fit_mlp(X, Y, basis, ridge.intercept, training, work)
    mlp.save(out / f"{target}_mlp.safetensors")
    mlp_r2 = validation_r2(Y, mlp, mlp_report)
    save_array(out / f"{target}_mlp_cv_r2.npy", mlp_r2)

    per_group = {name: float(np.nanmean(report.r2[columns])) for name, columns in groups.items()}
    summary = {
        "n_images": len(X),
        "n_voxels": X.shape[1],
        "n_targets": Y.shape[1],
        "rank": ridge.up.shape[0],
        "ridge": {
            "alphas": report.alphas.tolist(),
            "chosen_alpha": report.chosen,
            "validation_r2_curve": report.curve,
            "validation_r2_mean": float(np.nanmean(report.r2)),
            "validation_r2_per_group": per_group,
            "validation_r2_by_rank": report.rank_curve,
        },
        "mlp": {
            "training": training.__dict__,
            "curve_columns": ["epoch", "training loss", "validation R² (variance-weighted)"],
            "curve": mlp_report.curve,
            "best_epoch": mlp_report.best_epoch,
            "validation_r2_mean": float(np.nanmean(mlp_r2)),
        },
    }
    save_json(out / f"{target}_fit.json", summary)
    return summary
