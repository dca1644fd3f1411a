"""`python -m precompute demo --smoke` runs every stage, resumes, and writes a bundle that opens and reconstructs."""

import subprocess
import sys

import pytest
from conftest import ROOT

from recon.bundle import load_bundle
from recon.pictures import area_average
from recon.reconstruct import reconstruct_layout, reconstruct_picture
from recon.settings import Settings


def run(work, *more):
    command = [sys.executable, "-m", "precompute", "demo", "--smoke", "--work", str(work), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    work = tmp_path_factory.mktemp("smoke")
    first = run(work)
    assert first.returncode == 0, first.stderr
    return work


def test_smoke_makes_a_bundle_that_reconstructs(smoke):
    bundle = load_bundle(smoke / "bundle")
    assert bundle.manifest["simulated"]
    test = bundle.subject.test
    *_, layout = reconstruct_layout(test.response(0), area_average(test.images[:1], 64)[0], bundle, "mlp")
    captions = test.labels[0]["captions"]
    *_, picture = reconstruct_picture(layout.images["ridge"], test.response(0), captions, bundle, Settings())
    assert layout.last and picture.last and picture.images["lcm"].shape == (128, 128, 3)


def test_a_rerun_does_only_what_is_missing(smoke):
    (smoke / "evaluation.json").unlink()
    again = run(smoke)
    assert again.returncode == 0, again.stderr
    assert "VDVAE: there already" in again.stdout and "evaluate: " in again.stdout
    assert "evaluate: there already" not in again.stdout


def test_a_folder_of_other_settings_is_refused(smoke):
    path = smoke / "settings.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    refused = run(smoke)
    assert refused.returncode != 0 and "other settings" in refused.stderr
