"""The demo subject from nothing to a bundle: stages in order, each skipped when its outputs are there."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from precompute.demo import scan, world
from precompute.demo.assess import assemble_pipeline, assess
from precompute.demo.checker import train_checker
from precompute.demo.decoders import as_json, check_settings, decoder_stages, record, run_stages
from precompute.demo.demo_evaluation import evaluate_demo, render_scenes
from precompute.demo.recipe import N_LAYERS, Settings
from precompute.demo.train_clip import train_clip
from precompute.demo.tune import HeldOut, choose_rescaling, copy_regressors, try_strengths
from precompute.evaluation.evaluate import Options
from precompute.evaluation.summary import attach, overview
from precompute.fitting.encode import Encoding, encode_stage
from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts
from precompute.fitting.fit import Fit, fit_stage, layer_groups
from precompute.fitting.response_model import response_stage
from precompute.folder_lock import working_in
from precompute.stage import make, place_of
from precompute.team import ALONE, Team
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import FILES, OWN_DECODERS, read_manifest, write_manifest
from recon.decoders.vdvae import VDVAE
from recon.files import load_json, open_array, save_json

SHEETS = ("contact_sheet.png", "stage2_sheet.jpg")  # the evaluation draws them
JUDGES = ("vision/config.json", "vision/model.safetensors", "checker.safetensors")  # the app does not need them
REPORTS = (
    *(f"{name}.training" for name in ("vdvae", "clip", "codec", "unet", "lcm_soft", "lcm_lora", "checker")),
    *("samples", "fitted/latents_fit", "fitted/prompt_fit", "fitted/image_fit"),
    *("encode", "response", "rescaling", "strengths"),
)
EXTRAS = ("samples.jpg", *JUDGES)  # beside the bundle's files


def _extract(work: Path) -> None:
    """Regression targets of the training pictures, true latents of the test pictures, and the caption index."""
    scenes, labels = work / "scenes", load_json(work / "scenes" / "train.json")
    unfinished = place_of(work, "targets")
    for split in ("train", "test"):
        vdvae = VDVAE.load(work / "vdvae.safetensors")
        extract_latents(scenes / f"{split}_64.npy", vdvae, N_LAYERS, Into(work / f"latents_{split}.npy", unfinished))
    embeddings = {split: work / f"image_{split}.npy" for split in ("train", "test")}
    for split, path in embeddings.items():
        extract_embeddings(scenes / f"{split}.npy", work / "clip", Into(path, unfinished))
    captions = [e["captions"] for e in labels]
    CaptionIndex([five[0] for five in captions], *map(open_array, embeddings.values())).save(work / "captions.h5")
    extract_prompts(captions, work / "clip", Into(work / "prompt_train.npy", unfinished))


def _fit(work: Path, s: Settings) -> None:
    """Ridge and MLP to each target; one alpha for each VDVAE layer, for each token of the prompt, for the image embedding."""
    config = load_json(work / "clip" / "config.json")
    width = config["text_config"]["hidden_size"]
    tokens = config["text_config"]["max_position_embeddings"]
    groups = {
        "latents": layer_groups(VDVAE.load(work / "vdvae.safetensors"), N_LAYERS),
        "prompt": {f"token {k}": slice(k * width, (k + 1) * width) for k in range(tokens)},
        "image": {"embedding": slice(0, config["projection_dim"])},
    }
    for (target, columns), rank, training in zip(groups.items(), s.ranks, s.mlps):
        voxels, targets = work / "brain" / "train_voxels.npy", work / f"{target}_train.npy"
        make(fit_stage(Fit(target, columns, rank, training), voxels, targets, work / "fitted"))


def _tune(work: Path, s: Settings, choose: Callable[[HeldOut], dict]) -> None:
    held_out = HeldOut.open(
        scenes=work / "scenes",
        voxels=work / "brain" / "train_voxels.npy",
        folder=work,
        clip=work / "clip",
        n_layers=N_LAYERS,
        training=s.mlps[0],
        checker=work / "checker.safetensors",
    )
    choose(held_out)


def _rescale(work: Path, s: Settings) -> None:
    copy_regressors(work / "fitted", work)
    _tune(work, s, lambda held_out: choose_rescaling(held_out, work / "latents_train.npy", work, s.seed))


def stages(work: Path, s: Settings) -> list[tuple[str, list[str], Callable[[], object]]]:
    """(name, outputs relative to `work`, function) in order."""
    scenes, brain, clip, codec, unet = (work / name for name in ("scenes", "brain", "clip", "codec", "unet"))
    small = {split: scenes / f"{split}_{world.SMALL}.npy" for split in ("train", "test")}
    latents = {split: work / f"latents_{split}.npy" for split in small}
    lora, checker = (work / f"{name}.safetensors" for name in ("lcm_lora", "checker"))
    voxels, subject = brain / "train_voxels.npy", work / "subject.h5"
    embeddings = {split: work / f"image_{split}.npy" for split in small}
    encoding = Encoding(small, latents, embeddings, voxels, subject, brain / "truth.npz")
    return [
        ("train scenes", ["scenes/train.json"], lambda: world.make_scenes(scenes, "train", s.n_train, s.seed)),
        ("test scenes", ["scenes/test.json"], lambda: world.make_scenes(scenes, "test", s.n_test, s.seed)),
        ("responses", ["brain/betas.npy"], lambda: scan.make_responses(scenes, brain, s.seed)),
        ("subject", ["subject.h5"], lambda: scan.make_subject(scenes, brain, subject, s.seed)),
        ("CLIP", ["clip.training.json"], lambda: train_clip(scenes, clip, s.clip_schedules, s.clip, s.seed)),
        *decoder_stages(work, s),
        (
            "pipeline",
            ["diffusion/model_index.json", "vision/model.safetensors"],
            lambda: assemble_pipeline(clip, codec, unet, work),
        ),
        ("checker", ["checker.training.json"], lambda: train_checker(scenes, checker, s.checker_schedule, s.seed)),
        ("samples", ["samples.json"], lambda: assess(work / "diffusion", lora, checker, scenes, work, s.seed)),
        ("targets", ["prompt_train.npy", "captions.h5", "latents_test.npy", "image_test.npy"], lambda: _extract(work)),
        ("fit", ["fitted/image_fit.json"], lambda: _fit(work, s)),
        ("encode", ["encode.json"], lambda: make(encode_stage(encoding, work))),
        ("response", ["response.safetensors", "response.json"], lambda: make(response_stage(latents, voxels, work))),
        ("rescaling", ["rescaling.json"], lambda: _rescale(work, s)),
        ("strengths", ["strengths.json"], lambda: _tune(work, s, lambda h: try_strengths(h, work, s.seed))),
    ]


def run_demo(work: Path, out: Path, settings: Settings, options: Options, command: str) -> dict:
    """Runs what is missing in `work`, assembles the bundle `out` and evaluates it. Returns the means of the evaluation."""
    with working_in(work):
        check_settings(work, as_json(settings))
        done = run_stages(work, stages(work, settings), command)
        _assemble(work, out, settings, done)
        return evaluate_bundle(work, out, options, command)


def evaluate_bundle(work: Path, out: Path, options: Options, command: str, me: Team = ALONE) -> dict:
    """Evaluates the demo's bundle `out`, and makes that a part of it; returns the means.

    `work` keeps what has been computed, and the scenes, which are rendered if they are not there. The processes of a team share
    the pieces of the evaluation. Raises BadFile.
    """
    read_manifest(out)
    start, provenance = time.perf_counter(), load_json(out / "provenance.json")
    if me.first:
        check_settings(work, provenance["settings"])
        render_scenes(work / "scenes", provenance["settings"])
    me.wait()
    evaluation = evaluate_demo(work / "scenes", out, work, options, me)
    if me.first:
        for name in SHEETS:
            shutil.copyfile(work / name, out / name)
        attach(work, out)
        provenance["stages"]["evaluate"] = record(start, command)
        save_json(out / "provenance.json", provenance)
    return overview(evaluation)


def _assemble(work: Path, out: Path, settings: Settings, done: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in EVALUATION_FILES:  # of other parts
        (out / name).unlink(missing_ok=True)
    for name in (*FILES, *OWN_DECODERS, *EXTRAS):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / name, out / name)
    provenance = {
        "stages": done,
        "settings": as_json(settings),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    reports = {Path(name).name: load_json(work / f"{name}.json") for name in REPORTS}
    earlier = load_json(out / "provenance.json") if (out / "provenance.json").exists() else {}
    notes = {"notes": earlier["notes"]} if "notes" in earlier else {}  # by hand: kept
    save_json(out / "provenance.json", provenance | {"reports": reports} | notes)
    content = {"name": "demo", "simulated": True, "n_layers": N_LAYERS, "components": settings.ranks[0]}
    learned = {"n_corpus": settings.n_corpus, "n_train": settings.n_train, "rescaling": reports["rescaling"]["chosen"]}
    write_manifest(out, content | {"decoders": "own"} | learned)
    load_bundle(out).diffusion  # noqa: B018 - opens every part
