"""Fits shared by several processes are those of one, to the byte; a job that lost a process ends, and goes on when run again."""

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
from teams import begin

N, VOXELS, TARGETS = 211, 37, 53
FIT = """
import sys, time
from pathlib import Path
import torch
from precompute.fitting.fit import Fit, fit_stage
from precompute.fitting.train_network import Training
from precompute.stage import make_all
from precompute.team import team

def slowly(*what):
    save(*what)
    time.sleep(float(sys.argv[3]))

save, torch.save = torch.save, slowly
place, out = map(Path, sys.argv[1:3])
training, me = Training(hidden=16, max_epochs=8, batch=50), team()
stages = [
    fit_stage(Fit(name, {"all": slice(0, 53)}, rank, training), place / "voxels.npy", place / "targets.npy", out)
    for name, rank in (("a", 4), ("b", 5), ("c", 6))
]
for stage, report in zip(stages, make_all(stages, me)):
    (out / f"{stage.name} told to {me.rank}").write_text(str(report["rank"]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with voxels.npy and targets.npy, both of eight dimensions and noise, and the script fit.py."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("team")
    hidden = rng.normal(size=(N, 8)) * 1.3 ** -np.arange(8)
    for name, width in (("voxels", VOXELS), ("targets", TARGETS)):
        values = 3 * hidden @ rng.normal(size=(8, width)) + rng.normal(size=(N, width)) + 1
        np.save(folder / f"{name}.npy", values.astype(np.float32))
    (folder / "fit.py").write_text(FIT)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and " told to " not in path.name
    }


@pytest.fixture(scope="module")
def whole(place):
    """What one process makes."""
    (place / "whole").mkdir()
    command = [sys.executable, place / "fit.py", place, place / "whole", "0"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=env, timeout=60)
    return files(place / "whole")


def test_two_processes_share_the_fits_and_both_are_told_of_all(place, whole):
    (place / "two").mkdir()
    assert begin(place / "fit.py", 2, place, place / "two", 0).wait(60) == 0
    assert files(place / "two") == whole and len(whole) == 3 * 7
    told = {path.name: path.read_text() for path in (place / "two").glob("* told to *")}
    assert told == {f"fit {name} told to {rank}": r for name, r in zip("abc", "456") for rank in (0, 1)}


def kill_one_and_run_again(place: Path, out: Path, moments: random.Random) -> None:
    out.mkdir()
    job, deadline = begin(place / "fit.py", 3, place, out, 0.3), time.monotonic() + 60
    while not list(out.glob(".stages/*/mlp.checkpoint.pt")):
        assert time.monotonic() < deadline and job.poll() is None, "the ranks did not begin"
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 1))
    os.kill(moments.choice(psutil.Process(job.pid).children()).pid, signal.SIGKILL)
    assert job.wait(60) != 0
    assert len(list(out.glob("*_fit.json"))) < 3
    assert begin(place / "fit.py", 2, place, out, 0).wait(60) == 0


@pytest.mark.slow
def test_a_job_that_lost_a_process_ends_and_another_number_of_them_finishes_the_same_fits(place, whole):
    kill_one_and_run_again(place, place / "killed", random.Random(0))
    assert files(place / "killed") == whole


@pytest.mark.exhaustive
@pytest.mark.parametrize("k", range(10))
def test_whichever_process_is_killed_whenever_the_fits_are_the_same(place, whole, k):
    kill_one_and_run_again(place, place / f"killed{k}", random.Random(k))
    assert files(place / f"killed{k}") == whole
