"""Several processes of one command: same files as by one, and none that waits for ever for one that died."""

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

from precompute.blocks import write_rows

ROOT = Path(__file__).parents[1]
N, COLUMNS, BATCH = 47, 30, 3
CHILD = f"""
import sys, time
from pathlib import Path
import numpy as np
from precompute.blocks import write_rows

def rows(span):
    time.sleep(float(sys.argv[2]))
    return np.random.default_rng(span.start).normal(size=(span.stop - span.start, {COLUMNS}))

write_rows(Path(sys.argv[1]), ({N}, {COLUMNS}), "float32", {BATCH}, {{"model": "one"}}, rows)
"""


def begin(script: Path, n: int, *arguments) -> subprocess.Popen:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    command = [sys.executable, "-m", *launcher, str(script)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *map(str, arguments)], env=env, cwd=ROOT)


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

    write_rows(tmp_path / "whole" / "f.npy", (N, COLUMNS), "float32", BATCH, {"model": "one"}, rows)
    return (tmp_path / "whole" / "f.npy").read_bytes()


def kill_one_and_run_again(out: Path, script: Path, moments: random.Random) -> None:
    job = begin(script, 3, out, 0.5)
    deadline = time.monotonic() + 60
    while not (ranks := psutil.Process(job.pid).children()) or not out.with_name(".f.npy.rows").exists():
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
    assert not out.with_name(".f.npy.rows").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("k", range(10))
def test_whichever_rank_is_killed_whenever_the_file_is_the_same(tmp_path, script, whole, k):
    kill_one_and_run_again(tmp_path / "f.npy", script, random.Random(k))
    assert (tmp_path / "f.npy").read_bytes() == whole
