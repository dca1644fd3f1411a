"""The demo's decoders from a corpus of scenes: VDVAE, autoencoder, UNet, LCM-LoRA.

They take hours on two cores and minutes on a GPU: a machine that has one needs this module, skia-python and diffusers, and CLIP's
folder in `--work`. What it makes is found there by `python -m precompute demo`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from precompute.demo import world
from precompute.demo.recipe import N_LAYERS, SMOKE, Settings
from precompute.demo.sharpen_lcm import sharpen_lcm
from precompute.demo.train_codec import train_codec
from precompute.demo.train_lcm import extract_walks, train_lcm
from precompute.demo.train_unet import extract_codes, extract_tokens, train_unet
from precompute.demo.train_vdvae import train_vdvae
from recon.files import BadFile, load_json, save_json

Stages = Iterable[tuple[str, list[str], Callable[[], object]]]  # name, outputs relative to the work folder, function


def decoder_stages(work: Path, s: Settings) -> Stages:
    """In order. The UNet needs CLIP's folder, `work`/clip, and the VDVAE's and the autoencoder's reports need the test scenes."""
    scenes, clip, codec, unet = (work / name for name in ("scenes", "clip", "codec", "unet"))
    corpus, labels = scenes / "corpus.npy", scenes / "corpus.json"
    vdvae, soft, lora = (work / f"{name}.safetensors" for name in ("vdvae", "lcm_soft", "lcm_lora"))
    codes, ids = work / "codes_corpus.npy", work / "tokens_corpus.npy"
    walks, own_walks = work / "walks.npz", work / "own_walks.npz"
    size = world.SMALL

    def walk(out: Path, n_walks: int, seed: int, lora: Path | None = None) -> None:
        extract_walks(ids, codes, clip, unet, out, n_walks, s.lcm.guidance, seed, lora)

    return [
        ("test scenes", ["scenes/test.json"], lambda: world.make_scenes(scenes, "test", s.n_test, s.seed)),
        ("corpus", ["scenes/corpus.json"], lambda: world.make_scenes(scenes, "corpus", s.n_corpus, s.seed)),
        (
            "VDVAE",
            ["vdvae.safetensors", "vdvae.training.json"],
            lambda: train_vdvae(
                scenes / f"corpus_{size}.npy",
                scenes / f"test_{size}.npy",
                vdvae,
                s.vdvae_schedule,
                s.seed,
                s.vdvae,
                N_LAYERS,
            ),
        ),
        (
            "autoencoder",
            ["codec.training.json"],
            lambda: train_codec(corpus, scenes / "test.npy", codec, s.codec_schedule, s.codec, s.seed),
        ),
        ("codes", ["codes_corpus.npy"], lambda: extract_codes(corpus, codec, codes)),
        ("tokens", ["tokens_corpus.npy"], lambda: extract_tokens(labels, clip, ids)),
        (
            "UNet",
            ["unet.training.json"],
            lambda: train_unet(ids, codes, clip, unet, s.unet_schedules, s.unet, s.seed),
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
    ]


def check_settings(work: Path, wanted: dict) -> None:
    """A folder holds the outputs of one set of settings. Raises BadFile when they differ."""
    path = work / "settings.json"
    if path.exists() and load_json(path) != wanted:
        raise BadFile(f"{work} holds the demo with other settings: name another --work folder, or remove this one")
    save_json(path, wanted)


def as_json(settings: Settings) -> dict:
    return json.loads(json.dumps(asdict(settings)))


def run_stages(work: Path, stages: Stages, command: str) -> dict:
    """Runs those whose outputs are missing. Returns `work`/stages.json: how long each took, on which device, by which code."""
    log = work / "stages.json"
    for name, outputs, run in stages:
        if all((work / o).exists() for o in outputs):
            print(f"{name}: there already")
            continue
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        run()
        done = record(start, command)
        save_json(log, (load_json(log) if log.exists() else {}) | {name: done})
        print(f"{name}: {done['seconds']} s", flush=True)
    return load_json(log) if log.exists() else {}


def record(start: float, command: str) -> dict:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    seconds = round(time.perf_counter() - start, 1)
    return {"seconds": seconds, "device": device, "commit": _commit(), "command": command}


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"


def main(
    work: Annotated[Path, typer.Option(help="Folder for what is made; resumed when it is there already.")] = Path(
        "data/demo"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="A stage to run; may be given several times. All by default.")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Tiny networks and few steps, to try the scripts.")] = False,
) -> None:
    """Trains the decoders of the simulated subject."""
    settings = SMOKE if smoke else Settings()
    check_settings(work, as_json(settings))
    stages = [stage for stage in decoder_stages(work, settings) if not only or stage[0] in only]
    run_stages(work, stages, " ".join(["python -m precompute.demo.decoders", *sys.argv[1:]]))


if __name__ == "__main__":
    typer.run(main)
