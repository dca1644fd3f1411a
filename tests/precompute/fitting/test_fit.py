"""A fit to files: killed at any moment it ends the same, changed inputs or choices are noticed, bad files told in a sentence."""

import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT

from precompute.fitting.fit import ALPHAS, Fit, fit_stage
from precompute.fitting.train_network import STUDENT, Training
from precompute.stage import make
from recon.files import BadFile, fingerprint
from recon.regressors.low_rank import LowRank

GROUPS = {"a": slice(0, 9), "b": slice(9, 24)}
SHORT = Training(hidden=8, max_epochs=2, batch=32)


@pytest.fixture
def data(rng, tmp_path):
    """A folder with voxels.npy (150, 20) and targets.npy (150, 24)."""
    X = rng.normal(size=(150, 20)).astype(np.float32)
    Y = X @ rng.normal(size=(20, 24)) + 3 * rng.normal(size=(150, 24))
    np.save(tmp_path / "voxels.npy", X)
    np.save(tmp_path / "targets.npy", Y.astype(np.float32))
    return tmp_path


def run(data, training=SHORT, rank=6, **more):
    out = data / "out"
    out.mkdir(exist_ok=True)
    return make(fit_stage(Fit("t", GROUPS, rank, training, **more), data / "voxels.npy", data / "targets.npy", out))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_fit_does_nothing(data):
    first = run(data)
    before = contents(data / "out")
    second = run(data)
    assert not first["already finished"] and second["already finished"]
    assert contents(data / "out") == before
    assert set(before) == {
        f"t_{name}"
        for name in ("fit.json", "ridge.safetensors", "mlp.safetensors", "alphas.svg")
        + ("ridge_cv_r2.npy", "mlp_cv_r2.npy", "alphas.npy")
    }


def test_copies_are_the_same_inputs(data):
    run(data)
    (data / "voxels.npy").write_bytes((data / "voxels.npy").read_bytes())
    assert run(data)["already finished"]


def test_changed_voxels_targets_alphas_or_training_are_fitted_anew(data):
    run(data)
    for name in ("voxels.npy", "targets.npy"):
        before = contents(data / "out")["t_ridge.safetensors"]
        np.save(data / name, np.load(data / name)[::-1])
        assert not run(data)["already finished"]
        assert contents(data / "out")["t_ridge.safetensors"] != before
    for choice in ({"alphas": (5e4,)}, {"per_target": True}, {"training": replace(SHORT, seed=1)}):
        assert not run(data, **choice)["already finished"]
        assert run(data, **choice)["already finished"]


def test_files_of_an_earlier_fit_do_not_outlive_a_change_of_its_inputs(data, monkeypatch):
    run(data)
    np.save(data / "targets.npy", np.load(data / "targets.npy")[::-1])

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("precompute.fitting.fit.fit_mlp", killed)
    with pytest.raises(KeyboardInterrupt):
        run(data)
    left = contents(data / "out")
    assert "t_fit.json" not in left and "t_mlp.safetensors" not in left


# a child for every attempt, killed after so many seconds or left alone; the imports are made once, before any arithmetic
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from precompute.fitting.fit import Fit, fit_stage
from precompute.stage import make
from precompute.fitting.train_network import Training

def attempt(name, seconds):
    start, child = time.monotonic(), os.fork()
    if not child:
        (place / name).mkdir(exist_ok=True)
        make(fit_stage(Fit("t", groups, 6, training), place / "voxels.npy", place / "targets.npy", place / name))
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.WTERMSIG(os.waitpid(child, 0)[1]), time.monotonic() - start

place, *shares = Path(sys.argv[1]), *map(float, sys.argv[2:])
groups, training = {"a": slice(0, 9), "b": slice(9, 24)}, Training(hidden=32, max_epochs=25, patience=25, batch=16)
died, seconds = attempt("whole", None)
for share in shares:
    died, _ = attempt("killed", share * seconds)
    print(died == signal.SIGKILL, sorted(os.listdir(place / "killed")))
attempt("killed", None)
"""


def test_killed_at_any_moment_a_fit_run_again_ends_with_the_same_bytes(data, rng):
    shares = ["0.03", *map(str, rng.uniform(0.1, 0.9, size=2))]
    done = subprocess.run([sys.executable, "-c", PROGRAM, data, *shares], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True")
    whole = contents(data / "whole")
    assert len(whole) == 7 and contents(data / "killed") == whole


def test_the_students_network_fits_the_same_files(data):
    report = run(data, replace(STUDENT, max_epochs=2))
    assert report["mlp"]["share_of_network"] == 1 and report["mlp"]["training"]["plain"]
    assert run(data, replace(STUDENT, max_epochs=2))["already finished"]


def test_the_mlp_is_at_least_as_good_as_ridge_on_held_out_images(data):
    report = run(data, Training(hidden=64, max_epochs=40, batch=32, hidden_dropout=0.2), rank=24)
    assert report["mlp"]["validation_r2_mean"] > report["ridge"]["validation_r2_mean"] - 0.005


def test_alphas_are_kept_and_drawn(data):
    report = run(data, per_target=True)
    chosen = np.load(data / "out" / "t_alphas.npy")
    assert chosen.shape == (24,) and set(chosen) <= set(ALPHAS)
    assert sum(report["ridge"]["targets_per_alpha"].values()) == 24
    drawing = ElementTree.parse(data / "out" / "t_alphas.svg").getroot()
    lines = drawing.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [len(line.get("points").split()) for line in lines] == [len(ALPHAS)] * len(GROUPS)
    words = [text.text for text in drawing.findall(".//{http://www.w3.org/2000/svg}text")]
    assert {"a", "b"} <= set(words)


def test_a_file_shorter_than_its_header_says_is_told(data):
    whole = (data / "targets.npy").read_bytes()
    (data / "targets.npy").write_bytes(whole[:-100])
    with pytest.raises(BadFile, match="targets.npy is not a whole plain array"):
        run(data)
    assert contents(data / "out") == {}


def test_fewer_images_than_targets_are_told(data):
    np.save(data / "voxels.npy", np.load(data / "voxels.npy")[:100])
    with pytest.raises(ValueError, match="expected as many rows of targets as of voxels, got 150 and 100"):
        run(data)


@pytest.mark.parametrize("name", ["voxels", "targets"])
def test_nan_is_told_and_leaves_nothing_that_loads(data, name):
    values = np.load(data / f"{name}.npy")
    values[20, 5] = np.nan
    np.save(data / f"{name}.npy", values)
    with pytest.raises(ValueError, match=rf"expected finite {name}, got NaN or infinity in 1 of them \(first: .* 5\)"):
        run(data)
    assert not list((data / "out").glob("*.safetensors"))


def test_constant_voxels_and_targets_are_no_obstacle(data):
    X, Y = np.load(data / "voxels.npy"), np.load(data / "targets.npy")
    X[:, 3], Y[:, 4] = 7, -2
    np.save(data / "voxels.npy", X)
    np.save(data / "targets.npy", Y)
    report = run(data)
    assert np.isfinite([report[name]["validation_r2_mean"] for name in ("ridge", "mlp")]).all()
    model = LowRank.load(data / "out" / "t_ridge.safetensors")
    assert not model.down[3].any()
    np.testing.assert_allclose(model.predict(X)[:, 4], -2, atol=1e-3)


def test_a_fingerprint_is_of_length_and_content(tmp_path, rng):
    path, data = tmp_path / "x", rng.bytes(3_000_000)
    path.write_bytes(data)
    first = fingerprint(path)
    for other in (data[:-1], data + b"\0", b"x" + data[1:], data[:-1] + b"x", data[::-1]):
        path.write_bytes(other)
        assert fingerprint(path) != first
    path.write_bytes(data)
    assert fingerprint(path) == first
    path.write_bytes(b"")
    assert fingerprint(path)
