"""Trained networks of the demo that are there already: those of a bundle, or of a folder that `precompute.demo.decoders` filled.

Either holds the same parts (PARTS) and a `provenance.json`, which says how they were made.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from precompute.demo.chain import plain
from precompute.demo.recipe import Settings
from precompute.stage import Stage
from recon.bundle.manifest import ADAPTER
from recon.files import BadFile, load_json

PARTS = ("vdvae.safetensors", "lcm_lora.safetensors", "checker.safetensors", "diffusion", "vision")
FIXED = {  # what further training leaves as it is -> its name in a work folder
    "diffusion/tokenizer": "clip/tokenizer",
    "diffusion/text_encoder": "clip/text_encoder",
    "vision": "clip/vision",
    "diffusion/vae": "codec",
    "checker.safetensors": "checker.safetensors",
}
SIZES = ("vdvae", "clip", "codec", "unet")  # settings that must be the same wherever the networks are used
REPORTS = {  # a network's stage -> what its report is called in a provenance
    "VDVAE": "vdvae.training",
    "CLIP": "clip.training",
    "autoencoder": "codec.training",
    "UNet": "unet.training",
    "image adapter": "ip_adapter.training",
    "soft LCM-LoRA": "lcm_soft.training",
    "LCM-LoRA": "lcm_lora.training",
    "checker": "checker.training",
}
ON_THE_WAY = (
    "corpus scenes",
    "codes",
    "tokens",
    "corpus embeddings",
    "walks",
    "own walks",
    "pipeline",
)  # other stages that make networks
OF_NETWORKS = (  # settings by which networks alone are made
    *(
        "n_corpus",
        "vdvae_schedule",
        "clip_schedules",
        "codec_schedule",
        "unet_schedules",
        "adapter_schedule",
        "lcm_schedule",
    ),
    *("sharpen_schedule", "lcm", "checker_schedule", *SIZES),
)


def parts_of(source: Path | None) -> tuple[str, ...]:
    """PARTS, and the image adapter: of a folder of trained networks if it has one, of networks that are trained here always."""
    return PARTS if source and not (source / ADAPTER).exists() else (*PARTS, ADAPTER)


def taken_stage(source: Path, work: Path, parts: Mapping[str, str], settings: Settings) -> Stage:
    """Copies parts of the folder `source` into `work`; its report is the source's provenance of networks.

    `parts`: names in `source` -> names in `work`. Raises BadFile if the source is no such folder, or its networks have other sizes.
    """
    if source.resolve() == work.resolve():
        raise BadFile(f"{source} is the work folder itself: name another one for --work")
    provenance = networks_of(source, settings)
    inputs = {source / name.split("/")[0]: "demo" for name in parts}
    outputs = dict.fromkeys(work / name.split("/")[0] for name in sorted(parts.values(), key=lambda n: n.count("/")))
    return Stage("networks", inputs, tuple(outputs), partial(take, source, work, dict(parts), provenance))


def take(source: Path, work: Path, parts: Mapping[str, str], provenance: dict) -> dict:
    """Copies files and folders."""
    for name, into in parts.items():
        (work / into).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, work / into)
    return provenance


def networks_of(source: Path, settings: Settings) -> dict:
    """Of the provenance in `source`, what concerns networks: "stages", "settings", "reports", and, if there is one, "before".

    Raises BadFile.
    """
    missing = [name for name in (*PARTS, "provenance.json") if not (source / name).exists()]
    if missing:
        raise BadFile(
            f"{source}: expected the demo's trained networks, but {missing[0]} is missing: name another folder"
        )
    whole, wanted = load_json(source / "provenance.json"), plain(settings)
    for name in SIZES:
        if whole["settings"][name] != wanted[name]:
            raise BadFile(
                f"{source}: expected {name} to be {wanted[name]}, got {whole['settings'][name]}: train the networks anew"
            )
    before = {"before": whole["before"]} if "before" in whole else {}
    return before | {
        "stages": {name: cost for name, cost in whole["stages"].items() if name in (*REPORTS, *ON_THE_WAY)},
        "settings": {name: value for name, value in whole["settings"].items() if name in OF_NETWORKS},
        "reports": {name: report for name, report in whole["reports"].items() if name in REPORTS.values()},
    }
