"""Raw files of the Natural Scenes Dataset (Allen et al. 2022) as arrays; the only reader of NIfTI and .mat.

Paths under `root` are those of the bucket `natural-scenes-dataset`. Voxels are those of nsdgeneral > 0 in C order of the
(x, y, z) volume, as numpy's boolean masking yields them: the order of Brain-Diffuser's files too. Indices of images are
0-based here, 1-based in the files. All readers raise BadFile, in one sentence, for a file that is missing, damaged or
of an unexpected shape.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from scipy.io import loadmat

from precompute.nsd.design import Design
from precompute.nsd.volumes import UNREADABLE, check_place, check_unscaled, damaged, read_masked, read_volume
from recon.brain.space import Volume
from recon.files import BadFile, open_plain

SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)  # that each subject completed
PLANNED_SESSIONS = 40  # the design covers them all, 750 trials each
N_SHARED = 1000  # the first entries of subjectim, shown to every subject, are the test images
N_IMAGES, SIDE = 73000, 425  # stimuli
N_CAPTIONS = 5
CLIPPED = (-32768, 32767)  # betas are int16 = 300 × percent signal change; these two values stand for anything beyond
ROI_FAMILIES = ("prf-visualrois", "floc-faces", "floc-places", "floc-bodies", "floc-words", "streams")

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
CAPTIONS = "COCO_73k_annots_curated.npy"


@dataclass(frozen=True)
class Tree:
    """Where the raw files of one subject (1 to 8) are."""

    root: Path
    subject: int

    @property
    def name(self) -> str:
        """Of the subject, as in paths."""
        return f"subj{self.subject:02d}"

    def file(self, *names: str) -> Path:
        """The first of these files that exists; "{s}" stands for the subject. Raises BadFile if none does."""
        paths = [Path(self.root) / name.format(s=self.name) for name in names]
        for path in paths:
            if path.exists():
                return path
        listed = " or ".join(map(str, paths))
        raise BadFile(f"{listed} is missing: `python -m precompute fetch nsd --subject {self.subject}` gets it")

    def betas(self, session: int) -> Path:
        """Betas of a session (from 1), HDF5 if it is there, which can be read in parts."""
        return self.file(*self._betas(session))

    def _betas(self, session: int) -> list[str]:
        stem = f"nsddata_betas/ppdata/{{s}}/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session{session:02d}"
        return [f"{stem}.hdf5", f"{stem}.nii.gz"]

    def all_files(self, sessions: int) -> list[Path]:
        """Design, places of voxels and ncsnr, and, with at least one session, what was shown and the betas; also those that are
        gone."""
        families = [
            Path(self.root) / f"nsddata/ppdata/{self.name}/func1pt8mm/roi/{family}.nii.gz" for family in ROI_FAMILIES
        ]
        files = [self.file(DESIGN), self.roi("nsdgeneral"), self.ncsnr, *(path for path in families if path.exists())]
        for names in [[STIMULI], [CAPTIONS], *map(self._betas, range(1, sessions + 1))] if sessions else []:
            paths = [Path(self.root) / name.format(s=self.name) for name in names]
            files.append(next((path for path in paths if path.exists()), paths[0]))
        return files

    @property
    def ncsnr(self) -> Path:
        return self.file("nsddata_betas/ppdata/{s}/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz")

    def roi(self, name: str) -> Path:
        return self.file(f"nsddata/ppdata/{{s}}/func1pt8mm/roi/{name}.nii.gz")

    def roi_names(self, name: str) -> Path:
        return self.file(f"nsddata/freesurfer/{{s}}/label/{name}.mgz.ctab")


@contextmanager
def _dataset(path: Path, name: str) -> Iterator[h5py.Dataset]:
    try:
        with h5py.File(path, "r") as f:
            yield f[name]
    except BadFile:
        raise
    except (OSError, KeyError) as error:
        raise damaged(path, error) from error


def _check(path: Path, what: str, expected, found) -> None:
    if expected != found:
        raise BadFile(f"{path}: expected {what} {expected}, got {found}")


# --- design -----------------------------------------------------------------------------------------------------------


def read_design(tree: Tree) -> Design:
    """All planned trials of the subject: image = subjectim[subject, masterordering[trial]], test = masterordering ≤ 1000."""
    path = tree.file(DESIGN)
    try:
        mat = loadmat(path, variable_names=["masterordering", "subjectim"])
        ordering, subjects = mat["masterordering"].ravel().astype(np.int64), mat["subjectim"].astype(np.int64)
    except (*UNREADABLE, TypeError, NotImplementedError) as error:
        raise damaged(path, error) from error
    _check(path, "subjects in subjectim", len(SESSIONS), len(subjects))
    _check(path, "trials left over by 40 sessions", 0, len(ordering) % PLANNED_SESSIONS)
    if not 1 <= ordering.min() <= ordering.max() <= subjects.shape[1]:
        span = f"{ordering.min()} to {ordering.max()}"
        raise BadFile(f"{path}: expected masterordering within 1 to {subjects.shape[1]}, got {span}")
    image = subjects[tree.subject - 1, ordering - 1] - 1
    return Design(image.astype(np.int32), ordering <= N_SHARED, len(ordering) // PLANNED_SESSIONS)


# --- where voxels are -------------------------------------------------------------------------------------------------


def parse_ctab(text: str) -> dict[int, str]:
    """Label numbers and names of a FreeSurfer colour table; spaces or tabs, colours or none; other lines are skipped."""
    rows = [line.split() for line in text.splitlines()]
    return {int(row[0]): row[1] for row in rows if len(row) > 1 and row[0].isdigit()}


def _read_family(tree: Tree, family: str, volume: Volume) -> dict[str, np.ndarray]:
    """Name -> (n_voxels,) bool of every label above 0; -1 is outside the brain's labels, 0 unlabelled."""
    path = tree.roi(family)
    labels = read_masked(path, volume)
    found = [float(label) for label in np.unique(labels) if label > 0]
    if odd := [label for label in found if not label.is_integer()]:
        raise BadFile(
            f"{path}: expected whole numbers as labels, got {odd[0]:g}: was it resampled? Fetch NSD's own file"
        )
    names = parse_ctab(tree.roi_names(family).read_text(encoding="utf-8", errors="replace"))
    return {names.get(int(label), f"{family} {label:g}"): labels == label for label in found}


def read_rois(tree: Tree, volume: Volume) -> dict[str, np.ndarray]:
    """Name -> (n_voxels,) bool for every label that has voxels in nsdgeneral, and V1, V2, V3 as unions of their halves.

    A name that several families use, as mTL, is followed by its family: "mTL-faces".
    """
    families = {family: _read_family(tree, family, volume) for family in ROI_FAMILIES}
    return join_families(families)


def join_families(families: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Areas of several families -> name -> (n_voxels,) bool, and V1, V2, V3 as unions of their halves; see `read_rois`."""
    uses = [name for masks in families.values() for name in masks]
    rois = {}
    for family, masks in families.items():
        suffix = family.removeprefix("floc-")
        rois |= {name if uses.count(name) == 1 else f"{name}-{suffix}": mask for name, mask in masks.items()}
    for name in ("V1", "V2", "V3"):
        if f"{name}v" in rois and f"{name}d" in rois:
            rois[name] = rois[f"{name}v"] | rois[f"{name}d"]
    return rois


def read_geometry(tree: Tree) -> Volume:
    """nsdgeneral's voxels and the labelled areas among them."""
    path = tree.roi("nsdgeneral")
    image, mask = read_volume(path)
    if mask.ndim != 3 or not (mask > 0).any():
        raise BadFile(f"{path}: expected a volume with voxels above 0, got shape {mask.shape} and none")
    indices = np.argwhere(mask > 0).astype(np.int16)
    places = Volume(tuple(map(int, mask.shape)), indices, np.asarray(image.affine, np.float64), {})
    return replace(places, rois=read_rois(tree, places))


def read_ncsnr(tree: Tree, volume: Volume) -> np.ndarray:
    """(n_voxels,) float32 noise-ceiling signal-to-noise ratio, as NSD estimated it from betas z-scored per session.

    NaN where NSD has none.
    """
    return read_masked(tree.ncsnr, volume).astype(np.float32)


# --- betas ------------------------------------------------------------------------------------------------------------


def read_betas(path: Path, volume: Volume, n_trials: int) -> np.ndarray:
    """(n_trials, n_voxels) int16 = 300 × percent signal change of one session. The whole volume is never in memory."""
    return (_hdf5_betas if path.suffix == ".hdf5" else _nifti_betas)(path, volume, n_trials)


def _hdf5_betas(path: Path, volume: Volume, n_trials: int) -> np.ndarray:
    """`/betas` is (x, y, z, trials) in MATLAB's order: reversed here. Slice by slice along z, cut to the mask's box."""
    x, y, z = volume.indices.T.astype(np.intp)
    out = np.empty((n_trials, volume.n_voxels), np.int16)
    with _dataset(path, "betas") as betas:
        _check(
            path, "betas of type and shape", ("int16", (n_trials, *volume.shape[::-1])), (str(betas.dtype), betas.shape)
        )
        check_unscaled(path, float(betas.attrs.get("scale_factor", 1)), float(betas.attrs.get("add_offset", 0)))
        for k in np.unique(z):
            here = np.flatnonzero(z == k)
            y0, x0 = y[here].min(), x[here].min()
            slab = betas[:, k, y0 : y[here].max() + 1, x0 : x[here].max() + 1]
            out[:, here] = slab[:, y[here] - y0, x[here] - x0]
    return out


def _nifti_betas(path: Path, volume: Volume, n_trials: int) -> np.ndarray:
    """Decompressed trial by trial: x varies fastest in the file. A header with a scale factor is refused."""
    flat = np.ravel_multi_index(volume.indices.T.astype(np.intp), volume.shape, order="F")
    out = np.empty((n_trials, volume.n_voxels), np.int16)
    try:
        image = nib.load(path)
        dtype, offset, n_bytes = image.dataobj.dtype, image.dataobj.offset, int(np.prod(volume.shape)) * 2
        found = (str(dtype.newbyteorder("=")), image.shape)
        _check(path, "betas of type and shape", ("int16", (*volume.shape, n_trials)), found)
        check_unscaled(path, image.dataobj.slope, image.dataobj.inter)
        check_place(path, image, volume)
        with gzip.open(path) as f:
            f.seek(offset)
            for trial in range(n_trials):
                out[trial] = np.frombuffer(_read_exactly(f, n_bytes), dtype)[flat]
            f.read(1)  # at the end of the stream gzip compares its checksum
    except BadFile:
        raise
    except UNREADABLE as error:
        raise damaged(path, error) from error
    return out


def _read_exactly(f, n_bytes: int) -> bytes:
    data = f.read(n_bytes)
    if len(data) != n_bytes:
        raise EOFError("ends before its last trial")
    return data


# --- stimuli and captions ---------------------------------------------------------------------------------------------


def read_stimuli(tree: Tree, ids: np.ndarray) -> np.ndarray:
    """(n, 425, 425, 3) uint8 of these ids, in their order; read in runs of neighbouring images."""
    path = tree.file(STIMULI)
    order = np.argsort(ids, kind="stable")
    out = np.empty((len(ids), SIDE, SIDE, 3), np.uint8)
    with _dataset(path, "imgBrick") as brick:
        _check(
            path, "imgBrick of type and shape", ("uint8", (N_IMAGES, SIDE, SIDE, 3)), (str(brick.dtype), brick.shape)
        )
        for run in np.split(order, np.flatnonzero(np.diff(ids[order]) != 1) + 1):
            out[run] = brick[ids[run[0]] : ids[run[-1]] + 1]
    return out


def open_strings(path: Path) -> np.ndarray:
    array = open_plain(path)
    if array.dtype.kind != "U":
        raise BadFile(f"{path}: expected an array of strings, got {array.dtype}")
    return array


def read_captions(tree: Tree, ids: np.ndarray) -> np.ndarray:
    """(n, 5) strings of these ids; some are empty."""
    path = tree.file(CAPTIONS)
    captions = open_strings(path)
    _check(path, "captions of shape", (N_IMAGES, N_CAPTIONS), captions.shape)
    return np.array(captions[ids])
