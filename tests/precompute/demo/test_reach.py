"""The demo's stages: what is needed is made, and nothing else; what was made elsewhere is done."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from precompute.demo.chain import cost_of, reach, report_of, staged
from precompute.demo.recipe import SMOKE
from precompute.demo.subject_stages import subject_stages
from precompute.stage import code_of, make, state


def write(out: Path, *sources: Path, word: str) -> dict:
    """A file, or a folder with a file, of what is in the sources, and a word."""
    text = "".join((s / "part" if s.is_dir() else s).read_text() for s in sources) + word
    file = out if out.suffix else out / "part"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return {"length": len(text)}


def chain(folder: Path, **words: str) -> list:
    """scenes -> codes -> weights (a folder) -> bundle, which reads the scenes' labels, too."""
    words = {"scenes": "s", "labels": "l", "codes": "c", "weights": "w", "bundle": "b"} | words
    scenes, labels, codes, weights, bundle = (
        folder / name for name in ("scenes.npy", "labels.json", "codes.npy", "weights", "bundle.h5")
    )

    def one(name, out, *inputs):
        return staged(name, inputs, [out], partial(write, out, *inputs), word=words[name])

    return [
        one("scenes", scenes),
        one("labels", labels),
        one("codes", codes, scenes),
        one("weights", weights, codes),
        one("bundle", bundle, weights, labels),
    ]


def made(capsys, folder: Path, **words: str) -> list[str]:
    """Names of the stages that were made on the way to the bundle."""
    stages = chain(folder, **words)
    reach([stages[-1]], stages, "a command")
    return [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": made in" in line]


def test_a_goal_is_reached_by_way_of_all_that_it_needs_and_only_once(tmp_path, capsys):
    assert made(capsys, tmp_path) == ["scenes", "codes", "weights", "labels", "bundle"]
    assert (tmp_path / "bundle.h5").read_text() == "scwlb"
    assert made(capsys, tmp_path) == []
    last = chain(tmp_path)[-1]
    assert report_of(last) == {"length": 5} and cost_of(last)["command"] == "a command"


def test_only_what_is_stale_is_made_again_and_what_comes_after(tmp_path, capsys):
    made(capsys, tmp_path)
    assert made(capsys, tmp_path, labels="L") == ["labels", "bundle"]
    assert made(capsys, tmp_path, labels="L", codes="C") == ["codes", "weights", "bundle"]
    assert (tmp_path / "bundle.h5").read_text() == "sCwLb"


def test_a_finished_stage_does_not_need_its_inputs_again_and_a_stale_one_does(tmp_path, capsys):
    made(capsys, tmp_path)
    for name in ("scenes.npy", "codes.npy"):
        (tmp_path / name).unlink()
    assert made(capsys, tmp_path) == []
    assert made(capsys, tmp_path, weights="W") == ["scenes", "codes", "weights", "bundle"]


def test_what_another_machine_made_with_the_same_settings_is_done_here(tmp_path, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    made(capsys, there)
    shutil.copytree(there / "weights", here / "weights")
    shutil.copytree(there / ".stages" / "weights", here / ".stages" / "weights")
    assert made(capsys, here) == ["labels", "bundle"]
    assert (here / "bundle.h5").read_text() == "scwlb"


def test_a_folder_is_another_input_if_one_of_its_files_is_or_has_another_name(tmp_path, capsys):
    made(capsys, tmp_path)
    *_, weights, bundle = chain(tmp_path)
    (tmp_path / "weights" / "part").rename(tmp_path / "weights" / "renamed")
    assert state(bundle) == "stale" and state(weights) == "done"
    (tmp_path / "weights" / "renamed").rename(tmp_path / "weights" / "part")
    assert state(bundle) == "done"
    (tmp_path / "weights" / "part").write_text("other")
    assert state(bundle) == "stale"


def test_a_folder_is_made_anew_without_what_was_left_in_it(tmp_path, capsys):
    made(capsys, tmp_path)
    (tmp_path / "weights" / "left").touch()
    make(chain(tmp_path, weights="W")[3])
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["part"]


TRAININGS = {"VDVAE", "CLIP", "autoencoder", "UNet", "image adapter", "soft LCM-LoRA", "LCM-LoRA", "checker"}


@pytest.mark.parametrize(
    "file, old, new, expected",
    [
        ("sharpen_lcm.py", "ADVERSARIAL = 0.2", "ADVERSARIAL = 0.3", {"LCM-LoRA"}),
        ("train_lcm.py", "HUBER = 0.03", "HUBER = 0.02", {"soft LCM-LoRA", "LCM-LoRA"}),
        ("train_lcm.py", "STRIDE = 3", "STRIDE = 4", {"walks", "own walks"}),
        ("train_vdvae.py", "SQUARED = 0.5, 60.0", "SQUARED = 0.5, 50.0", {"VDVAE"}),
        (
            "training.py",
            "(1 + self.step) / (10 + self.step)",
            "(1 + self.step) / (9 + self.step)",
            TRAININGS,
        ),
        ("world.py", "if k % 3 == 0", "if k % 4 == 0", {"train scenes", "test scenes", "corpus scenes"}),
        ("scan.py", "0.75, 0.15, 0.10", "0.75, 0.10, 0.15", {"responses"}),
        ("tune.py", "BORDER = 8", "BORDER = 4", {"rescaling"}),
    ],
)
def test_a_changed_line_makes_those_stages_stale_that_use_it(tmp_path, file, old, new, expected):
    for package in ("recon", "precompute"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    stages = {stage.name: stage.run for stage in subject_stages(tmp_path, SMOKE)}
    path = tmp_path / "precompute" / "demo" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert {name for name, run in stages.items() if code_of(run, tmp_path) != code_of(run)} == expected
