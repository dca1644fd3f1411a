"""A plan knows what is done, stale and missing by content, and runs only what is not done."""

import pytest

from precompute.nsd.plan import Stage, run, show, subject_stages
from recon.files import BadFile


def stages(folder, ran, settings=None):
    """a.txt -> b.txt -> c.txt"""

    def copy(source, target):
        def go():
            ran.append(target)
            (folder / target).write_text((folder / source).read_text() + target)

        return go

    return [
        Stage(t, (folder / s,), (folder / t,), ("recon/files.py",), copy(s, t), 0, 0, settings or {})
        for s, t in (("a.txt", "b.txt"), ("b.txt", "c.txt"))
    ]


def states(folder, plan):
    return [line["state"] for line in show(folder, plan)]


def test_stages_run_once_and_again_when_their_inputs_or_settings_change(tmp_path):
    ran = []
    plan = stages(tmp_path, ran)
    assert states(tmp_path, plan) == ["waits", "waits"]
    (tmp_path / "a.txt").write_text("1")
    assert states(tmp_path, plan) == ["missing", "waits"]
    run(tmp_path, plan)
    assert ran == ["b.txt", "c.txt"] and states(tmp_path, plan) == ["done", "done"]
    run(tmp_path, plan)
    assert ran == ["b.txt", "c.txt"]
    (tmp_path / "a.txt").write_text("2")
    assert states(tmp_path, plan) == ["stale", "done"]  # what follows is stale once its input has been made anew
    run(tmp_path, plan)
    assert ran == ["b.txt", "c.txt"] * 2 and (tmp_path / "c.txt").read_text() == "2b.txtc.txt"
    assert states(tmp_path, stages(tmp_path, ran, {"seeds": 4})) == ["stale", "stale"]


def test_a_stage_that_fails_is_not_recorded_and_the_next_run_goes_on_there(tmp_path):
    ran = []
    (tmp_path / "a.txt").write_text("1")
    first, second = stages(tmp_path, ran)

    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError):
        run(tmp_path, [first, Stage(**{**vars(second), "run": fail})])
    assert states(tmp_path, [first, second]) == ["done", "missing"]
    run(tmp_path, [first, second])
    assert ran == ["b.txt", "c.txt"]


def test_a_missing_first_input_is_named(tmp_path):
    with pytest.raises(BadFile, match="a.txt is missing: run `python -m precompute prepare"):
        run(tmp_path, stages(tmp_path, []))


def test_a_subjects_plan_goes_from_features_to_the_evaluation_and_each_stage_finds_what_an_earlier_one_made(tmp_path):
    plan = subject_stages(1, tmp_path / "subj01", tmp_path / "bundle")
    assert [s.name for s in plan] == [
        *("features vdvae", "features clip-text", "features clip-image"), "fit", "encode", "bundle", "evaluate"
    ]  # fmt: skip
    prepared = {"train_voxels.npy", "subject.h5", "train.json", "test.json"}
    prepared |= {f"{split}_{side}.npy" for split in ("train", "test") for side in (64, 512)}
    there = {tmp_path / "subj01" / name for name in prepared}
    for stage in plan:
        assert set(stage.inputs) <= there, stage.name
        there |= set(stage.outputs)
