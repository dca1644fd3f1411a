"""Responses of all trials: an array, or NIfTI, GIfTI or CIFTI files, read some trials at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from precompute.importing.arrays_on_disk import open_dataset
from precompute.importing.experiment import Responses
from precompute.importing.grids import Grid, check_grid, grid_of, load_image
from recon.brain.space import Volume
from recon.files import BadFile

NIFTI = (".nii", ".nii.gz")
LEFT = re.compile(r"(^|[._-])(lh|l|left|hemi-l)([._-]|$)", re.IGNORECASE)
RIGHT = re.compile(r"(^|[._-])(rh|r|right|hemi-r)([._-]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class ResponseFiles:
    """Which files hold the responses, and of which kind."""

    kind: str  # "array", "nifti", "gifti" or "cifti"
    paths: tuple[Path, ...]


def find_responses(folder: Path) -> ResponseFiles:
    """Looks for files called `responses…`, or NIfTI files in `responses/`. Raises BadFile if there is none, or several kinds."""
    here = sorted(p for p in folder.iterdir() if p.is_file() and "responses" in p.name.lower())
    inside = sorted(p for p in (folder / "responses").glob("*") if p.name.endswith(NIFTI))
    kinds = {
        "array": [p for p in here if p.suffix in (".npy", ".h5", ".hdf5")],
        "cifti": [p for p in here if p.name.endswith(".dscalar.nii")],
        "nifti": [*(p for p in here if p.name.endswith(NIFTI) and ".dscalar." not in p.name), *inside],
        "gifti": [p for p in here if p.suffix == ".gii"],
    }
    found = {kind: paths for kind, paths in kinds.items() if paths}
    if len(found) != 1 or (len(paths := next(iter(found.values()))) > 1 and not found.keys() & {"nifti", "gifti"}):
        there = ", ".join(p.name for paths in found.values() for p in paths) or "none"
        raise BadFile(
            f"{folder}: expected the responses in one of responses.npy, responses.h5, responses.nii.gz, responses/*.nii.gz, "
            f"responses.lh.gii with responses.rh.gii, and responses.dscalar.nii, got {there}"
        )
    return ResponseFiles(next(iter(found)), tuple(paths))


# --- arrays -----------------------------------------------------------------------------------------------------------


def array_responses(path: Path) -> Responses:
    """(n_trials, n_voxels) of any type and order of bytes. Raises BadFile for other shapes."""
    open_it = open_dataset(path, "responses", "betas")
    array = open_it()
    if array.ndim != 2 or 0 in array.shape:
        raise BadFile(
            f"{path}: expected responses (trials, voxels), got shape {array.shape}: reshape and save them again"
        )
    by_trial = path.suffix == ".npy" and array.flags.c_contiguous
    return Responses(*array.shape, array.dtype, lambda a, b: np.asarray(open_it()[a:b]), path if by_trial else None)


# --- volumes ----------------------------------------------------------------------------------------------------------


def nifti_responses(paths: Sequence[Path], mask: Path, volume: Volume) -> Responses:
    """Betas (x, y, z) or (x, y, z, trials), one file after another, of the voxels of the mask.

    A file's scale factor is applied. Raises BadFile if a file lies on another grid than the mask, or if some files have a
    scale factor and others have none.
    """
    grid, starts, n_trials = Grid(mask, volume.shape, volume.affine), [], 0
    for path in paths:
        image = load_image(path)
        check_grid(grid_of(path, image), grid)
        starts.append(n_trials)
        n_trials += image.shape[3] if len(image.shape) > 3 else 1
    notes = scale_notes(paths)
    at = tuple(volume.indices.T.astype(np.intp))
    opened: dict[Path, nib.Nifti1Image] = {}

    def one(trial: int) -> np.ndarray:
        k = int(np.searchsorted(starts, trial, side="right")) - 1
        if paths[k] not in opened:
            opened.clear()
            opened[paths[k]] = load_image(paths[k])
        data = opened[paths[k]].dataobj
        return np.asarray(data[..., trial - starts[k]] if data.ndim > 3 else data)[at]

    def read(start: int, stop: int) -> np.ndarray:
        return np.stack([one(trial) for trial in range(start, stop)])

    return Responses(n_trials, volume.n_voxels, load_image(paths[0]).get_data_dtype(), read, notes=notes)


def scale_notes(paths: Sequence[Path]) -> tuple[str, ...]:
    """What is to be said of the files' scale factors. Raises BadFile if some have one and others have none."""
    data = {path: load_image(path).dataobj for path in paths}
    factors = {path: (float(d.slope), float(d.inter)) for path, d in data.items()}
    plain = [path for path, factor in factors.items() if factor == (1.0, 0.0)]
    scaled = [path for path, factor in factors.items() if factor != (1.0, 0.0)]
    if plain and scaled:
        raise BadFile(
            f"{scaled[0].name} has the scale factor {factors[scaled[0]][0]:g}, {plain[0].name} has none: one of them would be off "
            "by that factor; save all with the same"
        )
    return (f"scale factors are applied ({scaled[0].name}: {factors[scaled[0]][0]:g})",) if scaled else ()


# --- surfaces ---------------------------------------------------------------------------------------------------------


def hemisphere_of_name(path: Path) -> int:
    """0 left, 1 right. Raises BadFile where a file's name does not tell."""
    sides = [bool(pattern.search(path.name)) for pattern in (LEFT, RIGHT)]
    if sum(sides) != 1:
        raise BadFile(f"{path}: expected lh or rh in its name, as in responses.lh.gii: rename it")
    return sides.index(True)


def gifti_responses(paths: Sequence[Path]) -> tuple[Responses, dict[int, int]]:
    """One data array a trial, left hemisphere before right; and how many vertices each hemisphere has. They are read whole."""
    by_side = {hemisphere_of_name(path): path for path in paths}
    if len(by_side) < len(paths):
        raise BadFile(f"expected one file a hemisphere, got {', '.join(p.name for p in paths)}: join or remove some")
    arrays = {side: _gifti(by_side[side]) for side in sorted(by_side)}
    lengths = {by_side[side].name: len(array) for side, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise BadFile(f"expected as many trials in both hemispheres, got {lengths}")
    values = np.concatenate(list(arrays.values()), axis=1)
    sizes = {side: array.shape[1] for side, array in arrays.items()}
    return Responses(*values.shape, values.dtype, lambda a, b: values[a:b]), sizes


def _gifti(path: Path) -> np.ndarray:
    """(n_trials, n_vertices)."""
    arrays = [array.data for array in load_image(path).darrays]
    if not arrays or any(a.ndim != 1 or len(a) != len(arrays[0]) for a in arrays):
        raise BadFile(
            f"{path}: expected one data array of vertices a trial, got shapes {[a.shape for a in arrays][:3]}"
        )
    return np.stack(arrays)


def cifti_responses(path: Path) -> tuple[Responses, nib.cifti2.BrainModelAxis]:
    """One row a trial; and where its columns are."""
    image = load_image(path)
    if not isinstance(image, nib.Cifti2Image):
        raise BadFile(f"{path}: expected a CIFTI file of scalars, got {type(image).__name__}")
    axis = image.header.get_axis(1)
    if not isinstance(axis, nib.cifti2.BrainModelAxis):
        raise BadFile(f"{path}: expected its columns to be places in the brain, got a {type(axis).__name__}")
    read = lambda a, b: np.asarray(image.dataobj[a:b])
    return Responses(*image.shape, image.get_data_dtype(), read), axis
