"""The files that Brain-Diffuser (Ozcelik & VanRullen 2023) keeps of a subject, read and written.

For each split, `nsd_{split}_fmriavg_nsdgeneral_sub{s}.npy` (n, n_voxels) float64: int16 betas averaged over repeats, not yet
divided by 300; `nsd_{split}_stim_sub{s}.npy` (n, 425, 425, 3) in 0…255, float64 in theirs, uint8 in ours;
`nsd_{split}_cap_sub{s}.npy` (n, 5) strings. Rows are images in the order of their first trial. No file holds their ids: they
follow from the design and the number of sessions, 37 in theirs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precompute.blocks import Rows, fill, remove_leftovers, spans
from precompute.nsd.design import Images
from precompute.nsd.raw import N_CAPTIONS, SIDE, open_strings
from precompute.nsd.zscore import rows_of_images
from recon.files import BadFile, load_json, open_array, open_plain, save_array, save_json

FMRI, STIM, CAP = "fmriavg_nsdgeneral", "stim", "cap"
BLOCK = 128


def averaged(raw: Path, trials: np.ndarray) -> np.ndarray:
    """raw (n_trials, n_voxels) int16, trials (n, n_repeats), -1 for none -> (n, n_voxels) float32 means, not divided by 300."""
    return np.nanmean(rows_of_images(open_array(raw), trials), axis=1).astype(np.float32)


def layout(folder: Path, split: str, kind: str, subject: int) -> Path:
    return Path(folder) / f"nsd_{split}_{kind}_sub{subject}.npy"


@dataclass(frozen=True)
class Split:
    """One split as read; rows as in the files."""

    fmri: np.ndarray  # (n, n_voxels), memory-mapped
    stim: np.ndarray  # (n, 425, 425, 3), memory-mapped
    captions: np.ndarray  # (n, 5) strings


def _open(path: Path, expected: tuple[int, ...], sessions: int) -> np.ndarray:
    if not path.exists():
        raise BadFile(f"{path} is missing: Brain-Diffuser's prepare_nsddata.py, or --export, writes it")
    array = open_strings(path) if f"_{CAP}_" in path.name else open_plain(path)
    if array.shape != expected:
        hint = "Brain-Diffuser's own files hold 37 sessions: --sessions 37"
        raise BadFile(f"{path}: expected shape {expected} for {sessions} sessions, got {array.shape} ({hint})")
    return array


def open_split(folder: Path, split: str, subject: int, n_images: int, n_voxels: int, sessions: int) -> Split:
    """Opens the three files of a split; raises BadFile if one is missing, pickled or of another shape."""
    shapes = {FMRI: (n_images, n_voxels), STIM: (n_images, SIDE, SIDE, 3), CAP: (n_images, N_CAPTIONS)}
    return Split(*(_open(layout(folder, split, kind, subject), shape, sessions) for kind, shape in shapes.items()))


@dataclass(frozen=True)
class Export:
    """What is written of a subject."""

    subject: int
    sessions: int
    images: dict[str, Images]  # split -> its images
    raw: Path  # (n_trials, n_voxels) int16
    read_stimuli: Callable[[np.ndarray], np.ndarray]  # ids -> (n, 425, 425, 3) uint8
    read_captions: Callable[[np.ndarray], np.ndarray]  # ids -> (n, 5) strings


def write_export(folder: Path, export: Export) -> None:
    """Writes both splits; a rerun after a kill goes on, a finished export is left as it is."""
    done = folder / f"nsd_export_sub{export.subject}.json"
    content = {"subject": export.subject, "sessions": export.sessions}
    if done.exists() and load_json(done) != content:
        raise BadFile(f"{folder} holds the export {load_json(done)}, expected {content}: choose another --export-to")
    parts = folder / f".sub{export.subject}-{export.sessions}"
    remove_leftovers(folder)
    if not done.exists():
        for split, images in export.images.items():
            order = images.by_first_trial
            _export_split(folder, split, export, images.trials[order], images.ids[order], parts)
        save_json(done, content)
    shutil.rmtree(parts, ignore_errors=True)


def _export_split(folder: Path, split: str, export: Export, trials: np.ndarray, ids: np.ndarray, parts: Path) -> None:
    def make(start: int, stop: int):
        here = slice(start, stop)
        return [averaged(export.raw, trials[here]), export.read_stimuli(ids[here])], None

    n_voxels = open_array(export.raw).shape[1]
    fmri = Rows(layout(folder, split, FMRI, export.subject), (len(ids), n_voxels), "float64")
    stim = Rows(layout(folder, split, STIM, export.subject), (len(ids), SIDE, SIDE, 3), "uint8")
    fill([fmri, stim], spans(len(ids), BLOCK), make, parts, f"export {split}")
    save_array(layout(folder, split, CAP, export.subject), export.read_captions(ids))
