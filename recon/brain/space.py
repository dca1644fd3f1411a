"""Where voxels are, on a cortical surface or in a volume, and which areas they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.settings import shown

UNLABELLED = "unlabelled"  # voxels of no area


def with_unlabelled(rois: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Areas (n_voxels,) by name, and as one more the voxels that belong to none, so that all areas together are all voxels."""
    rest = ~np.any(list(rois.values()), axis=0) if rois else np.zeros(0, bool)
    return rois | ({UNLABELLED: rest} if rest.any() else {})


def check_voxel(voxel: object, n_voxels: int) -> None:
    """Raises ValueError unless it is the number of one of n_voxels."""
    if not isinstance(voxel, int) or not 0 <= voxel < n_voxels:
        raise ValueError(f"voxel: expected a whole number from 0 to {n_voxels - 1}, got {shown(voxel)}")


class Labelled:
    """Voxels, some of which belong to named areas."""

    rois: dict[str, np.ndarray]  # name -> (n_voxels,) bool

    @property
    def areas(self) -> dict[str, np.ndarray]:
        """`rois`, and the voxels of none of them."""
        return with_unlabelled(self.rois)


@dataclass(frozen=True)
class Geometry(Labelled):
    """Where voxels are on a surface mesh: hemisphere (0 left, 1 right) and vertex of each, and named masks."""

    mesh: str  # a nilearn name, "fsaverage5"
    hemisphere: np.ndarray  # (n_voxels,) uint8
    vertex: np.ndarray  # (n_voxels,) int32, within the hemisphere
    rois: dict[str, np.ndarray]  # name -> (n_voxels,) bool

    @property
    def n_voxels(self) -> int:
        return len(self.vertex)


@dataclass(frozen=True)
class Volume(Labelled):
    """Where voxels are in a subject's own volume, and named masks."""

    shape: tuple[int, int, int]  # (x, y, z)
    indices: np.ndarray  # (n_voxels, 3) int16, 0-based, in C order of (x, y, z)
    affine: np.ndarray  # (4, 4) float64: indices -> mm
    rois: dict[str, np.ndarray]  # name -> (n_voxels,) bool

    @property
    def n_voxels(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Points(Labelled):
    """Where voxels are if neither surface nor grid is known: their centres, or NaN where not even these are."""

    mm: np.ndarray  # (n_voxels, 3) float32: to the right, forward, up
    rois: dict[str, np.ndarray]  # name -> (n_voxels,) bool

    @property
    def n_voxels(self) -> int:
        return len(self.mm)

    @property
    def are_known(self) -> bool:
        return bool(np.isfinite(self.mm).all())
