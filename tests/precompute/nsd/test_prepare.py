"""`prepare` against a straightforward computation from the definitions, on a miniature NSD tree."""

import hashlib
import json
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from fake_nsd import build_fake_nsd
from forks import Forks
from PIL import Image
from scipy.io import loadmat
from stand_ins import occupy
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.folder_lock import LOCK
from precompute.nsd.brain_diffuser import layout
from precompute.nsd.prepare import prepare
from precompute.nsd.prepare_job import choose_settings
from recon.bundle.subject import load_subject
from recon.files import load_json

PER_SESSION = 8
HDF5, NIFTI = "hdf5", "nii.gz"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The same 40 (subject 4: 30) miniature sessions in either format: format -> root, and subject -> truth."""
    made = {}
    for suffix in (HDF5, NIFTI):
        root = tmp_path_factory.mktemp(suffix)
        options = {"n_sessions": 40, "trials_per_session": PER_SESSION, "shape": (5, 6, 7)}
        made[suffix] = root, build_fake_nsd(root, subjects=(1, 4), formats=(suffix,), **options)
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    return root, build_fake_nsd(root, n_sessions=3, trials_per_session=24)[1]


def shown(root: Path, subject: int, sessions: int) -> dict[bool, dict[int, list[int]]]:
    """is test -> 0-based image id -> its trials, by the definition of the design file, one trial at a time."""
    mat = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", squeeze_me=True)
    trials = {True: defaultdict(list), False: defaultdict(list)}
    per_session = len(mat["masterordering"]) // 40
    for t in range(sessions * per_session):
        m = int(mat["masterordering"][t])
        trials[m <= 1000][int(mat["subjectim"][subject - 1, m - 1]) - 1].append(t)
    return trials


def varying(truth, sessions: int) -> np.ndarray:
    """(n_voxels,) bool: voxels of nsdgeneral that vary among the training trials of each of the first sessions."""
    per_session = truth.trials_per_session
    kept = np.ones(int(truth.mask.sum()), bool)
    for start in range(0, sessions * per_session, per_session):
        here = slice(start, start + per_session)
        kept &= np.ptp(truth.betas[here][~truth.is_test[here]][:, truth.mask].astype(int), axis=0) > 0
    return kept


def z_scored_per_session(betas: np.ndarray, test_trials: set[int], per_session: int) -> np.ndarray:
    z = np.empty(betas.shape)
    for start in range(0, len(betas), per_session):
        here = np.arange(start, start + per_session)
        percent = betas[here] / 300
        training = percent[[t not in test_trials for t in here]]
        with np.errstate(invalid="ignore", divide="ignore"):
            z[here] = (percent - training.mean(axis=0)) / training.std(axis=0, ddof=1)
    return z


def expected_sessions(root, truth, subject, sessions):
    """(n_train, n_voxels) averages and a list of (n_repeats, n_voxels) for each test image, ids ascending."""
    n = truth.trials_per_session
    trials = shown(root, subject, sessions)
    test_trials = {t for ts in trials[True].values() for t in ts}
    z = z_scored_per_session(truth.betas[: n * sessions][:, truth.mask], test_trials, n)[:, varying(truth, sessions)]
    train = np.stack([z[trials[False][i]].mean(axis=0) for i in sorted(trials[False])])
    return train.astype(np.float32), [z[trials[True][i]].astype(np.float32) for i in sorted(trials[True])]


def expected_legacy(root, truth, subject, sessions):
    """As Brain-Diffuser's scripts compute: float32 means, rows by first trial, then / 300 and training statistics in float64."""
    betas = truth.betas[: truth.trials_per_session * sessions][:, truth.mask].astype(np.float32)
    trials = shown(root, subject, sessions)
    raw = {test: np.stack([betas[ts].mean(0) for ts in trials[test].values()]).astype(np.float64) for test in trials}
    train = raw[False] / 300
    mean, sd = np.mean(train, axis=0), np.std(train, axis=0, ddof=1)
    constant = (raw[False] == raw[False][0]).all(0)
    z = {}
    for test in trials:
        with np.errstate(invalid="ignore", divide="ignore"):
            z[test] = ((raw[test] / 300 - mean) / sd)[:, ~constant].astype(np.float32)
        z[test] = z[test][np.argsort(list(trials[test]))]
    return raw, z


def run(
    root: Path, out: Path, subject: int, sessions: int | None, recipe=None, brain_diffuser=None, export=None
) -> dict:
    return prepare(root, out, choose_settings(subject, sessions, recipe, brain_diffuser), brain_diffuser, export)


def as_stored(z: np.ndarray) -> np.ndarray:
    """int16 = 300 × z within ±109, as subject.h5 keeps test trials, and back."""
    return np.rint(np.clip(z, -109, 109) * np.float32(300)).astype(np.int16).astype(np.float32) / np.float32(300)


@pytest.fixture
def small_pictures(monkeypatch):
    """For tests of voxels alone."""
    monkeypatch.setattr("precompute.nsd.prepare.SIDES", (8,))


CASES = [(1, 37, 37), (1, None, 40), (4, None, 30), (4, 3, 3)]


@pytest.mark.parametrize("suffix", [HDF5, NIFTI])
@pytest.mark.parametrize("subject, asked, sessions", CASES)
@pytest.mark.usefixtures("small_pictures")
def test_voxels_are_z_scored_per_session_and_averaged_exactly(trees, tmp_path, suffix, subject, asked, sessions):
    root, truths = trees[suffix]
    run(root, tmp_path, subject, asked)
    train, test = expected_sessions(root, truths[subject], subject, sessions)
    assert np.array_equal(np.load(tmp_path / "train_voxels.npy"), train)
    voxels = load_subject(tmp_path / "subject.h5").test.voxels
    for image, repeats in zip(voxels, test):
        n = len(repeats)
        assert np.array_equal(image[:n], as_stored(repeats))
        assert np.isnan(image[n:]).all()
    assert len(voxels) == len(test)
    trials = truths[subject].betas[: sessions * PER_SESSION][:, truths[subject].mask]
    assert np.array_equal(np.load(tmp_path / "trials.npy"), trials)


def test_images_are_seen_once_twice_and_three_times_in_these_cases(trees):
    root, _ = trees[HDF5]
    for subject, _, sessions in CASES[:3]:
        counts = {len(ts) for split in shown(root, subject, sessions).values() for ts in split.values()}
        assert counts >= {2, 3} and (sessions == 40 or 1 in counts)


@pytest.mark.parametrize("subject, asked, sessions", CASES[:3])
@pytest.mark.usefixtures("small_pictures")
def test_the_legacy_recipe_is_brain_diffusers_exactly(trees, tmp_path, subject, asked, sessions):
    root, truths = trees[HDF5]
    run(root, tmp_path / "raw", subject, asked, "brain-diffuser", export=tmp_path / "files")
    raw, z = expected_legacy(root, truths[subject], subject, sessions)
    assert np.array_equal(np.load(tmp_path / "raw/train_voxels.npy"), z[False])
    trials = load_subject(tmp_path / "raw/subject.h5").test
    test, seen = trials.voxels, shown(root, subject, sessions)[True]
    assert np.array_equal(test[:, 0], as_stored(z[True]))
    assert trials.n_repeats.tolist() == [len(seen[i]) for i in sorted(seen)] and trials.n_repeats.max() == 3
    assert test.shape[1] == 1
    for is_test, split in ((False, "train"), (True, "test")):
        exported = np.load(layout(tmp_path / "files", split, "fmriavg_nsdgeneral", subject))
        assert exported.dtype == np.float64 and np.array_equal(exported, raw[is_test])


def test_an_export_read_back_gives_the_subject_of_the_legacy_recipe(small, tmp_path):
    root, truth = small
    run(root, tmp_path / "raw", 1, 3, "brain-diffuser", export=tmp_path / "files")
    ids = list(shown(root, 1, 3)[False])
    stim = np.load(layout(tmp_path / "files", "train", "stim", 1))
    assert np.array_equal(stim, np.stack([truth.stimuli[i] for i in ids]))
    captions = np.load(layout(tmp_path / "files", "train", "cap", 1))
    assert captions.dtype == truth.captions.dtype and np.array_equal(captions, truth.captions[ids])
    np.save(layout(tmp_path / "files", "train", "stim", 1), stim.astype(np.float64))  # theirs is float64
    run(root, tmp_path / "again", 1, 3, None, tmp_path / "files")
    raw, again = contents(tmp_path / "raw"), contents(tmp_path / "again")
    assert set(raw) - set(again) == {"trials.npy"}
    other = {name for name in again if again[name] != raw[name]}
    assert other == {"prepare.json", ".stages/prepare/record.json"}  # what they were made of


def test_pictures_labels_ids_and_repeats_share_the_order_of_ids(small, tmp_path):
    root, truth = small
    run(root, tmp_path, 1, 3)
    for is_test, split in ((False, "train"), (True, "test")):
        trials = shown(root, 1, 3)[is_test]
        ids = sorted(trials)
        assert np.load(tmp_path / f"{split}_ids.npy").tolist() == ids
        assert np.load(tmp_path / f"{split}_repeats.npy").tolist() == [len(trials[i]) for i in ids]
        for side in (64, 512):
            pictures = np.load(tmp_path / f"{split}_{side}.npy", mmap_mode="r")
            assert pictures.dtype == np.uint8 and pictures.shape == (len(ids), side, side, 3)
            for i, picture in zip(ids, pictures):
                assert np.array_equal(picture, Image.fromarray(truth.stimuli[i]).resize((side, side), Image.BICUBIC))
        captions = [[c for c in truth.captions[i] if c] for i in ids]
        assert load_json(tmp_path / f"{split}.json") == [
            {"nsd_id": i, "captions": five} for i, five in zip(ids, captions)
        ]
    assert np.array_equal(np.load(tmp_path / "test_425.npy"), np.stack([truth.stimuli[i] for i in ids]))
    subject = load_subject(tmp_path / "subject.h5")
    assert subject.test.labels == load_json(tmp_path / "test.json") and not subject.simulated
    assert subject.test.images.shape == (len(ids), 256, 256, 3)
    assert np.array_equal(subject.test.n_repeats, np.load(tmp_path / "test_repeats.npy"))
    kept = varying(truth, 3)
    assert 0 < (~kept).sum() < 5
    assert np.array_equal(subject.ncsnr, truth.ncsnr[truth.mask][kept])
    assert np.array_equal(subject.geometry.indices, np.argwhere(truth.mask)[kept])
    assert np.array_equal(subject.geometry.rois["hV4"], truth.labels["prf-visualrois"][truth.mask][kept] == 7)


def test_clipped_values_and_constant_voxels_are_counted(small, tmp_path):
    root, truth = small
    report = run(root, tmp_path, 1, 3)
    betas = truth.betas[:, truth.mask].reshape(3, 24, -1)
    clipped = [int(((session == -32768) | (session == 32767)).sum()) for session in betas]
    assert report["clipped_values"] == {"total": sum(clipped), "per_session": clipped} and sum(clipped) > 10
    training = ~truth.is_test.reshape(3, 24)
    constant = [int((np.ptp(b[t].astype(int), axis=0) == 0).sum()) for b, t in zip(betas, training)]
    assert report["constant_voxels"] == constant == [1, 1, 2]
    assert report["voxels_left_out"] == 2 and report["n_voxels"] == truth.mask.sum() - 2
    assert report == load_json(tmp_path / "prepare.json")


def test_a_test_value_too_large_for_the_file_is_brought_to_its_end_and_counted(tmp_path):
    def quiet_but_for_a_test_trial(betas, truth):
        voxel, test = np.argwhere(truth.mask)[3], np.flatnonzero(truth.is_test)[0]
        betas[(slice(None), *voxel)] = np.arange(len(betas)) % 3
        betas[(test, *voxel)] = 32767

    build_fake_nsd(tmp_path / "nsd", n_sessions=1, trials_per_session=24, edit=quiet_but_for_a_test_trial)
    report = run(tmp_path / "nsd", tmp_path / "out", 1, 1)
    assert report["test_values_beyond_109"] == 1
    assert np.nanmax(load_subject(tmp_path / "out/subject.h5").test.voxels) == 109


# --- resuming ---------------------------------------------------------------------------------------------------------

PROGRAM = """
from pathlib import Path
from precompute.nsd import brain_diffuser, prepare, prepare_job, prepare_voxels
prepare.BLOCK = prepare_voxels.BLOCK = brain_diffuser.BLOCK = 3  # many moments to be killed at

def work(root, out, recipe):
    settings = prepare_job.choose_settings(1, 3, recipe, None)
    prepare.prepare(Path(root), Path(out), settings, export=Path(out) / "export")
"""


def contents(folder: Path) -> dict[str, str]:
    """Relative path -> hash of the bytes of every file, hidden ones and unfinished ones too."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("recipe, kills", [("session", 10), ("brain-diffuser", 5)])
def test_killed_at_random_moments_it_goes_on_and_ends_with_the_same_bytes(small, tmp_path, recipe, kills):
    root, _ = small
    with Forks(PROGRAM) as forks:

        def begin(out: str) -> int:
            return forks.begin(str(root), str(tmp_path / out), recipe)

        begin("whole")
        start = time.perf_counter()
        assert forks.end()[0] == 0
        duration = time.perf_counter() - start
        expected, moments, out = contents(tmp_path / "whole"), random.Random(kills), 0
        while kills:
            child = begin(f"killed{out}")
            time.sleep(moments.uniform(0, duration / 2))
            os.kill(child, signal.SIGKILL)
            if forks.end()[0] == -signal.SIGKILL:
                kills -= 1
            else:  # it was faster: compare, and go on killing in another folder
                assert contents(tmp_path / f"killed{out}") == expected
                out += 1
        begin(f"killed{out}")
        assert forks.end()[0] == 0
    assert contents(tmp_path / f"killed{out}") == expected


def test_a_finished_folder_is_left_as_it_is(small, tmp_path):
    root, _ = small
    first = run(root, tmp_path, 1, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(root, tmp_path, 1, 2) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(root: Path, out: Path, *arguments: str) -> str:
    """What the command says, in one line, when it refuses."""
    where = ["prepare", "--subject", "1", "--nsd", str(root), "--out", str(out)]
    result = CliRunner().invoke(app, [*where, *arguments])
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and result.stderr.count("\n") == 1
    return result.stderr


def test_other_settings_than_the_folders_are_refused(small, tmp_path):
    root, _ = small
    run(root, tmp_path, 1, 2)
    assert "choose another --out" in refused(root, tmp_path, "--sessions", "3")
    assert "choose another --out" in refused(root, tmp_path, "--sessions", "2", "--recipe", "brain-diffuser")


def test_a_missing_session_is_named_before_anything_is_written(small, tmp_path):
    message = refused(small[0], tmp_path / "out")
    assert "betas_session04.hdf5" in message and "python -m precompute fetch nsd --subject 1" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sessions", ["0", "41"])
def test_sessions_that_the_subject_does_not_have_are_refused(small, tmp_path, sessions):
    assert "subject 1 has sessions 1 to 40" in refused(small[0], tmp_path, "--sessions", sessions)


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    run(small[0], folder / "out", 1, 2, export=folder / "files")
    return folder / "files"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: path.unlink(), ["is missing", "--export"]),
        (lambda path: np.save(path, np.zeros((4, 5))), ["expected shape", "(4, 5)", "--sessions 37"]),
        (
            lambda path: np.save(path, np.full((4, 5), "a", object), allow_pickle=True),
            ["Python objects", "dtype=str or float"],
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), ["not a whole plain array"]),
    ],
)
@pytest.mark.parametrize("kind", ["fmriavg_nsdgeneral", "cap"])
def test_bad_brain_diffuser_files_are_refused(small, exported, tmp_path, kind, change, words):
    for path in exported.iterdir():
        (tmp_path / path.name).symlink_to(path)
    victim = layout(tmp_path, "test", kind, 1)
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(content)
    change(victim)
    if kind == "cap" and "(4, 5)" in words:
        words = ["array of strings", "float64"]
    message = refused(small[0], tmp_path / "out", "--sessions", "2", "--brain-diffuser", str(tmp_path))
    assert victim.name in message and all(word in message for word in words)


def test_averages_cannot_be_z_scored_per_session_nor_exported(small, exported, tmp_path):
    source = ["--sessions", "2", "--brain-diffuser", str(exported)]
    assert "--recipe brain-diffuser" in refused(small[0], tmp_path, *source, "--recipe", "session")
    assert "--export" in refused(small[0], tmp_path, *source, "--export", "brain-diffuser")


def test_the_command_prints_its_report(small, tmp_path):
    where = ["--nsd", str(small[0]), "--out", str(tmp_path), "--export", "brain-diffuser"]
    result = CliRunner().invoke(app, ["prepare", "--subject", "1", "--sessions", "1", *where])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == load_json(tmp_path / "prepare.json")
    assert layout(tmp_path / "brain-diffuser", "test", "cap", 1).exists()


def test_two_processes_never_write_in_one_folder(small, tmp_path):
    other = occupy(tmp_path)
    message = refused(small[0], tmp_path, "--sessions", "1")
    assert f"is being worked in by process {other}" in message
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
