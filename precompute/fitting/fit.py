"""Voxels -> latents, prompt embedding, image embedding: ridge and MLP, fitted to training images alone.

`python -m precompute fit` and `demo` run it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from precompute.fitting.alphas import Grid
from precompute.fitting.curves import draw_alphas
from precompute.fitting.fit_mlp import Linear, MLPReport, fit_mlp, validation_r2
from precompute.fitting.fit_ridge import RidgeReport, fit_ridge
from precompute.fitting.train_network import Training
from precompute.fitting.whole_ridge import fit_whole
from precompute.stage import Stage, place_of
from recon.bundle.subject import load_subject
from recon.decoders.vdvae import VDVAE
from recon.files import open_plain, save_array, save_json
from recon.recipes import BRAIN_DIFFUSER, RECIPES
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import split_rows

ALPHAS = tuple(np.logspace(1, 7, 13).tolist())
PUBLISHED_ALPHAS = {"latents": (5e4,), "prompt": (1e5,), "image": (6e4,)}  # Ozcelik & VanRullen's alphas, fixed by hand
FILES = (
    "ridge.safetensors",
    "mlp.safetensors",
    "ridge_cv_r2.npy",
    "mlp_cv_r2.npy",
    "alphas.npy",
    "alphas.svg",
    "fit.json",
)

Groups = dict[str, slice]  # name -> columns of the targets


def layer_groups(vdvae: VDVAE, n_layers: int) -> Groups:
    """One group of columns per stochastic layer, named after its number and resolution."""
    ends = [vdvae.n_latents(k) for k in range(n_layers + 1)]
    shapes = vdvae.layer_shapes()
    return {f"layer {k} ({shapes[k][1]}×{shapes[k][1]})": slice(ends[k], ends[k + 1]) for k in range(n_layers)}


@dataclass(frozen=True)
class Fit:
    """The regressors of one target, and how they are fitted.

    The targets' columns of one of `groups` share one of the `alphas`; if `per_target`, each column has its own. `published`: a
    subject's file, by whose test responses ridge is fitted as Brain-Diffuser's (`precompute.fitting.whole_ridge`).
    """

    target: str
    groups: Groups
    rank: int
    training: Training
    alphas: tuple[float, ...] = ALPHAS
    per_target: bool = False
    published: Path | None = None

    @property
    def recipe(self) -> str:
        """Of `recon.recipes.RECIPES`."""
        return BRAIN_DIFFUSER if self.published else next(iter(RECIPES))

    def settings(self) -> dict:
        """For JSON."""
        choices = {"rank": self.rank, "alphas": list(self.alphas), "per_target": self.per_target, "recipe": self.recipe}
        columns = {name: [g.start, g.stop] for name, g in self.groups.items()}
        return choices | {"training": asdict(self.training), "groups": columns}


def fit_stage(
    job: Fit, voxels: Path, targets: Path, out: Path, makers: tuple[str, str] = ("prepare", "features")
) -> Stage:
    """Makes `TARGET_ridge.safetensors`, `TARGET_mlp.safetensors`, R² of training images per column, alphas, and a report,
    `TARGET_fit.json`. A run that was killed goes on at the MLP's last epoch.

    voxels (n, n_voxels), targets (n, n_targets): `.npy` files; `makers`: the commands that make them.
    """
    name, outputs = f"fit {job.target}", tuple(out / f"{job.target}_{name}" for name in FILES)
    run = partial(fit_to_files, job, voxels, targets, out, place_of(out, name))
    inputs = dict(zip((voxels, targets), makers)) | ({job.published: makers[0]} if job.published else {})
    return Stage(name, inputs, outputs, run, job.settings())


def fit_to_files(job: Fit, voxels: Path, targets: Path, out: Path, work: Path) -> dict:
    """Fits, and writes the files of the stage; returns the report. `work` keeps the MLP's last epoch.

    Raises BadFile for a truncated file, ValueError for NaN or infinity in either, or numbers of rows that differ.
    """
    X, Y, (ridge_file, mlp_file, *_) = (
        open_plain(voxels),
        open_plain(targets),
        (out / f"{job.target}_{n}" for n in FILES),
    )
    # the MLP's split: both are scored on the same images
    held, _ = split_rows(len(X), job.training.validation_share, job.training.seed)
    ridge, ridge_report = fit_ridge(X, Y, Grid(np.array(job.alphas), job.groups), job.rank, held, job.per_target)
    saved, dtype = ridge, np.float16
    if job.published:
        saved = fit_whole(X, Y, ridge_report.chosen, load_subject(job.published).test.averaged())
        dtype = np.float32  # float16 alone would leave out more than a thousandth
    saved.save(ridge_file, dtype)
    save_array(out / f"{job.target}_ridge_cv_r2.npy", ridge_report.r2)
    save_array(out / f"{job.target}_alphas.npy", ridge_report.chosen)
    draw_alphas(out / f"{job.target}_alphas.svg", job.target, ridge_report.alphas, ridge_report.curve)
    mlp, mlp_report = fit_mlp(X, Y, linear_model(ridge, ridge_report), job.training, work)
    mlp_r2 = validation_r2(Y, mlp, mlp_report)
    mlp.save(mlp_file)
    save_array(out / f"{job.target}_mlp_cv_r2.npy", mlp_r2)
    report = {
        "n_images": len(X),
        "n_voxels": X.shape[1],
        "n_targets": Y.shape[1],
        "rank": len(saved.up),
        "recipe": job.recipe,
        "ridge": _ridge_summary(ridge_report, job.groups),
        "mlp": _mlp_summary(mlp_report, mlp_r2, job.training, job.groups),
    }
    save_json(out / f"{job.target}_fit.json", report)
    return report


def linear_model(ridge: LowRank, report: RidgeReport) -> Linear:
    """Ridge as the MLP's partner: in the basis of the fit that did not see the held-out images."""
    basis = report.basis
    held_out = (report.predicted - ridge.intercept) @ basis.T
    return Linear(ridge.down @ (ridge.up @ basis.T), basis, ridge.intercept, held_out)


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
        "rolled_back": report.rolled_back,
        "share_of_network": report.share,
    }
