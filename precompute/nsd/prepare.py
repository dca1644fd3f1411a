"""NSD's raw files -> a subject: `python -m precompute prepare --subject 1`.

Recipes. "session": each trial z-scored by mean and SD (ddof 1) of its session's training trials, repeats kept apart.
"brain-diffuser": repeats averaged, then z-scored by mean and SD of the training averages. Both after ÷ 300; no statistic
ever sees a test trial. Voxels that do not vary among the training betas of a session (or among the training averages), and those
without an ncsnr, are left out, and counted in prepare.json.

Writes into `out`, rows of each split in ascending order of their 0-based NSD ids:

    subject.h5                                     geometry, areas, ncsnr; test trials, captions, pictures at 256²
    trials.npy                                     (n_trials, all of nsdgeneral) int16 masked raw betas, in order of time
    train_voxels.npy                               (n_train, n_voxels) float32, mean over an image's repeats
    {train,test}_repeats.npy, {train,test}_ids.npy (n,) how many repeats; NSD ids
    {train,test}_64.npy, {train,test}_512.npy      (n, side, side, 3) uint8, bicubic, antialiased when smaller; with the recipe
                                                   "brain-diffuser" those of 64² are bilinear
    test_425.npy                                   (n, 425, 425, 3) uint8, as they were: what published protocols compare with
    train.json, test.json                          captions and NSD id of every image
    prepare.json                                   settings, counts, sizes; it is written last

A session's masked betas are in memory at a time, or a block of images. A rerun after a kill goes on and ends with the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from precompute.blocks import Rows, fill, remove_leftovers, spans
from precompute.folder_lock import working_in
from precompute.nsd import raw
from precompute.nsd.brain_diffuser import Export, write_export
from precompute.nsd.prepare_job import (
    JOB,
    SPLITS,
    Job,
    Settings,
    check_inputs,
    check_settings,
    open_job,
    read_captions,
)
from precompute.nsd.prepare_voxels import Voxels, averaged_voxels, mask_sessions, session_voxels
from precompute.stage import Stage, make, state
from recon.brain.space import Volume
from recon.bundle.subject import Subject, Trials, save_subject
from recon.files import BadFile, load_json, save_array, save_json

SIDES = (64, 512)  # what the VDVAE and Stable Diffusion read
SHOWN_SIDE = 256
BLOCK = 64  # images
Z_MAX = 109.0  # the subject's file keeps int16 = 300 × z
LIBRARIES = ("h5py", "nibabel", "numpy", "Pillow", "scipy")


def prepare(
    root: Path,
    out: Path,
    settings: Settings,
    brain_diffuser: Path | None = None,
    export: Path | None = None,
) -> dict:
    """Writes the files listed above and, if asked, Brain-Diffuser's; returns what prepare.json holds."""
    if export and settings.source != "raw":
        raise BadFile("an export is made from raw betas: --export does not go with --brain-diffuser")
    job = open_job(root, out, settings, brain_diffuser)
    check_settings(job)
    stage = prepare_stage(job)
    if state(stage) != "done":
        check_inputs(job)
    report = make(stage)
    report.pop("already finished")
    if export:
        with working_in(job.out):
            _export(job, export)
    return report


def prepare_stage(job: Job) -> Stage:
    """Makes all files of a prepared subject, `prepare.json` last."""
    sides = [
        f"{split}_{kind}" for split in SPLITS for kind in (*(f"{side}.npy" for side in SIDES), "ids.npy", "repeats.npy")
    ]
    names = [
        "prepare.json",
        "train_voxels.npy",
        "subject.h5",
        f"test_{raw.SIDE}.npy",
        *sides,
        *(f"{split}.json" for split in SPLITS),
    ]
    inputs = dict.fromkeys(job.files, "fetch nsd --subject N")
    return Stage(JOB, inputs, tuple(job.out / name for name in names), partial(_prepare, job), asdict(job.settings))


def _prepare(job: Job) -> dict:
    remove_leftovers(job.out)
    remove_leftovers(job.parts)
    clipped = mask_sessions(job) if job.settings.source == "raw" else None
    by_recipe = session_voxels if job.settings.recipe == "session" else averaged_voxels
    ncsnr = raw.read_ncsnr(job.tree, job.volume)
    voxels = by_recipe(job, ncsnr)
    for split in SPLITS:
        _write_pictures(job, split)
        _write_labels(job, split)
    saturated = _write_subject(job, voxels, ncsnr[voxels.kept])
    report = _report(job, clipped, voxels, saturated)
    save_json(job.out / "prepare.json", report)
    return report


# --- pictures and captions --------------------------------------------------------------------------------------------


def resized(images: np.ndarray, side: int, method: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, side, side, 3) uint8, by Pillow, which averages over the area when it shrinks."""
    return np.stack([np.asarray(Image.fromarray(im).resize((side, side), method)) for im in images])


def as_pixels(values: np.ndarray, split: str) -> np.ndarray:
    """Numbers that are whole and within 0 to 255, as uint8. Raises BadFile for any other: images within 0 to 1 would turn black."""
    if values.dtype != np.uint8 and not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        span = f"numbers from {values.min():g} to {values.max():g}"
        raise BadFile(
            f"the {split} stimuli: expected whole numbers from 0 to 255, got {span}: save them times 255, rounded"
        )
    return values.astype(np.uint8)


def _filter(recipe: str, side: int) -> Image.Resampling:
    """By what images are resized to a side: Brain-Diffuser's VDVAE sees bilinear ones."""
    theirs = recipe == "brain-diffuser" and side == SIDES[0]
    return Image.Resampling.BILINEAR if theirs else Image.Resampling.BICUBIC


def _read_pictures(job: Job, split: str, start: int, stop: int) -> np.ndarray:
    if job.settings.source == "raw":
        return raw.read_stimuli(job.tree, job.images[split].ids[start:stop])
    stim = job.brain_diffuser_files(split).stim
    return as_pixels(np.asarray(stim[job.file_rows(split)[start:stop]]), split)


def _write_pictures(job: Job, split: str) -> None:
    def make(start: int, stop: int):
        pictures = _read_pictures(job, split, start, stop)
        return [resized(pictures, side, _filter(job.settings.recipe, side)) for side in sides], None

    n = len(job.images[split].ids)
    sides = SIDES if split == "train" else (*SIDES, raw.SIDE)
    files = [Rows(job.out / f"{split}_{side}.npy", (n, side, side, 3), "uint8") for side in sides]
    fill(files, spans(n, BLOCK), make, job.parts, f"{split} pictures")


def _labels(job: Job, split: str) -> list[dict]:
    rows = zip(job.images[split].ids, read_captions(job, split))
    return [{"nsd_id": int(i), "captions": [str(c).strip() for c in five if c.strip()]} for i, five in rows]


def _write_labels(job: Job, split: str) -> None:
    images = job.images[split]
    save_json(job.out / f"{split}.json", _labels(job, split))
    save_array(job.out / f"{split}_ids.npy", images.ids)
    save_array(job.out / f"{split}_repeats.npy", images.n_repeats.astype(np.uint8))


# --- the subject, the report, the export ------------------------------------------------------------------------------


def places(volume: Volume, kept: np.ndarray) -> Volume:
    """The voxels that are kept (n_all,) bool, and the areas that have any of them."""
    rois = {name: mask[kept] for name, mask in volume.rois.items() if mask[kept].any()}
    return replace(volume, indices=volume.indices[kept], rois=rois)


def _write_subject(job: Job, voxels: Voxels, ncsnr: np.ndarray) -> int:
    """`subject.h5`; returns how many test values had to be brought to ±109 to fit it."""
    test = voxels.test
    blocks = tqdm(spans(len(test), BLOCK), "subject")
    shown = np.concatenate([resized(_read_pictures(job, "test", *span), SHOWN_SIDE) for span in blocks])
    saturated = int((np.abs(test) > Z_MAX).sum())
    averaged = None if job.settings.recipe == "session" else job.images["test"].n_repeats
    trials = Trials(np.clip(test, -Z_MAX, Z_MAX), shown, load_json(job.out / "test.json"), averaged)
    name, volume = f"NSD subj{job.settings.subject:02d}", places(job.volume, voxels.kept)
    save_subject(job.out / "subject.h5", Subject(name, False, volume, ncsnr, trials))
    return saturated


def _report(job: Job, clipped: list[int] | None, voxels: Voxels, saturated: int) -> dict:
    images = job.images.items()
    return {
        "settings": asdict(job.settings),
        "n_voxels": int(voxels.kept.sum()),
        "voxels_left_out": int((~voxels.kept).sum()),
        "n_images": {split: len(im.ids) for split, im in images},
        "n_trials": {split: int(im.n_repeats.sum()) for split, im in images},
        "images_by_repeats": {split: np.bincount(im.n_repeats, minlength=4)[1:].tolist() for split, im in images},
        "clipped_values": None if clipped is None else {"total": sum(clipped), "per_session": clipped},
        "constant_voxels": voxels.constant,  # per session, or over all training averages
        "voxels_without_ncsnr": voxels.without_ncsnr,
        "test_values_beyond_109": saturated,
        "bytes": {path.name: path.stat().st_size for path in sorted(job.out.glob("[!.]*")) if path.is_file()},
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _export(job: Job, folder: Path) -> None:
    def stimuli(ids: np.ndarray) -> np.ndarray:
        return raw.read_stimuli(job.tree, ids)

    def captions(ids: np.ndarray) -> np.ndarray:
        return raw.read_captions(job.tree, ids)

    settings = job.settings
    write_export(folder, Export(settings.subject, settings.sessions, job.images, job.trials, stimuli, captions))
