"""A map as a file for other programs: CSV anywhere, GIfTI on a surface, NIfTI in a volume."""

from __future__ import annotations

import csv
import io
import zipfile

import nibabel
import numpy as np
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

from recon.brain.geometry import HEMISPHERES, hemisphere_of
from recon.brain.maps import VoxelMap
from recon.brain.space import Geometry, Points, Volume

N_VERTICES = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage7": 163_842, "fsaverage": 163_842}  # a hemisphere
TYPES = {"csv": "text/csv", "gifti": "application/zip", "nifti": "application/octet-stream"}


def map_file(name: str, shown: VoxelMap, space: Geometry | Volume | Points, kind: str) -> tuple[str, bytes]:
    """The file's name and content, of kind "csv", "gifti" (a zip of both hemispheres) or "nifti" (uncompressed).

    Where there is no voxel, or no value, stands NaN; in CSV an empty field. Raises ValueError for a kind that the space lacks.
    """
    if kind == "csv":
        return f"{name}.csv", map_table(shown, space).encode()
    if kind == "gifti" and isinstance(space, Geometry) and space.mesh in N_VERTICES:
        return f"{name}_gifti.zip", _both_hemispheres(name, shown, space)
    if kind == "nifti" and isinstance(space, Volume):
        return f"{name}.nii", _volume(shown, space)
    raise ValueError(f"file: expected csv, gifti for a subject on a surface or nifti for one in a volume, got {kind!r}")


def map_table(shown: VoxelMap, space: Geometry | Volume | Points) -> str:
    """CSV with a line a voxel: number, hemisphere, where it is, its areas with spaces between, and the value."""
    unit = f" ({shown.unit})" if shown.unit else ""
    names, places = _places(space)
    side, text = hemisphere_of(space), io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["voxel", "hemisphere", *names, "areas", f"{shown.label}{unit}"])
    for voxel, value in enumerate(shown.values):
        areas = " ".join(name for name, mask in space.rois.items() if mask[voxel])
        where = "" if side is None else HEMISPHERES[side[voxel]]
        rows.writerow([voxel, where, *places[voxel], areas, f"{value:.6g}" if np.isfinite(value) else ""])
    return text.getvalue()


def _places(space: Geometry | Volume | Points) -> tuple[tuple[str, ...], list]:
    """Names of columns, and a row of them for each voxel."""
    if isinstance(space, Geometry):
        return (f"{space.mesh} vertex",), space.vertex[:, None].tolist()
    if isinstance(space, Volume):
        return ("i", "j", "k"), space.indices.tolist()
    if space.are_known:
        return ("x mm", "y mm", "z mm"), space.mm.round(3).tolist()
    return (), [[]] * space.n_voxels


def _both_hemispheres(name: str, shown: VoxelMap, space: Geometry) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for h, (short, structure) in enumerate((("lh", "CortexLeft"), ("rh", "CortexRight"))):
            values = np.full(N_VERTICES[space.mesh], np.nan, np.float32)
            here = space.hemisphere == h
            values[space.vertex[here]] = shown.values[here]
            array = GiftiDataArray(values, intent="NIFTI_INTENT_SHAPE", meta=GiftiMetaData(Name=shown.label))
            image = GiftiImage(meta=GiftiMetaData(AnatomicalStructurePrimary=structure), darrays=[array])
            archive.writestr(f"{short}.{name}.{space.mesh}.shape.gii", image.to_bytes())
    return buffer.getvalue()


def _volume(shown: VoxelMap, space: Volume) -> bytes:
    values = np.full(space.shape, np.nan, np.float32)
    values[tuple(space.indices.T)] = shown.values
    return nibabel.Nifti1Image(values, space.affine).to_bytes()
