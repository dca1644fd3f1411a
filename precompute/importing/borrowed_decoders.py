"""A prepared subject -> a bundle with the decoders of another bundle, which are small and need no download: for a first look.

The targets are what those decoders take: the latents of its VDVAE, its text encoder's states, its CLIP's image embeddings. They
cannot draw what is unlike the images that they were trained on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precompute.fitting.encode import Encoding, encode_stage
from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts
from precompute.fitting.fit import Fit, Groups, fit_stage, layer_groups
from precompute.fitting.response_model import response_stage
from precompute.fitting.train_network import Training
from precompute.stage import make, place_of
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.manifest import FILES, OWN_DECODERS, TARGETS, read_manifest, write_manifest
from recon.bundle.subject import load_subject
from recon.decoders.vdvae import VDVAE
from recon.files import BadFile, load_json, open_array

SPLITS = ("train", "test")
SIDE = 512  # of the prepared images that CLIP sees
VISION = "vision"  # the half of the lender's CLIP that its page does without


@dataclass(frozen=True)
class Size:
    """How large the regressors are."""

    ranks: tuple[int, int, int] = (64, 32, 32)  # of latents, prompt and image embedding
    training: Training = Training(hidden=64)


def make_borrowing_bundle(folder: Path, lender: Path, out: Path, size: Size = Size()) -> dict:
    """Features, fits, encoding model and bundle of the subject in `folder`, with the decoders of `lender`; returns name and size.

    Raises BadFile if the lender's decoders are not its own, or something is missing.
    """
    manifest = read_manifest(lender)
    if manifest["decoders"] != "own" or not (lender / VISION).is_dir():
        raise BadFile(f"{lender}: expected a bundle with decoders of its own and {VISION}/, as assets/demo is")
    vdvae, n_layers = VDVAE.load(lender / "vdvae.safetensors"), manifest["n_layers"]
    _extract(folder, lender, vdvae, n_layers)
    voxels, subject = folder / "train_voxels.npy", folder / "subject.h5"
    for target, rank in zip(TARGETS, size.ranks):
        targets = folder / f"{target}_train.npy"
        groups = layer_groups(vdvae, n_layers) if target == "latents" else _whole(targets)
        make(fit_stage(Fit(target, groups, rank, size.training), voxels, targets, folder))
    images, latents, embeddings = (_of_both(folder, name) for name in ("{}_64", "latents_{}", "image_{}"))
    make(encode_stage(Encoding(images, latents, embeddings, voxels, subject), folder))
    make(response_stage(latents, voxels, folder))
    return _write(folder, lender, out, {"n_layers": n_layers, "components": size.ranks[0]})


def _of_both(folder: Path, name: str) -> dict[str, Path]:
    return {split: folder / f"{name.format(split)}.npy" for split in SPLITS}


def _whole(targets: Path) -> Groups:
    return {"all": slice(0, open_array(targets).shape[1])}


def _extract(folder: Path, lender: Path, vdvae: VDVAE, n_layers: int) -> None:
    unfinished = place_of(folder, "borrowed features")
    for split in SPLITS:
        extract_latents(folder / f"{split}_64.npy", vdvae, n_layers, Into(folder / f"latents_{split}.npy", unfinished))
        into = Into(folder / f"image_{split}.npy", unfinished)
        extract_embeddings(folder / f"{split}_{SIDE}.npy", lender / VISION, into)
    captions = [e["captions"] or [""] for e in load_json(folder / "train.json")]
    extract_prompts(captions, lender / "diffusion", Into(folder / "prompt_train.npy", unfinished))
    embeddings = (np.asarray(open_array(folder / f"image_{split}.npy"), np.float32) for split in SPLITS)
    CaptionIndex([five[0] for five in captions], *embeddings).save(folder / "captions.h5")


def _write(folder: Path, lender: Path, out: Path, sizes: dict) -> dict:
    for name in (*FILES, *OWN_DECODERS):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile((lender if name in OWN_DECODERS else folder) / name, out / name)
    subject = load_subject(folder / "subject.h5")
    write_manifest(out, {"name": subject.name, "simulated": subject.simulated, "decoders": "own"} | sizes)
    load_bundle(out)
    return {"name": subject.name, "bytes": sum((out / name).stat().st_size for name in FILES)}
