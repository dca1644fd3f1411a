"""How far stage 1's scores move when its regressors are fitted again: another tenth held out, another start of the network.

python -m precompute refits --demo

Intervals over images say nothing of that. The next evaluation in the same folder takes the spread from `refits.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from precompute.evaluation.evaluate import Inputs
from precompute.evaluation.judge import Judge
from precompute.evaluation.protocols import Protocol
from precompute.fitting.fit import Fit, fit_stage, layer_groups
from precompute.fitting.train_network import Training
from precompute.stage import make
from recon.bundle.bundle import Bundle
from recon.files import load_json, save_json
from recon.metrics import METRICS
from recon.reconstruct import decode_layouts
from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP
from recon.settings import REGRESSORS

FILE = "refits.json"
CLASSES = {"ridge": LowRank, "mlp": MLP}


@dataclass(frozen=True)
class Learned:
    """What the regressors of the latents were fitted to, and what `fit` reported."""

    voxels: Path
    latents: Path
    report: dict


def fit_again(learned: Learned, bundle: Bundle, seed: int, out: Path) -> dict[str, LowRank | MLP]:
    """The bundle's regressors of latents, fitted as they were but for the seed; they lie in `out`, and are made once."""
    ridge, mlp = learned.report["ridge"], learned.report["mlp"]
    training = replace(Training(**mlp["training"]), seed=seed)
    groups = layer_groups(bundle.vdvae, bundle.n_layers)
    job = Fit("latents", groups, learned.report["rank"], training, tuple(ridge["alphas"]))
    make(fit_stage(job, learned.voxels, learned.latents, out))
    return {name: kind.load(out / f"latents_{name}.safetensors") for name, kind in CLASSES.items()}


def stage_1_means(models: dict[str, LowRank | MLP], inputs: Inputs, judge: Judge) -> dict[str, dict[str, float]]:
    """Regressor -> metric -> mean over the test images of what its layouts score; the gains of rescaling whole."""
    X, means = inputs.bundle.subject.test.averaged(), {}
    for name, model in models.items():
        scores = judge.score(decode_layouts(model.rescale(model.predict(X)), inputs.bundle))
        means[name] = {metric: float(values.mean()) for metric, values in scores.items() if metric in METRICS}
    return means


def refit(learned: Learned, inputs: Inputs, out: Path, n: int) -> dict:
    """Fits with the seeds 1 to n, scores stage 1 on all test images, and writes `refits.json` into `out`; returns the spread.

    Raises BadFile for a truncated file.
    """
    protocol = Protocol("own", inputs.bundle.vdvae.cfg.image_size)
    judge, seeds = Judge(inputs.images, protocol, inputs.describe), list(range(1, n + 1))
    means = [
        stage_1_means(fit_again(learned, inputs.bundle, seed, out / "refits" / str(seed)), inputs, judge)
        for seed in seeds
    ]
    fits = {name: {metric: [m[name][metric] for m in means] for metric in means[0][name]} for name in REGRESSORS}
    save_json(out / FILE, {"seeds": seeds, "means": fits})
    return spread_of_fits(out)


def spread_of_fits(folder: Path) -> dict[str, dict[str, float]]:
    """Regressor -> "fits", their number, and metric -> SD over fits of stage 1's mean; empty where nothing was fitted again."""
    if not (folder / FILE).exists():
        return {}
    found = load_json(folder / FILE)
    n = len(found["seeds"])
    return {
        name: {"fits": n} | {metric: float(np.std(values, ddof=1)) for metric, values in means.items()}
        for name, means in found["means"].items()
    }
