"""What is chosen by looking at results: how far predictions are rescaled, how strong stage 2 is, and what guides it.

All are tried on training images that the MLP was not fitted to. The test set takes no part.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from precompute.demo.checker import Checker
from precompute.demo.demo_evaluation import own_clip
from precompute.demo.train_vdvae import N_LAYERS
from precompute.evaluation.judge import Judge
from precompute.evaluation.protocols import Protocol
from precompute.fitting.train_network import Training
from recon.bundle.bundle import Bundle, open_parts
from recon.bundle.manifest import ADAPTER, CHOICES, TARGETS
from recon.decoders.diffusion import Meaning, refine_all
from recon.files import load_json, open_array, save_json
from recon.reconstruct import decode_layouts, decoded, meanings
from recon.regressors.standardise import Rescaler, split_rows
from recon.settings import MEANINGS, REGRESSORS, LCMSettings, Settings

STRENGTHS, N = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 200
COARSE, FINE = (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0)  # exponents tried for layers up to 8 × 8, and for finer ones
SCALES, N_GUIDED = (0.4, 0.8, 1.2), 100  # of the image adapter; held-out images
BORDER = 8  # side of the finest layers that count as coarse


@dataclass(frozen=True)
class HeldOut:
    """Training images that the MLP was not fitted to, and what judges pictures of them."""

    bundle: Bundle
    X: np.ndarray  # (n, n_voxels)
    judge: Judge

    @classmethod
    def open(cls, work: Path, training: Training, n: int = N) -> HeldOut:
        """The first n of them, from the demo's work folder; `training`: the MLP's, which says what was held out."""
        voxels, scenes = open_array(work / "brain" / "train_voxels.npy"), work / "scenes"
        bundle = open_parts(
            work, {"n_layers": N_LAYERS, "decoders": "own", "files": [p.name for p in work.glob(ADAPTER)]}
        )
        rows = split_rows(len(voxels), training.validation_share, training.seed)[0][:n]
        everything = load_json(scenes / "train.json")
        labels = [everything[k] for k in rows]
        find, describe = Checker.load(work / "checker.safetensors").right, {"clip_demo": own_clip(work / "vision")}
        images = open_array(scenes / "train.npy")[rows]
        judge = Judge(images, Protocol("own", bundle.vdvae.cfg.image_size), describe, find, labels)
        return cls(bundle, voxels[rows], judge)

    def scores(self, images: np.ndarray) -> dict[str, float]:
        """Means of what the judge says of (n, S, S, 3) images."""
        return {name: float(values.mean()) for name, values in self.judge.score(images).items()}

    def stage_2(self, layouts: np.ndarray, settings: LCMSettings, meaning: Meaning | None = None) -> dict[str, float]:
        """Scores of stage 2 from layouts (n, S, S, 3) and a meaning, or the MLP's prompts alone."""
        if meaning is None:
            prompts = decoded("prompt", self.X, self.bundle, "mlp").reshape(-1, *self.bundle.diffusion.prompt_shape)
            meaning = Meaning(prompts)
        return self.scores(refine_all(self.bundle.diffusion, layouts, meaning, settings))


def exponents_of(shapes: list[tuple[int, int, int]], coarse: float, fine: float) -> np.ndarray:
    """(n_latents,) exponents for layers of shapes (zdim, side, side)."""
    return np.concatenate([np.full(np.prod(s), coarse if s[1] <= BORDER else fine, np.float32) for s in shapes])


def copy_regressors(fitted: Path, out: Path) -> None:
    """As they were fitted: gains whole."""
    for target in TARGETS:
        for name in REGRESSORS:
            shutil.copyfile(fitted / f"{target}_{name}.safetensors", out / f"{target}_{name}.safetensors")


def choose_rescaling(work: Path, training: Training, seed: int) -> dict:
    """Copies the regressors from `work`/fitted to `work`, those of the latents rescaled as is best for held-out images.

    `training`: the MLP's, which says what was held out. Returns what was tried, as `rescaling.json` has it.
    """
    copy_regressors(work / "fitted", work)
    return best_rescaling(HeldOut.open(work, training), work / "latents_train.npy", work, seed)


def best_rescaling(held_out: HeldOut, latents: Path, out: Path, seed: int) -> dict:
    """Tries exponents of the latents' gains; writes the latents' regressors with the best to `out`, and `rescaling.json` last.

    Best is what CLIP identifies best after stage 2, of equals (to a thousandth) what correlates best with the pixels. Chosen
    by the MLP's images, used for ridge too. `latents` (n, n_latents): of the training images.
    """
    bundle, models = held_out.bundle, held_out.bundle.regressors["latents"]
    shapes = bundle.vdvae.layer_shapes()[: bundle.n_layers]
    mean_to = np.asarray(open_array(latents)).mean(0, dtype=np.float64)
    predicted, tried = models["mlp"].predict(held_out.X), []

    def softened(rescale: Rescaler, coarse: float, fine: float) -> Rescaler:
        return rescale.softened(exponents_of(shapes, coarse, fine), mean_to)

    for coarse in COARSE:
        for fine in FINE:
            layouts = decode_layouts(softened(models["mlp"].rescale, coarse, fine)(predicted), bundle)
            scores = {"stage 1": held_out.scores(layouts), "stage 2": held_out.stage_2(layouts, LCMSettings(seed=seed))}
            tried.append({"coarse": coarse, "fine": fine} | scores)
    best = max(tried, key=lambda t: (round(t["stage 2"]["clip_demo"], 3), t["stage 2"]["pixcorr"]))
    for name, model in models.items():
        rescale = softened(model.rescale, best["coarse"], best["fine"])
        replace(model, rescale=rescale).save(out / f"latents_{name}.safetensors")
    report = {"n": len(held_out.X), "chosen": {k: best[k] for k in ("coarse", "fine")}, "tried": tried}
    save_json(out / "rescaling.json", report)
    return report


def try_strengths(work: Path, training: Training, seed: int) -> dict:
    """Writes `strengths.json` to `work`: scores of the MLP's stage 2 at each strength, with stage 1 beside them.

    The default of `recon.settings.LCMSettings.strength` is the one that CLIP identifies best there.
    """
    held_out = HeldOut.open(work, training)
    layouts = decode_layouts(decoded("latents", held_out.X, held_out.bundle, "mlp"), held_out.bundle)
    report = {"n": len(held_out.X), "stage 1": held_out.scores(layouts)}
    for strength in STRENGTHS:
        report[str(strength)] = held_out.stage_2(layouts, LCMSettings(strength=strength, seed=seed))
    save_json(work / "strengths.json", report)
    return report


def try_guidance(work: Path, training: Training, seed: int) -> dict:
    """Writes `guidance.json` to `work`: what the MLP's stage 2 scores by text, image, or both, and by how they are scaled.

    Adapter's scales are tried with the embedding's numbers rescaled one by one; then, at the scale that is best for both
    together, the other rescalings. Best is what CLIP identifies best, of equals (to a thousandth) what shows the right object.
    """
    held_out = HeldOut.open(work, training, N_GUIDED)
    layouts = decode_layouts(decoded("latents", held_out.X, held_out.bundle, "mlp"), held_out.bundle)
    tried = []

    def attempt(balance: float, scale: float, embedding: str) -> None:
        bundle = replace(held_out.bundle, manifest=held_out.bundle.manifest | {"embedding": embedding})
        meaning = meanings(held_out.X, bundle, Settings(balance=balance, image_scale=scale))
        scores = held_out.stage_2(layouts, LCMSettings(seed=seed), meaning)
        tried.append({"balance": balance, "image_scale": scale, "embedding": embedding} | scores)

    first, *others = CHOICES["embedding"]
    attempt(0.0, SCALES[0], first)
    for balance in (MEANINGS["Both"], MEANINGS["Image only"]):
        for scale in SCALES:
            attempt(balance, scale, first)
    scale = best_of([t for t in tried if t["balance"] == MEANINGS["Both"]])["image_scale"]
    for embedding in others:
        attempt(MEANINGS["Both"], scale, embedding)
    names = ("balance", "image_scale", "embedding")
    report = {"n": len(held_out.X), "chosen": {name: best_of(tried)[name] for name in names}, "tried": tried}
    save_json(work / "guidance.json", report)
    return report


def best_of(tried: list[dict]) -> dict:
    """What CLIP identifies best, of equals (to a thousandth) what shows the right object more often."""
    return max(tried, key=lambda t: (round(t["clip_demo"], 3), t["sees object"]))
