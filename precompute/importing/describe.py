"""What an import would do, in words, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from precompute.importing.experiment import SPLITS, Experiment
from precompute.importing.findings import Findings, most_repeats
from precompute.importing.survey import Survey
from recon.brain.space import Geometry, Points, Volume


def describe(experiment: Experiment, survey: Survey, findings: Findings) -> Iterator[str]:
    """A line for each thing that was found; what is refused comes last."""
    trials, n = experiment.trials, {split: len(experiment.trials.images(split).ids) for split in SPLITS}
    yield f"subject      {experiment.name}"
    yield f"trials       {len(trials.image)} in {len(trials.session_names)} sessions ({_counts(experiment)})"
    yield f"images       {sum(n.values())}: {n['train']} for training, {n['test']} for the test, {trials.split_note}"
    yield f"repeats      {_repeats(experiment)}"
    dtype = experiment.responses.dtype.name
    yield f"responses    {dtype} from {survey.low:.4g} to {survey.high:.4g}; SD of a voxel {_spread(survey)}"
    n_constant = int(np.isinf(survey.scales.sd).all(0).sum())
    yield f"voxels       {len(survey.good)}: {int((~survey.good).sum())} with NaN or infinity, {n_constant} constant"
    yield f"places       {where(experiment.places)}"
    yield f"areas        {', '.join(f'{k} ({int(m.sum())})' for k, m in experiment.places.rois.items()) or 'none'}"
    yield f"captions     {_captions(experiment)}"
    yield f"ncsnr        {_ceiling(experiment)}"
    yield "would do     z-score each voxel in each session by its training trials; average an image's repeats"
    yield from (f"note         {note}" for note in findings.notes)
    yield from (f"REFUSED      {refusal}" for refusal in findings.refusals)


def _counts(experiment: Experiment) -> str:
    counts = np.bincount(experiment.trials.session).tolist()
    return f"{counts[0]} each" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} each"


def _repeats(experiment: Experiment) -> str:
    words = []
    for split in SPLITS:
        values, counts = np.unique(experiment.trials.images(split).n_repeats, return_counts=True)
        words.append(f"{split} " + ", ".join(f"{n} images shown {k}×" for k, n in zip(values, counts)))
    return "; ".join(words)


def _spread(survey: Survey) -> str:
    known = survey.session_sd[np.isfinite(survey.session_sd)]
    if not len(known):
        return "unknown"
    low, high = known.min(), known.max()
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}, by session"


def where(places: Geometry | Volume | Points) -> str:
    """In words."""
    if isinstance(places, Volume):
        return f"a volume of {' × '.join(map(str, places.shape))}"
    if isinstance(places, Geometry):
        return (
            f"on {places.mesh}, {int((places.hemisphere == 0).sum())} left, {int((places.hemisphere == 1).sum())} right"
        )
    return "coordinates in mm" if places.are_known else "not known"


def _captions(experiment: Experiment) -> str:
    return "none" if experiment.captions is None else f"{sum(map(len, experiment.captions.values()))}"


def _ceiling(experiment: Experiment) -> str:
    if experiment.ncsnr is not None:
        return "given"
    most = most_repeats(experiment)
    split = next((split for split in SPLITS if most[split] > 1), None)
    return f"estimated from repeats of {split} images" if split else "unknown: no image was shown twice"
