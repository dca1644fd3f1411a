"""Pictures -> voxels: the encoding model and its per-voxel scores; `python -m precompute demo` runs it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from precompute.fitting.encoding import fit_encoding, score_voxels
from precompute.fitting.image_features import PatchDictionary, image_statistics
from precompute.stage import Stage
from recon.brain.voxel_scores import VoxelScores, save_scores
from recon.bundle.evaluation import Roi
from recon.bundle.subject import load_subject
from recon.files import open_array, save_json
from recon.regressors.standardise import Standardiser

N_COMPONENTS = 500
SMALLEST = 1e-4  # of the first component's size: below it a component is rounding errors
FDR = 0.05  # q up to which a voxel counts as explained


@dataclass(frozen=True)
class LatentComponents:
    """Principal components of standardised training latents."""

    standardise: Standardiser
    directions: np.ndarray  # (n_latents, n_components)

    @classmethod
    def fit(cls, latents, n_components: int, seed: int = 0) -> LatentComponents:
        """From at most 4,000 rows, by a randomised SVD. Of n images, at most n - 1 components vary: the others are left out."""
        step = max(1, -(-len(latents) // 4000))
        rows = np.array(latents[::step], np.float32)
        standardise = Standardiser.fit(rows)
        rows -= standardise.mean  # in place: of an NSD subject they take 1.5 GB
        rows /= standardise.sd
        torch.manual_seed(seed)
        _, sizes, directions = torch.svd_lowrank(torch.as_tensor(rows), q=min(n_components, *rows.shape), niter=3)
        return cls(standardise, directions[:, sizes > SMALLEST * sizes[0]].numpy())

    def __call__(self, latents, chunk: int = 256) -> np.ndarray:
        """(n, n_latents) -> (n, n_components)."""
        parts = (np.asarray(latents[k : k + chunk], np.float32) for k in range(0, len(latents), chunk))
        return np.concatenate([self.standardise(part) @ self.directions for part in parts])


def _median(values: np.ndarray) -> float | None:
    """Of the values that are known; None if none is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def roi_table(scores: VoxelScores, rois: dict[str, np.ndarray]) -> list[Roi]:
    """Medians and counts of the voxels of every area that has some."""
    table = []
    for name, mask in rois.items():
        ratio, truth = scores.r2_over_ceiling[mask], scores.true_noise_ceiling
        alive = np.isfinite(ratio)
        row = Roi(
            roi=name,
            n_voxels=int(mask.sum()),
            median_r2=_median(scores.r2[mask]),
            median_r=_median(scores.r[mask]),
            median_ceiling=_median(scores.noise_ceiling[mask]),
            median_ratio=_median(ratio[alive]),
            n_ceiling_10=int(alive.sum()),
            n_significant=int((scores.q[mask] <= FDR).sum()),
            true_ceiling_median=None if truth is None else _median(truth[mask]),
        )
        table += [row] if row.n_voxels else []
    return table


@dataclass(frozen=True)
class Encoding:
    """Files that an encoding model is fitted to and scored on; of images, latents and image embeddings "train" and "test"."""

    images: dict[str, Path]
    latents: dict[str, Path]
    embeddings: dict[str, Path]
    voxels: Path  # of the training images
    subject: Path
    true_ncsnr: Path | None = None  # of a simulated subject: an `.npz` whose "ncsnr" the simulator gave each voxel

    @property
    def files(self) -> list[Path]:
        extra = [self.true_ncsnr] if self.true_ncsnr else []
        return [
            *self.images.values(),
            *self.latents.values(),
            *self.embeddings.values(),
            self.voxels,
            self.subject,
            *extra,
        ]


def encode_stage(files: Encoding, out: Path, makers: dict[Path, str] | None = None) -> Stage:
    """Makes `voxel_scores.h5` and a report, `encode.json`; `makers`: the commands that make the files."""
    inputs = {path: (makers or {}).get(path, "prepare") for path in files.files}
    return Stage("encode", inputs, (out / "voxel_scores.h5", out / "encode.json"), partial(encode, files, out))


def bands_of(files: Encoding) -> dict[str, list[np.ndarray]]:
    """ "train" and "test" -> bands of features (n, f): what is where in the images, and what they mean."""
    pictures = {s: np.asarray(open_array(p)) for s, p in files.images.items()}
    Z = {s: open_array(p) for s, p in files.latents.items()}
    components = LatentComponents.fit(Z["train"], N_COMPONENTS)
    patches = PatchDictionary.fit(pictures["train"])
    bands = {}
    for s, some in pictures.items():
        seen = np.hstack([components(Z[s]), image_statistics(some), patches.describe(some)])
        bands[s] = [seen, np.asarray(open_array(files.embeddings[s]), np.float32)]
    return bands


def encode(files: Encoding, out: Path) -> dict:
    """Fits on "train", scores on "test", writes the files of the stage; returns the report."""
    bands = bands_of(files)
    model = fit_encoding(bands["train"], np.asarray(open_array(files.voxels)))
    person = load_subject(files.subject)
    truth = None if files.true_ncsnr is None else np.load(files.true_ncsnr, allow_pickle=False)["ncsnr"]
    test, predicted = person.test, model.predict(np.hstack(bands["test"]))
    scores = score_voxels(predicted, test.averaged(), person.ncsnr, test.n_repeats, truth)
    save_scores(out / "voxel_scores.h5", scores)
    rois = [asdict(row) for row in roi_table(scores, person.geometry.rois)]
    report = {"n_features": model.weights.shape[0], "n_test_images": scores.n_images, "rois": rois}
    save_json(out / "encode.json", report)
    return report
