"""Voxels -> latents, prompt embedding, image embedding: ridge and MLP, fitted to training images alone.

`python -m precompute fit` and `demo` run it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from precompute.blocks import remove_leftovers
from precompute.fitting.curves import draw_alphas
from precompute.fitting.fit_mlp import Linear, MLPReport, fit_mlp, validation_r2
from precompute.fitting.fit_ridge import RidgeReport, fit_ridge
from precompute.fitting.train_network import Training
from precompute.team import Team, team
from recon.decoders.vdvae import VDVAE
from recon.files import fingerprint, load_json, open_plain, save_array, save_json
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import split_rows

ALPHAS = np.logspace(1, 7, 13)
BRAIN_DIFFUSER = {"latents": (5e4,), "prompt": (1e5,), "image": (6e4,)}  # Ozcelik & VanRullen's alphas, fixed by hand
WEIGHTS = ("ridge.safetensors", "mlp.safetensors")

Groups = dict[str, slice]  # name -> columns of the targets


def layer_groups(vdvae: VDVAE, n_layers: int) -> Groups:
    """One group of columns per stochastic layer, named after its number and resolution."""
    ends = [vdvae.n_latents(k) for k in range(n_layers + 1)]
    shapes = vdvae.layer_shapes()
    return {f"layer {k} ({shapes[k][1]}×{shapes[k][1]})": slice(ends[k], ends[k + 1]) for k in range(n_layers)}


def inputs(voxels: Path, targets: Path) -> dict[str, str]:
    """Fingerprints that tell whether they were made anew since a fit."""
    return {"voxels": fingerprint(voxels), "targets": fingerprint(targets)}


def fit(
    target: str,
    voxels: Path,
    targets: Path,
    groups: Groups,
    out: Path,
    rank: int,
    training: Training,
    alphas: Sequence[float] = ALPHAS,
    per_target: bool = False,
) -> dict:
    """Writes `TARGET_ridge.safetensors`, `TARGET_mlp.safetensors`, R² of training images per column, alphas, and last
    `TARGET_fit.json`; whatever an earlier fit to other inputs or with other choices left is removed first. The processes of a team
    share the work.

    `targets` (n, n_targets); the columns of one of `groups` share one of the `alphas`, or each has its own if `per_target`.
    Returns what the JSON file holds, and whether it was there already. A run that was killed goes on at the MLP's last epoch.
    Raises BadFile for a truncated file, ValueError for NaN or infinity in either, or numbers of rows that differ.
    """
    X, Y, sources = open_plain(voxels), open_plain(targets), inputs(voxels, targets)
    choices = {"rank": rank, "training": asdict(training), "alphas": list(alphas), "per_target": per_target}
    columns = {name: [g.start, g.stop] for name, g in groups.items()}
    job = hashlib.sha256(json.dumps([sources, choices, columns]).encode()).hexdigest()
    report, work, me = out / f"{target}_fit.json", out / f"{target}_mlp", team()
    found = me.agreed(load_json(report) if me.first and report.exists() else {})
    if found.get("job") == job:
        return found | {"already finished": True}
    if me.first:
        for name in ("fit.json", *WEIGHTS):
            (out / f"{target}_{name}").unlink(missing_ok=True)
        remove_leftovers(out, f"{target}_*")
        _prepare_work(work, job)
    me.wait()
    summary = {"job": job, "inputs": sources, "n_images": len(X), "n_voxels": X.shape[1], "n_targets": Y.shape[1]}
    summary |= _fit(target, X, Y, groups, out, rank, training, alphas, per_target, work, me)
    if me.first:
        save_json(report, summary)
        shutil.rmtree(work)
    return summary | {"already finished": False}


def _prepare_work(work: Path, job: str) -> None:
    """Makes `work` the folder of this job's unfinished work; that of another is removed."""
    mark = work / "job.json"
    if not (mark.exists() and load_json(mark) == job):
        shutil.rmtree(work, ignore_errors=True)
        save_json(mark, job)


def _fit(target, X, Y, groups: Groups, out, rank, training: Training, alphas, per_target, work, me: Team) -> dict:
    # the MLP's split: both are scored on the same images
    held, _ = split_rows(len(X), training.validation_share, training.seed)
    ridge, report = fit_ridge(X, Y, groups, alphas, rank, held, per_target=per_target, team=me)
    if me.first:
        ridge.save(out / f"{target}_ridge.safetensors")
        save_array(out / f"{target}_ridge_cv_r2.npy", report.r2)
        save_array(out / f"{target}_alphas.npy", report.chosen)
        draw_alphas(out / f"{target}_alphas.svg", target, report.alphas, report.curve)

    mlp, mlp_report = fit_mlp(X, Y, linear_model(ridge, report, me), training, work, me)
    mlp_r2 = validation_r2(Y, mlp, mlp_report, me)
    if me.first:
        mlp.save(out / f"{target}_mlp.safetensors")
        save_array(out / f"{target}_mlp_cv_r2.npy", mlp_r2)
    return {
        "rank": ridge.up.shape[0],
        "ridge": _ridge_summary(report, groups),
        "mlp": _mlp_summary(mlp_report, mlp_r2, training, groups),
    }


def linear_model(ridge: LowRank, report: RidgeReport, me: Team) -> Linear:
    """Ridge as the MLP's partner: in the basis of the fit that did not see the held-out images."""
    basis, mine = report.basis, me.share(len(ridge.intercept))
    intercept = ridge.intercept[mine]
    held_out = me.sum((report.predicted - intercept) @ basis.T)
    return Linear(ridge.down @ me.sum(ridge.up[:, mine] @ basis.T), basis, intercept, held_out)


def _r2_summary(r2: np.ndarray, groups: Groups) -> dict:
    """Means over targets that vary."""
    per_group = {name: r2[g] for name, g in groups.items()}
    return {
        "validation_r2_mean": float(np.nanmean(r2)),
        "validation_r2_per_group": {k: float(np.nanmean(v)) for k, v in per_group.items() if not np.isnan(v).all()},
    }


def _ridge_summary(report: RidgeReport, groups: Groups) -> dict:
    values, counts = np.unique(report.chosen, return_counts=True)
    return _r2_summary(report.r2, groups) | {
        "alphas": report.alphas.tolist(),
        "chosen_alpha": {name: float(np.median(report.chosen[g])) for name, g in groups.items()},
        "targets_per_alpha": {f"{a:g}": int(n) for a, n in zip(values, counts)},
        "validation_r2_curve": report.curve,
        "validation_r2_by_rank": report.rank_curve,
    }


def _mlp_summary(report: MLPReport, r2: np.ndarray, training: Training, groups: Groups) -> dict:
    return _r2_summary(r2, groups) | {
        "training": asdict(training),
        "curve_columns": ["epoch", "training loss", "validation R² (variance-weighted)"],
        "curve": report.curve,
        "best_epoch": report.best_epoch,
        "share_of_network": report.share,
    }
