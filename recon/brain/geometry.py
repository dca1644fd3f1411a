"""What a brain view draws: cortical surfaces with the outlines of their areas, or a volume's own grid; and which voxel is where.

Arrays travel as base64 of their little-endian bytes, so that a browser reads them as typed arrays.
"""

from __future__ import annotations

import base64

import numpy as np
from nibabel.orientations import io_orientation

from recon.brain.space import Geometry, Points, Volume

HEMISPHERES = ("left", "right")
DRAWN = "fsaverage5"  # the surface that comes with nilearn; its vertices are the first of every finer fsaverage
SURFACES = ("inflated", "flat", "pial")


def encoded(array: np.ndarray, dtype: str) -> str:
    """Base64 of the array's bytes as `dtype` ("<f4", "<u2", …), C order."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")


def voxel_of_vertex(geometry: Geometry, hemisphere: int, n_vertices: int) -> np.ndarray:
    """(n_vertices,) int32: the voxel at each vertex of a hemisphere (0 left, 1 right), -1 where there is none.

    Voxels on vertices beyond these, of a finer surface, are left out.
    """
    here = np.flatnonzero((geometry.hemisphere == hemisphere) & (geometry.vertex < n_vertices))
    table = np.full(n_vertices, -1, np.int32)
    table[geometry.vertex[here]] = here
    return table


def outline(member: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Where a mask of vertices ends: one line in every face that it cuts through.

    member (n_vertices,) bool, faces (m, 3) -> (k, 3) vertices: the line joins the middles of the edges 0–1 and 0–2; vertex
    0 is the one that the mask separates from the other two.
    """
    inside = member[faces]
    cut = inside.any(1) & ~inside.all(1)
    alone = inside[cut] == (inside[cut].sum(1) == 1)[:, None]  # one True a row
    order = (alone.argmax(1)[:, None] + np.arange(3)) % 3
    return np.take_along_axis(faces[cut], order, 1)


def _apex_first(faces: np.ndarray, n_coarse: int) -> np.ndarray:
    """Faces (m, 3) turned so that the vertex below n_coarse comes first."""
    start = (faces < n_coarse).argmax(1)
    return np.take_along_axis(faces, (start[:, None] + np.arange(3)) % 3, 1)


def coarser(faces: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A mesh with fewer faces where nothing is to be seen: of a subdivided icosahedron, as every fsaverage is.

    faces (m, 3), keep (n_vertices,) bool -> (k, 3). Four faces that came of one and touch no vertex to be kept become that one
    again; beside finer faces, a sliver to the middle of its edge leaves no gap. Without a GPU this saves a quarter of a
    drawing's time.
    """
    n_coarse = (len(keep) + 6) // 4  # these vertices come first, middles of their edges after them
    is_inner = (faces >= n_coarse).all(1)
    inner, corners = faces[is_inner], _apex_first(faces[~is_inner], n_coarse)
    place = {(b, a): k for k, (_, a, b) in enumerate(corners.tolist())}
    found = np.array([[place.get(edge, -1) for edge in ((a, b), (b, c), (c, a))] for a, b, c in inner.tolist()])
    apexes = corners[found, 0]
    far = (found >= 0).all(1) & ~keep[inner].any(1) & ~keep[apexes].any(1)
    fine = np.concatenate([inner[~far], np.delete(corners, found[far].ravel(), axis=0)])
    apexes, middles = apexes[far], np.roll(inner[far], -1, axis=1)  # middle k lies between apexes k and k + 1
    slivers = np.stack([np.roll(apexes, -1, axis=1), apexes, middles], axis=2)[np.isin(middles, fine)]
    return np.concatenate([fine, apexes, slivers])


def surface_mesh(geometry: Geometry, surface: str) -> dict:
    """One surface, both hemispheres, each about its own origin.

    Per hemisphere: coordinates (n, 3) "<f4" mm; faces (m, 3) "<u2", coarser where no voxel is; outlines, one (k, 3) "<u2" a
    ROI (see `outline`). Of the flat surface z is 0, and faces on its cuts and on the medial wall are absent: their
    vertices are not to be drawn.
    Raises ValueError on an unknown surface.
    """
    if surface not in SURFACES:
        raise ValueError(f"surface: expected one of {', '.join(SURFACES)}, got {surface!r}")
    from nilearn.datasets import load_fsaverage  # takes seconds, and a page shows pictures before the brain

    mesh, parts = load_fsaverage(DRAWN)[surface], {}
    for h, name in enumerate(HEMISPHERES):
        coordinates, faces = mesh.parts[name].coordinates, mesh.parts[name].faces
        voxel = voxel_of_vertex(geometry, h, len(coordinates))
        flat = np.array([1, 1, surface != "flat"], coordinates.dtype)
        masks = [np.where(voxel >= 0, mask[voxel], False) for mask in geometry.rois.values()]
        parts[name] = {
            "coordinates": encoded(coordinates * flat, "<f4"),
            "faces": encoded(coarser(faces, voxel >= 0), "<u2"),
            "outlines": [encoded(outline(mask, faces), "<u2") for mask in masks],
        }
    return parts


def surface_payload(geometry: Geometry) -> dict:
    """What all surfaces share. Raises ValueError if a voxel lies outside the mesh.

    Per hemisphere: sulcus (n,) "<f4", positive in sulci; voxel (n,) "<i4". areas: names, and members (n_names, n_voxels) "u1".
    """
    from nilearn.datasets import load_fsaverage_data

    sulcus = load_fsaverage_data(DRAWN, data_type="sulcal").data.parts
    hemispheres = {}
    for h, name in enumerate(HEMISPHERES):
        n, vertices = len(sulcus[name]), geometry.vertex[geometry.hemisphere == h]
        if geometry.mesh == DRAWN and len(vertices) and not 0 <= vertices.min() <= vertices.max() < n:
            raise ValueError(f"{geometry.mesh} has {n} vertices a hemisphere, but voxels lie on up to {vertices.max()}")
        voxel = voxel_of_vertex(geometry, h, n)
        hemispheres[name] = {"sulcus": encoded(sulcus[name], "<f4"), "voxel": encoded(voxel, "<i4")}
    return {"kind": "surface", "hemispheres": hemispheres, "areas": _areas(geometry), "note": _left_out(geometry, n)}


def _left_out(geometry: Geometry, n_vertices: int) -> str:
    """What of a finer surface is not drawn, in words."""
    n_drawn = int((geometry.vertex < n_vertices).sum())
    if n_drawn == geometry.n_voxels:
        return ""
    return (
        f"Drawn on {DRAWN}: the {n_drawn} of {geometry.n_voxels} voxels whose vertices it has; nothing is interpolated."
    )


def _areas(geometry: Geometry | Volume | Points) -> dict:
    members = np.array(list(geometry.rois.values()), np.uint8).reshape(len(geometry.rois), geometry.n_voxels)
    return {"names": list(geometry.rois), "members": encoded(members, "u1"), "n_voxels": geometry.n_voxels}


def hemisphere_of(geometry: Geometry | Volume | Points) -> np.ndarray | None:
    """(n_voxels,) 0 left, 1 right; in a volume, the side of its middle along mm x; None where places are not known."""
    if isinstance(geometry, Points):
        return (geometry.mm[:, 0] >= 0).astype(np.uint8) if geometry.are_known else None
    if isinstance(geometry, Geometry):
        return geometry.hemisphere
    to_mm = geometry.affine[:3, :3]
    middle = (np.array(geometry.shape) - 1) / 2
    return ((geometry.indices - middle) @ to_mm.T[:, 0] >= 0).astype(np.uint8)


def millimetres(geometry: Geometry | Volume | Points) -> np.ndarray:
    """(n_voxels, 3) where voxels are, on the pial surface or at their centres; NaN where that is not known here."""
    if isinstance(geometry, Points):
        return geometry.mm
    if isinstance(geometry, Volume):
        return geometry.indices @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    from nilearn.datasets import load_fsaverage

    pial, places = load_fsaverage(DRAWN)["pial"], np.full((geometry.n_voxels, 3), np.nan)
    for h, name in enumerate(HEMISPHERES):
        vertices = pial.parts[name].coordinates
        here = (geometry.hemisphere == h) & (geometry.vertex < len(vertices))
        places[here] = vertices[geometry.vertex[here]]
    return places


def nearest_area(geometry: Geometry | Volume | Points, voxel: int) -> tuple[str, float] | None:
    """The named area with the voxel nearest to this one in a straight line, and how far it is in mm; None if it is not known."""
    places = millimetres(geometry)
    distance = np.linalg.norm(places - places[voxel], axis=1)
    found = {
        name: float(np.nanmin(distance[mask]))
        for name, mask in geometry.rois.items()
        if np.isfinite(distance[mask]).any()
    }
    return min(found.items(), key=lambda item: item[1]) if found else None


def canonical_grid(geometry: Volume) -> np.ndarray:
    """(n_voxels, 3) int: indices along the volume's axes nearest to right, anterior, superior; nothing is resampled."""
    grid = np.empty_like(geometry.indices)
    for axis, (target, direction) in enumerate(io_orientation(geometry.affine).astype(int)):
        index = geometry.indices[:, axis]
        grid[:, target] = index if direction > 0 else geometry.shape[axis] - 1 - index
    return grid


def voxel_size(geometry: Volume) -> np.ndarray:
    """(3,) mm along right, anterior, superior."""
    targets = io_orientation(geometry.affine)[:, 0].astype(int)
    return np.linalg.norm(geometry.affine[:3, :3], axis=0)[np.argsort(targets)]


def volume_payload(geometry: Volume) -> dict:
    """The subject's own space, nothing is projected.

    Per hemisphere: coordinates of voxel centres (n, 3) "<f4" mm about their common middle, voxel (n,) "<i4". grid (n_voxels, 3)
    "<u2" toward right, anterior, superior; size (3,) mm; areas as of a surface.
    """
    mm = millimetres(geometry)
    grid = {"grid": encoded(canonical_grid(geometry), "<u2"), "size": voxel_size(geometry).tolist()}
    return {"kind": "volume", "hemispheres": _centres(mm, hemisphere_of(geometry)), "areas": _areas(geometry)} | grid


def _centres(mm: np.ndarray, side: np.ndarray) -> dict:
    """Voxel centres (n_voxels, 3) about their common middle, by hemisphere."""
    centre = (mm.min(0) + mm.max(0)) / 2
    return {
        name: {
            "coordinates": encoded(mm[side == h] - centre, "<f4"),
            "voxel": encoded(np.flatnonzero(side == h), "<i4"),
        }
        for h, name in enumerate(HEMISPHERES)
    }


def points_payload(geometry: Points) -> dict:
    """Voxel centres, as of a volume but without its grid; of kind "nowhere", without any, where these are not known."""
    side = hemisphere_of(geometry)
    if side is None:
        return {"kind": "nowhere", "hemispheres": {}, "areas": _areas(geometry)}
    return {"kind": "points", "hemispheres": _centres(geometry.mm, side), "areas": _areas(geometry)}


def geometry_payload(geometry: Geometry | Volume | Points) -> dict:
    """What the browser draws of each kind; a surface's meshes come apart (`surface_mesh`)."""
    if isinstance(geometry, Points):
        return points_payload(geometry)
    return volume_payload(geometry) if isinstance(geometry, Volume) else surface_payload(geometry)
