"""`python -m precompute demo --smoke` runs every stage, resumes, and writes a bundle that opens and reconstructs."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from precompute.__main__ import app
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import load_evaluation
from recon.bundle.manifest import TARGETS
from recon.bundle.subject import load_subject
from recon.images import area_average
from recon.reconstruct import Shown, reconstruct
from recon.settings import REGRESSORS, Settings


def run(work):
    return CliRunner().invoke(app, ["demo", "--smoke", "--work", str(work)])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    work = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "precompute", "demo", "--smoke", "--work", str(work)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stderr
    return work


def test_smoke_makes_a_bundle_that_reconstructs(smoke):
    bundle = load_bundle(smoke / "bundle")
    assert bundle.manifest["simulated"]
    test = bundle.subject.test
    shown = Shown(area_average(test.images[:1], 64)[0], test.labels[0]["captions"])
    *_, picture, layout = reconstruct(test.response(0), bundle, Settings(), shown=shown)
    assert layout.last and picture.ready and picture.images["lcm"].shape == (192, 192, 3)


# --- nothing leaks ----------------------------------------------------------------------------------------------------

FITTING = ("subject", "targets", "fit", "response")  # the encoding model: tests/precompute/fitting/test_encode.py
FIT = f"""
import sys
from pathlib import Path
from precompute.demo.pipeline import stages
from precompute.demo.recipe import SMOKE
for name, _, run in stages(Path(sys.argv[1]), SMOKE):
    if name in {FITTING}:
        run()
"""  # a process of its own, as the first fit's: threads and precision are chosen once a process
FITTED = (
    *("brain/train_voxels.npy", "captions.h5", "response.safetensors"),
    *(f"fitted/{target}_{name}.safetensors" for target in TARGETS for name in REGRESSORS),
    *(f"fitted/{target}_{name}_cv_r2.npy" for target in TARGETS for name in REGRESSORS),
)


def change_test_set(work, rng):
    """Other test pictures and test responses; what training sees stays."""
    for name in ("test.npy", "test_64.npy"):
        pictures = np.load(work / "scenes" / name)
        np.save(work / "scenes" / name, rng.integers(0, 256, pictures.shape, np.uint8))
    betas, trials = np.load(work / "brain" / "betas.npy"), np.load(work / "brain" / "trials.npy")
    of_test = trials[:, 0] == 1
    betas[of_test] = rng.integers(-900, 900, (of_test.sum(), betas.shape[1]), np.int16)
    np.save(work / "brain" / "betas.npy", betas)


def test_other_test_pictures_and_responses_leave_every_fitted_array_as_it_was(smoke, tmp_path, rng):
    shutil.copyfile(smoke / "vdvae.safetensors", tmp_path / "vdvae.safetensors")
    for name in ("scenes", "brain", "clip"):
        shutil.copytree(smoke / name, tmp_path / name, ignore=shutil.ignore_patterns("train_voxels.npy"))
    change_test_set(tmp_path, rng)
    # with the networks that there are: training them twice does not give the same bits
    made = subprocess.run([sys.executable, "-c", FIT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    for name in FITTED:
        same = (smoke / name).read_bytes() == (tmp_path / name).read_bytes()
        assert same == (name != "captions.h5"), name
    one, other = (CaptionIndex.load(work / "captions.h5") for work in (smoke, tmp_path))
    assert one.captions == other.captions and one.embeddings.tobytes() == other.embeddings.tobytes()
    one, other = (load_subject(work / "subject.h5") for work in (smoke, tmp_path))
    assert one.ncsnr.tobytes() == other.ncsnr.tobytes()
    assert not np.array_equal(one.test.averaged(), other.test.averaged())


def test_a_rerun_does_only_what_is_missing(smoke):
    (smoke / "encode.json").unlink()
    again = run(smoke)
    assert again.exit_code == 0, again.output
    assert "VDVAE: there already" in again.stdout and "encode: " in again.stdout
    assert "encode: there already" not in again.stdout


def test_a_bundle_alone_is_evaluated_on_scenes_rendered_anew(smoke, tmp_path):
    shutil.copytree(smoke / "bundle", tmp_path / "bundle")
    where = ["--demo", "--folder", str(tmp_path / "work"), "--bundle", str(tmp_path / "bundle")]
    made = CliRunner().invoke(app, ["evaluate", *where, "--limit", "6", "--seeds", "1"])
    assert made.exit_code == 0, made.output
    for name in ("train.npy", "test.json"):
        assert (tmp_path / "work" / "scenes" / name).read_bytes() == (smoke / "scenes" / name).read_bytes()
    load_bundle(tmp_path / "bundle")
    assert load_evaluation(tmp_path / "bundle").n_images == 6


def test_a_folder_of_other_settings_is_refused(smoke):
    path = smoke / "settings.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    refused = run(smoke)
    assert refused.exit_code != 0 and "other settings" in refused.stderr
