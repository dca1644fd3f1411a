"""Memory and time of `python -m precompute prepare` at the real shapes of NSD's subject 1; prints one line of JSON last.

    python tests/bench/bench_prepare.py [--sessions 40]

Builds one session of 750 trials of 81 × 104 × 83 voxels, 15,724 of them in nsdgeneral, in both formats; the other sessions are
links to it. Stimuli have the real shape and are black, so that pictures cost time but compress to nothing; the file system's
cache is warm. `seconds_per_session` is reading and masking one session, each format in a process of its own; `total_seconds`
and `peak_rss_gb` are those of the whole command on the HDF5 files. Needs 13 GB of disk for 40 sessions.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fake_nsd  # noqa: E402

SHAPE, N_VOXELS, TRIALS = (81, 104, 83), 15724, 750
FOLDER = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


def ordering(rng: np.random.Generator) -> np.ndarray:
    """(30000,) each of 10,000 images three times."""
    return rng.permutation(np.repeat(np.arange(1, 10001), 3))


def masks() -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z) bool: an ellipsoid for the brain, about a third of the box, and the posterior voxels of it."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    brain = (grid**2).sum(0) < 0.85
    posterior = np.argsort(np.where(brain, grid[1], 9).ravel(), kind="stable")[:N_VOXELS]
    general = np.zeros(brain.size, bool)
    general[posterior] = True
    return brain, general.reshape(SHAPE)


def build(root: Path, sessions: int) -> dict:
    rng = np.random.default_rng(0)
    brain, general = masks()
    fake_nsd._write_design(root, ordering(rng), rng)
    fake_nsd._write_captions(root)
    fake_nsd._write_stimuli(root, {})
    betas = np.zeros((TRIALS, *SHAPE), np.int16)
    for trial in betas:
        trial[brain] = rng.normal(200, 300, brain.sum())
    empty = fake_nsd.Truth(
        betas[:0], general, dict.fromkeys(fake_nsd.LABELS, np.ones(SHAPE, np.float32)), brain * np.float32(0.5),
        np.empty(0), np.empty(0), {}, np.empty(0), TRIALS,
    )  # fmt: skip
    fake_nsd._write_subject(root, 1, empty, ())
    with h5py.File(root / FOLDER / "betas_session01.hdf5", "w") as f:
        data = f.create_dataset("betas", (TRIALS, *SHAPE[::-1]), np.int16, chunks=(TRIALS, 1, 1, 1))
        for z in range(SHAPE[2]):
            data[:, z] = betas[:, :, :, z].transpose(0, 2, 1)
    nib.openers.Opener.default_compresslevel = 1
    nib.save(nib.Nifti1Image(betas.transpose(1, 2, 3, 0), fake_nsd.AFFINE), root / FOLDER / "betas_session01.nii.gz")
    for session in range(2, sessions + 1):
        (root / FOLDER / f"betas_session{session:02d}.hdf5").symlink_to(root / FOLDER / "betas_session01.hdf5")
    return {}


def read_one(root: Path, suffix: str) -> dict:
    from precompute.nsd import raw

    tree = raw.Tree(root, 1)
    volume = raw.read_geometry(tree)
    start = time.perf_counter()
    raw.read_betas(root / FOLDER / f"betas_session01.{suffix}", volume, TRIALS)
    return {"seconds": time.perf_counter() - start}


def run_all(root: Path, sessions: int) -> dict:
    from precompute.nsd.prepare import prepare
    from precompute.nsd.prepare_job import choose_settings

    start = time.perf_counter()
    prepare(root, root / "prepared", choose_settings(1, sessions, None, None))
    return {"seconds": time.perf_counter() - start}


def measured(*arguments: str) -> dict:
    """Runs a part of this script in a process of its own, whose peak memory is then its own too."""
    output = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--part", nargs=2, metavar=("PART", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part, root = arguments.part[0], Path(arguments.part[1])
        steps = {"build": lambda: build(root, arguments.sessions), "all": lambda: run_all(root, arguments.sessions)}
        result = steps.get(part, lambda: read_one(root, part))()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return print(json.dumps(result | {"peak_rss_gb": peak}))
    with tempfile.TemporaryDirectory() as folder:
        sessions = ("--sessions", str(arguments.sessions))
        measured("--part", "build", folder, *sessions)
        one = {suffix: measured("--part", suffix, folder) for suffix in ("hdf5", "nii.gz")}
        whole = measured("--part", "all", folder, *sessions)
    result = {
        "sessions": arguments.sessions,
        "seconds_per_session": {suffix: round(r["seconds"], 2) for suffix, r in one.items()},
        "read_peak_rss_gb": {suffix: round(r["peak_rss_gb"], 2) for suffix, r in one.items()},
        "total_seconds": round(whole["seconds"], 1),
        "peak_rss_gb": round(whole["peak_rss_gb"], 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
