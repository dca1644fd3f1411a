"""A plan knows what is done, stale and missing, and runs only what is not done, in order."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from precompute.nsd.plan import Step, run, show, subject_steps
from precompute.stage import Stage
from recon.files import BadFile, load_json, save_json


def copied(source: Path, target: Path, fails: Path) -> dict:
    """The source and the target's name; `ran.json` counts."""
    if fails.exists():
        raise OSError("disk full")
    target.write_text(source.read_text() + target.name)
    log = target.parent / "ran.json"
    save_json(log, [*(load_json(log) if log.exists() else []), target.name])
    return {}


def steps(folder: Path, settings: dict | None = None) -> list[Step]:
    """a.txt -> b.txt -> c.txt"""

    def step(source: str, target: str) -> Step:
        run = partial(copied, folder / source, folder / target, folder / f"no {target}")
        stage = Stage(target, {folder / source: "prepare"}, (folder / target,), run, settings or {})
        return Step(target, lambda: [stage], 0, 0)

    return [step("a.txt", "b.txt"), step("b.txt", "c.txt")]


def states(plan):
    return [line["state"] for line in show(plan)]


def test_stages_run_once_and_again_when_their_inputs_or_settings_change(tmp_path):
    plan = steps(tmp_path)
    assert states(plan) == ["waits", "waits"]
    (tmp_path / "a.txt").write_text("1")
    assert states(plan) == ["missing", "waits"]
    assert [line["state"] for line in run(plan)] == ["missing", "waits"]
    assert load_json(tmp_path / "ran.json") == ["b.txt", "c.txt"] and states(plan) == ["done", "done"]
    run(plan)
    assert load_json(tmp_path / "ran.json") == ["b.txt", "c.txt"]
    (tmp_path / "a.txt").write_text("2")
    assert states(plan) == ["stale", "done"]  # what follows is stale once its input has been made anew
    run(plan)
    assert load_json(tmp_path / "ran.json") == ["b.txt", "c.txt"] * 2
    assert (tmp_path / "c.txt").read_text() == "2b.txtc.txt"
    assert states(steps(tmp_path, {"seeds": 4})) == ["stale", "stale"]


def test_a_stage_that_fails_is_not_recorded_and_the_next_run_goes_on_there(tmp_path):
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "no c.txt").touch()
    with pytest.raises(OSError):
        run(steps(tmp_path))
    (tmp_path / "no c.txt").unlink()
    assert states(steps(tmp_path)) == ["done", "missing"]
    run(steps(tmp_path))
    assert load_json(tmp_path / "ran.json") == ["b.txt", "c.txt"]


def test_a_missing_first_input_is_named(tmp_path):
    with pytest.raises(BadFile, match="a.txt is missing: make it with `python -m precompute prepare`"):
        run(steps(tmp_path))


def test_a_subjects_plan_goes_from_features_to_the_evaluation_and_each_stage_finds_what_an_earlier_one_made(tmp_path):
    folder, out = tmp_path / "subj01", tmp_path / "bundle"
    folder.mkdir()
    plan = subject_steps(folder, out)
    assert [s.name for s in plan] == [
        *("features vdvae", "features clip-text", "features clip-vision"), "fit", "encode", "bundle", "evaluate"
    ]  # fmt: skip
    assert set(states(plan)) == {"waits"}
    prepared = {"train_voxels.npy", "subject.h5", "train.json", "test.json"}
    prepared |= {f"{split}_{side}.npy" for split in ("train", "test") for side in (64, 512)}
    there = {folder / name for name in prepared}
    for name, width in (("train_voxels", 5), ("latents_train", 91_168), ("prompt_train", 77 * 4), ("image_train", 3)):
        np.save(folder / f"{name}.npy", np.zeros((2, width), np.float32))
    for step in plan:
        for stage in step.stages():
            assert set(stage.inputs) <= there, stage.name
            there |= set(stage.outputs)
