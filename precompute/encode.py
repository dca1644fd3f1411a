"""Pictures -> voxels: the encoding model and its per-voxel scores; `python -m precompute demo` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recon.encoding import fit_encoding, save_scores, score_voxels
from recon.files import fingerprint, load_json, open_array, save_json
from recon.image_features import PatchDictionary, image_statistics
from recon.regression import Standardiser
from recon.subject import load_subject

N_COMPONENTS = 500


@dataclass(frozen=True)
class LatentComponents:
    """Principal components of standardised training latents."""

    standardise: Standardiser
    directions: np.ndarray  # (n_latents, n_components)

    @classmethod
    def fit(cls, latents, n_components: int, seed: int = 0) -> LatentComponents:
        """From at most 4,000 rows, by a randomised SVD."""
        step = max(1, -(-len(latents) // 4000))
        rows = np.array(latents[::step], np.float32)
        standardise = Standardiser.fit(rows)
        rows -= standardise.mean  # in place: of an NSD subject they take 1.5 GB
        rows /= standardise.sd
        torch.manual_seed(seed)
        _, _, directions = torch.svd_lowrank(torch.as_tensor(rows), q=min(n_components, *rows.shape), niter=3)
        return cls(standardise, directions.numpy())

    def __call__(self, latents, chunk: int = 256) -> np.ndarray:
        """(n, n_latents) -> (n, n_components)."""
        parts = (np.asarray(latents[k : k + chunk], np.float32) for k in range(0, len(latents), chunk))
        return np.concatenate([self.standardise(part) @ self.directions for part in parts])


def encode(images: dict[str, Path], latents: dict[str, Path], voxels: Path, subject: Path, out: Path) -> dict:
    """Fits on "train", scores on "test", writes `voxel_scores.h5` and, last, `encode.json`, unless they are there and of
    these inputs; returns the summary, and whether they were there already."""
    sources = [*images.values(), *latents.values(), voxels, subject]
    inputs, report = [fingerprint(path) for path in sources], out / "encode.json"
    if report.exists() and (found := load_json(report)).get("inputs") == inputs:
        return found | {"already finished": True}
    report.unlink(missing_ok=True)
    (out / "voxel_scores.h5").unlink(missing_ok=True)
    pictures = {s: np.asarray(open_array(p)) for s, p in images.items()}
    Z = {s: open_array(p) for s, p in latents.items()}
    components = LatentComponents.fit(Z["train"], N_COMPONENTS)
    patches = PatchDictionary.fit(pictures["train"])
    features = {
        s: np.hstack([components(Z[s]), image_statistics(pictures[s]), patches.describe(pictures[s])]) for s in pictures
    }
    model = fit_encoding(features["train"], np.asarray(open_array(voxels)))
    person = load_subject(subject)
    measured = person.test.averaged()
    scores = score_voxels(model.predict(features["test"]), measured, person.ncsnr, person.test.n_repeats)
    save_scores(out / "voxel_scores.h5", scores)
    by_roi = {}
    for name, mask in person.geometry.rois.items():
        alive = mask & (scores.noise_ceiling >= 10)
        by_roi[name] = {
            "n_voxels": int(mask.sum()),
            "median_r2": float(np.median(scores.r2[mask])),
            "median_noise_ceiling_percent": float(np.median(scores.noise_ceiling[mask])),
            "explained_share_percent": float(100 * scores.r2[alive].mean() / (scores.noise_ceiling[alive].mean() / 100))
            if alive.any()
            else None,
        }
    summary = {"n_features": features["train"].shape[1], "n_test_images": scores.n_images, "rois": by_roi}
    save_json(report, summary | {"inputs": inputs})
    return summary | {"already finished": False}
