"""What was shown, what the voxels did, where the voxels are (on a surface or in a volume); and its HDF5 file.

Betas are kept as NSD keeps them, int16 = 300 × value, where the value here is a z-score: each voxel was standardised
within each session by the mean and SD of that session's *training* trials. Repeats of an image stay apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recon.brain.space import Geometry, Points, Volume
from recon.files import BadFile, array_in, group_in, open_h5, parsing, whole_file

BETA_SCALE = 300.0
VERSION = 1


@dataclass(frozen=True)
class Trials:
    """One row per image."""

    voxels: np.ndarray  # (n_images, n_repeats, n_voxels) float32, NaN where a repeat is missing
    images: np.ndarray  # (n_images, height, width, 3) uint8 RGB, possibly memory-mapped
    labels: list[dict]  # attributes of each image; "captions" is a list of strings, empty if there are none
    n_trials: np.ndarray | None = (
        None  # (n_images,) how many trials showed each image, where `voxels` holds their average alone
    )

    @property
    def n_apart(self) -> np.ndarray:
        """(n_images,) how many responses to each image `voxels` holds apart."""
        return np.isfinite(self.voxels).any(2).sum(1)

    @property
    def n_repeats(self) -> np.ndarray:
        """(n_images,) how many trials the mean response to each image is the mean of: the design's number, if it is known."""
        return self.n_apart if self.n_trials is None else self.n_trials

    def n_averaged(self, index: int, repeats: int | None) -> int:
        """How many trials `response` is the mean of; an average that is stored alone cannot be taken apart."""
        n = int(self.n_repeats[index])
        return n if self.n_trials is not None else min(repeats or n, n)

    def averaged(self) -> np.ndarray:
        """(n_images, n_voxels) float32: the mean over the repeats that there are."""
        return np.nanmean(self.voxels, axis=1, dtype=np.float32)

    def response(self, index: int, repeats: int | None = None) -> np.ndarray:
        """(n_voxels,) float32: one image's mean response, over its first `repeats` only, if it has as many.

        Raises IndexError outside 0…n_images-1.
        """
        n = len(self.voxels)
        if not 0 <= index < n:
            raise IndexError(f"test image {index} does not exist: this subject has images 0 to {n - 1}")
        return np.nanmean(self.voxels[index, :repeats], axis=0, dtype=np.float32)


@dataclass(frozen=True)
class Subject:
    """A person, real or simulated: where the voxels are, how reliable, and the test trials.

    Training voxels (averaged repeats) are large and needed only to fit: they lie apart, in a memory-mapped `.npy`.
    """

    name: str
    simulated: bool
    geometry: Geometry | Volume | Points
    ncsnr: np.ndarray  # (n_voxels,) float32, estimated from repeats; NaN where it is unknown
    test: Trials


def encode_betas(values: np.ndarray) -> np.ndarray:
    """float -> int16 × 300, NaN -> 0. Raises ValueError if a value would be clipped."""
    largest = np.nanmax(np.abs(values))
    if largest * BETA_SCALE > 32767:
        raise ValueError(f"a beta of {largest:.1f} does not fit int16 × {BETA_SCALE:.0f} (at most ±109.2)")
    return np.rint(np.where(np.isfinite(values), values, 0) * BETA_SCALE).astype(np.int16)


def save_subject(path: Path, subject: Subject) -> None:
    """Writes the whole subject; images are compressed losslessly."""
    with whole_file(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(format="recon-subject", version=VERSION, name=subject.name, simulated=subject.simulated)
        _write_geometry(f.create_group("geometry"), subject.geometry)
        f["ncsnr"] = subject.ncsnr
        _write_trials(f.create_group("test"), subject.test)


def _write_geometry(group: h5py.Group, geometry: Geometry | Volume | Points) -> None:
    if isinstance(geometry, Points):
        group["mm"] = geometry.mm
    elif isinstance(geometry, Volume):
        group.attrs["shape"] = geometry.shape
        group["indices"], group["affine"] = geometry.indices, geometry.affine
    else:
        group.attrs["mesh"] = geometry.mesh
        group["hemisphere"], group["vertex"] = geometry.hemisphere, geometry.vertex
    rois = group.create_group("rois")
    for name, mask in geometry.rois.items():
        rois[name] = mask


def _read_geometry(group: h5py.Group) -> Geometry | Volume | Points:
    """A group with "indices" is a volume, one with "mm" holds points, any other is a surface."""
    masks = group_in(group, "rois")
    rois = {name: array_in(masks, name).astype(bool) for name in masks}
    if "mm" in group:
        return Points(array_in(group, "mm"), rois)
    if "indices" in group:
        return Volume(
            tuple(np.asarray(group.attrs["shape"]).tolist()),
            array_in(group, "indices"),
            array_in(group, "affine"),
            rois,
        )
    return Geometry(str(group.attrs["mesh"]), array_in(group, "hemisphere"), array_in(group, "vertex"), rois)


def _write_trials(group: h5py.Group, trials: Trials) -> None:
    _check_repeats(trials)
    group["n_repeats"] = trials.n_apart.astype(np.uint8)
    if trials.n_trials is not None:
        group["n_trials"] = trials.n_trials.astype(np.uint8)
    group["labels"] = json.dumps(trials.labels, ensure_ascii=False)
    how = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    for name, values, dtype in (("betas", trials.voxels, "int16"), ("images", trials.images, "uint8")):
        rows = group.create_dataset(name, values.shape, dtype, chunks=(1, *values.shape[1:]), **how)
        for k, row in enumerate(values):  # an image at a time: a second copy of all would be large
            rows[k] = encode_betas(row) if name == "betas" else row


def _check_repeats(trials: Trials) -> None:
    """Raises ValueError unless a response is known in all voxels or in none, and those that are known come first: the file keeps
    how many they are, and no NaN."""
    known = np.isfinite(trials.voxels)
    if (known.any(2) != known.all(2)).any():
        image, repeat, voxel = np.argwhere(known.any(2, keepdims=True) & ~known)[0]
        raise ValueError(
            f"expected finite responses, got NaN or infinity in voxel {voxel} of repeat {repeat} of test image {image}: "
            "leave that voxel or that repeat out"
        )
    if not known.any((1, 2)).all():
        raise ValueError(f"expected a response to every test image, got none to image {known.any((1, 2)).argmin()}")
    if (np.diff(known.any(2).astype(int), axis=1) > 0).any():
        raise ValueError("expected the repeats that there are before those that are missing")


def _read_trials(group: h5py.Group) -> Trials:
    betas = array_in(group, "betas").astype(np.float32) / np.float32(BETA_SCALE)
    repeats = array_in(group, "n_repeats")
    missing = np.arange(betas.shape[1])[None, :] >= repeats[:, None]
    betas[missing] = np.nan
    n_trials = array_in(group, "n_trials") if "n_trials" in group else None
    return Trials(betas, array_in(group, "images"), json.loads(array_in(group, "labels")), n_trials)


def load_subject(path: Path) -> Subject:
    """Reads and checks a subject. Raises BadFile when the file is not whole or does not fit together."""
    with parsing(path), open_h5(path, "recon-subject", VERSION) as f:
        geometry = _read_geometry(group_in(f, "geometry"))
        test = _read_trials(group_in(f, "test"))
        subject = Subject(str(f.attrs["name"]), bool(f.attrs["simulated"]), geometry, array_in(f, "ncsnr"), test)
        counts = {"geometry": geometry.n_voxels, "ncsnr": len(subject.ncsnr), "betas": test.voxels.shape[2]}
        counts |= {f"ROI {name}": len(mask) for name, mask in geometry.rois.items()}
        if len(set(counts.values())) != 1:
            raise BadFile(f"{path}: voxel counts disagree: {counts}")
        _check_trials(path, test)
    return subject


def _check_trials(path: Path, test: Trials) -> None:
    """Whether labels and images are of the kinds that the page shows, one of each for every image."""
    n = len(test.voxels)
    if not (len(test.labels) == len(test.images) == n and test.images.dtype == np.uint8 and test.images.ndim == 4):
        raise BadFile(f"{path}: expected {n} labels and images (height, width, 3) uint8: fetch or make it again")
    for label in test.labels:
        captions = label.get("captions") if isinstance(label, dict) else None
        if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise BadFile(f"{path}: expected captions, a list of strings, with every image: fetch or make it again")
