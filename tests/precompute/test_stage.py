"""What is done is told by inputs, settings and code; one process works in a folder at a time."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from precompute import folder_lock
from precompute.fitting.encode import encode
from precompute.fitting.fit import fit_to_files
from precompute.fitting.response_model import fit_response
from precompute.folder_lock import LOCK, working_in
from precompute.nsd.subject_to_bundle import EXTRACT, write_bundle, write_evaluation
from precompute.stage import Stage, changed_inputs, code_of, make, make_all, place_of, record, state
from recon.files import BadFile

NAMES = ("a.txt", "b.txt")


def joined(folder: Path, word: str) -> dict:
    """out.txt: the inputs, and a word."""
    (folder / "out.txt").write_text("".join((folder / name).read_text() for name in NAMES) + word)
    with open(folder / "runs", "a") as f:
        f.write(word)
    return {"word": word}


def stage(folder: Path, word: str = "x", run=joined, name: str = "join") -> Stage:
    inputs = {folder / name: "prepare" for name in NAMES}
    return Stage(name, inputs, (folder / "out.txt",), partial(run, folder, word), {"word": word})


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_stage_runs_once_and_tells_its_report_again(folder):
    assert state(stage(folder)) == "missing"
    assert make(stage(folder)) == {"word": "x", "already finished": False}
    assert state(stage(folder)) == "done"
    assert make(stage(folder)) == {"word": "x", "already finished": True}
    assert (folder / "runs").read_text() == "x"


def test_other_inputs_and_other_settings_make_it_stale_and_its_outputs_are_made_anew(folder):
    make(stage(folder))
    (folder / "b.txt").write_text("other")
    assert state(stage(folder)) == "stale" and changed_inputs(stage(folder).work, folder) == ["b.txt"]
    make(stage(folder))
    assert (folder / "out.txt").read_text() == "a.txtotherx"
    assert state(stage(folder, "y")) == "stale"
    make(stage(folder, "y"))
    assert (folder / "runs").read_text() == "xxy" and state(stage(folder, "y")) == "done"


def test_a_copy_is_the_same_input_and_one_that_is_gone_no_other(folder):
    make(stage(folder))
    (folder / "a.txt").write_text("a.txt")
    assert state(stage(folder)) == "done"
    (folder / "a.txt").unlink()
    assert state(stage(folder)) == "done"
    (folder / "out.txt").unlink()
    assert state(stage(folder)) == "waits"
    with pytest.raises(BadFile, match="a.txt is missing: make it with `python -m precompute prepare`"):
        make(stage(folder))


def test_a_missing_output_is_made_again(folder):
    make(stage(folder))
    (folder / "out.txt").unlink()
    assert state(stage(folder)) == "missing"
    make(stage(folder))
    assert (folder / "out.txt").exists()


def killed(folder: Path, word: str) -> dict:
    (folder / "out.txt").write_text("half")
    (place_of(folder, "join") / "unfinished").write_text("half")
    if (folder / "fail").exists():
        raise KeyboardInterrupt
    return {}


def test_a_run_that_was_killed_keeps_what_it_has_and_is_not_done(folder):
    (folder / "fail").touch()
    with pytest.raises(KeyboardInterrupt):
        make(stage(folder, run=killed))
    work = stage(folder).work
    assert state(stage(folder, run=killed)) == "missing" and (work / "unfinished").exists()
    with pytest.raises(KeyboardInterrupt):
        make(stage(folder, "other", run=killed))
    (work / "unfinished").write_text("of the other")
    (folder / "fail").unlink()
    make(stage(folder, "other", run=killed))
    assert [path.name for path in work.iterdir()] == ["record.json"] and record(work)["finished"]


def test_what_was_begun_with_other_settings_is_not_gone_on_with(folder):
    (folder / "fail").touch()
    with pytest.raises(KeyboardInterrupt):
        make(stage(folder, run=killed))
    (stage(folder).work / "of the first").touch()
    with pytest.raises(KeyboardInterrupt):
        make(stage(folder, "other", run=killed))
    assert not (stage(folder).work / "of the first").exists()


def test_stages_that_do_not_depend_on_one_another_are_all_made(folder):
    def one(word):
        inputs = {folder / "a.txt": "prepare"}
        return Stage(word, inputs, (folder / f"{word}.txt",), partial(copied, folder, word), {})

    stages = [one("first"), one("second")]
    make(stages[1])
    assert [report["already finished"] for report in make_all(stages)] == [False, True]
    assert (folder / "first.txt").read_text() == "a.txt"


def copied(folder: Path, word: str) -> dict:
    (folder / f"{word}.txt").write_text((folder / "a.txt").read_text())
    return {}


# --- code -------------------------------------------------------------------------------------------------------------

STAGES = {
    "features vdvae": EXTRACT["vdvae"],
    "features vdvae-samples": EXTRACT["vdvae-samples"],
    "features clip-text": EXTRACT["clip-text"],
    "features clip-vision": EXTRACT["clip-vision"],
    "fit": fit_to_files,
    "encode": encode,
    "response": fit_response,
    "bundle": write_bundle,
    "evaluate": write_evaluation,
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository's code at another place, and what each stage's code was."""
    root = tmp_path_factory.mktemp("code")
    for package in ("recon", "precompute"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root, {name: code_of(run, root) for name, run in STAGES.items()}


def stale_after(copy, tmp_path, file: str, old: str, new: str) -> set[str]:
    """Stages whose code is another one after a change of one file."""
    root, before = copy
    place = tmp_path / "code"
    shutil.copytree(root, place)
    text = (place / file).read_text(encoding="utf-8")
    assert old in text
    (place / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return {name for name, run in STAGES.items() if code_of(run, place) != before[name]}


@pytest.mark.parametrize(
    "file, old, new, expected",
    [
        (
            "recon/decoders/vdvae_layers.py",
            "self.gain + self.bias",
            "self.gain - self.bias",
            {"features vdvae", "features vdvae-samples", "evaluate"},
        ),
        ("precompute/fitting/clip.py", "/ 255 - mean", "/ 254 - mean", {"features clip-vision", "evaluate"}),
        ("precompute/fitting/dual.py", "A.diagonal().add_(alpha)", "A.diagonal().add_(2 * alpha)", {"fit"}),
        ("precompute/fitting/encoding.py", "np.logspace(0, 8, 17)", "np.logspace(0, 8, 9)", {"encode", "response"}),
        ("precompute/fitting/image_features.py", "/ 20,", "/ 21,", {"encode"}),
        ("precompute/evaluation/judge.py", "def taken(", "def taken(a=1, *, b, ", {"evaluate"}),
        ("precompute/blocks.py", "done[start:stop] == 0", "done[start:stop] == 1", {f"features {t}" for t in EXTRACT}),
        ("recon/metrics.py", "SIGMA, TRUNCATE, K1, K2 = 1.5", "SIGMA, TRUNCATE, K1, K2 = 1.6", {"evaluate"}),
    ],
)
def test_a_changed_line_of_arithmetic_makes_those_stages_stale_that_use_it_and_no_other(
    copy, tmp_path, file, old, new, expected
):
    assert stale_after(copy, tmp_path, file, old, new) == expected


def test_changed_comments_docstrings_annotations_and_layout_make_none_stale(copy, tmp_path):
    file = "precompute/fitting/dual.py"
    assert not stale_after(copy, tmp_path / "1", file, '"""Cholesky factor of K + α I.', '"""Another word.')
    assert not stale_after(copy, tmp_path / "2", file, "    A = K.clone()", "    # a comment\n\n    A = K.clone()")
    assert not stale_after(copy, tmp_path / "3", file, "K: Tensor, alpha: float", "K: object, alpha: int")
    assert not stale_after(
        copy, tmp_path / "4", file, "A.diagonal().add_(alpha)", "A.diagonal().add_(\n        alpha\n    )"
    )
    assert not stale_after(copy, tmp_path / "5", "precompute/stage.py", "def make(", "def make(x=1, *, ")


def test_a_stage_whose_code_is_another_is_stale(folder, monkeypatch):
    make(stage(folder))
    monkeypatch.setattr("precompute.stage.code_of", lambda run: "other")
    assert state(stage(folder)) == "stale"


# --- one process a folder ---------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from precompute.folder_lock import working_in
with working_in(Path(sys.argv[1])):
    print("working", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works in the folder."""
    command = [sys.executable, "-c", HOLD, tmp_path / "shared"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_works_in_the_folder(tmp_path, holder):
    sentence = f"shared is being worked in by process {holder.pid} on {socket.gethostname()}: wait for it"
    with pytest.raises(BadFile, match=sentence), working_in(tmp_path / "shared"):
        pass
    holder.kill()
    holder.wait()
    with working_in(tmp_path / "shared"):  # a dead owner's place is taken
        assert json.loads((tmp_path / "shared" / LOCK).read_text())["process"] == os.getpid()
    assert not (tmp_path / "shared" / LOCK).exists()


def test_a_process_may_take_its_own_folder_twice_and_lets_it_go_at_the_end(tmp_path):
    with working_in(tmp_path):
        with working_in(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_another_process_with_the_number_of_a_dead_owner_is_not_the_owner(tmp_path, holder):
    lock = tmp_path / "shared" / LOCK
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"started": 1.0}))
    with working_in(tmp_path / "shared"):
        pass


def test_of_an_owner_on_another_host_nobody_can_tell(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "elsewhere", "process": 1, "started": 1.0}))
    with pytest.raises(BadFile, match="process 1 on elsewhere: wait for it, or, if it is gone, remove"):
        with working_in(tmp_path):
            pass


def _try(folder: str, begin: float) -> int:
    """1 if this process worked alone, 0 if it was told off; raises if another worked at the same time."""
    time.sleep(max(0, begin - time.time()))
    try:
        with working_in(Path(folder)):
            with open(Path(folder) / "working", "x"):
                time.sleep(0.3)
            (Path(folder) / "working").unlink()
        return 1
    except BadFile:
        return 0


def test_of_many_processes_that_find_a_dead_owner_one_at_a_time_takes_its_place(tmp_path, monkeypatch):
    def slowly(owner):
        time.sleep(0.05)  # so that others look, too, before the first has taken the place
        return may_be_alive(owner)

    may_be_alive = folder_lock._may_be_alive
    monkeypatch.setattr(folder_lock, "_may_be_alive", slowly)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owner = {"host": socket.gethostname(), "process": dead.pid, "started": 1.0}
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for k in range(3):
            folder = tmp_path / str(k)
            folder.mkdir()
            (folder / LOCK).write_text(json.dumps(owner))
            assert sum(pool.starmap(_try, [(str(folder), time.time() + 0.1)] * 8)) >= 1
