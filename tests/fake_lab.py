"""A small experiment in files as a lab would have them, written from the README's table; and what an import has to make of it."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.0, 0, -126], [0, 0, 2.0, -72], [0, 0, 0, 1]])
SHAPE = (7, 8, 9)


@dataclass
class Lab:
    """What was shown and measured; `rows` and `responses` go together."""

    rows: list[dict]  # of trials.csv
    responses: np.ndarray  # (n_trials, n_voxels)
    images: dict[str, np.ndarray]  # name -> (H, W, 3) uint8
    mask: np.ndarray  # SHAPE bool, with n_voxels voxels
    extra: dict[str, np.ndarray] = field(default_factory=dict)


def make_lab(rng: np.random.Generator, n_images: int = 24, n_test: int = 4, repeats: int = 3, sessions: int = 3) -> Lab:
    """Every image `repeats` times in a random order; about a quarter of a voxel's variance is signal."""
    names = [f"scene {k:02d}" for k in range(n_images)]
    order = rng.permutation(np.repeat(np.arange(n_images), repeats))
    per_session = -(-len(order) // sessions)
    seen = [0] * n_images
    rows = []
    for trial, k in enumerate(order):
        seen[k] += 1
        split = "test" if k < n_test else "train"
        session = f"ses-{trial // per_session + 1:02d}"
        rows.append({"image": names[k], "session": session, "run": 1 + trial % 2, "repeat": seen[k], "split": split})
        rows[-1] |= {"category": "indoor" if k % 2 else "outdoor", "rt": f"{rng.uniform(0.3, 2):.3f}"}
    mask = rng.random(SHAPE) < 0.15
    n_voxels = int(mask.sum())
    pattern = rng.normal(size=(n_images, n_voxels))
    gain = rng.uniform(0.5, 2, sessions)[np.arange(len(order)) // per_session, None]
    responses = gain * (2 + pattern[order] + 1.5 * rng.normal(size=(len(order), n_voxels)))
    images = {name: _draw(rng, 80 + 3 * k, 70 + 5 * k) for k, name in enumerate(names)}
    return Lab(rows, responses.astype(np.float32), images, mask)


def _draw(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gradient between two colours with a rectangle of a third."""
    low, high, third = rng.integers(0, 256, (3, 3))
    ramp = np.linspace(0, 1, width)[None, :, None]
    image = (low + (high - low) * ramp * np.ones((height, 1, 1))).astype(np.uint8)
    image[height // 4 : height // 2, width // 3 : width // 2] = third
    return image


# --- files ------------------------------------------------------------------------------------------------------------


def write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as f:
        table = csv.DictWriter(f, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def write_image_files(folder: Path, images: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


def in_volume(lab: Lab, responses: np.ndarray) -> np.ndarray:
    """(n, n_voxels) -> (x, y, z, n)."""
    values = np.zeros((*SHAPE, len(responses)), responses.dtype)
    values[lab.mask] = responses.T
    return values


def write_lab(folder: Path, lab: Lab) -> Path:
    """trials.csv, images/, responses.npy and mask.nii.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "trials.csv", lab.rows)
    write_image_files(folder / "images", lab.images)
    np.save(folder / "responses.npy", lab.responses)
    save_volume(folder / "mask.nii.gz", lab.mask.astype(np.uint8))
    return folder


# --- what has to come of it -------------------------------------------------------------------------------------------


def expected_z(lab: Lab) -> np.ndarray:
    """(n_trials, n_voxels): each trial by mean and SD of its session's training trials, one after another."""
    z = np.empty(lab.responses.shape)
    for session in {row["session"] for row in lab.rows}:
        here = [k for k, row in enumerate(lab.rows) if row["session"] == session]
        training = np.array([lab.responses[k] for k in here if lab.rows[k]["split"] == "train"], np.float64)
        for k in here:
            z[k] = (lab.responses[k] - training.mean(0)) / training.std(0, ddof=1)
    return z


def expected_repeats(lab: Lab, name: str) -> np.ndarray:
    """(n_repeats, n_voxels) z-scores of the trials that showed an image, in order of time."""
    z = expected_z(lab)
    return np.array([z[k] for k, row in enumerate(lab.rows) if row["image"] == name])
