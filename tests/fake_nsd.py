"""A miniature of the Natural Scenes Dataset's raw files, built in seconds from a known truth.

File names, types, axis order, 1-based indices and label values are those of the real files; volumes and sessions are small.
The design covers 40 sessions, as the real one does; `n_sessions` of them are written. Some voxels are zero throughout,
some in one session only, some betas sit at the ends of int16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from scipy.io import savemat

SHAPE = (9, 10, 11)
AFFINE = np.array([[1.8, 0, 0, -72.5], [0, 1.8, 0, -93.5], [0, 0, 1.8, -74.25], [0, 0, 0, 1]])
SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
PLANNED, REPEATS = 40, 3
TEST_SHARE = 0.2
LABELS = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL", "aTL"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs", "mTL"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}


@dataclass(frozen=True)
class Truth:
    """What the files of one subject say; trials of all written sessions in order."""

    betas: np.ndarray  # (n_trials, x, y, z) int16
    mask: np.ndarray  # (x, y, z) bool: nsdgeneral
    labels: dict[str, np.ndarray]  # family -> (x, y, z) int, -1, 0, or 1 + index into LABELS[family]
    ncsnr: np.ndarray  # (x, y, z) float32
    image: np.ndarray  # (n_trials,) 0-based among the 73,000
    is_test: np.ndarray  # (n_trials,) bool
    stimuli: dict[int, np.ndarray]  # 0-based id -> (425, 425, 3) uint8
    captions: np.ndarray  # (73000, 5) str
    trials_per_session: int


def _ordering(n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """(n_trials,) 1-based: every image three times, its repeats within about a third of the experiment."""
    n_images = -(-n_trials // REPEATS)
    n_test = max(2, round(TEST_SHARE * n_images))
    test = rng.choice(np.arange(1, 1000), n_test - 1, replace=False)
    train = rng.choice(np.arange(1002, 10001), n_images - n_test - 1, replace=False)
    images = np.concatenate([[1000, 1001], rng.permutation(np.concatenate([test, train]))])
    when = np.arange(n_images)[:, None] / n_images + rng.uniform(0, 0.3, (n_images, REPEATS))
    when[:2, 0] = 0  # the last test and the first training image come first
    return np.repeat(images, REPEATS)[np.argsort(when.ravel())][:n_trials]


def _write_design(root: Path, ordering: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Writes `nsd_expdesign.mat`; returns subjectim (8, 10000), 1-based."""
    ids = rng.permutation(73000)[:73000] + 1
    shared, rest = ids[:1000], ids[1000:].reshape(8, 9000)
    subjectim = np.concatenate([np.tile(shared, (8, 1)), rest], axis=1)
    path = root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"masterordering": ordering[None], "subjectim": subjectim, "sharedix": shared[None]}
    savemat(path, {name: values.astype(np.float64) for name, values in content.items()}, do_compression=True)
    return subjectim


def _save_nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, AFFINE), path)


def write_hdf5_betas(path: Path, betas: np.ndarray) -> None:
    """(n_trials, x, y, z) -> MATLAB's (x, y, z, trials) in chunks [1 1 1 trials], which h5py sees reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        f.create_dataset("betas", data=betas.transpose(0, 3, 2, 1), chunks=(len(betas), 1, 1, 1))


def write_nifti_betas(path: Path, betas: np.ndarray) -> None:
    _save_nifti(path, np.ascontiguousarray(np.moveaxis(betas, 0, -1)))


def _draw_betas(image: np.ndarray, per_session: int, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_trials, x, y, z) int16: each image's own pattern, session effects and noise."""
    seen, row = np.unique(image, return_inverse=True)
    signal = rng.normal(0, 200, (len(seen), *mask.shape))[row]
    session = np.arange(len(image)) // per_session
    gain, offset = rng.uniform(0.8, 1.2, session[-1] + 1), rng.normal(0, 60, session[-1] + 1)
    noise = rng.normal(200, 300, signal.shape)
    each = (..., None, None, None)
    betas = np.rint(gain[session][each] * (signal + noise) + offset[session][each])
    inside = np.argwhere(mask)
    dead, absent, *hot = rng.choice(len(inside), 8, replace=False)
    betas[(slice(None), *inside[dead])] = 0
    betas[(session == session[-1], *inside[absent])] = 0
    for k, voxel in enumerate(hot):
        betas[(rng.integers(len(betas), size=3), *inside[voxel])] = 1e6 if k % 2 else -1e6
    betas[:, 0] = 0  # outside the brain mask
    return np.clip(betas, -32768, 32767).astype(np.int16)


def _draw_labels(family: str, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """-1 outside a box around the labels, 0 unlabelled, else 1 + index of the name; some voxels outside nsdgeneral too."""
    labels = rng.integers(0, len(LABELS[family]) + 1, mask.shape).astype(np.float32)
    labels[:2] = -1
    if family == "floc-faces":
        labels[mask & (labels == 5)] = 0  # aTL has no voxel in nsdgeneral
    return labels


def _write_ctab(path: Path, names: tuple[str, ...]) -> None:
    """As the real ones, some lines separated by tabs, some by spaces."""
    lines = ["0 Unknown", *(f"{k}{chr(9) if k % 2 else ' '}{name}" for k, name in enumerate(names, 1))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _draw_stimuli(ids: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """Gradients with a rectangle each: they compress well. An id has the same picture for every subject."""
    ramp = np.linspace(0, 1, 425)
    pictures = {}
    for image in ids:
        rng = np.random.default_rng((seed, image))
        low, high = rng.integers(0, 256, (2, 3))
        picture = low + (high - low) * ramp[:, None, None] * np.ones((1, 425, 1))
        top, left = rng.integers(0, 300, 2)
        picture[top : top + 100, left : left + 60] = rng.integers(0, 256, 3)
        pictures[int(image)] = np.rint(picture).astype(np.uint8)
    return pictures


def _write_stimuli(root: Path, stimuli: dict[int, np.ndarray]) -> None:
    """The real shape; only the chunks of used images exist."""
    path = root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        brick = f.create_dataset(
            "imgBrick", (73000, 425, 425, 3), np.uint8, chunks=(1, 425, 425, 3), compression="gzip", compression_opts=1
        )
        for image, picture in stimuli.items():
            brick[image] = picture


def _write_captions(root: Path) -> np.ndarray:
    captions = np.empty((73000, 5), "<U24")
    for k in range(5):
        captions[:, k] = [f"picture {i}, caption {k}" for i in range(73000)]
    captions[::7, 4] = ""
    np.save(root / "COCO_73k_annots_curated.npy", captions)
    return captions


def build_fake_nsd(
    root: Path,
    subjects: tuple[int, ...] = (1,),
    n_sessions: int = 4,
    trials_per_session: int = 24,
    seed: int = 0,
    formats: tuple[str, ...] = ("hdf5", "nii.gz"),
    shape: tuple[int, int, int] = SHAPE,
    edit: Callable[[np.ndarray, Truth], None] = lambda betas, truth: None,
) -> dict[int, Truth]:
    """Writes the tree under `root`: for each subject the first `n_sessions` of those it has. Returns subject -> truth.

    `edit` may change a subject's betas in place before they are written.
    """
    rng = np.random.default_rng(seed)
    root = Path(root)
    ordering = _ordering(PLANNED * trials_per_session, rng)
    subjectim = _write_design(root, ordering, rng)
    captions = _write_captions(root)
    truths = {}
    for subject in subjects:
        n = min(n_sessions, SESSIONS[subject - 1]) * trials_per_session
        image = subjectim[subject - 1, ordering[:n] - 1] - 1
        mask = rng.random(shape) < 0.3
        mask[0] = False
        truth = Truth(
            betas=_draw_betas(image, trials_per_session, mask, rng),
            mask=mask,
            labels={family: _draw_labels(family, mask, rng) for family in LABELS},
            ncsnr=rng.lognormal(-0.8, 0.5, shape).astype(np.float32),
            image=image,
            is_test=ordering[:n] <= 1000,
            stimuli=_draw_stimuli(np.unique(image), seed),
            captions=captions,
            trials_per_session=trials_per_session,
        )
        edit(truth.betas, truth)
        _write_subject(root, subject, truth, formats)
        truths[subject] = truth
    _write_stimuli(root, {i: picture for truth in truths.values() for i, picture in truth.stimuli.items()})
    return truths


def _write_subject(root: Path, subject: int, truth: Truth, formats: tuple[str, ...]) -> None:
    func = f"ppdata/subj{subject:02d}/func1pt8mm"
    betas = root / "nsddata_betas" / func / "betas_fithrf_GLMdenoise_RR"
    per_session = truth.trials_per_session
    for start in range(0, len(truth.betas), per_session):
        stem = f"betas_session{start // per_session + 1:02d}"
        if "hdf5" in formats:
            write_hdf5_betas(betas / f"{stem}.hdf5", truth.betas[start : start + per_session])
        if "nii.gz" in formats:
            write_nifti_betas(betas / f"{stem}.nii.gz", truth.betas[start : start + per_session])
    _save_nifti(betas / "ncsnr.nii.gz", truth.ncsnr)
    roi = root / "nsddata" / func / "roi"
    outside = np.zeros(truth.mask.shape, bool)
    outside[:2] = True
    _save_nifti(roi / "nsdgeneral.nii.gz", np.where(truth.mask, 1.0, np.where(outside, -1.0, 0.0)))
    for family, names in LABELS.items():
        _save_nifti(roi / f"{family}.nii.gz", truth.labels[family])
        label = root / f"nsddata/freesurfer/subj{subject:02d}/label"
        _write_ctab(label / f"{family}.mgz.ctab", names)
