"""Volumes in NIfTI files: values, where their voxels are, and whether that is where nsdgeneral has them."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from recon.brain.space import Volume
from recon.unreadable import BadFile, unreadable

UNREADABLE = (OSError, EOFError, KeyError, ValueError, zlib.error, ImageFileError, HeaderDataError)
FETCH = "delete it and fetch it again"


def damaged(path: Path, error: Exception) -> BadFile:
    """What keeps a raw file from being read; only one of wrong content is to be deleted."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return unreadable(path, error, f"{path} cannot be read ({reason}): truncated or damaged? {FETCH.capitalize()}")


def read_volume(path: Path) -> tuple[nib.Nifti1Image, np.ndarray]:
    """The image of a NIfTI file and its values, to which scale factors of the header have been applied."""
    try:
        image = nib.load(path)
        return image, np.asarray(image.dataobj)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def read_masked(path: Path, volume: Volume) -> np.ndarray:
    """(n_voxels,) values of a file at the voxels of nsdgeneral. Raises BadFile if its voxels are not where nsdgeneral's are."""
    image, values = read_volume(path)
    if values.shape != volume.shape:
        raise BadFile(f"{path}: expected the shape of nsdgeneral {volume.shape}, got {values.shape}")
    check_place(path, image, volume)
    return values[tuple(volume.indices.T)]


def check_place(path: Path, image: nib.Nifti1Image, volume: Volume) -> None:
    """Raises BadFile if a voxel lies further than half a voxel from where nsdgeneral's affine puts it: mirrored, turned, shifted.

    A header that says nothing of the place (both codes 0) is taken at its shape.
    """
    if not image.header["sform_code"] and not image.header["qform_code"]:
        return
    if away := misplaced(image.affine, volume.affine, volume.shape):
        axes, here = _axes(volume.affine), _axes(image.affine)
        raise BadFile(
            f"{path}: expected voxels where nsdgeneral has them (axes {axes}), got some {away:.3g} mm away (axes {here}): "
            "fetch NSD's own file, or resample it to nsdgeneral's grid"
        )


def misplaced(affine: np.ndarray, expected: np.ndarray, shape: tuple[int, ...]) -> float:
    """How many mm a voxel of a volume lies at most from where the expected affine (4, 4) puts it; 0 within half a voxel."""
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(shape)[:, None] - 1)
    apart = (affine - expected) @ np.vstack([corners, np.ones(8)])
    furthest = float(np.linalg.norm(apart[:3], axis=0).max())
    return 0.0 if furthest <= nib.affines.voxel_sizes(expected).min() / 2 else furthest  # NaN is not within


def _axes(affine: np.ndarray) -> str:
    """Where the three indices lead to: "RAS" is right, anterior, superior."""
    return "".join(axis or "?" for axis in nib.aff2axcodes(affine)) if np.isfinite(affine).all() else "unknown"


def check_unscaled(path: Path, slope: float, offset: float) -> None:
    """Raises BadFile if a file asks for a scale factor: NSD's betas are integers as they stand."""
    if (slope, offset) != (1, 0):
        raise BadFile(
            f"{path}: expected betas as NSD stores them, integers of 300 × percent without a scale factor, got slope {slope:g} "
            f"and intercept {offset:g}: another program has saved it anew; {FETCH}"
        )
