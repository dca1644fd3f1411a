"""A subject of the Algonauts 2023 challenge (Gifford et al. 2023), on fsaverage -> an `Experiment`.

    subj0N/training_split/training_fmri/{lh,rh}_training_fmri.npy            (n_images, n_vertices), averages over repeats
    subj0N/training_split/training_images/train-0001_nsd-00013.png           in the order of the responses
    subj0N/roi_masks/{lh,rh}.all-vertices_fsaverage_space.npy                (163842,) which vertices these are
    subj0N/roi_masks/{lh,rh}.FAMILY_challenge_space.npy                      (n_vertices,) labels

The responses to the challenge's own test images were never given out, so that the test is drawn from the training images. The
mapping files hold pickled objects and are not loaded: the names are NSD's.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from precompute.importing.coco_captions import read_coco_captions
from precompute.importing.experiment import Experiment, Responses, Trials
from precompute.importing.image_files import file_source
from precompute.importing.trial_table import TEST_SHARE, draw_test
from precompute.importing.voxel_places import N_VERTICES, checked_surface
from precompute.nsd import raw
from recon.brain.space import Geometry
from recon.files import BadFile, open_plain

SIDES = ("lh", "rh")
MESH = "fsaverage"
IMAGE = re.compile(r"train-(\d+)_nsd-(\d+)\.png")
LABELS = {  # of each family, from 1
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL", "aTL"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs", "mTL"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}


def read_algonauts(folder: Path, subject: int, name: str | None = None, test_share: float = TEST_SHARE) -> Experiment:
    """Reads everything but the responses' values. Raises BadFile: a file is missing or does not fit its neighbours."""
    root = folder / f"subj{subject:02d}"
    images = _images(root / "training_split" / "training_images")
    fmri = [root / "training_split" / "training_fmri" / f"{side}_training_fmri.npy" for side in SIDES]
    responses = _responses(fmri, len(images))
    masks = [root / "roi_masks" / f"{side}.all-vertices_fsaverage_space.npy" for side in SIDES]
    places, files = _places(root / "roi_masks", masks, fmri)
    n = len(images)
    is_test, note = draw_test(np.arange(n), test_share)
    nsd_ids = {k: int(IMAGE.fullmatch(path.name)[2]) for k, path in enumerate(images)}
    return Experiment(
        name=name or f"algonauts-subj{subject:02d}",
        source="algonauts",
        files=(*fmri, *masks, *files),
        trials=Trials(np.arange(n, dtype=np.int32), np.zeros(n, np.int32), ["all"], is_test, note),
        responses=responses,
        images=file_source(images[0].parent, images, list(range(n))),
        places=places,
        ncsnr=None,
        captions=read_coco_captions(folder, nsd_ids),
        labels={k: {"nsd_id": nsd_id} for k, nsd_id in nsd_ids.items()},
        notes=("responses are averages over repeats, of which the files do not say how many there were",),
    )


def _open(path: Path, dimensions: int) -> np.ndarray:
    if not path.exists():
        raise BadFile(f"{path} is missing: unpack the challenge's archive of this subject there")
    array = open_plain(path)
    if array.ndim != dimensions or array.dtype.kind not in "fiub":
        raise BadFile(f"{path}: expected numbers in {dimensions} dimensions, got {array.dtype} of shape {array.shape}")
    return array


def _images(folder: Path) -> list[Path]:
    """In the order of the responses."""
    files = sorted(p for p in folder.glob("*.png") if IMAGE.fullmatch(p.name))
    if not files:
        raise BadFile(
            f"{folder}: expected images called train-0001_nsd-00013.png, got none: unpack the challenge's archive there"
        )
    return files


def _responses(paths: list[Path], n_images: int) -> Responses:
    """Left hemisphere before right."""
    arrays = [_open(path, 2) for path in paths]
    if {len(array) for array in arrays} != {n_images}:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise BadFile(
            f"{paths[0].parent}: expected responses to {n_images} images, got {shapes}: unpack the archive again"
        )

    def read(start: int, stop: int) -> np.ndarray:
        return np.hstack([np.asarray(open_plain(path)[start:stop]) for path in paths])

    return Responses(n_images, sum(array.shape[1] for array in arrays), arrays[0].dtype, read)


def _places(folder: Path, masks: list[Path], fmri: list[Path]) -> tuple[Geometry, list[Path]]:
    """Vertices and areas, and the files of the areas."""
    vertices = []
    for mask, responses in zip(masks, fmri):
        values = _open(mask, 1)
        here, n = np.flatnonzero(values), open_plain(responses).shape[1]
        if len(values) != N_VERTICES[MESH] or len(here) != n:
            raise BadFile(
                f"{mask}: expected {n} of {N_VERTICES[MESH]} vertices, as {responses.name} has them, got {len(here)} of "
                f"{len(values)}"
            )
        vertices.append(here)
    hemisphere = np.repeat(np.array([0, 1], np.uint8), [len(v) for v in vertices])
    places = checked_surface(masks[0], MESH, hemisphere, np.concatenate(vertices))
    families, files = {}, []
    for family, names in LABELS.items():
        paths = [folder / f"{side}.{family}_challenge_space.npy" for side in SIDES]
        if all(path.exists() for path in paths):
            labels = np.concatenate([_open(path, 1) for path in paths])
            if len(labels) != places.n_voxels:
                raise BadFile(
                    f"{paths[0]}: expected labels of {places.n_voxels} vertices with the right half, got {len(labels)}"
                )
            families[family] = {name: labels == k for k, name in enumerate(names, 1) if (labels == k).any()}
            files += paths
    return Geometry(MESH, places.hemisphere, places.vertex, raw.join_families(families)), files
