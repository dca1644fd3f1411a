"""The anatomy of the simulated visual cortex: areas at plausible places on fsaverage5, and their retinotopy.

V1-V3 are laid out on the spherical mesh along the calcarine: `u` runs in mm from the occipital pole forwards
(eccentricity grows exponentially), `v` from ventral (upper visual field) to dorsal (lower field). V1 is the middle band, V2
and V3 are mirror-image bands around it; each hemisphere sees the contralateral half. The other areas are discs about
their usual coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nilearn.datasets import load_fsaverage
from scipy.sparse import block_diag, csr_matrix, diags, identity
from scipy.spatial import cKDTree

from recon.brain.space import Geometry

MESH = "fsaverage5"
RADIUS = 100.0  # mm, of the spherical mesh
POLE, FORWARD = (13, -101, -4), (16, -52, 6)  # pial coordinates of the calcarine's ends, right hemisphere
LENGTH = 72.0  # mm of V1 along the calcarine
BANDS = {"V1": (0, 21), "V2": (21, 35), "V3": (35, 47)}  # mm of |v|
ECCENTRICITY = (0.25, 5.5)  # degrees at u = 0 and u = LENGTH
DISCS = {  # pial coordinates (right hemisphere), radius in mm on the sphere
    "hV4": ((32, -80, -16), 16),
    "OFA": ((41, -78, -8), 12),
    "FFA": ((41, -52, -20), 14),
    "PPA": ((28, -46, -8), 14),
    "OPA": ((34, -84, 24), 13),
    "RSC": ((10, -46, 14), 14),
    "EBA": ((48, -72, 6), 16),
    "VWFA": ((44, -60, -12), 12),  # left hemisphere only
}
SURROUND = 15.0  # mm around the areas that belong to the visual mask, unlabelled


@dataclass(frozen=True)
class Cortex:
    geometry: Geometry
    area: np.ndarray  # (n_voxels,) str, "" where unlabelled
    eccentricity: np.ndarray  # (n_voxels,) degrees
    angle: np.ndarray  # (n_voxels,) radians, 0 right, π/2 up
    neighbours: csr_matrix  # (n_voxels, n_voxels) row-normalised mesh adjacency, diagonal included


def _adjacency(faces: np.ndarray, n: int) -> csr_matrix:
    pairs = np.concatenate([faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2))])
    graph = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n))
    graph.data[:] = 1
    return graph


def _hemisphere(sphere: np.ndarray, pial: np.ndarray, left: bool):
    """(area name, eccentricity, angle) of every vertex of one hemisphere; area None outside the visual mask."""
    side = -1 if left else 1
    tree = cKDTree(pial)

    def direction(xyz):
        return sphere[tree.query((side * xyz[0], *xyz[1:]))[1]] / RADIUS

    unit = sphere / RADIUS
    start, end = direction(POLE), direction(FORWARD)
    forward = end - start * (start @ end)
    forward /= np.linalg.norm(forward)
    up = np.cross(start, forward) * (1 if left else -1)  # dorsal side of the calcarine's great circle
    u = RADIUS * np.arctan2(unit @ forward, unit @ start)
    v = RADIUS * np.arcsin(np.clip(unit @ up, -1, 1))

    area = np.full(len(unit), None, object)
    lo, hi = ECCENTRICITY
    eccentricity = np.clip(lo * (hi / lo) ** (u / LENGTH), 0.1, hi)
    elevation = np.zeros(len(unit))
    for name, (inner, outer) in BANDS.items():
        along = (np.abs(v) - inner) / (outer - inner)
        here = (u > (0 if name == "V1" else -6)) & (u < LENGTH) & (along >= 0) & (along < 1)
        share = {"V1": along, "V2": 1 - along, "V3": along}[name]  # 0 horizontal, 1 vertical meridian
        area[here] = name
        elevation[here] = (-np.sign(v) * share * np.pi / 2)[here]
    for name, (xyz, radius) in DISCS.items():
        if name == "VWFA" and not left:
            continue
        distance = RADIUS * np.arccos(np.clip(unit @ direction(xyz), -1, 1))
        here = (distance < radius) & (area == None)  # noqa: E711 - elementwise
        area[here] = name
    labelled = cKDTree(sphere[area != None])  # noqa: E711 - elementwise
    near = labelled.query(sphere)[0] < SURROUND
    area[near & (area == None)] = ""  # noqa: E711 - elementwise
    angle = elevation if left else np.pi - elevation  # the left hemisphere sees the right half
    return area, eccentricity, angle


def build_cortex(seed: int) -> Cortex:
    """Lays out both hemispheres; areas without retinotopy above get random field centres in the contralateral half."""
    rng = np.random.default_rng((seed, 20))
    meshes = load_fsaverage(MESH)
    parts, graphs = [], []
    for h, name in enumerate(("left", "right")):
        sphere, pial = (meshes[k].parts[name] for k in ("sphere", "pial"))
        area, ecc, angle = _hemisphere(sphere.coordinates, pial.coordinates, left=name == "left")
        keep = np.flatnonzero(area != None)  # noqa: E711 - elementwise
        parts.append((np.full(len(keep), h, np.uint8), keep.astype(np.int32), area[keep], ecc[keep], angle[keep]))
        graphs.append(_adjacency(sphere.faces, len(area))[keep][:, keep])
    hemisphere, vertex, area, ecc, angle = (np.concatenate(x) for x in zip(*parts))
    free = ~np.isin(area, list(BANDS))
    ecc[free] = rng.uniform(0.3, 3.5, free.sum())
    angle[free] = rng.uniform(-np.pi / 2, np.pi / 2, free.sum()) + np.where(hemisphere[free] == 0, 0, np.pi)
    rois = {name: area == name for name in (*BANDS, *DISCS)}
    geometry = Geometry(MESH, hemisphere, vertex, rois)
    return Cortex(geometry, area.astype(str), ecc, angle, _joined(graphs))


def _joined(graphs: list[csr_matrix]) -> csr_matrix:
    graph = block_diag(graphs, format="csr")
    graph = graph + identity(graph.shape[0], format="csr")
    return csr_matrix(diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph)
