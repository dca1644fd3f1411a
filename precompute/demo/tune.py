"""How strong should stage 2 be? Tried on training pictures that the MLP was not fitted to; the test set takes no part.

`recon.decoders.diffusion.LCMSettings.strength` is the one that CLIP identifies best in the table that this writes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from precompute.demo.checker import Checker
from precompute.demo.demo_evaluation import own_clip
from precompute.evaluation.judge import Judge
from precompute.fitting.train_network import Training
from recon.bundle.bundle import open_parts
from recon.decoders.diffusion import refine_all
from recon.files import load_json, open_array, save_json
from recon.reconstruct import decode_layouts, decoded
from recon.regressors.standardise import split_rows
from recon.settings import LCMSettings

STRENGTHS, N = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 200


def try_strengths(
    scenes: Path, voxels: Path, folder: Path, clip: Path, n_layers: int, training: Training, checker: Path, seed: int
) -> dict:
    """Writes `strengths.json` to `folder`: scores of the MLP's stage 2 at each strength, with stage 1 beside them.

    `voxels` (n, n_voxels): responses to the training pictures; `training`: the MLP's, which says what was held out.
    """
    bundle = open_parts(folder, {"n_layers": n_layers, "decoders": "own"})
    rows = split_rows(len(open_array(voxels)), training.validation_share, training.seed)[0][:N]
    X, images = open_array(voxels)[rows], open_array(scenes / "train.npy")[rows]
    everything = load_json(scenes / "train.json")
    labels = [everything[k] for k in rows]
    find = Checker.load(checker).right
    judge = Judge(images, bundle.vdvae.cfg.image_size, {"clip_demo": own_clip(clip)}, find, labels)

    def means(pictures: np.ndarray) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in judge.score(pictures).items()}

    layouts = decode_layouts(decoded("latents", X, bundle, "mlp"), bundle)
    prompts = decoded("prompt", X, bundle, "mlp").reshape(-1, *bundle.diffusion.prompt_shape)
    report = {"n": len(rows), "stage 1": means(layouts)}
    for strength in STRENGTHS:
        pictures = refine_all(bundle.diffusion, layouts, prompts, LCMSettings(strength=strength, seed=seed))
        report[str(strength)] = means(pictures)
    save_json(folder / "strengths.json", report)
    return report
