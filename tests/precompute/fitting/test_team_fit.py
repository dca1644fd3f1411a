"""A fit by several processes is the fit by one, to rounding; and one that lost a process ends, and goes on when run again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT
from sklearn.linear_model import Ridge
from teams import begin, run_program

from recon.files import load_json
from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP
from recon.regressors.standardise import split_rows

N, VOXELS, TARGETS, RANK = 211, 37, 53, 6
PROGRAM = """
import sys
from pathlib import Path
from dataclasses import replace
import numpy as np
from precompute.fitting.fit import linear_model
from precompute.fitting.fit_mlp import fit_mlp, validation_r2
from precompute.fitting.train_network import STUDENT, Training
from recon.regressors.standardise import split_rows
from precompute.fitting.fit_ridge import fit_ridge
from teams import run_teams

place = Path(sys.argv[1])
X, Y = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("voxels", "targets"))
groups, alphas = {"a": slice(0, 3), "b": slice(3, 40), "c": slice(40, 53)}, np.logspace(1, 4, 4)
training = Training(hidden=64, learning_rate=3e-3, max_epochs=8, batch=27)  # the last one has a single image
held, _ = split_rows(len(X), training.validation_share, training.seed)

X_bad, Y_bad = np.array(X), np.array(Y)
X_bad[3, 30], Y_bad[4, 50] = np.nan, np.inf

def what_is_told(X, Y, me):
    try:
        fit_ridge(X, Y, groups, alphas, 6, held, team=me)
    except ValueError as error:
        return str(error)

def find(me):
    found, work = {}, place / f"work{me.size}"
    for name, per_target in (("ridge", False), ("per_target", True)):
        ridge, report = fit_ridge(X, Y, groups, alphas, 6, held, per_target=per_target, team=me)
        found |= {f"{name}_{k}": getattr(report, k) for k in ("r2", "chosen")}
        found |= {f"{name}_curve": list(report.curve.values()), f"{name}_ranks": list(report.rank_curve.values())}
        found |= {f"{name}_predicted": ridge.predict(np.asarray(X)), f"{name}_gain": ridge.rescale.gain}
        found |= {f"{name}_held_out": me.joined(report.predicted, Y.shape[1])}
    work.mkdir(exist_ok=True)
    mlp, report = fit_mlp(X, Y, linear_model(ridge, report, me), training, work, me)
    found |= {"mlp_curve": report.curve, "mlp_predicted": mlp.predict(np.asarray(X)), "mlp_share": report.share}
    found |= {"mlp_r2": validation_r2(Y, mlp, report, me), "mlp_gain": mlp.rescale.gain}
    plain, report = fit_mlp(X, Y, None, replace(STUDENT, max_epochs=2, batch=50), work / "student", me)
    found |= {"student_curve": report.curve, "student_r2": validation_r2(Y, plain, report, me)}
    found["told"] = [what_is_told(X_bad, Y, me), what_is_told(X, Y_bad, me)]
    if me.first:
        np.savez(place / f"{me.size}.npz", **found)

run_teams((1, 2, 4), find)
"""
FIT = """
import sys, time
from pathlib import Path
import torch
from precompute.fitting.fit import fit
from precompute.fitting.train_network import Training

def slowly(*what):
    save(*what)
    time.sleep(float(sys.argv[3]))

save, torch.save = torch.save, slowly
place, out = map(Path, sys.argv[1:3])
training = Training(hidden=16, max_epochs=8, batch=50)
fit("t", place / "voxels.npy", place / "targets.npy", {"all": slice(0, 53)}, out, 6, training)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with voxels.npy and targets.npy, both of eight dimensions and noise, and the script fit.py."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("team")
    hidden = rng.normal(size=(N, 8)) * 1.3 ** -np.arange(8)
    for name, width in (("voxels", VOXELS), ("targets", TARGETS)):
        values = 3 * hidden @ rng.normal(size=(8, width)) + rng.normal(size=(N, width)) + 1
        if name == "targets":  # something for the MLP
            values += 6 * np.abs(hidden[:, :2]) @ rng.normal(size=(2, width))
        np.save(folder / f"{name}.npy", values.astype(np.float32))
    (folder / "fit.py").write_text(FIT)
    return folder


@pytest.fixture(scope="module")
def found(place):
    """Number of processes -> what they found."""
    run_program(PROGRAM, place)
    return {size: dict(np.load(place / f"{size}.npz")) for size in (1, 2, 4)}


def difference(a, b):
    """The largest, relative to the largest value."""
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("size", [2, 4])
def test_ridge_of_several_processes_is_that_of_one(found, size):
    for name in ("ridge", "per_target"):
        np.testing.assert_array_equal(found[size][f"{name}_chosen"], found[1][f"{name}_chosen"])
        for what in ("predicted", "held_out", "r2", "curve", "ranks", "gain"):
            assert difference(found[size][f"{name}_{what}"], found[1][f"{name}_{what}"]) < 1e-5, (name, what)


@pytest.mark.parametrize("size", [2, 4])
def test_the_mlp_of_several_processes_has_the_curve_of_that_of_one(found, size):
    assert 0 < found[1]["mlp_share"] < 1
    for what in ("mlp_curve", "student_curve"):
        assert difference(found[size][what], found[1][what]) < 1e-4, what
    for what in ("mlp_predicted", "mlp_share", "mlp_r2", "mlp_gain", "student_r2"):  # Adam enlarges rounding
        assert difference(found[size][what], found[1][what]) < 3e-3, what


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_bad_voxel_or_target_is_told_by_its_number_whichever_process_reads_it(found, size):
    for noun, k, told in zip(("voxel", "target"), (30, 50), found[size]["told"]):
        assert told == f"expected finite {noun}s, got NaN or infinity in 1 of them (first: {noun} {k})"


def test_four_processes_predict_what_scikit_learn_does(place, found):
    held, rows = split_rows(N)
    X, Y = (np.load(place / f"{name}.npy").astype(np.float64) for name in ("voxels", "targets"))
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    exact = Ridge(found[4]["per_target_chosen"]).fit(z[rows], Y[rows]).predict(z[held])
    assert difference(found[4]["per_target_held_out"], exact) < 1e-4


def kill_one_and_run_again(place: Path, out: Path, moments: random.Random) -> None:
    out.mkdir()
    job, checkpoint = begin(place / "fit.py", 3, place, out, 0.3), out / "t_mlp" / "mlp.checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists():
        assert time.monotonic() < deadline and job.poll() is None, "the ranks did not begin"
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 1))
    os.kill(moments.choice(psutil.Process(job.pid).children()).pid, signal.SIGKILL)
    assert job.wait(60) != 0
    assert not (out / "t_fit.json").exists()
    assert begin(place / "fit.py", 2, place, out, 0).wait(60) == 0


@pytest.fixture(scope="module")
def whole(place):
    """The folder of one process's fit."""
    (place / "whole").mkdir()
    command = [sys.executable, place / "fit.py", place, place / "whole", "0"]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    return place / "whole"


def assert_equal_fits(place: Path, out: Path, whole: Path) -> None:
    X = np.load(place / "voxels.npy")
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    for name in ("ridge_cv_r2", "mlp_cv_r2", "alphas"):
        assert difference(np.load(out / f"t_{name}.npy"), np.load(whole / f"t_{name}.npy")) < 1e-4, name
    for name, kind in (("ridge", LowRank), ("mlp", MLP)):  # weights are float16
        predictions = [kind.load(folder / f"t_{name}.safetensors").predict(X) for folder in (out, whole)]
        assert difference(*predictions) < 3e-3, name
    curves = [np.array(load_json(folder / "t_fit.json")["mlp"]["curve"]) for folder in (out, whole)]
    assert difference(*curves) < 1e-4


@pytest.mark.slow
def test_a_fit_that_lost_a_process_ends_and_another_number_of_them_finishes_an_equal_one(place, whole):
    kill_one_and_run_again(place, place / "killed", random.Random(0))
    assert_equal_fits(place, place / "killed", whole)


@pytest.mark.exhaustive
@pytest.mark.parametrize("k", range(10))
def test_whichever_process_is_killed_whenever_the_fit_run_again_is_equal(place, whole, k):
    kill_one_and_run_again(place, place / f"killed{k}", random.Random(k))
    assert_equal_fits(place, place / f"killed{k}", whole)
