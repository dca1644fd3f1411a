"""NSD's raw files -> a subject: `python -m precompute prepare --subject 1`.

Recipes. "session": each trial z-scored by mean and SD (ddof 1) of its session's training trials, repeats kept apart.
"brain-diffuser": repeats averaged, then z-scored by mean and SD of the training averages. Both after ÷ 300; no statistic
ever sees a test trial; voxels that do not vary get z = 0.

Writes into `out`, rows of each split in ascending order of their 0-based NSD ids:

    subject.h5                                     geometry, areas, ncsnr; test trials, captions, pictures at 256²
    trials.npy                                     (n_trials, n_voxels) int16 masked raw betas, in order of time
    train_voxels.npy                               (n_train, n_voxels) float32, mean over an image's repeats
    {train,test}_repeats.npy, {train,test}_ids.npy (n,) how many repeats; NSD ids
    {train,test}_64.npy, {train,test}_512.npy      (n, side, side, 3) uint8, bicubic, antialiased when smaller
    train.json, test.json                          captions and NSD id of every image
    prepare.json                                   settings, counts, sizes; it is written last

A session's masked betas are in memory at a time, or a block of images. A rerun after a kill goes on and ends with the same bytes.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from precompute.blocks import Rows, fill, remove_leftovers, spans
from precompute.brain_diffuser import FMRI, Export, averaged, layout, open_split, write_export
from precompute.standardise import Scale, fit_scale, fit_scale_in_blocks, session_z, standardise
from recon import nsd
from recon.files import BadFile, load_json, open_array, save_array, save_json
from recon.subject import Subject, Trials, Volume, save_subject

SIDES = (64, 512)  # what the VDVAE and Stable Diffusion read
SHOWN_SIDE = 256
BLOCK = 64  # images
Z_MAX = 109.0  # the subject's file keeps int16 = 300 × z
LIBRARIES = ("h5py", "nibabel", "numpy", "Pillow", "scipy")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Settings:
    """What decides the content of the output folder."""

    subject: int
    sessions: int
    recipe: str  # "session" or "brain-diffuser"
    source: str  # "raw" or "brain-diffuser"


@dataclass(frozen=True)
class Job:
    """Settings, where things are, and what was shown."""

    settings: Settings
    tree: nsd.Tree
    out: Path
    brain_diffuser: Path | None
    design: nsd.Design
    images: dict[str, nsd.Images]
    volume: Volume

    @property
    def parts(self) -> Path:
        return self.out / ".unfinished"

    @property
    def trials(self) -> Path:
        return self.out / "trials.npy"


def choose_settings(subject: int, sessions: int | None, recipe: str | None, brain_diffuser: Path | None) -> Settings:
    """Fills in defaults: all sessions, and the recipe that the source allows. Raises BadFile for what does not exist."""
    there = nsd.SESSIONS[subject - 1]
    sessions = there if sessions is None else sessions
    if not 1 <= sessions <= there:
        raise BadFile(f"subject {subject} has sessions 1 to {there}, but --sessions is {sessions}")
    source = "brain-diffuser" if brain_diffuser else "raw"
    recipe = recipe or ("brain-diffuser" if brain_diffuser else "session")
    if brain_diffuser and recipe != "brain-diffuser":
        raise BadFile("Brain-Diffuser's files hold averages over sessions: they allow only --recipe brain-diffuser")
    return Settings(subject, sessions, recipe, source)


def _finished(out: Path, parts: Path, settings: Settings) -> dict | None:
    """The report of a finished folder, None for a new or unfinished one. Raises BadFile if it has other settings."""
    finished, started = out / "prepare.json", parts / "settings.json"
    report = load_json(finished) if finished.exists() else None
    here = report["settings"] if report else load_json(started) if started.exists() else asdict(settings)
    if here != asdict(settings):
        raise BadFile(f"{out} was prepared with {here}, now asked for {asdict(settings)}: choose another --out")
    return report


def prepare(
    root: Path,
    out: Path,
    settings: Settings,
    brain_diffuser: Path | None = None,
    export: Path | None = None,
) -> dict:
    """Writes the files listed above and, if asked, Brain-Diffuser's; returns what prepare.json holds."""
    tree, out = nsd.Tree(root, settings.subject), Path(out)
    if export and settings.source != "raw":
        raise BadFile("an export is made from raw betas: --export does not go with --brain-diffuser")
    design = nsd.read_design(tree).first(settings.sessions)
    images = {split: design.images(split == "test") for split in SPLITS}
    job = Job(settings, tree, out, brain_diffuser, design, images, nsd.read_geometry(tree))
    report = _finished(out, job.parts, settings)
    remove_leftovers(out)
    remove_leftovers(job.parts)
    if report is None:
        _check_inputs(job)
        save_json(job.parts / "settings.json", asdict(settings))
        report = _prepare(job)
    shutil.rmtree(job.parts, ignore_errors=True)
    if export:
        _export(job, export)
    return report


def _check_inputs(job: Job) -> None:
    """Raises BadFile for what is missing, before hours are spent on what is there."""
    job.tree.file(nsd.DESIGN)
    if job.settings.source == "brain-diffuser":
        _splits(job)
    else:
        for name in (nsd.STIMULI, nsd.CAPTIONS):
            job.tree.file(name)
        for session in range(1, job.settings.sessions + 1):
            job.tree.betas(session)


def _splits(job: Job):
    shape = job.volume.n_voxels, job.settings.sessions
    folder, subject = job.brain_diffuser, job.settings.subject
    return {split: open_split(folder, split, subject, len(im.ids), *shape) for split, im in job.images.items()}


def _prepare(job: Job) -> dict:
    clipped = _mask_sessions(job) if job.settings.source == "raw" else None
    by_recipe = _session_voxels if job.settings.recipe == "session" else _averaged_voxels
    test, constant = by_recipe(job)
    for split in SPLITS:
        _write_pictures(job, split)
        _write_labels(job, split)
    saturated = _write_subject(job, test)
    report = _report(job, clipped, constant, saturated)
    save_json(job.out / "prepare.json", report)
    return report


# --- voxels -----------------------------------------------------------------------------------------------------------


def _mask_sessions(job: Job) -> list[int]:
    """`trials.npy`, session by session; returns how many values of each sit at the ends of int16."""

    def make(start: int, _stop: int):
        path = job.tree.betas(start // n + 1)
        betas = nsd.read_betas(path, job.volume, n)
        return [betas], int(np.isin(betas, nsd.CLIPPED).sum())

    n = job.design.trials_per_session
    n_trials = len(job.design.image)
    rows = Rows(job.trials, (n_trials, job.volume.n_voxels), "int16")
    return fill([rows], spans(n_trials, n), make, job.parts, "sessions")


def _session_scales(job: Job) -> list[Scale]:
    training = np.flatnonzero(~job.design.is_test)
    sessions = job.design.session[training]
    return [fit_scale(open_array(job.trials)[training[sessions == s]]) for s in range(job.settings.sessions)]


def _session_voxels(job: Job) -> tuple[np.ndarray, list[int]]:
    """Writes `train_voxels.npy`; returns the test trials (n, n_repeats, n_voxels) float32 and each session's constant voxels."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        trials = job.images[split].trials[start:stop]
        return session_z(open_array(job.trials), trials, scales, job.design.trials_per_session)

    scales = _session_scales(job)
    _write_train_voxels(job, lambda a, b: np.nanmean(z("train", a, b), axis=1))
    test = [z("test", *span).astype(np.float32) for span in spans(len(job.images["test"].ids), BLOCK)]
    return np.concatenate(test), [scale.n_constant for scale in scales]


def _averaged_voxels(job: Job) -> tuple[np.ndarray, list[int]]:
    """The same by Brain-Diffuser's recipe: one averaged "repeat", one scale."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        return standardise(open_array(fmri[split])[rows[split][start:stop]], scale)

    fmri = {split: _averages(job, split) for split in SPLITS}
    rows = {split: np.argsort(images.by_first_trial) for split, images in job.images.items()}
    scale = fit_scale_in_blocks(open_array(fmri["train"]))
    _write_train_voxels(job, lambda a, b: z("train", a, b))
    test = z("test", 0, len(rows["test"])).astype(np.float32)
    return test[:, None], [scale.n_constant]


def _averages(job: Job, split: str) -> Path:
    """Raw averages in the order of first trials, as Brain-Diffuser keeps them: read, or made of raw betas."""
    if job.settings.source == "brain-diffuser":
        return layout(job.brain_diffuser, split, FMRI, job.settings.subject)
    images = job.images[split]
    trials = images.trials[images.by_first_trial]
    rows = Rows(job.parts / f"{split}_averages.npy", (len(trials), job.volume.n_voxels), "float32")
    fill([rows], spans(len(trials), BLOCK), lambda a, b: ([averaged(job.trials, trials[a:b])], None), job.parts, split)
    return rows.path


def _write_train_voxels(job: Job, z) -> None:
    n = len(job.images["train"].ids)
    rows = Rows(job.out / "train_voxels.npy", (n, job.volume.n_voxels), "float32")
    fill([rows], spans(n, BLOCK), lambda a, b: ([z(a, b)], None), job.parts, "training voxels")


# --- pictures and captions --------------------------------------------------------------------------------------------


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, side, side, 3) uint8: Pillow's bicubic, which averages over the area when it shrinks."""
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(im).resize(size, Image.Resampling.BICUBIC)) for im in images])


def _read_pictures(job: Job, split: str, start: int, stop: int) -> np.ndarray:
    images = job.images[split]
    if job.settings.source == "raw":
        return nsd.read_stimuli(job.tree, images.ids[start:stop])
    rows = np.argsort(images.by_first_trial)[start:stop]
    return np.asarray(_splits(job)[split].stim[rows]).astype(np.uint8)


def _write_pictures(job: Job, split: str) -> None:
    def make(start: int, stop: int):
        pictures = _read_pictures(job, split, start, stop)
        return [resized(pictures, side) for side in SIDES], None

    n = len(job.images[split].ids)
    files = [Rows(job.out / f"{split}_{side}.npy", (n, side, side, 3), "uint8") for side in SIDES]
    fill(files, spans(n, BLOCK), make, job.parts, f"{split} pictures")


def _read_captions(job: Job, split: str) -> np.ndarray:
    images = job.images[split]
    if job.settings.source == "raw":
        return nsd.read_captions(job.tree, images.ids)
    return _splits(job)[split].captions[np.argsort(images.by_first_trial)]


def _labels(job: Job, split: str) -> list[dict]:
    rows = zip(job.images[split].ids, _read_captions(job, split))
    return [{"nsd_id": int(i), "captions": [str(c).strip() for c in five if c.strip()]} for i, five in rows]


def _write_labels(job: Job, split: str) -> None:
    images = job.images[split]
    save_json(job.out / f"{split}.json", _labels(job, split))
    save_array(job.out / f"{split}_ids.npy", images.ids)
    save_array(job.out / f"{split}_repeats.npy", images.n_repeats.astype(np.uint8))


# --- the subject, the report, the export ------------------------------------------------------------------------------


def _write_subject(job: Job, test: np.ndarray) -> int:
    """`subject.h5`; returns how many test values had to be brought to ±109 to fit it."""
    blocks = tqdm(spans(len(test), BLOCK), "subject")
    shown = np.concatenate([resized(_read_pictures(job, "test", *span), SHOWN_SIDE) for span in blocks])
    saturated = int((np.abs(test) > Z_MAX).sum())
    trials = Trials(np.clip(test, -Z_MAX, Z_MAX), shown, load_json(job.out / "test.json"))
    ncsnr = nsd.read_ncsnr(job.tree, job.volume)
    name = f"NSD subj{job.settings.subject:02d}"
    save_subject(job.out / "subject.h5", Subject(name, False, job.volume, ncsnr, trials))
    return saturated


def _report(job: Job, clipped: list[int] | None, constant: list[int], saturated: int) -> dict:
    images = job.images.items()
    return {
        "settings": asdict(job.settings),
        "n_voxels": job.volume.n_voxels,
        "n_images": {split: len(im.ids) for split, im in images},
        "n_trials": {split: int(im.n_repeats.sum()) for split, im in images},
        "images_by_repeats": {split: np.bincount(im.n_repeats, minlength=4)[1:].tolist() for split, im in images},
        "clipped_values": None if clipped is None else {"total": sum(clipped), "per_session": clipped},
        "constant_voxels": constant,  # per session, or over all training averages
        "test_values_beyond_109": saturated,
        "bytes": {path.name: path.stat().st_size for path in sorted(job.out.glob("[!.]*")) if path.is_file()},
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _export(job: Job, folder: Path) -> None:
    def stimuli(ids: np.ndarray) -> np.ndarray:
        return nsd.read_stimuli(job.tree, ids)

    def captions(ids: np.ndarray) -> np.ndarray:
        return nsd.read_captions(job.tree, ids)

    settings = job.settings
    write_export(folder, Export(settings.subject, settings.sessions, job.images, job.trials, stimuli, captions))
