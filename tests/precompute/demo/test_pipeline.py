"""`python -m precompute demo --smoke` runs every stage, resumes, and writes a bundle that opens and reconstructs."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.demo.chain import report_of
from precompute.demo.decoders import train_networks
from precompute.demo.pipeline import bundle_stage
from precompute.demo.recipe import SMOKE, further
from precompute.demo.subject_stages import subject_stages
from precompute.demo.taken import PARTS, parts_of
from precompute.demo.train_codec import CodecSize
from precompute.demo.training import Schedule
from precompute.stage import make, state
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import load_evaluation
from recon.bundle.manifest import FILES, OWN_DECODERS, TARGETS
from recon.bundle.subject import load_subject
from recon.files import BadFile, load_json
from recon.images import area_average
from recon.reconstruct import Shown, reconstruct
from recon.settings import REGRESSORS, Settings

FROZEN = Schedule(2, 0.0, 8, weight_decay=0.0)


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

FITTING = (
    *("subject", "latents", "embeddings", "prompts", "captions", "response"),
    *(f"fit {target}" for target in TARGETS),
)  # the encoding model: tests/precompute/fitting/test_encode.py
FIT = f"""
import sys
from pathlib import Path
from precompute.demo.recipe import SMOKE
from precompute.demo.subject_stages import subject_stages
from precompute.stage import make
for stage in subject_stages(Path(sys.argv[1]), SMOKE):
    if stage.name in {FITTING}:
        make(stage)
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
    for name in ("scenes", "brain", "diffusion", "vision"):
        shutil.copytree(smoke / name, tmp_path / name, ignore=shutil.ignore_patterns("train_voxels.npy", ".stages"))
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


def states(work, settings=SMOKE) -> dict[str, str]:
    stages = subject_stages(work, settings)
    last = bundle_stage(work, work / "bundle", settings, parts_of(None))
    return {stage.name: state(stage) for stage in [*stages, last]}


def test_every_stage_is_done_and_what_is_missing_alone_is_made_again(smoke):
    assert set(states(smoke).values()) == {"done"}
    (smoke / "encode.json").unlink()
    for path in (smoke / "scenes").glob("corpus*"):  # nothing that is not done needs them
        path.unlink()
    again = run(smoke)
    assert again.exit_code == 0, again.output
    made = re.findall(r"^(.+): made in", again.stdout, re.M)
    assert made == ["encode"], again.stdout  # voxel scores are the same: nothing after it is stale
    assert "VDVAE: done" in again.stdout


def stale(work, **changes) -> set[str]:
    return {name for name, found in states(work, replace(SMOKE, **changes)).items() if found == "stale"}


def test_other_settings_make_those_stages_stale_that_have_them(smoke):
    assert stale(smoke, unet_schedules=(Schedule(5, 1e-3, 8),)) == {"UNet"}
    assert stale(smoke, n_train=200) == {"train scenes", "bundle"}
    assert stale(smoke, seed=1) >= {"test scenes", "responses", "CLIP", "VDVAE", "samples", "rescaling"}


@pytest.mark.exhaustive
def test_networks_are_taken_from_a_bundle_and_the_rest_is_made_of_them(smoke, tmp_path):
    where = ["--work", str(tmp_path), "--decoders", str(smoke / "bundle")]
    made = CliRunner().invoke(app, ["demo", "--smoke", *where])
    assert made.exit_code == 0, made.output
    assert "networks: made in" in made.stdout and "VDVAE" not in made.stdout and "corpus" not in made.stdout
    for name in (*FILES, *OWN_DECODERS):
        if name != "captions.h5":  # holds the time when it was written
            assert (tmp_path / "bundle" / name).read_bytes() == (smoke / "bundle" / name).read_bytes(), name
    told, before = (load_json(folder / "bundle" / "provenance.json") for folder in (tmp_path, smoke))
    assert told["stages"]["VDVAE"] == before["stages"]["VDVAE"] and told["reports"].keys() == before["reports"].keys()
    assert told["settings"] == before["settings"]


def test_networks_of_other_sizes_or_of_the_work_folder_itself_are_refused(smoke, tmp_path):
    with pytest.raises(BadFile, match="expected codec to be"):
        subject_stages(tmp_path, replace(SMOKE, codec=CodecSize(channels=16)), smoke / "bundle")
    with pytest.raises(BadFile, match="the work folder itself"):
        subject_stages(smoke / "bundle", SMOKE, smoke / "bundle")
    with pytest.raises(BadFile, match="vdvae.safetensors is missing"):
        subject_stages(tmp_path, SMOKE, tmp_path / "nowhere")


@pytest.mark.exhaustive
def test_a_training_goes_on_from_the_networks_of_a_bundle(smoke, tmp_path):
    """On another machine; there, what the work folder then holds is taken."""
    bundle, far = smoke / "bundle", tmp_path / "far"
    settings = replace(
        further(SMOKE),
        n_corpus=64,
        vdvae_schedule=FROZEN,
        unet_schedules=(FROZEN,),
        lcm_schedule=FROZEN,
        sharpen_schedule=FROZEN,
    )
    train_networks(far, settings, (), bundle, "by hand")
    for name in ("vdvae.safetensors", "diffusion/unet/diffusion_pytorch_model.safetensors", "lcm_lora.safetensors"):
        same(far / name, bundle / name)  # at a learning rate of zero: it started there
    told = load_json(far / "provenance.json")
    assert told["before"]["stages"]["VDVAE"] == load_json(bundle / "provenance.json")["stages"]["VDVAE"]
    assert told["stages"]["VDVAE"]["command"] == "by hand" and told["settings"]["n_corpus"] == 64
    here = tmp_path / "here"
    (stage,) = [stage for stage in subject_stages(here, SMOKE, far) if stage.name == "networks"]
    make(stage)
    assert all((here / name).exists() for name in PARTS) and report_of(stage)["before"] == told["before"]


def same(one, other):
    tensors = load_file(other)
    for name, value in load_file(one).items():
        torch.testing.assert_close(value.float(), tensors[name].float(), atol=2e-3, rtol=2e-3)


def test_a_bundle_alone_is_evaluated_on_scenes_rendered_anew(smoke, tmp_path):
    shutil.copytree(smoke / "bundle", tmp_path / "bundle")
    where = ["--demo", "--folder", str(tmp_path / "work"), "--bundle", str(tmp_path / "bundle")]
    made = CliRunner().invoke(app, ["evaluate", *where, "--limit", "6", "--seeds", "1"])
    assert made.exit_code == 0, made.output
    for name in ("train.npy", "test.json"):
        assert (tmp_path / "work" / "scenes" / name).read_bytes() == (smoke / "scenes" / name).read_bytes()
    load_bundle(tmp_path / "bundle")
    assert load_evaluation(tmp_path / "bundle").n_images == 6
