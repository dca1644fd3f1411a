"""Volumes that have to lie on one grid: the same shape, and the same affine, so that no voxel is taken for another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes

from precompute.nsd.volumes import UNREADABLE, misplaced
from recon.files import BadFile


@dataclass(frozen=True)
class Grid:
    """A volume's shape, where its voxels are, and the file that says so."""

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray  # (4, 4): indices -> mm


def load_image(path: Path):
    """What nibabel makes of a file. Raises BadFile if it is missing, damaged or of another kind."""
    try:
        return nib.load(path, keep_file_open=True) if path.name.endswith((".nii", ".nii.gz")) else nib.load(path)
    except FileNotFoundError:
        raise BadFile(f"{path} is missing: put it there") from None
    except UNREADABLE as error:
        raise BadFile(f"{path} cannot be read ({' '.join(str(error).split())}): save it again") from error


def grid_of(path: Path, image) -> Grid:
    return Grid(path, tuple(image.shape[:3]), np.asarray(image.affine, np.float64))


def check_grid(found: Grid, expected: Grid) -> None:
    """Raises BadFile, saying in which way, if two volumes do not lie on the same grid."""
    if found.shape != expected.shape:
        raise BadFile(
            f"{found.path}: expected the shape of {expected.path.name}, {expected.shape}, got {found.shape}: resample it"
        )
    away = misplaced(found.affine, expected.affine, expected.shape)
    if not away:
        return
    ours, theirs = ("".join(map(str, aff2axcodes(grid.affine))) for grid in (expected, found))
    if ours != theirs:
        axes = [name for name, a, b in zip("xyz", ours, theirs) if a != b]
        raise BadFile(
            f"{found.path}: its axes run {theirs}, those of {expected.path.name} run {ours}: it is flipped along "
            f"{', '.join(axes)}; reorient it to {expected.path.name}"
        )
    raise BadFile(
        f"{found.path}: its affine differs from that of {expected.path.name}: its voxels are up to {away:.3g} mm elsewhere; "
        f"resample it to {expected.path.name}"
    )
