"""The demo subject from nothing to a bundle: stages in order, each skipped when its outputs are there."""

from __future__ import annotations

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
from precompute.demo.train_vdvae import DEMO_CONFIG, train_vdvae
from precompute.encode import encode
from precompute.evaluate import evaluate
from precompute.features import extract_latents
from precompute.fit import fit
from recon.bundle import FILES, load_bundle, write_manifest
from recon.files import BadFile, load_json, open_array, save_array, save_json
from recon.mlp import Training
from recon.pictures import area_average
from recon.vdvae import VDVAEConfig

N_LAYERS = 11  # of the demo VDVAE's 15 layers: all up to 16 × 16


@dataclass(frozen=True)
class Settings:
    """Everything that changes the outputs."""

    seed: int = 0
    n_train: int = 9000
    n_test: int = 300
    vdvae_steps: int = 4200
    vdvae: VDVAEConfig = DEMO_CONFIG
    rank: int = 192
    mlp: Training = Training(hidden=384)


SMOKE = Settings(
    n_train=240,
    n_test=24,
    vdvae_steps=12,
    vdvae=VDVAEConfig(
        enc_blocks="64d2,32d2,16x1,16d2,8x1,8d2,4d4,1x1",
        dec_blocks="1x1,4m1,4x1,8m4,8x2,16m8,16x4,32m16,32x2,64m32",
        width=32,
        custom_widths={64: 8, 32: 16},
        zdim=4,
        bottleneck=0.5,
        n_mixtures=2,
    ),
    rank=16,
    mlp=Training(hidden=32, max_epochs=3, batch=32),
)


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"


def _check_settings(work: Path, settings: Settings) -> None:
    """A folder holds the outputs of one set of settings. Raises BadFile when they differ."""
    path, wanted = work / "settings.json", asdict(settings)
    wanted["vdvae"]["custom_widths"] = {str(k): v for k, v in settings.vdvae.custom_widths.items()}
    if path.exists() and load_json(path) != wanted:
        raise BadFile(f"{work} holds the demo with other settings: name another --work folder, or remove this one")
    save_json(path, wanted)


def _resize(work: Path, size: int) -> None:
    for split in ("train", "test"):
        images = open_array(work / "scenes" / f"{split}.npy")
        parts = [area_average(images[k : k + 500], size) for k in range(0, len(images), 500)]
        save_array(work / "scenes" / f"{split}_{size}.npy", np.concatenate(parts))


def stages(work: Path, s: Settings) -> list[tuple[str, list[str], Callable[[], object]]]:
    """(name, outputs relative to `work`, function) in order."""
    scenes, brain = work / "scenes", work / "brain"
    small = {split: scenes / f"{split}_64.npy" for split in ("train", "test")}
    latents = {split: work / f"latents_{split}.npy" for split in small}
    vdvae, subject, voxels = work / "vdvae.safetensors", work / "subject.h5", brain / "train_voxels.npy"

    def extract():
        for split in small:
            extract_latents(small[split], vdvae, latents[split], N_LAYERS)

    return [
        ("train scenes", ["scenes/train.json"], lambda: world.make_scenes(scenes, "train", s.n_train, s.seed)),
        ("test scenes", ["scenes/test.json"], lambda: world.make_scenes(scenes, "test", s.n_test, s.seed)),
        ("64-pixel scenes", ["scenes/test_64.npy"], lambda: _resize(work, s.vdvae.image_size)),
        ("responses", ["brain/betas.npy"], lambda: scan.make_responses(scenes, brain, s.seed)),
        ("subject", ["subject.h5"], lambda: scan.make_subject(scenes, brain, subject, s.seed)),
        (
            "VDVAE",
            ["vdvae.safetensors", "vdvae.training.json"],
            lambda: train_vdvae(small["train"], small["test"], vdvae, s.vdvae_steps, s.seed, s.vdvae, N_LAYERS),
        ),
        ("latents", ["latents_train.npy", "latents_test.npy"], extract),
        ("fit", ["fit.json"], lambda: fit(voxels, latents["train"], vdvae, work, N_LAYERS, s.rank, s.mlp)),
        ("encode", ["encode.json"], lambda: encode(small, latents, voxels, subject, work)),
        (
            "evaluate",
            ["evaluation.json"],
            lambda: evaluate(small["test"], latents["test"], work, s.seed, work),
        ),
    ]


def run_demo(work: Path, out: Path, settings: Settings, command: str) -> dict:
    """Runs what is missing in `work`, then assembles and opens the bundle `out`. Returns the evaluation."""
    _check_settings(work, settings)
    log = work / "stages.json"
    done = load_json(log) if log.exists() else {}
    for name, outputs, run in stages(work, settings):
        if all((work / o).exists() for o in outputs):
            print(f"{name}: there already")
            continue
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        run()
        done[name] = {"seconds": round(time.perf_counter() - start, 1), "commit": _commit(), "command": command}
        save_json(log, done)
        print(f"{name}: {done[name]['seconds']} s", flush=True)
    return _assemble(work, out, settings, done)


def _assemble(work: Path, out: Path, settings: Settings, done: dict) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, "contact_sheet.png"):
        shutil.copyfile(work / name, out / name)
    evaluation = load_json(work / "evaluation.json")
    provenance = {
        "stages": done,
        "settings": load_json(work / "settings.json"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    reports = {name: load_json(work / f"{name}.json") for name in ("vdvae.training", "fit", "encode")}
    save_json(out / "provenance.json", provenance | {"reports": reports})
    content = {"name": "demo", "simulated": True, "n_layers": N_LAYERS, "evaluation": evaluation}
    write_manifest(out, content)
    load_bundle(out)
    return evaluation
