"""What every reader makes of an experiment's files: trials, responses, images, places of voxels, captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from precompute.nsd.design import Images, repeats_of
from recon.brain.space import Geometry, Points, Volume

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Trials:
    """What was shown when, one entry a trial, in the order of the responses."""

    image: np.ndarray  # (n_trials,) int32: ids of images
    session: np.ndarray  # (n_trials,) int32, from 0
    session_names: list[str]
    is_test: np.ndarray  # (n_trials,) bool
    split_note: str  # how the split came about
    extra: dict[str, list[str]] = field(default_factory=dict)  # name of a further column -> its values

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All that the responses are sorted by."""
        return self.image, self.session, self.is_test

    def images(self, split: str) -> Images:
        return repeats_of(self.image, np.flatnonzero(self.is_test == (split == "test")))


@dataclass(frozen=True)
class Responses:
    """Responses of all trials, read some at a time."""

    n_trials: int
    n_voxels: int
    dtype: np.dtype  # as stored
    read: Callable[[int, int], np.ndarray]  # (start, stop) -> (stop - start, n_voxels), scale factors applied
    array: Path | None = None  # the same as a `.npy` file in which a trial's values lie together
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSource:
    """Images by their ids."""

    names: dict[int, str]  # of the images that trials show
    squares: Callable[[list[int], int], np.ndarray]  # (ids, side) -> (n, side, side, 3) uint8: the central squares
    digest: Callable[[int], str]  # checksum of an image's content
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One subject's experiment, as a reader found it."""

    name: str
    source: str  # which reader, "arrays"
    files: tuple[Path, ...]  # what it was read from, images apart
    trials: Trials
    responses: Responses
    images: ImageSource
    places: Geometry | Volume | Points
    ncsnr: np.ndarray | None  # (n_voxels,) float32; None: not given
    captions: dict[int, list[str]] | None  # image id -> captions; None: there are none
    labels: dict[int, dict] = field(default_factory=dict)  # image id -> what else is known of it
    notes: tuple[str, ...] = ()
    simulated: bool = False
