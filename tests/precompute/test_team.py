"""Several processes of one command: same files as by one, and none that waits for ever for one that died."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from teams import begin, run_program

from precompute.blocks import Rows, write_rows

ROOT = Path(__file__).parents[2]
N, COLUMNS, BATCH = 47, 30, 3
CHILD = f"""
import sys, time
from pathlib import Path
import numpy as np
from precompute.blocks import Rows, write_rows

def rows(span):
    time.sleep(float(sys.argv[2]))
    return np.random.default_rng(span.start).normal(size=(span.stop - span.start, {COLUMNS}))

path = Path(sys.argv[1])
write_rows(Rows(path, ({N}, {COLUMNS}), "float32"), {BATCH}, rows, path.parent / "work")
"""


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import numpy as np
import precompute.stage
from conftest import write_tiny_bundle
from teams import run_teams
from precompute.nsd import plan
from precompute.stage import Stage
from precompute.evaluation.evaluate import Inputs, Options
from precompute.evaluation.summary import evaluate
from recon.bundle.bundle import load_bundle
from recon.settings import LCMSettings

place = Path(sys.argv[1])
write_tiny_bundle(place / "bundle")

precompute.stage.code_of = lambda run: "this program, which lies in no file"

def touch(folder, name, me):
    (folder / f"{name} by {me.rank}").touch()
    me.wait() if name == "together" else None
    (folder / name).touch()
    return {}

def corners(pictures):
    step = pictures.shape[1] // 4
    return pictures[:, ::step, ::step].reshape(len(pictures), -1).astype(np.float32)

def work(me):
    bundle, rng = load_bundle(place / "bundle"), np.random.default_rng(0)
    images = np.asarray(bundle.subject.test.images)
    inputs = Inputs(
        bundle, {"all": "1"}, images, bundle.own_latents(images), rng.normal(size=(len(images), 6)),
        rng.integers(0, 256, (4, 64, 64, 3), np.uint8), [{}] * 4, {"ridge": 0.3, "mlp": 0.4},
        {"clip_demo": corners},
    )
    evaluate(inputs, place / str(me.size), Options(seeds=1, lcm=LCMSettings(1)), me)
    follow_a_plan(me, place / f"plan{me.size}")

def follow_a_plan(me, folder):
    folder.mkdir(exist_ok=True)
    stages = [
        Stage(name, {}, (folder / name,), partial(touch, folder, name, me), {}, shared=name == "together")
        for name in ("together", "alone")
    ]
    plan.run([plan.Step(stage.name, lambda stage=stage: [stage], 0, 0) for stage in stages])
    apart = [Stage(name, {}, (folder / name,), partial(touch, folder, name, me), {}) for name in "abc"]
    plan.run([plan.Step("apart", lambda: apart, 0, 0, apart=True)])

run_teams((1, 2), work)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where teams of one and of two processes have evaluated and followed a plan."""
    folder = tmp_path_factory.mktemp("teams")
    run_program(PROGRAM, folder)
    return folder


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "child.py"
    path.write_text(CHILD)
    return path


@pytest.fixture
def whole(tmp_path):
    """The file of one process."""

    def rows(span):
        return np.random.default_rng(span.start).normal(size=(span.stop - span.start, COLUMNS))

    file = tmp_path / "whole" / "f.npy"
    write_rows(Rows(file, (N, COLUMNS), "float32"), BATCH, rows, tmp_path / "whole")
    return (tmp_path / "whole" / "f.npy").read_bytes()


def kill_one_and_run_again(out: Path, script: Path, moments: random.Random) -> None:
    job = begin(script, 3, out, 0.5)
    deadline = time.monotonic() + 60
    while not (ranks := psutil.Process(job.pid).children()) or not (out.parent / "work" / "f.npy.rows").exists():
        assert time.monotonic() < deadline, "the ranks did not begin"
        time.sleep(0.1)
    time.sleep(moments.uniform(0, 0.6))
    os.kill(moments.choice(ranks).pid, signal.SIGKILL)
    assert job.wait(60) != 0
    assert not out.exists()
    assert begin(script, 2, out, 0).wait(60) == 0


def test_a_rank_that_is_killed_ends_the_job_and_another_number_of_ranks_finishes_the_same_file(tmp_path, script, whole):
    out = tmp_path / "f.npy"
    kill_one_and_run_again(out, script, random.Random(0))
    assert out.read_bytes() == whole
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.exhaustive
@pytest.mark.parametrize("k", range(10))
def test_whichever_rank_is_killed_whenever_the_file_is_the_same(tmp_path, script, whole, k):
    kill_one_and_run_again(tmp_path / "f.npy", script, random.Random(k))
    assert (tmp_path / "f.npy").read_bytes() == whole


def test_an_evaluation_by_two_processes_is_that_by_one(place):
    one, two = ({p.name: p for p in (place / size / "evaluation").glob("*/*")} for size in ("1", "2"))
    assert one.keys() == two.keys() and "lcm.mlp.0.npz" in one
    for name in one:
        a, b = (np.load(files[name]) for files in (one, two))
        if name.endswith(".npz"):
            assert all(np.array_equal(a[k], b[k]) for k in (*a.keys(), *b.keys())), name
        else:
            np.testing.assert_array_equal(a, b)
    assert len({(place / size / "evaluation.json").read_bytes() for size in ("1", "2")}) == 1


def test_of_a_plans_stages_all_processes_run_those_that_they_share_and_the_others_are_each_run_by_one(place):
    ran = {name for name in os.listdir(place / "plan2") if " by " in name}
    assert ran == {"together by 0", "together by 1", "alone by 0"} | {"a by 0", "b by 1", "c by 0"}
    ran = {name for name in os.listdir(place / "plan1") if " by " in name}
    assert ran == {"together by 0", "alone by 0"} | {"a by 0", "b by 0", "c by 0"}
