"""One look at all responses: what is NaN or constant, how large values are, and each session's mean and SD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from precompute.blocks import Span
from precompute.importing.experiment import Experiment, Responses

BLOCK_BYTES = 32 << 20  # of responses that are looked at together, in float64


@dataclass(frozen=True)
class Scales:
    """z = (value - mean) / sd, for every session; the SD of a voxel that never varies there is infinite: its z is 0."""

    mean: np.ndarray  # (n_sessions, n_voxels) float64
    sd: np.ndarray  # (n_sessions, n_voxels) float64

    def z(self, values: np.ndarray, session: np.ndarray) -> np.ndarray:
        """values (n, n_voxels), session (n,) -> (n, n_voxels) float32."""
        return ((values - self.mean[session]) / self.sd[session]).astype(np.float32)

    @property
    def n_constant(self) -> list[int]:
        return np.isinf(self.sd).sum(1).tolist()


@dataclass(frozen=True)
class Survey:
    """What all responses are like; scales are of training trials alone."""

    n_bad: np.ndarray  # (n_voxels,) trials with NaN or infinity
    low: float
    high: float
    n_at_limits: int  # integers at the ends of their type
    scales: Scales

    @property
    def good(self) -> np.ndarray:
        """(n_voxels,) bool: voxels without NaN and infinity."""
        return self.n_bad == 0

    @property
    def session_sd(self) -> np.ndarray:
        """(n_sessions,) median SD over voxels that vary; NaN if none does."""
        sd = np.where(np.isfinite(self.scales.sd), self.scales.sd, np.nan)
        return np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in sd])


def blocks_of(responses: Responses) -> Iterator[Span]:
    """Trials that are read together."""
    size = max(1, BLOCK_BYTES // (8 * responses.n_voxels))
    for start in range(0, responses.n_trials, size):
        yield start, min(start + size, responses.n_trials)


def survey_responses(experiment: Experiment) -> Survey:
    """Reads every response once, in order, a block at a time."""
    responses, trials = experiment.responses, experiment.trials
    moments = [_Moments(responses.n_voxels) for _ in trials.session_names]
    n_bad, low, high, at_limits = np.zeros(responses.n_voxels, np.int64), np.inf, -np.inf, 0
    limits = np.iinfo(responses.dtype) if responses.dtype.kind in "iu" else None
    bar = tqdm(total=responses.n_trials, desc="responses", unit=" trials", leave=False)
    for start, stop in blocks_of(responses):
        stored = responses.read(start, stop)
        values = np.asarray(stored, np.float64)
        finite = np.isfinite(values)
        n_bad += (~finite).sum(0)
        if finite.any():
            low, high = min(low, values[finite].min()), max(high, values[finite].max())
        if limits is not None and stored.dtype == responses.dtype:
            at_limits += int(np.isin(stored, (limits.min, limits.max)).sum())
        for session in np.unique(trials.session[start:stop]):
            here = (trials.session[start:stop] == session) & ~trials.is_test[start:stop]
            moments[session].add(values[here])
        bar.update(stop - start)
    bar.close()
    scales = Scales(np.stack([m.mean for m in moments]), np.stack([m.sd for m in moments]))
    return Survey(n_bad, float(low), float(high), at_limits, scales)


@dataclass
class _Moments:
    """Mean and SD of rows that come in blocks (Chan, Golub & LeVeque 1983), and whether they vary at all."""

    n_voxels: int
    n: int = 0
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)  # about the mean
    first: np.ndarray = field(init=False)
    varies: np.ndarray = field(init=False)

    def __post_init__(self):
        self.mean, self.squares = np.zeros((2, self.n_voxels))
        self.first, self.varies = np.zeros(self.n_voxels), np.zeros(self.n_voxels, bool)

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        if not self.n:
            self.first = values[0].copy()
        self.varies |= (values != self.first).any(0)
        n, mean = len(values), values.mean(0)
        change, total = mean - self.mean, self.n + n
        self.squares += ((values - mean) ** 2).sum(0) + change**2 * (self.n * n / total)
        self.mean += change * (n / total)
        self.n = total

    @property
    def sd(self) -> np.ndarray:
        """ddof 1; infinite where nothing varies, or of fewer than two rows."""
        variance = self.squares / max(self.n - 1, 1)
        return np.where(self.varies, np.sqrt(variance), np.inf)
