"""A second simulated subject, small: its scan is written in files as a lab would have them and comes back through `import arrays`.

It sees scenes of the same world with another cortex (another seed), scanned as a volume of 4 mm voxels: GLM estimates in NIfTI
files, a session each; trials, captions and names of areas in tables; images as PNG files. `python -m precompute second-subject`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_fsaverage
from PIL import Image
from scipy.sparse import csr_matrix

from precompute.demo.cortex import Cortex, build_cortex
from precompute.demo.scan import SESSION_TRIALS, make_responses
from precompute.demo.world import load_labels, make_scenes
from precompute.importing.arrays import read_arrays
from precompute.importing.borrowed_decoders import Size, make_borrowing_bundle
from precompute.importing.experiment import SPLITS
from precompute.importing.text_tables import write_table
from precompute.importing.write_subject import Options, import_experiment
from recon.files import open_array

WORLD, CORTEX = 0, 1  # seeds: of the first subject's scenes, and of a brain of its own
VOXEL = 4.0  # mm
NAME = "demo 2"


@dataclass(frozen=True)
class Grid:
    """Voxels of 4 mm that hold vertices of the simulated cortex."""

    shape: tuple[int, int, int]
    affine: np.ndarray  # (4, 4); the first axis runs to the left, as on many scanners
    index: np.ndarray  # (n_vertices, 3): the voxel of each vertex


def voxel_grid(cortex: Cortex) -> Grid:
    """The smallest box around the cortex's vertices."""
    pial, geometry = load_fsaverage(cortex.geometry.mesh)["pial"].parts, cortex.geometry
    sides = [pial[name].coordinates for name in ("left", "right")]
    mm = np.stack([sides[h][v] for h, v in zip(geometry.hemisphere, geometry.vertex)])
    cell = np.floor((mm - mm.min(0)) / VOXEL).astype(int)
    shape = tuple((cell.max(0) + 1).tolist())
    cell[:, 0] = shape[0] - 1 - cell[:, 0]
    corner = mm.min(0) + VOXEL / 2
    affine = np.diag([-VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = corner[0] + VOXEL * (shape[0] - 1), *corner[1:]
    return Grid(shape, affine, cell)


def write_lab(scenes: Path, brain: Path, cortex: Cortex, folder: Path) -> Path:
    """The experiment's folder, as the README's “With your own data” lays it out."""
    grid, table = voxel_grid(cortex), np.asarray(open_array(brain / "trials.npy"))
    flat = np.ravel_multi_index(grid.index.T, grid.shape)
    used, voxel = np.unique(flat, return_inverse=True)
    members = np.bincount(voxel)
    mean = csr_matrix((1 / members[voxel], (voxel, np.arange(len(voxel)))), shape=(len(used), len(voxel)))
    betas = open_array(brain / "betas.npy")
    for session, start in enumerate(range(0, len(table), SESSION_TRIALS), 1):
        values = (mean @ betas[start : start + SESSION_TRIALS].T.astype(np.float32)).astype(np.int16)
        volume = np.zeros((int(np.prod(grid.shape)), values.shape[1]), np.int16)
        volume[used] = values
        _save(folder / "responses" / f"ses-{session:02d}_betas.nii.gz", volume.reshape(*grid.shape, -1), grid.affine)
    mask = np.zeros(int(np.prod(grid.shape)), np.uint8)
    mask[used] = 1
    _save(folder / "mask.nii.gz", mask.reshape(grid.shape), grid.affine)
    _write_areas(folder, cortex, grid, used, voxel)
    _write_stimuli(folder, scenes, table)
    return folder


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


def _write_areas(folder: Path, cortex: Cortex, grid: Grid, used: np.ndarray, voxel: np.ndarray) -> None:
    """A voxel belongs to the area that most of its vertices belong to, or to none."""
    names = sorted(set(cortex.area.tolist()) - {""})
    votes = np.zeros((len(used), len(names) + 1), int)
    np.add.at(votes, (voxel, [names.index(area) + 1 if area else 0 for area in cortex.area]), 1)
    labels = np.zeros(int(np.prod(grid.shape)), np.int16)
    labels[used] = votes.argmax(1)
    _save(folder / "rois.nii.gz", labels.reshape(grid.shape), grid.affine)
    write_table(folder / "rois.csv", [{"label": k, "name": name} for k, name in enumerate(names, 1)])


def _write_stimuli(folder: Path, scenes: Path, table: np.ndarray) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    captions = []
    for split in SPLITS:
        for k, (image, label) in enumerate(zip(open_array(scenes / f"{split}.npy"), load_labels(scenes, split))):
            Image.fromarray(image).save(folder / "images" / f"{split}{k:04d}.png")
            captions += [{"image": f"{split}{k:04d}", "caption": caption} for caption in label["captions"]]
    write_table(folder / "captions.csv", captions)
    rows = [
        {"image": f"{SPLITS[s]}{k:04d}", "session": 1 + t // SESSION_TRIALS, "repeat": 1 + r, "split": SPLITS[s]}
        for t, (s, k, r) in enumerate(table.tolist())
    ]
    write_table(folder / "trials.csv", rows)


def import_second_subject(work: Path, n_train: int, n_test: int) -> dict:
    """Scenes, scan, lab files and import; returns the import's report. The prepared subject is in `work/prepared`."""
    for split, n in zip(SPLITS, (n_train, n_test)):
        if not (work / "scenes" / f"{split}.json").exists():
            make_scenes(work / "scenes", split, n, WORLD)
    if not (work / "lab" / "trials.csv").exists():
        make_responses(work / "scenes", work / "brain", CORTEX)
        write_lab(work / "scenes", work / "brain", build_cortex(CORTEX), work / "lab")
    experiment = replace(read_arrays(work / "lab", NAME), simulated=True)
    return import_experiment(experiment, work / "prepared", Options())


def make_second_subject(work: Path, lender: Path, out: Path, n_train: int, n_test: int) -> dict:
    """The same, and its bundle with the lender's decoders; returns both reports."""
    report = import_second_subject(work, n_train, n_test)
    return {"import": report, "bundle": make_borrowing_bundle(work / "prepared", lender, out, Size())}
