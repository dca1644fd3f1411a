"""The demo subject from nothing to a bundle: stages in order, each skipped when its outputs are there."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from precompute.demo import scan, world
from precompute.demo.assess import assemble_pipeline, assess
from precompute.demo.checker import train_checker
from precompute.demo.demo_evaluation import evaluate_demo, render_scenes
from precompute.demo.sharpen_lcm import sharpen_lcm
from precompute.demo.train_clip import ClipSize, train_clip
from precompute.demo.train_codec import CodecSize, train_codec
from precompute.demo.train_lcm import Distillation, extract_walks, train_lcm
from precompute.demo.train_unet import UNetSize, extract_codes, train_unet
from precompute.demo.train_vdvae import DEMO_CONFIG, train_vdvae
from precompute.demo.training import Schedule
from precompute.demo.tune import try_strengths
from precompute.evaluation.evaluate import Options
from precompute.evaluation.summary import attach, overview
from precompute.fitting.encode import encode
from precompute.fitting.features import extract_embeddings, extract_latents, extract_prompts
from precompute.fitting.fit import fit, layer_groups
from precompute.fitting.response_model import fit_response
from precompute.fitting.train_network import Training
from precompute.team import ALONE, Team
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import FILES, OWN_DECODERS, read_manifest, write_manifest
from recon.decoders.vdvae import VDVAE
from recon.decoders.vdvae_layers import VDVAEConfig
from recon.files import BadFile, load_json, open_array, save_array, save_json
from recon.images import area_average

N_LAYERS = 11  # of the demo VDVAE's 15 layers: all up to 16 × 16
SHEETS = ("contact_sheet.png", "stage2_sheet.jpg")  # the evaluation draws them
JUDGES = ("vision/config.json", "vision/model.safetensors", "checker.safetensors")  # the app does not need them
REPORTS = (
    *(f"{name}.training" for name in ("vdvae", "clip", "codec", "unet", "lcm_soft", "lcm_lora", "checker")),
    *("samples", "strengths", "latents_fit", "prompt_fit", "image_fit", "encode", "response"),
)
EXTRAS = ("samples.jpg", *JUDGES)  # beside the bundle's files


@dataclass(frozen=True)
class Settings:
    """Everything that changes the outputs."""

    seed: int = 0
    n_train: int = 9000
    n_test: int = 300
    vdvae_schedule: Schedule = Schedule(
        4200, 1e-3, 16, betas=(0.9, 0.9), clip_norm=200.0, skip_norm=400.0, save_every=500
    )
    vdvae: VDVAEConfig = DEMO_CONFIG
    clip_schedules: tuple[Schedule, Schedule, Schedule] = (
        Schedule(600, 1e-3, 128, weight_decay=0.05),
        Schedule(550, 8e-4, 128, weight_decay=0.05),
        Schedule(1500, 1e-3, 64, weight_decay=0.05),
    )
    clip: ClipSize = ClipSize()
    codec_schedule: Schedule = Schedule(9000, 2e-3, 8, weight_decay=1e-4)
    codec: CodecSize = CodecSize()
    unet_schedules: tuple[Schedule, ...] = (
        Schedule(5000, 1e-3, 32),
        Schedule(2200, 8e-4, 48),
    )
    unet: UNetSize = UNetSize()
    lcm_schedule: Schedule = Schedule(2900, 1e-3, 32, weight_decay=0.0, average=0.99)
    sharpen_schedule: Schedule = Schedule(900, 1e-3, 32, weight_decay=0.0, average=0.99, save_every=100)
    lcm: Distillation = Distillation()
    checker_schedule: Schedule = Schedule(900, 2e-3, 64, weight_decay=0.02, clip_norm=5.0, average=0.99)
    ranks: tuple[int, int, int] = (192, 96, 96)  # of latents, prompt and image embedding
    mlps: tuple[Training, Training, Training] = (Training(hidden=384), Training(hidden=192), Training(hidden=192))


_FEW = Schedule(4, 1e-3, 8)
SMOKE = Settings(
    n_train=240,
    n_test=24,
    vdvae_schedule=Schedule(12, 1e-3, 16, betas=(0.9, 0.9), clip_norm=200.0, skip_norm=400.0),
    vdvae=VDVAEConfig(
        enc_blocks="64d2,32d2,16x1,16d2,8x1,8d2,4d4,1x1",
        dec_blocks="1x1,4m1,4x1,8m4,8x2,16m8,16x4,32m16,32x2,64m32",
        width=32,
        custom_widths={64: 8, 32: 16},
        zdim=4,
        bottleneck=0.5,
        n_mixtures=2,
    ),
    clip_schedules=(_FEW, _FEW, _FEW),
    clip=ClipSize(
        text_width=32, text_layers=1, vision_width=32, vision_layers=1, patch=32, head_width=16, embedding=16
    ),
    codec_schedule=_FEW,
    codec=CodecSize(decoder_blocks=(0, 0, 0, 0)),
    unet_schedules=(_FEW,),
    unet=UNetSize(channels=(16, 32), groups=4),
    lcm_schedule=_FEW,
    sharpen_schedule=_FEW,
    lcm=Distillation(walks=100, own_walks=100, rank=4),
    checker_schedule=_FEW,
    ranks=(16, 16, 16),
    mlps=(Training(hidden=32, max_epochs=3, batch=32),) * 3,
)


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"


def _check_settings(work: Path, wanted: dict) -> None:
    """A folder holds the outputs of one set of settings. Raises BadFile when they differ."""
    path = work / "settings.json"
    if path.exists() and load_json(path) != wanted:
        raise BadFile(f"{work} holds the demo with other settings: name another --work folder, or remove this one")
    save_json(path, wanted)


def _resize(work: Path, size: int) -> None:
    for split in ("train", "test"):
        images = open_array(work / "scenes" / f"{split}.npy")
        parts = [area_average(images[k : k + 500], size) for k in range(0, len(images), 500)]
        save_array(work / "scenes" / f"{split}_{size}.npy", np.concatenate(parts))


def _extract(work: Path) -> None:
    """Regression targets of the training pictures, true latents of the test pictures, and the caption index."""
    scenes, labels = work / "scenes", load_json(work / "scenes" / "train.json")
    for split in ("train", "test"):
        latents = work / f"latents_{split}.npy"
        extract_latents(scenes / f"{split}_64.npy", VDVAE.load(work / "vdvae.safetensors"), latents, N_LAYERS)
    embeddings = {split: work / f"image_{split}.npy" for split in ("train", "test")}
    for split, path in embeddings.items():
        extract_embeddings(scenes / f"{split}.npy", work / "clip", path)
    captions = [e["captions"] for e in labels]
    CaptionIndex([five[0] for five in captions], *map(open_array, embeddings.values())).save(work / "captions.h5")
    extract_prompts(captions, work / "clip", work / "prompt_train.npy")


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
        fit(target, work / "brain" / "train_voxels.npy", work / f"{target}_train.npy", columns, work, rank, training)


def _response(latents: dict[str, Path], voxels: Path, work: Path) -> None:
    save_json(work / "response.json", fit_response(latents, voxels, work))


def _true_ncsnr(brain: Path) -> np.ndarray:
    """(n_voxels,) what the simulator gave each voxel."""
    with np.load(brain / "truth.npz", allow_pickle=False) as truth:
        return truth["ncsnr"]


def stages(work: Path, s: Settings) -> list[tuple[str, list[str], Callable[[], object]]]:
    """(name, outputs relative to `work`, function) in order."""
    scenes, brain, clip, codec, unet = (work / name for name in ("scenes", "brain", "clip", "codec", "unet"))
    small = {split: scenes / f"{split}_64.npy" for split in ("train", "test")}
    latents = {split: work / f"latents_{split}.npy" for split in small}
    vdvae, soft, lora, checker = (work / f"{name}.safetensors" for name in ("vdvae", "lcm_soft", "lcm_lora", "checker"))
    codes, walks, own_walks = work / "codes_train.npy", work / "walks.npz", work / "own_walks.npz"
    voxels, subject = brain / "train_voxels.npy", work / "subject.h5"

    def walk(out: Path, n_walks: int, seed: int, lora: Path | None = None) -> None:
        extract_walks(scenes, codes, clip, unet, out, n_walks, s.lcm.guidance, seed, lora)

    return [
        ("train scenes", ["scenes/train.json"], lambda: world.make_scenes(scenes, "train", s.n_train, s.seed)),
        ("test scenes", ["scenes/test.json"], lambda: world.make_scenes(scenes, "test", s.n_test, s.seed)),
        ("64-pixel scenes", ["scenes/test_64.npy"], lambda: _resize(work, s.vdvae.image_size)),
        ("responses", ["brain/betas.npy"], lambda: scan.make_responses(scenes, brain, s.seed)),
        ("subject", ["subject.h5"], lambda: scan.make_subject(scenes, brain, subject, s.seed)),
        (
            "VDVAE",
            ["vdvae.safetensors", "vdvae.training.json"],
            lambda: train_vdvae(small["train"], small["test"], vdvae, s.vdvae_schedule, s.seed, s.vdvae, N_LAYERS),
        ),
        ("CLIP", ["clip.training.json"], lambda: train_clip(scenes, clip, s.clip_schedules, s.clip, s.seed)),
        (
            "autoencoder",
            ["codec.training.json"],
            lambda: train_codec(scenes / "train.npy", scenes / "test.npy", codec, s.codec_schedule, s.codec, s.seed),
        ),
        ("codes", ["codes_train.npy"], lambda: extract_codes(scenes / "train.npy", codec, codes)),
        (
            "UNet",
            ["unet.training.json"],
            lambda: train_unet(scenes, codes, clip, unet, s.unet_schedules, s.unet, s.seed),
        ),
        ("walks", ["walks.npz"], lambda: walk(walks, s.lcm.walks, s.seed)),
        (
            "soft LCM-LoRA",
            ["lcm_soft.safetensors", "lcm_soft.training.json"],
            lambda: train_lcm(walks, unet, soft, s.lcm_schedule, s.lcm.rank, s.seed),
        ),
        ("own walks", ["own_walks.npz"], lambda: walk(own_walks, s.lcm.own_walks, s.seed + 1, soft)),
        (
            "LCM-LoRA",
            ["lcm_lora.safetensors", "lcm_lora.training.json"],
            lambda: sharpen_lcm(walks, own_walks, unet, soft, lora, s.sharpen_schedule, s.seed + 1),
        ),
        (
            "pipeline",
            ["diffusion/model_index.json", "vision/model.safetensors"],
            lambda: assemble_pipeline(clip, codec, unet, work),
        ),
        ("checker", ["checker.training.json"], lambda: train_checker(scenes, checker, s.checker_schedule, s.seed)),
        ("samples", ["samples.json"], lambda: assess(work / "diffusion", lora, checker, scenes, work, s.seed)),
        ("targets", ["prompt_train.npy", "captions.h5", "latents_test.npy", "image_test.npy"], lambda: _extract(work)),
        ("fit", ["image_fit.json"], lambda: _fit(work, s)),
        ("encode", ["encode.json"], lambda: encode(small, latents, voxels, subject, work, _true_ncsnr(brain))),
        ("response", ["response.safetensors", "response.json"], lambda: _response(latents, voxels, work)),
        (
            "strengths",
            ["strengths.json"],
            lambda: try_strengths(scenes, voxels, work, clip, N_LAYERS, s.mlps[0], checker, s.seed),
        ),
    ]


def run_demo(work: Path, out: Path, settings: Settings, options: Options, command: str) -> dict:
    """Runs what is missing in `work`, assembles the bundle `out` and evaluates it. Returns the means of the evaluation."""
    _check_settings(work, json.loads(json.dumps(asdict(settings))))
    log = work / "stages.json"
    done = load_json(log) if log.exists() else {}
    for name, outputs, run in stages(work, settings):
        if all((work / o).exists() for o in outputs):
            print(f"{name}: there already")
            continue
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        run()
        done[name] = _record(start, command)
        save_json(log, done)
        print(f"{name}: {done[name]['seconds']} s", flush=True)
    _assemble(work, out, settings, done)
    return evaluate_bundle(work, out, options, command)


def _record(start: float, command: str) -> dict:
    return {"seconds": round(time.perf_counter() - start, 1), "commit": _commit(), "command": command}


def evaluate_bundle(work: Path, out: Path, options: Options, command: str, me: Team = ALONE) -> dict:
    """Evaluates the demo's bundle `out`, and makes that a part of it; returns the means.

    `work` keeps what has been computed, and the scenes, which are rendered if they are not there. The processes of a team share
    the pieces of the evaluation. Raises BadFile.
    """
    read_manifest(out)
    start, provenance = time.perf_counter(), load_json(out / "provenance.json")
    if me.first:
        _check_settings(work, provenance["settings"])
        render_scenes(work / "scenes", provenance["settings"])
    me.wait()
    evaluation = evaluate_demo(work / "scenes", out, work, options, me)
    if me.first:
        for name in SHEETS:
            shutil.copyfile(work / name, out / name)
        attach(work, out)
        provenance["stages"]["evaluate"] = _record(start, command)
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
        "settings": json.loads(json.dumps(asdict(settings))),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    reports = {name: load_json(work / f"{name}.json") for name in REPORTS}
    earlier = load_json(out / "provenance.json") if (out / "provenance.json").exists() else {}
    notes = {"notes": earlier["notes"]} if "notes" in earlier else {}  # by hand: kept
    save_json(out / "provenance.json", provenance | {"reports": reports} | notes)
    content = {"name": "demo", "simulated": True, "n_layers": N_LAYERS, "components": settings.ranks[0]}
    write_manifest(out, content | {"decoders": "own"})
    load_bundle(out).diffusion  # noqa: B018 - opens every part
