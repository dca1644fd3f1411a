"""What is wrong with an experiment, and what its owner should know: a sentence each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from precompute.importing.experiment import SPLITS, Experiment
from precompute.importing.survey import Survey
from precompute.importing.trial_table import in_both_splits
from recon.bundle.manifest import NAME

MIN_IMAGES, MIN_TRAIN, MIN_TEST = 20, 10, 2
MAX_RATIO = 20.0  # of two sessions' SDs: beyond it their units differ
UNSCALED = 30.0  # SD beyond which floats are neither z-scores nor percent signal change


@dataclass(frozen=True)
class Findings:
    refusals: tuple[str, ...]
    notes: tuple[str, ...]


def judge_experiment(experiment: Experiment, survey: Survey, drop_voxels: bool) -> Findings:
    """`drop_voxels`: voxels with NaN are left out and only counted, instead of refused."""
    same = duplicates(experiment)
    refusals = [*_table(experiment), *_leaks(experiment, same), *_captions(experiment), *_voxels(survey, drop_voxels)]
    refusals += _units(experiment, survey)
    notes = [*experiment.notes, *experiment.images.notes, *_same(experiment, same), *_repeats(experiment)]
    notes += [*_ranges(experiment, survey), *_constant(experiment, survey)]
    if drop_voxels and not survey.good.all():
        notes.append(f"{int((~survey.good).sum())} voxels with NaN or infinity are left out")
    return Findings(tuple(refusals), tuple(notes))


def _named(experiment: Experiment, ids: list[int]) -> str:
    """The first few images by name."""
    names = [experiment.images.names[k] for k in ids[:3]]
    return ", ".join(names) + (" …" if len(ids) > 3 else "")


# --- refusals ---------------------------------------------------------------------------------------------------------


def _table(experiment: Experiment) -> Iterator[str]:
    trials = experiment.trials
    if not NAME.fullmatch(experiment.name):
        yield f"name: expected letters, digits, spaces and .()+-_, 64 at most, got {experiment.name!r}: choose another --name"
    n = {split: len(trials.images(split).ids) for split in SPLITS}
    if sum(n.values()) < MIN_IMAGES:
        yield f"expected at least {MIN_IMAGES} images, got {sum(n.values())}: too few to fit and to test anything"
    elif n["train"] < MIN_TRAIN or n["test"] < MIN_TEST:
        yield (
            f"expected at least {MIN_TRAIN} training and {MIN_TEST} test images, got {n['train']} and {n['test']}: change the "
            "split"
        )
    for k, name in enumerate(trials.session_names):
        if (few := int((~trials.is_test[trials.session == k]).sum())) < 2:
            yield (
                f"session {name}: expected at least 2 training trials, by which its voxels are z-scored, got {few}: join "
                "sessions in trials.csv or change the split"
            )


def _leaks(experiment: Experiment, same: list[list[int]]) -> Iterator[str]:
    both = in_both_splits(experiment.trials)
    if both:
        yield (
            f"{len(both)} images are in training and in the test ({_named(experiment, both)}): give all trials of an image "
            "the same split"
        )
    for ids in same:
        splits = {split for split in SPLITS if np.isin(ids, experiment.trials.images(split).ids).any()}
        if len(splits) > 1 and not set(ids) & set(both):
            yield f"the same image is in training and in the test under several names ({_named(experiment, ids)}): remove one"


def _captions(experiment: Experiment) -> Iterator[str]:
    if experiment.captions is None:
        return
    without = [k for k in experiment.images.names if not experiment.captions.get(k)]
    if without:
        yield f"{len(without)} images have no caption ({_named(experiment, without)}): add theirs, or remove the file"


def _voxels(survey: Survey, drop: bool) -> Iterator[str]:
    bad = np.flatnonzero(~survey.good)
    if len(bad) == len(survey.good):
        yield "every voxel holds NaN or infinity in some trial: remove those trials"
    elif len(bad) and not drop:
        yield (
            f"{len(bad)} of {len(survey.good)} voxels hold NaN or infinity (the first is voxel {bad[0]}, in "
            f"{survey.n_bad[bad[0]]} trials): add --drop-voxels to leave them out"
        )


def _units(experiment: Experiment, survey: Survey) -> Iterator[str]:
    sd, names = survey.session_sd, experiment.trials.session_names
    if np.isnan(sd).any():
        yield f"session {names[int(np.isnan(sd).argmax())]}: no voxel varies over its training trials: is it empty?"
    elif sd.max() > MAX_RATIO * sd.min():
        yield (
            f"the responses of session {names[sd.argmax()]} vary {sd.max() / sd.min():.3g} times as much as those of session "
            f"{names[sd.argmin()]}: a scale factor is in some sessions only; apply it to all of them"
        )


# --- notes ------------------------------------------------------------------------------------------------------------


def duplicates(experiment: Experiment) -> list[list[int]]:
    """Ids of images of the same content."""
    groups = defaultdict(list)
    for image in experiment.images.names:
        groups[experiment.images.digest(image)].append(image)
    return [ids for ids in groups.values() if len(ids) > 1]


def _same(experiment: Experiment, same: list[list[int]]) -> Iterator[str]:
    for ids in same[:3]:
        yield f"the same image under several names, taken for different ones: {_named(experiment, ids)}"
    if len(same) > 3:
        yield f"{len(same) - 3} more images are there under several names"


def most_repeats(experiment: Experiment) -> dict[str, int]:
    """How often an image of each split was shown at most."""
    return {split: int(experiment.trials.images(split).n_repeats.max(initial=0)) for split in SPLITS}


def _repeats(experiment: Experiment) -> Iterator[str]:
    if experiment.ncsnr is None and max(most_repeats(experiment).values()) < 2:
        yield "no image was shown twice: the noise ceiling is unknown, and the page says so"
    if len(experiment.trials.session_names) == 1:
        yield "one session only: test and training trials share its drifts, so scores may be better than on another day"
    if experiment.captions is None:
        yield "no captions: stage 2 has no words, unless --caption-list names a file of captions to choose the nearest from"
    if experiment.ncsnr is not None and np.isnan(experiment.ncsnr).any():
        yield f"ncsnr is NaN in {int(np.isnan(experiment.ncsnr).sum())} voxels: their noise ceiling is unknown"


def _ranges(experiment: Experiment, survey: Survey) -> Iterator[str]:
    dtype, sd = experiment.responses.dtype, survey.session_sd
    if dtype.kind in "iu" or (np.isfinite(sd).all() and np.median(sd) > UNSCALED):
        yield (
            f"responses are {dtype.name} from {survey.low:g} to {survey.high:g}: they look unscaled, as betas × 300 are; no "
            "matter, for every voxel is z-scored session by session"
        )
    if survey.n_at_limits:
        yield f"{survey.n_at_limits} values are at the ends of {dtype.name}: they were clipped, and are taken as they are"


def _constant(experiment: Experiment, survey: Survey) -> Iterator[str]:
    counts = survey.scales.n_constant
    if any(counts):
        name = experiment.trials.session_names[int(np.argmax(counts))]
        yield f"up to {max(counts)} voxels do not vary within a session (session {name}): their z there is 0"
