"""What one run of `prepare` is asked to do, and whether it can."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from precompute.nsd import raw
from precompute.nsd.brain_diffuser import Split, open_split
from precompute.nsd.design import Design, Images
from recon.brain.space import Volume
from recon.files import BadFile, load_json

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
    tree: raw.Tree
    out: Path
    brain_diffuser: Path | None
    design: Design
    images: dict[str, Images]
    volume: Volume

    @property
    def parts(self) -> Path:
        return self.out / ".unfinished"

    @property
    def trials(self) -> Path:
        return self.out / "trials.npy"

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


def finished_report(job: Job) -> dict | None:
    """The report of a finished folder, None for a new or unfinished one. Raises BadFile if it has other settings."""
    finished, started, settings = job.out / "prepare.json", job.parts / "settings.json", asdict(job.settings)
    report = load_json(finished) if finished.exists() else None
    here = report["settings"] if report else load_json(started) if started.exists() else settings
    if here != settings:
        raise BadFile(f"{job.out} was prepared with {here}, now asked for {settings}: choose another --out")
    return report


def check_inputs(job: Job) -> None:
    """Raises BadFile for what is missing, before hours are spent on what is there."""
    if job.settings.source == "brain-diffuser":
        for split in SPLITS:
            job.brain_diffuser_files(split)
    else:
        for name in (raw.STIMULI, raw.CAPTIONS):
            job.tree.file(name)
        for session in range(1, job.settings.sessions + 1):
            job.tree.betas(session)
