"""What one run of `prepare` is asked to do, and whether it can."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from precompute.nsd import raw
from precompute.nsd.brain_diffuser import CAP, FMRI, STIM, Split, layout, open_split
from precompute.nsd.design import Design, Images
from precompute.stage import place_of, record
from recon.brain.space import Volume
from recon.files import BadFile

SPLITS = ("train", "test")
JOB = "prepare"  # the stage's name


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
    tree: raw.Tree
    out: Path
    brain_diffuser: Path | None
    design: Design
    images: dict[str, Images]
    volume: Volume

    @property
    def parts(self) -> Path:
        return place_of(self.out, JOB)

    @property
    def trials(self) -> Path:
        return self.out / "trials.npy"

    @property
    def files(self) -> list[Path]:
        """What the folder is made of."""
        if self.settings.source == "raw":
            return self.tree.all_files(self.settings.sessions)
        kinds = [(split, kind) for split in SPLITS for kind in (FMRI, STIM, CAP)]
        return [*self.tree.all_files(0), *(layout(self.brain_diffuser, *one, self.settings.subject) for one in kinds)]

    def file_rows(self, split: str) -> np.ndarray:
        """(n,) where each image is in files whose rows are in the order of first trials."""
        return np.argsort(self.images[split].by_first_trial)

    def brain_diffuser_files(self, split: str) -> Split:
        shape = len(self.images[split].ids), self.volume.n_voxels
        return open_split(self.brain_diffuser, split, self.settings.subject, *shape, self.settings.sessions)


def choose_settings(subject: int, sessions: int | None, recipe: str | None, brain_diffuser: Path | None) -> Settings:
    """Fills in defaults: all sessions, and the recipe that the source allows. Raises BadFile for what does not exist."""
    there = raw.SESSIONS[subject - 1]
    sessions = there if sessions is None else sessions
    if not 1 <= sessions <= there:
        raise BadFile(f"subject {subject} has sessions 1 to {there}, but --sessions is {sessions}")
    source = "brain-diffuser" if brain_diffuser else "raw"
    recipe = recipe or ("brain-diffuser" if brain_diffuser else "session")
    if brain_diffuser and recipe != "brain-diffuser":
        raise BadFile("Brain-Diffuser's files hold averages over sessions: they allow only --recipe brain-diffuser")
    return Settings(subject, sessions, recipe, source)


def open_job(root: Path, out: Path, settings: Settings, brain_diffuser: Path | None) -> Job:
    tree = raw.Tree(root, settings.subject)
    design = raw.read_design(tree).first(settings.sessions)
    images = {split: design.images(split == "test") for split in SPLITS}
    return Job(settings, tree, Path(out), brain_diffuser, design, images, raw.read_geometry(tree))


def check_settings(job: Job) -> None:
    """Raises BadFile if the folder holds, finished or not, what other settings gave: that took long, and may be in use."""
    here, settings = record(job.parts).get("settings"), asdict(job.settings)
    if here not in (None, settings):
        raise BadFile(f"{job.out} was prepared with {here}, now asked for {settings}: choose another --out")


def read_captions(job: Job, split: str) -> np.ndarray:
    """(n, 5) strings, some empty, rows in ascending order of ids. Raises BadFile for an image that has none."""
    if job.settings.source == "raw":
        captions = raw.read_captions(job.tree, job.images[split].ids)
    else:
        captions = job.brain_diffuser_files(split).captions[job.file_rows(split)]
    without = job.images[split].ids[~(np.char.strip(captions) != "").any(1)]
    if len(without):
        raise BadFile(
            f"{len(without)} {split} images have no caption (first: NSD id {without[0]}): fetch the captions again"
        )
    return captions


def check_inputs(job: Job) -> None:
    """Raises BadFile for what is missing or holds NaN, before hours are spent on what is there."""
    for split in SPLITS:
        read_captions(job, split)
    if job.settings.source == "brain-diffuser":
        for split in SPLITS:
            path = layout(job.brain_diffuser, split, FMRI, job.settings.subject)
            check_finite(path, job.brain_diffuser_files(split).fmri)
    else:
        job.tree.file(raw.STIMULI)
        for session in range(1, job.settings.sessions + 1):
            job.tree.betas(session)


def check_finite(path: Path, values: np.ndarray, block: int = 512) -> None:
    """Raises BadFile if a memory map (n, n_voxels) holds NaN or infinity, saying in how many voxels and rows."""
    if values.dtype.kind not in "fiu":
        raise BadFile(f"{path}: expected real numbers, got {values.dtype}")
    rows, voxels = 0, np.zeros(values.shape[1], bool)
    for k in range(0, len(values), block):
        bad = ~np.isfinite(values[k : k + block])
        rows, voxels = rows + int(bad.any(1).sum()), voxels | bad.any(0)
    if rows:
        raise BadFile(
            f"{path}: expected finite averages, got NaN or infinity in {voxels.sum()} voxels (first: {voxels.argmax()}) of {rows} "
            "rows: average again without the trials that hold them"
        )
