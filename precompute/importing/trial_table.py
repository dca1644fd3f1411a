"""`trials.csv`: which image each trial showed, in which session, and what is kept for the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from precompute.importing.experiment import SPLITS, Trials
from precompute.importing.text_tables import column, read_table
from recon.files import BadFile

READ = ("image", "session", "split")  # columns with a meaning; all others are kept with the images
RESERVED = ("captions", "captions_from", "unseen", "nsd_id")  # names that the page reads from an image's labels
TEST_SHARE, MAX_TEST, SEED = 0.1, 1000, 0  # of the images, where the table does not say


def read_trials(path: Path, ids_of: Callable[[Path, list[str]], list[int]], test_share: float = TEST_SHARE) -> Trials:
    """The table as trials; `ids_of` finds the images that its column `image` names.

    Without a column `session` all trials are one session; without `split`, `test_share` of the images are drawn for the test.
    Raises BadFile: a column or value that is missing, a split of another name, a trial table without trials.
    """
    table = read_table(path)
    image = np.array(ids_of(path, column(path, table, "image")), np.int32)
    if not len(image):
        raise BadFile(f"{path}: expected a line for each trial, got none")
    if taken := [name for name in RESERVED if name in table]:
        raise BadFile(f"{path}: expected no column {taken[0]!r}, a word with another meaning here: rename it")
    sessions, session = _numbered(column(path, table, "session") if "session" in table else ["1"] * len(image))
    extra = {name: values for name, values in table.items() if name not in READ}
    if "split" in table:
        is_test = _splits(path, column(path, table, "split"))
        return Trials(image, session, sessions, is_test, "as trials.csv gives it", extra)
    is_test, note = draw_test(image, test_share)
    return Trials(image, session, sessions, is_test, note, extra)


def _numbered(names: list[str]) -> tuple[list[str], np.ndarray]:
    """Names in the order in which they first appear, and the number of each entry's."""
    seen = list(dict.fromkeys(names))
    number = {name: k for k, name in enumerate(seen)}
    return seen, np.array([number[name] for name in names], np.int32)


def _splits(path: Path, values: list[str]) -> np.ndarray:
    words = [value.lower() for value in values]
    for line, word in enumerate(words, 2):
        if word not in SPLITS:
            raise BadFile(f"{path}, line {line}: expected split to be train or test, got {values[line - 2]!r}")
    return np.array(words) == "test"


def draw_test(image: np.ndarray, share: float = TEST_SHARE) -> tuple[np.ndarray, str]:
    """image (n_trials,) ids -> (n_trials,) bool: all trials of some images, drawn at random, at least two; and how, in words."""
    ids = np.unique(image)
    n = min(MAX_TEST, max(2, round(share * len(ids))))
    chosen = np.random.default_rng((SEED, 70)).choice(ids, min(n, len(ids)), replace=False)
    return np.isin(image, chosen), f"by image: {len(chosen)} of {len(ids)} drawn at random for the test"


def in_both_splits(trials: Trials) -> list[int]:
    """Ids of images that trials of both splits show."""
    return sorted(set(trials.image[trials.is_test].tolist()) & set(trials.image[~trials.is_test].tolist()))


def extra_labels(trials: Trials) -> dict[int, dict]:
    """Image id -> its values in the further columns: one if it is the same at every repeat, else a list in order of time."""
    rows: dict[int, list[int]] = {}
    for trial, image in enumerate(trials.image.tolist()):
        rows.setdefault(image, []).append(trial)
    columns = trials.extra.items()
    return {k: {name: _one_or_all([v[t] for t in some]) for name, v in columns} for k, some in rows.items()}


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(Counter(values)) == 1 else values
