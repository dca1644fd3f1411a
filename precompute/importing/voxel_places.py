"""Where voxels are: a mask volume, a table of vertices or of coordinates, what GIfTI or CIFTI files say; and areas."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from precompute.importing.grids import Grid, check_grid, grid_of, load_image
from precompute.importing.text_tables import column, read_table, whole_numbers
from recon.brain.space import Geometry, Points, Volume
from recon.files import BadFile

N_VERTICES = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage": 163_842}  # a hemisphere
SURFACES = {name: name for name in N_VERTICES} | {"fsaverage7": "fsaverage"}  # what people call them -> as nilearn does
SIDES = {"lh": 0, "l": 0, "left": 0, "rh": 1, "r": 1, "right": 1}
Rois = dict[str, np.ndarray]
Places = Geometry | Volume | Points


# --- volumes ----------------------------------------------------------------------------------------------------------


def read_mask(path: Path) -> Volume:
    """Voxels above 0, in C order of (x, y, z), as numpy's boolean masking yields them."""
    image = load_image(path)
    values = np.asarray(image.dataobj)
    if values.ndim != 3 or not (values > 0).any():
        raise BadFile(
            f"{path}: expected a volume (x, y, z) with voxels above 0, got shape {values.shape} and none above 0"
        )
    return Volume(
        tuple(map(int, values.shape)), np.argwhere(values > 0).astype(np.int16), np.asarray(image.affine, float), {}
    )


def read_labels(path: Path, names: dict[int, str], mask: Grid, volume: Volume) -> Rois:
    """Areas of a volume of labels: 0 and below is none. Raises BadFile if it lies elsewhere, or mirrored."""
    image = load_image(path)
    check_grid(grid_of(path, image), mask)
    labels = np.asarray(image.dataobj)
    inside = np.zeros(volume.shape, bool)
    inside[tuple(volume.indices.T.astype(np.intp))] = True
    rois = {}
    for label in sorted(int(k) for k in np.unique(labels) if k > 0):
        name = names.get(label, f"area {label}")
        check_not_mirrored(path, name, labels == label, inside)
        rois[name] = labels[tuple(volume.indices.T.astype(np.intp))] == label
    return {name: member for name, member in rois.items() if member.any()}


def check_not_mirrored(path: Path, name: str, area: np.ndarray, inside: np.ndarray) -> None:
    """Raises BadFile if most of an area lies outside the mask, and inside once an axis is turned round: it was flipped."""
    here, n = int((area & inside).sum()), int(area.sum())
    for axis, letter in enumerate("xyz"):
        turned = int((np.flip(area, axis) & inside).sum())
        if here < n / 2 and turned > 0.9 * n:
            raise BadFile(
                f"{path}: {here} of the {n} voxels of {name} lie in the mask, but {turned} once {letter} is turned round: it "
                f"seems flipped along {letter}; turn it and save it again"
            )


# --- tables -----------------------------------------------------------------------------------------------------------


def read_places(path: Path) -> Geometry | Points:
    """A line a voxel: columns surface, hemisphere and vertex, or x, y and z in mm (right, forward, up)."""
    table = read_table(path)
    if {"x", "y", "z"} <= table.keys():
        return Points(_coordinates(path, table), {})
    if not {"surface", "hemisphere", "vertex"} <= table.keys():
        raise BadFile(f"{path}: expected columns surface, hemisphere, vertex, or x, y, z, got {', '.join(table)}")
    surfaces = set(column(path, table, "surface"))
    if len(surfaces) != 1 or not surfaces <= SURFACES.keys():
        raise BadFile(f"{path}: expected one surface of {', '.join(SURFACES)}, got {', '.join(sorted(surfaces))}")
    sides = [side.lower() for side in column(path, table, "hemisphere")]
    if wrong := sorted(set(sides) - SIDES.keys()):
        raise BadFile(f"{path}: expected hemispheres lh or rh, got {wrong[0]!r}")
    hemisphere = np.array([SIDES[side] for side in sides], np.uint8)
    vertex = np.array(whole_numbers(path, table, "vertex"), np.int64)
    return checked_surface(path, SURFACES[surfaces.pop()], hemisphere, vertex)


def _coordinates(path: Path, table: dict[str, list[str]]) -> np.ndarray:
    try:
        mm = np.array([column(path, table, axis) for axis in "xyz"], np.float32).T
    except ValueError as error:
        raise BadFile(
            f"{path}: expected numbers in x, y and z, with a decimal point, got something else ({error})"
        ) from error
    if not np.isfinite(mm).all():
        line = int(np.argwhere(~np.isfinite(mm))[0, 0]) + 2
        raise BadFile(f"{path}, line {line}: expected coordinates in mm, got NaN or infinity")
    return mm


def checked_surface(path: Path, mesh: str, hemisphere: np.ndarray, vertex: np.ndarray) -> Geometry:
    """Raises BadFile for vertices that the surface does not have, or that are named twice."""
    n = N_VERTICES[mesh]
    if len(vertex) and not 0 <= vertex.min() <= vertex.max() < n:
        wrong = vertex.min() if vertex.min() < 0 else vertex.max()
        raise BadFile(
            f"{path}: {mesh} has vertices 0 to {n - 1} a hemisphere, got {wrong}: name the surface that they are of"
        )
    if len(np.unique(hemisphere.astype(np.int64) * n + vertex)) < len(vertex):
        raise BadFile(f"{path}: expected every vertex once, got some several times: give one voxel a vertex")
    return Geometry(mesh, hemisphere, vertex.astype(np.int32), {})


def read_rois(path: Path, n_voxels: int) -> Rois:
    """A line a voxel: a column an area, 1 for its voxels; or one column `roi` with the name of each voxel's area, or nothing."""
    table = read_table(path)
    lengths = {len(values) for values in table.values()}
    if lengths != {n_voxels}:
        raise BadFile(f"{path}: expected a line for each of {n_voxels} voxels, got {max(lengths, default=0)}")
    if set(table) == {"roi"}:
        return {name: np.array([v == name for v in table["roi"]]) for name in dict.fromkeys(table["roi"]) if name}
    for name, values in table.items():
        if wrong := set(values) - {"0", "1", "true", "false", "True", "False", ""}:
            raise BadFile(f"{path}: expected 0 or 1 in column {name!r}, got {min(wrong)!r}")
    rois = {
        name: np.array([v in ("1", "true", "True") for v in values])
        for name, values in _as_written(path, table).items()
    }
    return {name: member for name, member in rois.items() if member.any()}


def _as_written(path: Path, table: dict[str, list[str]]) -> dict[str, list[str]]:
    """Columns under their names in the file, whose capitals matter for areas."""
    header = path.read_text(encoding="utf-8-sig").splitlines()[0]
    delimiter = max(",;\t", key=header.count)
    return dict(zip([name.strip().strip('"') for name in header.split(delimiter)], table.values()))


def read_label_names(path: Path) -> dict[int, str]:
    """A table of columns `label` and `name` that goes with a volume of labels."""
    table = read_table(path)
    return dict(zip(whole_numbers(path, table, "label"), column(path, table, "name")))


# --- what surface files say -------------------------------------------------------------------------------------------


def gifti_places(path: Path, sizes: dict[int, int]) -> Geometry:
    """All vertices, of the surface that has as many. Raises BadFile if none does."""
    meshes = {n: mesh for mesh, n in N_VERTICES.items()}
    if len(found := set(sizes.values())) != 1 or not found <= meshes.keys():
        known = ", ".join(f"{mesh}: {n}" for mesh, n in N_VERTICES.items())
        raise BadFile(
            f"{path}: expected as many vertices a hemisphere as a known surface has ({known}), got {sorted(found)}"
        )
    n = found.pop()
    hemisphere = np.repeat(np.array(list(sizes), np.uint8), n)
    return Geometry(meshes[n], hemisphere, np.tile(np.arange(n, dtype=np.int32), len(sizes)), {})


def cifti_places(path: Path, axis: nib.cifti2.BrainModelAxis) -> tuple[Geometry | Volume | Points, str]:
    """Where the columns are, and a note if that cannot be drawn."""
    surface = axis.surface_mask
    if not surface.any():
        return Volume(
            tuple(map(int, axis.volume_shape)), axis.voxel.astype(np.int16), np.asarray(axis.affine, float), {}
        ), ""
    unknown = Points(np.full((len(axis), 3), np.nan, np.float32), {})
    sizes, meshes = set(axis.nvertices.values()), {n: mesh for mesh, n in N_VERTICES.items()}
    if not surface.all():
        return unknown, f"{path.name} holds a surface and a volume: without places, for a page draws one of them"
    if len(sizes) != 1 or not sizes <= meshes.keys():
        return (
            unknown,
            f"{path.name} is of a surface with {sorted(sizes)} vertices, which is none of {', '.join(N_VERTICES)}: not drawn",
        )
    hemisphere = np.array([name.endswith("RIGHT") for name in axis.name], np.uint8)
    return checked_surface(path, meshes[sizes.pop()], hemisphere, axis.vertex.astype(np.int64)), ""
