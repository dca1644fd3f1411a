"""What a brain view needs: the inflated surface or the voxel centres, which voxel is where, and values with a fixed colour scale.

Arrays travel as base64 of their little-endian bytes, so that a browser reads them as typed arrays.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from nilearn.datasets import load_fsaverage, load_fsaverage_data

from recon.encoding import VoxelScores
from recon.subject import Geometry, Volume

HEMISPHERES = ("left", "right")
GAP = 12.0  # mm between the hemispheres' medial walls
VARIANCE_MAX = 60.0  # percent: upper end of the scale that R² and its ceiling share
RESPONSE_MAX = 2.5  # z-score: end of the response's scale on both sides


@dataclass(frozen=True)
class VoxelMap:
    """One number per voxel and its colour scale; NaN where there is nothing to show."""

    title: str
    unit: str
    scale: str  # "inferno", "diverging"
    low: float
    high: float
    values: np.ndarray  # (n_voxels,) float32


def encoded(array: np.ndarray, dtype: str) -> str:
    """Base64 of the array's bytes as `dtype` ("<f4", "<u2", …), C order."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")


def voxel_of_vertex(geometry: Geometry, hemisphere: int, n_vertices: int) -> np.ndarray:
    """(n_vertices,) int32: the voxel at each vertex of a hemisphere (0 left, 1 right), -1 where there is none."""
    here = np.flatnonzero(geometry.hemisphere == hemisphere)
    table = np.full(n_vertices, -1, np.int32)
    table[geometry.vertex[here]] = here
    return table


def apart(coordinates: np.ndarray, hemisphere: int) -> np.ndarray:
    """(n, 3) mm, shifted along x so that the hemisphere ends GAP / 2 from the middle: left below 0, right above."""
    x = coordinates[:, 0]
    shift = -GAP / 2 - x.max() if hemisphere == 0 else GAP / 2 - x.min()
    return coordinates + np.array([shift, 0, 0], coordinates.dtype)


def surface_payload(geometry: Geometry) -> dict:
    """Both hemispheres of the inflated mesh with voxel indices, and the areas each voxel belongs to.

    Per hemisphere: coordinates (n, 3) "<f4" mm; faces (m, 3) "<u2"; sulcus (n,) "<f4", positive in sulci; voxel (n,)
    "<i4". areas: names, and members (n_names, n_voxels) "u1". Raises ValueError if a voxel lies outside the mesh.
    """
    mesh = load_fsaverage(geometry.mesh)["inflated"]
    sulcus = load_fsaverage_data(geometry.mesh, data_type="sulcal")
    hemispheres = {}
    for h, name in enumerate(HEMISPHERES):
        part = mesh.parts[name]
        n = len(part.coordinates)
        vertices = geometry.vertex[geometry.hemisphere == h]
        if len(vertices) and not 0 <= vertices.min() <= vertices.max() < n:
            raise ValueError(f"{geometry.mesh} has {n} vertices a hemisphere, but voxels lie on up to {vertices.max()}")
        hemispheres[name] = {
            "coordinates": encoded(apart(part.coordinates, h), "<f4"),
            "faces": encoded(part.faces, "<u2"),
            "sulcus": encoded(sulcus.data.parts[name], "<f4"),
            "voxel": encoded(voxel_of_vertex(geometry, h, n), "<i4"),
        }
    return {"hemispheres": hemispheres, "areas": _areas(geometry)}


def _areas(geometry: Geometry | Volume) -> dict:
    members = np.array(list(geometry.rois.values()), np.uint8).reshape(len(geometry.rois), geometry.n_voxels)
    return {"names": list(geometry.rois), "members": encoded(members, "u1")}


def volume_payload(geometry: Volume) -> dict:
    """Voxel centres in mm about their middle, by side of the volume; the subject's own space, nothing is projected.

    Per hemisphere: coordinates (n, 3) "<f4" mm, voxel (n,) "<i4"; areas as of a surface.
    """
    to_mm, origin = geometry.affine[:3, :3], geometry.affine[:3, 3]
    mm = geometry.indices @ to_mm.T + origin
    middle = (np.array(geometry.shape) - 1) / 2 @ to_mm.T + origin
    centre = (mm.min(0) + mm.max(0)) / 2
    sides = {"left": np.flatnonzero(mm[:, 0] < middle[0]), "right": np.flatnonzero(mm[:, 0] >= middle[0])}
    hemispheres = {
        name: {"coordinates": encoded(mm[here] - centre, "<f4"), "voxel": encoded(here, "<i4")}
        for name, here in sides.items()
    }
    return {"hemispheres": hemispheres, "areas": _areas(geometry)}


def geometry_payload(geometry: Geometry | Volume) -> dict:
    """What the browser draws of either kind."""
    return volume_payload(geometry) if isinstance(geometry, Volume) else surface_payload(geometry)


def score_maps(scores: VoxelScores) -> dict[str, VoxelMap]:
    """R², its ceiling and their ratio, all in percent; R² and the ceiling share one scale."""

    def percent(title: str, high: float, values: np.ndarray) -> VoxelMap:
        return VoxelMap(title, "%", "inferno", 0.0, high, values.astype(np.float32))

    return {
        "r2": percent("R²: variance explained", VARIANCE_MAX, 100 * scores.r2),
        "ceiling": percent("Noise ceiling: explainable variance", VARIANCE_MAX, scores.noise_ceiling),
        "ratio": percent("R² / noise ceiling", 100.0, scores.r2_over_ceiling),
    }


def response_map(response: np.ndarray) -> VoxelMap:
    """(n_voxels,) z-scored response to one picture."""
    scale = ("diverging", -RESPONSE_MAX, RESPONSE_MAX)
    return VoxelMap("Response to this picture", "z", *scale, np.asarray(response, np.float32))


def map_payload(voxel_map: VoxelMap) -> dict:
    """A map as JSON can carry it; values as "<f4", NaN included."""
    fields = {name: getattr(voxel_map, name) for name in ("title", "unit", "scale", "low", "high")}
    return fields | {"values": encoded(voxel_map.values, "<f4")}
