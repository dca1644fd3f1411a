"""An experiment -> the files of a prepared subject, the same as `prepare` makes of NSD's, so that all later commands read them.

    subject.h5                                     places, areas, ncsnr; test trials, captions, images at 256²
    train_voxels.npy                               (n_train, n_voxels) float32, mean over an image's repeats
    {train,test}_repeats.npy, {train,test}_ids.npy (n,) how many repeats; ids of images
    {train,test}_64.npy, {train,test}_512.npy      (n, side, side, 3) uint8
    train.json, test.json                          captions, name and further columns of every image
    import.json                                    settings, counts, notes; it is written last

Every voxel is z-scored session by session, by mean and SD (ddof 1) of the session's training trials; z is 0 where it does not vary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from precompute.blocks import Rows, fill, remove_leftovers, spans
from precompute.importing.experiment import SPLITS, Experiment
from precompute.importing.findings import Findings, judge_experiment, most_repeats
from precompute.importing.repeats import ncsnr_from_repeats
from precompute.importing.survey import BLOCK_BYTES, Survey, blocks_of, survey_responses
from precompute.nsd.prepare import BLOCK, SHOWN_SIDE, SIDES, Z_MAX
from precompute.stage import Stage, make, place_of, state
from recon.bundle.subject import Subject, save_subject
from recon.bundle.subject import Trials as TestTrials
from recon.files import BadFile, load_json, open_array, save_array, save_json

STAGE = "import"
LIBRARIES = ("h5py", "nibabel", "numpy", "Pillow")


@dataclass(frozen=True)
class Options:
    """What is done with an experiment, besides reading it."""

    drop_voxels: bool = False  # leave out voxels with NaN or infinity
    caption_list: Path | None = None  # a file of captions, a line each, of which every image gets the nearest


def import_experiment(experiment: Experiment, out: Path, options: Options) -> dict:
    """Writes the files listed above; returns what import.json holds. Raises BadFile, before anything is written, for what the
    findings refuse, or where `out` holds another experiment."""
    _check_folder(out, experiment)
    if options.caption_list:
        _nearest_captions().needed(options.caption_list)
    stage = import_stage(experiment, None, out, options)
    if state(stage) != "done":
        survey = survey_responses(experiment)
        findings = judge_experiment(experiment, survey, options.drop_voxels)
        if findings.refusals:
            raise BadFile(findings.refusals[0])
        stage = import_stage(experiment, (survey, findings), out, options)
    return make(stage)


def _nearest_captions():
    """Imports transformers, which takes seconds."""
    from precompute.importing import nearest_captions

    return nearest_captions


def _check_folder(out: Path, experiment: Experiment) -> None:
    report = out / "import.json"
    if (out / "prepare.json").exists():
        raise BadFile(f"{out} holds a prepared subject of NSD: choose another --name or --out")
    if report.exists() and (there := load_json(report)["folder"]) != str(_folder(experiment)):
        raise BadFile(f"{out} was made of {there}: choose another --name or --out, or remove it")


def _folder(experiment: Experiment) -> Path:
    return experiment.files[0].resolve().parent


def import_stage(experiment: Experiment, known: tuple[Survey, Findings] | None, out: Path, options: Options) -> Stage:
    """Makes the files; `known` is what was found out before, and is needed to run."""
    outputs = ["import.json", "train_voxels.npy", "subject.h5"]
    outputs += [f"{split}.json" for split in SPLITS]
    outputs += [f"{split}_{kind}.npy" for split in SPLITS for kind in (*SIDES, "ids", "repeats")]
    files = dict.fromkeys(experiment.files, "import")
    if options.caption_list:
        files[options.caption_list] = "import"
    names = [f"{k} {experiment.images.names[k]} {experiment.images.digest(k)}" for k in sorted(experiment.images.names)]
    settings = {
        "name": experiment.name,
        "drop_voxels": options.drop_voxels,
        "split": experiment.trials.split_note,
        "images": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "captions": hashlib.sha256(json.dumps(experiment.captions, sort_keys=True).encode()).hexdigest(),
        "trials": hashlib.sha256(b"".join(array.tobytes() for array in experiment.trials.arrays)).hexdigest(),
    }
    run = partial(write_files, experiment, known, out, options)
    return Stage(STAGE, files, tuple(out / name for name in outputs), run, settings)


@dataclass(frozen=True)
class _Job:
    experiment: Experiment
    survey: Survey
    out: Path
    trials: Path  # `.npy`: all responses, one after another

    @property
    def parts(self) -> Path:
        return place_of(self.out, STAGE)

    def z(self, trials: np.ndarray) -> np.ndarray:
        """trials (n, n_repeats), -1 for none -> (n, n_repeats, n_voxels) float32 z-scores of good voxels, NaN for none."""
        there, good = trials >= 0, self.survey.good
        z = np.full((*trials.shape, int(good.sum())), np.nan, np.float32)
        rows = trials[there]
        values = np.asarray(open_array(self.trials)[rows], np.float64)
        z[there] = self.survey.scales.z(values, self.experiment.trials.session[rows])[:, good]
        return z

    def blocks(self, split: str) -> list[tuple[int, int]]:
        """Images whose trials are in memory together."""
        images = self.experiment.trials.images(split)
        at_once = 8 * self.experiment.responses.n_voxels * images.trials.shape[1]
        return spans(len(images.ids), max(1, BLOCK_BYTES // at_once))


def write_files(experiment: Experiment, known: tuple[Survey, Findings], out: Path, options: Options) -> dict:
    survey, findings = known
    remove_leftovers(out)
    job = _Job(experiment, survey, out, _by_trial(experiment, place_of(out, STAGE)))
    _write_train_voxels(job)
    for split in SPLITS:
        _write_images(job, split)
        _write_labels(job, split)
    notes = list(findings.notes)
    if options.caption_list:
        notes.append(_nearest_captions().write_nearest_captions(out, options.caption_list))
    saturated, ceiling = _write_subject(job)
    report = _report(job, notes, ceiling) | {"test_values_beyond_109": saturated}
    save_json(out / "import.json", report)
    return report


# --- responses --------------------------------------------------------------------------------------------------------


def _by_trial(experiment: Experiment, parts: Path) -> Path:
    """A `.npy` file of which any trial can be read at once: the one that is there, or one that is made."""
    responses = experiment.responses
    if responses.array:
        return responses.array
    rows = Rows(parts / "responses_by_trial.npy", (responses.n_trials, responses.n_voxels), "float32")
    make_block = lambda a, b: ([np.asarray(responses.read(a, b), np.float32)], None)
    fill([rows], list(blocks_of(responses)), make_block, parts / "converting", "responses")
    return rows.path


def _write_train_voxels(job: _Job) -> None:
    images = job.experiment.trials.images("train")
    rows = Rows(job.out / "train_voxels.npy", (len(images.ids), int(job.survey.good.sum())), "float32")
    mean = lambda a, b: ([np.nanmean(job.z(images.trials[a:b]), axis=1)], None)
    fill([rows], job.blocks("train"), mean, job.parts, "training voxels")


def _ncsnr(job: _Job) -> tuple[np.ndarray, str]:
    """Of every good voxel, NaN where it is unknown; and where it comes from."""
    given, good = job.experiment.ncsnr, job.survey.good
    if given is not None:
        return given[good], "given"
    for split in SPLITS:
        if most_repeats(job.experiment)[split] > 1 and (found := ncsnr_from_repeats(_repeated(job, split))) is not None:
            return found, f"estimated from repeats of {split} images"
    return np.full(int(good.sum()), np.nan, np.float32), "unknown"


def _repeated(job: _Job, split: str) -> Iterator[np.ndarray]:
    images = job.experiment.trials.images(split)
    for a, b in job.blocks(split):
        yield job.z(images.trials[a:b])


# --- images, labels, the subject --------------------------------------------------------------------------------------


def _write_images(job: _Job, split: str) -> None:
    ids, source = job.experiment.trials.images(split).ids.tolist(), job.experiment.images
    files = [Rows(job.out / f"{split}_{side}.npy", (len(ids), side, side, 3), "uint8") for side in SIDES]
    squares = lambda a, b: ([source.squares(ids[a:b], side) for side in SIDES], None)
    fill(files, spans(len(ids), BLOCK), squares, job.parts, f"{split} images")


def _write_labels(job: _Job, split: str) -> None:
    images, experiment = job.experiment.trials.images(split), job.experiment
    captions = experiment.captions or {}
    labels = [
        experiment.labels.get(k, {}) | {"image": experiment.images.names[k], "captions": captions.get(k, [])}
        for k in images.ids.tolist()
    ]
    save_json(job.out / f"{split}.json", labels)
    save_array(job.out / f"{split}_ids.npy", images.ids)
    save_array(job.out / f"{split}_repeats.npy", images.n_repeats.astype(np.uint16))


def _write_subject(job: _Job) -> tuple[int, str]:
    """`subject.h5`; returns how many test values had to be brought to ±109 to fit it, and where ncsnr comes from."""
    experiment, images = job.experiment, job.experiment.trials.images("test")
    z = np.concatenate([job.z(images.trials[a:b]) for a, b in job.blocks("test")])
    saturated = sum(int((np.abs(some) > Z_MAX).sum()) for some in z)
    np.clip(z, -Z_MAX, Z_MAX, out=z)
    ids = images.ids.tolist()
    shown = np.concatenate([experiment.images.squares(ids[a:b], SHOWN_SIDE) for a, b in spans(len(ids), BLOCK)])
    ncsnr, ceiling = _ncsnr(job)
    test = TestTrials(z, shown, load_json(job.out / "test.json"))
    subject = Subject(experiment.name, experiment.simulated, _good_places(job), ncsnr, test)
    save_subject(job.out / "subject.h5", subject)
    return saturated, ceiling


def _good_places(job: _Job):
    """Places of the voxels that are kept."""
    places, good = job.experiment.places, job.survey.good
    rois = {name: member[good] for name, member in places.rois.items() if member[good].any()}
    per_voxel = {
        name: getattr(places, name)[good] for name in ("indices", "hemisphere", "vertex", "mm") if hasattr(places, name)
    }
    return replace(places, rois=rois, **per_voxel)


def _report(job: _Job, notes: list[str], ceiling: str) -> dict:
    experiment, survey = job.experiment, job.survey
    images = {split: experiment.trials.images(split) for split in SPLITS}
    return {
        "name": experiment.name,
        "reader": experiment.source,
        "folder": str(_folder(experiment)),
        "n_voxels": int(survey.good.sum()),
        "voxels_left_out": np.flatnonzero(~survey.good).tolist(),
        "n_images": {split: len(im.ids) for split, im in images.items()},
        "n_trials": {split: int(im.n_repeats.sum()) for split, im in images.items()},
        "split": experiment.trials.split_note,
        "sessions": experiment.trials.session_names,
        "constant_voxels": survey.scales.n_constant,  # per session
        "noise_ceiling": ceiling,
        "notes": notes,
        "versions": {name: version(name) for name in LIBRARIES},
    }
