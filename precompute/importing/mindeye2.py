"""MindEye2's files of one subject of NSD (Scotti et al. 2024; `pscotti/mindeyev2` on the Hub) -> an `Experiment`.

    betas_all_subj0N_fp32_renorm.hdf5   /betas (n_trials, n_voxels) float32, z-scored by session
    coco_images_224_float16.hdf5        /images (73000, 3, 224, 224) from 0 to 1
    wds/subj0N/SPLIT/*.tar              a trial's `behav.npy`: image, session, row of the betas, whether it is of the shared 1,000
    COCO_73k_annots_curated.npy         captions, if they are there

Where voxels are, and ncsnr, is in NSD's own files, if they are there (`fetch mindeye2` gets them): the betas are of nsdgeneral's
voxels without those whose ncsnr is NaN.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from precompute.importing.arrays_on_disk import open_dataset
from precompute.importing.coco_captions import read_coco_captions
from precompute.importing.experiment import Experiment, Responses, Trials
from precompute.importing.image_files import array_source
from precompute.nsd import raw
from recon.brain.space import Points, Volume
from recon.files import BadFile

IMAGE, SESSION, ROW, SHARED, N_COLUMNS = 0, 2, 5, 16, 17  # columns of behav.npy; -1 is a missing value
TRIALS = ("train", "test", "new_test")  # folders of tar files; the same trial may be in several
FETCH = "fetch mindeye2 --subject N --accept-terms"


def betas_name(subject: int) -> str:
    return f"betas_all_subj{subject:02d}_fp32_renorm.hdf5"


IMAGES = "coco_images_224_float16.hdf5"


def read_mindeye2(folder: Path, subject: int, name: str | None = None) -> Experiment:
    """Reads everything but the responses' values. Raises BadFile: a file is missing, or trials and betas do not fit."""
    betas, images = _there(folder / betas_name(subject)), _there(folder / IMAGES)
    tars = sorted(p for split in TRIALS for p in (folder / f"wds/subj{subject:02d}" / split).glob("*.tar"))
    if not tars:
        raise BadFile(
            f"{folder}/wds/subj{subject:02d}: expected tar files of trials, got none: `python -m precompute {FETCH}`"
        )
    table = read_behaviour(tars)
    responses = _responses(betas, table[:, ROW])
    places, ncsnr, note, files = _places(folder, subject, responses.n_voxels)
    ids = sorted(set(table[:, IMAGE].tolist()))
    return Experiment(
        name=name or f"mindeye2-subj{subject:02d}",
        source="mindeye2",
        files=(betas, images, *files),
        trials=_trials(table),
        responses=responses,
        images=array_source(images, open_dataset(images, "images"), ids),
        places=places,
        ncsnr=ncsnr,
        captions=read_coco_captions(folder, {k: k for k in ids}),
        labels={k: {"nsd_id": k} for k in ids},
        notes=(*note, *responses.notes),
    )


def _there(path: Path) -> Path:
    if not path.exists():
        raise BadFile(f"{path} is missing: `python -m precompute {FETCH}` gets it")
    return path


# --- trials -----------------------------------------------------------------------------------------------------------


def read_behaviour(tars: list[Path]) -> np.ndarray:
    """(n_trials, 17) of all trials in the tar files, each once, by rows of the betas. Raises BadFile for other files."""
    rows = np.concatenate([row for path in tars for row in _behaviours(path)])
    rows = rows[(rows[:, IMAGE] >= 0) & (rows[:, ROW] >= 0)].astype(np.int64)
    _, first = np.unique(rows[:, ROW], return_index=True)
    if not len(first):
        raise BadFile(f"{tars[0].parent}: expected trials with an image and a row of the betas, got none")
    return rows[first]


def _behaviours(path: Path) -> Iterator[np.ndarray]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.split("/")[-1].partition(".")[2] == "behav.npy":
                    yield _behaviour(path, tar.extractfile(member).read())
    except (OSError, tarfile.TarError) as error:
        raise BadFile(f"{path} is not a whole tar file ({error}): fetch it again") from error


def _behaviour(path: Path, content: bytes) -> np.ndarray:
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadFile(f"{path}: a behav.npy in it is no plain array ({error}): fetch it again") from error
    if values.shape[-1:] != (N_COLUMNS,):
        raise BadFile(f"{path}: expected {N_COLUMNS} columns in behav.npy, got shape {values.shape}")
    return values.reshape(-1, N_COLUMNS)


def _trials(table: np.ndarray) -> Trials:
    numbers, session = np.unique(table[:, SESSION], return_inverse=True)
    image, is_test = table[:, IMAGE].astype(np.int32), table[:, SHARED] == 1
    names = [str(number) for number in numbers]
    return Trials(image, session.astype(np.int32), names, is_test, "the images shown to all subjects are the test")


def _responses(path: Path, rows: np.ndarray) -> Responses:
    """Of the rows, in ascending order."""
    open_it = open_dataset(path, "betas")
    betas = open_it()
    if betas.ndim != 2 or rows[-1] >= len(betas):
        raise BadFile(
            f"{path}: expected betas (trials, voxels) with a row {rows[-1]}, got shape {betas.shape}: fetch it again"
        )

    def read(start: int, stop: int) -> np.ndarray:
        wanted = rows[start:stop]
        return np.asarray(open_it()[wanted[0] : wanted[-1] + 1])[wanted - wanted[0]]

    unused = len(betas) - len(rows)
    notes = (f"{unused} of {len(betas)} responses belong to no trial in the tar files: left out",) if unused else ()
    return Responses(len(rows), betas.shape[1], betas.dtype, read, notes=notes)


# --- what NSD's own files add -----------------------------------------------------------------------------------------


def _places(folder: Path, subject: int, n_voxels: int):
    """Places, ncsnr, notes and files. Raises BadFile if NSD's mask and the betas disagree about the number of voxels."""
    tree = raw.Tree(folder, subject)
    try:
        files = [tree.roi("nsdgeneral"), tree.ncsnr]
    except BadFile:
        unknown = Points(np.full((n_voxels, 3), np.nan, np.float32), {})
        return unknown, None, ("NSD's nsdgeneral and ncsnr are not there: no map of the brain is drawn",), []
    volume = raw.read_geometry(tree)
    ncsnr = raw.read_ncsnr(tree, volume)
    known = np.isfinite(ncsnr)
    if n_voxels not in (len(known), known.sum()):
        raise BadFile(
            f"{folder / betas_name(subject)}: expected {known.sum()} voxels, nsdgeneral's with a known ncsnr, got {n_voxels}: are "
            "both of one subject?"
        )
    kept = known if n_voxels == known.sum() else np.ones(len(known), bool)
    rois = {name: member[kept] for name, member in volume.rois.items() if member[kept].any()}
    chosen: Volume = replace(volume, indices=volume.indices[kept], rois=rois)
    return chosen, ncsnr[kept], (), files
