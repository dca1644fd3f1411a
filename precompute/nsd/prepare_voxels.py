"""Betas, raw or averaged by Brain-Diffuser, -> z-scored training averages on disk and test trials.

A voxel is kept if it varies among the training betas that it is standardised by, in every session where each has its own, and if
NSD gives it a noise ceiling. Elsewhere its z would be 0, or unknown, and pass for data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precompute.blocks import Rows, fill, spans
from precompute.nsd import raw
from precompute.nsd.brain_diffuser import FMRI, averaged, layout
from precompute.nsd.prepare_job import SPLITS, Job
from precompute.nsd.zscore import Scale, fit_scale, fit_scale_in_blocks, session_z, standardise
from recon.files import BadFile, open_array

BLOCK = 64  # images
DAMAGED = 0.5  # share of constant voxels above which it is the session's file that is wrong


@dataclass(frozen=True)
class Voxels:
    """What standardising left; of nsdgeneral's n_all voxels n_voxels are kept."""

    test: np.ndarray  # (n, n_repeats, n_voxels) float32 z-scores, NaN where a repeat is missing
    kept: np.ndarray  # (n_all,) bool
    constant: list[int]  # how many do not vary: in each session, or over all training averages
    without_ncsnr: int


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


def _choose(scales: list[Scale], ncsnr: np.ndarray) -> np.ndarray:
    """(n_all,) bool: which voxels are kept. Raises BadFile if a session is constant in most of them, or none is left."""
    constant = np.array([scale.constant for scale in scales])
    worst = int(constant.mean(1).argmax())
    if constant[worst].mean() > DAMAGED:
        where = f"session {worst + 1}" if len(scales) > 1 else "the training betas"
        raise BadFile(
            f"{where}: {constant[worst].sum()} of {len(ncsnr)} voxels do not vary: fetch the file again, "
            "or prepare fewer --sessions"
        )
    kept = ~constant.any(0) & np.isfinite(ncsnr)
    if not kept.any():
        raise BadFile(f"none of {len(ncsnr)} voxels varies in every session and has an ncsnr: fetch ncsnr.nii.gz again")
    return kept


def session_voxels(job: Job, ncsnr: np.ndarray) -> Voxels:
    """Writes `train_voxels.npy`; ncsnr (n_all,)."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        trials = job.images[split].trials[start:stop]
        return session_z(open_array(job.trials), trials, scales, job.design.trials_per_session)[..., kept]

    scales = _session_scales(job)
    kept = _choose(scales, ncsnr)
    _write_train_voxels(job, int(kept.sum()), lambda a, b: np.nanmean(z("train", a, b), axis=1))
    test = [z("test", *span).astype(np.float32) for span in spans(len(job.images["test"].ids), BLOCK)]
    return _voxels(np.concatenate(test), kept, scales, ncsnr)


def averaged_voxels(job: Job, ncsnr: np.ndarray) -> Voxels:
    """The same by Brain-Diffuser's recipe: one averaged "repeat", one scale."""

    def z(split: str, start: int, stop: int) -> np.ndarray:
        return standardise(open_array(fmri[split])[rows[split][start:stop]], scale)[..., kept]

    fmri = {split: _averages(job, split) for split in SPLITS}
    rows = {split: job.file_rows(split) for split in SPLITS}
    scale = fit_scale_in_blocks(open_array(fmri["train"]))
    kept = _choose([scale], ncsnr)
    _write_train_voxels(job, int(kept.sum()), lambda a, b: z("train", a, b))
    test = z("test", 0, len(rows["test"])).astype(np.float32)
    return _voxels(test[:, None], kept, [scale], ncsnr)


def _voxels(test: np.ndarray, kept: np.ndarray, scales: list[Scale], ncsnr: np.ndarray) -> Voxels:
    constant = [int(scale.constant.sum()) for scale in scales]
    return Voxels(test, kept, constant, int((~np.isfinite(ncsnr)).sum()))


def _averages(job: Job, split: str) -> Path:
    """Raw averages in the order of first trials, as Brain-Diffuser keeps them: read, or made of raw betas."""
    if job.settings.source == "brain-diffuser":
        return layout(job.brain_diffuser, split, FMRI, job.settings.subject)
    images = job.images[split]
    trials = images.trials[images.by_first_trial]
    rows = Rows(job.parts / f"{split}_averages.npy", (len(trials), job.volume.n_voxels), "float32")
    fill([rows], spans(len(trials), BLOCK), lambda a, b: ([averaged(job.trials, trials[a:b])], None), job.parts, split)
    return rows.path


def _write_train_voxels(job: Job, n_voxels: int, z: Callable[[int, int], np.ndarray]) -> None:
    n = len(job.images["train"].ids)
    rows = Rows(job.out / "train_voxels.npy", (n, n_voxels), "float32")
    fill([rows], spans(n, BLOCK), lambda a, b: ([z(a, b)], None), job.parts, "training voxels")
