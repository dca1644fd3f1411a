"""Scans the simulated brain: trials in sessions, noise, int16 betas as NSD stores them; then the subject's file.

Noise of one trial: 75 % of its variance independent, 15 % smooth over the cortical surface, 10 % along the tuning itself (shared
fluctuations that look like signal). A session multiplies all betas by 1 ± 0.08 and shifts them by ± 0.1 of a typical response.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from precompute.demo.cortex import Cortex, build_cortex
from precompute.demo.forward import Tuning, draw_tuning, signals
from precompute.demo.world import load_labels
from precompute.fitting.encoding import estimate_ncsnr
from recon.bundle.subject import BETA_SCALE, Subject, Trials, save_subject
from recon.files import open_array, save_array, whole_file

N_REPEATS, SESSION_TRIALS = 3, 750
INDEPENDENT, SMOOTH, SHARED = 0.75, 0.15, 0.10  # shares of noise variance
SMOOTHING_STEPS, SHARED_DIMENSIONS = 4, 20
TEST_REPEATS = {3: 0.8, 2: 0.12, 1: 0.08}


def _trial_table(n_train: int, n_test: int, seed: int) -> np.ndarray:
    """(n_trials, 3) int32: split (0 train, 1 test), image, repeat; in random order, so every session has both splits."""
    rng = np.random.default_rng((seed, 30))
    test_repeats = rng.choice(list(TEST_REPEATS), n_test, p=list(TEST_REPEATS.values()))
    rows = [(0, k, r) for k in range(n_train) for r in range(N_REPEATS)]
    rows += [(1, k, r) for k in range(n_test) for r in range(test_repeats[k])]
    return np.array(rows, np.int32)[rng.permutation(len(rows))]


def _noise(n: int, cortex: Cortex, patterns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, n_voxels) float32 of unit variance. `patterns` (k, n_voxels): unit-variance directions of the signal."""
    n_voxels = len(cortex.area)
    independent = rng.standard_normal((n, n_voxels), np.float32)
    smooth = rng.standard_normal((n, n_voxels), np.float32).T
    for _ in range(SMOOTHING_STEPS):
        smooth = cortex.neighbours @ smooth
    smooth = smooth.T / smooth.std(1)[None]
    shared = rng.standard_normal((n, len(patterns)), np.float32) @ patterns
    return np.sqrt(INDEPENDENT) * independent + np.sqrt(SMOOTH) * smooth + np.sqrt(SHARED) * shared


def _signal_patterns(signal: np.ndarray) -> np.ndarray:
    """The leading principal directions of the responses, scaled so that their random mixtures have unit variance."""
    _, s, vt = np.linalg.svd(signal[:2000], full_matrices=False)
    patterns = s[:SHARED_DIMENSIONS, None] * vt[:SHARED_DIMENSIONS]
    return (patterns / np.maximum(np.sqrt((patterns**2).sum(0)), 1e-9)).astype(np.float32)


def _scan(table, responses: dict[str, np.ndarray], cortex: Cortex, tuning: Tuning, seed: int) -> np.ndarray:
    """(n_trials, n_voxels) int16: betas in percent signal change × 300."""
    rng = np.random.default_rng((seed, 31))
    amplitude = rng.lognormal(np.log(1.2), 0.35, len(cortex.area)).astype(np.float32)  # percent: SD of one trial's beta
    baseline = rng.normal(0.8, 0.5, len(cortex.area)).astype(np.float32)
    total = np.sqrt(1 + tuning.ncsnr**2)
    signal_sd, noise_sd = (tuning.ncsnr / total).astype(np.float32), (1 / total).astype(np.float32)
    patterns = _signal_patterns(responses["train"])
    betas = np.empty((len(table), len(cortex.area)), np.int16)
    for start in range(0, len(table), SESSION_TRIALS):
        rows = table[start : start + SESSION_TRIALS]
        shown = np.stack([responses[("train", "test")[s]][k] for s, k, _ in rows])
        z = signal_sd * shown + noise_sd * _noise(len(rows), cortex, patterns, rng)
        gain, offset = 1 + rng.normal(0, 0.08), rng.normal(0, 0.1)
        percent = amplitude * (gain * (baseline + z) + offset)
        betas[start : start + len(rows)] = np.clip(np.rint(percent * BETA_SCALE), -32768, 32767)
    return betas


def standardise_sessions(betas: np.ndarray, table: np.ndarray, n_images: dict[str, int]) -> dict[str, np.ndarray]:
    """int16 trials -> {split: (n_images, n_repeats, n_voxels) float32}, z-scored per session by its training trials."""
    out = {s: np.full((n, N_REPEATS, betas.shape[1]), np.nan, np.float32) for s, n in n_images.items()}
    for start in range(0, len(table), SESSION_TRIALS):
        rows = table[start : start + SESSION_TRIALS]
        percent = betas[start : start + len(rows)].astype(np.float32) / BETA_SCALE
        training = percent[rows[:, 0] == 0]
        z = (percent - training.mean(0)) / training.std(0, ddof=1)
        for k, split in enumerate(("train", "test")):
            here = rows[:, 0] == k
            out[split][rows[here, 1], rows[here, 2]] = z[here]
    return out


def make_responses(scenes: Path, out: Path, seed: int) -> None:
    """Scenes -> `trials.npy`, `betas.npy` (int16) and the truth, `truth.npz`, in `out`."""
    images = {s: open_array(scenes / f"{s}.npy") for s in ("train", "test")}
    labels = {s: load_labels(scenes, s) for s in images}
    cortex = build_cortex(seed)
    tuning = draw_tuning(cortex, seed)
    responses = signals(images, labels, tuning)
    table = _trial_table(len(images["train"]), len(images["test"]), seed)
    with whole_file(out / "truth.npz") as part:
        truth = {f.name: getattr(tuning, f.name) for f in fields(tuning)}
        np.savez(part, signal_test=responses["test"], area=cortex.area, **truth)
    save_array(out / "trials.npy", table)
    save_array(out / "betas.npy", _scan(table, responses, cortex, tuning, seed))


def make_subject(scenes: Path, brain: Path, out: Path, seed: int) -> None:
    """Betas and trial table -> `train_voxels.npy` (averaged repeats) in `brain`, then `out`: geometry, ncsnr, test trials."""
    images = open_array(scenes / "test.npy")
    counts = {"train": len(open_array(scenes / "train.npy")), "test": len(images)}
    voxels = standardise_sessions(open_array(brain / "betas.npy"), open_array(brain / "trials.npy"), counts)
    save_array(brain / "train_voxels.npy", voxels["train"].mean(1))
    test = Trials(voxels["test"], np.asarray(images), load_labels(scenes, "test"))
    geometry = build_cortex(seed).geometry
    save_subject(out, Subject("demo", True, geometry, estimate_ncsnr(voxels["train"]), test))
