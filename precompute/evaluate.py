"""Scores stage 1 on the test images and draws the contact sheet; `python -m precompute demo` runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from recon.files import open_array, save_json, whole_file
from recon.metrics import pixel_correlation, two_way_identification
from recon.mlp import MLP
from recon.regression import r2_per_target
from recon.ridge import LowRank
from recon.subject import load_subject
from recon.vdvae import VDVAE

N_SHUFFLES = 20


def _decode(vdvae: VDVAE, latents: np.ndarray, batch: int = 64) -> np.ndarray:
    return np.concatenate([vdvae.decode(latents[k : k + batch]) for k in range(0, len(latents), batch)])


def _scores(pictures: np.ndarray, truth: np.ndarray) -> dict:
    return {
        "pixel_correlation": float(pixel_correlation(pictures, truth).mean()),
        "identification": float(two_way_identification(pictures, truth).mean()),
    }


def _shuffled(pictures: np.ndarray, truth: np.ndarray, seed: int) -> dict:
    """Every picture judged as the reconstruction of another image: the mean over N_SHUFFLES cyclic shifts of a random order."""
    rng = np.random.default_rng((seed, 50))
    runs = []
    for _ in range(N_SHUFFLES):
        order = rng.permutation(len(truth))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        runs.append(_scores(pictures[other], truth))
    return {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}


def evaluate(images: Path, latents: Path, folder: Path, seed: int, out: Path) -> dict:
    """`images` (n, 64, 64, 3) and true `latents` of the test set, `folder` with regressors, subject and VDVAE.

    Writes `evaluation.json` and `contact_sheet.png` (24 random images) to `out`; returns the evaluation.
    """
    vdvae = VDVAE.load(folder / "vdvae.safetensors")
    test = load_subject(folder / "subject.h5").test
    truth, own = np.asarray(open_array(images)), np.asarray(open_array(latents))
    X = test.averaged()
    decoded, latent_r2, raw = {}, {}, {}
    for name, kind in (("ridge", LowRank), ("mlp", MLP)):
        model = kind.load(folder / f"{name}.safetensors")
        predicted = model.predict(X)
        cv = float(np.nanmean(open_array(folder / f"{name}_cv_r2.npy")))
        latent_r2[name] = {"cv": cv, "test": float(np.nanmean(r2_per_target(own, predicted)))}
        decoded[name] = _decode(vdvae, model.rescale(predicted))
        raw[name] = _scores(_decode(vdvae, predicted), truth)
    decoded["ceiling"] = _decode(vdvae, own)
    rows = {name: _scores(pictures, truth) for name, pictures in decoded.items()}
    rows["shuffled"] = _shuffled(decoded["ridge"], truth, seed)
    unseen = np.array([bool(e.get("unseen")) for e in test.labels])
    evaluation = {
        "n_images": len(truth),
        "n_unseen": int(unseen.sum()),
        "rows": rows,
        "without_rescaling": raw,
        "ridge_unseen_identification": float(two_way_identification(decoded["ridge"], truth)[unseen].mean()),
        "latent_r2": latent_r2,
    }
    save_json(out / "evaluation.json", evaluation)
    chosen = np.sort(np.random.default_rng((seed, 51)).choice(len(truth), min(24, len(truth)), replace=False))
    contact_sheet([truth, decoded["ceiling"], decoded["ridge"], decoded["mlp"]], chosen, out / "contact_sheet.png")
    return evaluation


def contact_sheet(kinds: list[np.ndarray], chosen: np.ndarray, path: Path, columns: int = 12) -> None:
    """One column an image; the kinds of picture stacked; as many bands as `chosen` needs."""
    bands = []
    for k in range(0, len(chosen), columns):
        part = [np.concatenate(list(kind[chosen[k : k + columns]]), axis=1) for kind in kinds]
        part[-1] = np.concatenate([part[-1], np.full((6, *part[-1].shape[1:]), 255, np.uint8)])
        bands.append(np.concatenate(part))
    width = max(band.shape[1] for band in bands)
    padded = [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands]
    sheet = Image.fromarray(np.concatenate(padded))
    with whole_file(path) as part:
        sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.BICUBIC).save(part)
