"""Betas, raw or averaged by Brain-Diffuser, -> z-scored training averages on disk and test trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from precompute.blocks import Rows, fill, spans
from precompute.nsd import raw
from precompute.nsd.brain_diffuser import FMRI, averaged, layout
from precompute.nsd.prepare_job import SPLITS, Job
from precompute.nsd.zscore import Scale, fit_scale, fit_scale_in_blocks, session_z, standardise
from recon.files import open_array

BLOCK = 64  # images


def mask_sessions(job: Job) -> list[int]:
    """`trials.npy`, session by session; returns how many values of each sit at the ends of int16."""

    def make(start: int, _stop: int):
        path = job.tree.betas(start // n + 1)
        betas = raw.read_betas(path, job.volume, n)
        return [betas], int(np.isin(betas, raw.CLIPPED).sum())

    n = job.design.trials_per_session
    n_trials = len(job.design.image)
    rows = Rows(job.trials, (n_trials, job.volume.n_voxels), "int16")
    return fill([rows], spans(n_trials, n), make, job.parts, "sessions")


def _session_scales(job: Job) -> list[Scale]:
    training = np.flatnonzero(~job.design.is_test)
    sessions = job.design.session[training]
    return [fit_scale(open_array(job.trials)[training[sessions == s]]) for s in range(job.settings.sessions)]


def session_voxels(job: Job) -> tuple[np.ndarray, list[int]]:
    """Writes `train_voxels.npy`; returns the test trials (n, n_repeats, n_voxels) float32 and each session's constant voxels."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        trials = job.images[split].trials[start:stop]
        return session_z(open_array(job.trials), trials, scales, job.design.trials_per_session)

    scales = _session_scales(job)
    _write_train_voxels(job, lambda a, b: np.nanmean(z("train", a, b), axis=1))
    test = [z("test", *span).astype(np.float32) for span in spans(len(job.images["test"].ids), BLOCK)]
    return np.concatenate(test), [scale.n_constant for scale in scales]


def averaged_voxels(job: Job) -> tuple[np.ndarray, list[int]]:
    """The same by Brain-Diffuser's recipe: one averaged "repeat", one scale."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        return standardise(open_array(fmri[split])[rows[split][start:stop]], scale)

    fmri = {split: _averages(job, split) for split in SPLITS}
    rows = {split: job.file_rows(split) for split in SPLITS}
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


def _write_train_voxels(job: Job, z: Callable[[int, int], np.ndarray]) -> None:
    n = len(job.images["train"].ids)
    rows = Rows(job.out / "train_voxels.npy", (n, job.volume.n_voxels), "float32")
    fill([rows], spans(n, BLOCK), lambda a, b: ([z(a, b)], None), job.parts, "training voxels")
