"""Which image each trial of the Natural Scenes Dataset showed, and which trials showed an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """The images of one split, in ascending order of their ids."""

    ids: np.ndarray  # (n,) int32, 0-based among the 73,000
    trials: np.ndarray  # (n, most repeats) int32: trials that showed it, in order of time; -1 where there are fewer

    @property
    def n_repeats(self) -> np.ndarray:
        return (self.trials >= 0).sum(1)

    @property
    def by_first_trial(self) -> np.ndarray:
        """(n,) rows in the order in which the images first appeared."""
        return np.argsort(self.trials[:, 0])


@dataclass(frozen=True)
class Design:
    """What one subject saw, trial by trial, from the first session on."""

    image: np.ndarray  # (n_trials,) int32, 0-based among the 73,000
    is_test: np.ndarray  # (n_trials,) bool
    trials_per_session: int

    @property
    def session(self) -> np.ndarray:
        """(n_trials,) 0-based session of each trial."""
        return np.arange(len(self.image)) // self.trials_per_session

    def first(self, sessions: int) -> Design:
        n = sessions * self.trials_per_session
        return Design(self.image[:n], self.is_test[:n], self.trials_per_session)

    def images(self, test: bool) -> Images:
        return repeats_of(self.image, np.flatnonzero(self.is_test == test))


def repeats_of(image: np.ndarray, trials: np.ndarray) -> Images:
    """image (n_trials,) ids, trials (k,) some of the trials in order of time -> the images that these showed."""
    order = np.argsort(image[trials], kind="stable")
    ids, starts, counts = np.unique(image[trials[order]], return_index=True, return_counts=True)
    table = np.full((len(ids), counts.max(initial=0)), -1, np.int32)
    for repeat in range(table.shape[1]):
        has = counts > repeat
        table[has, repeat] = trials[order][starts[has] + repeat]
    return Images(ids.astype(np.int32), table)
