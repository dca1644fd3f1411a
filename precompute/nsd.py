"""A prepared NSD subject through the published models to a bundle, stage by stage, each resumable or quickly done again.

python -m precompute features --subject 1 --target vdvae|clip-text|clip-image
python -m precompute fit --subject 1
python -m precompute encode --subject 1
python -m precompute bundle --subject 1
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from precompute.encode import encode
from precompute.features import extract_embeddings, extract_latents, extract_prompts
from precompute.fit import fit, layer_groups
from recon.bundle import FILES, TARGETS, load_bundle, write_manifest
from recon.clip import CaptionIndex
from recon.files import BadFile, load_json, open_array
from recon.mlp import Training
from recon.models import locate
from recon.subject import load_subject
from recon.vdvae import VDVAE, VDVAEConfig, load_openai

N_TOKENS = 77  # of a prompt embedding
N_LAYERS = 31  # of the VDVAE's 75: those that Brain-Diffuser regresses
FEATURES = dict(
    zip(("vdvae", "clip-text", "clip-image"), TARGETS)
)  # what `--target` names -> what its files are called
RANKS = {"latents": 512, "prompt": 256, "image": 256}
TRAINING = Training(hidden=1024)
SPLITS = ("train", "test")


def _need(path: Path, command: str) -> Path:
    if not path.exists():
        raise BadFile(f"{path} is missing: make it with `python -m precompute {command}`")
    return path


def features(folder: Path, target: str, dtype: str, batch: int) -> None:
    """`folder` as `prepare` left it; writes TARGET_train.npy and TARGET_test.npy there."""
    model = locate({"vdvae": "vdvae", "clip-text": "diffusion", "clip-image": "clip"}[target])
    out = {split: folder / f"{FEATURES[target]}_{split}.npy" for split in SPLITS}
    how = {"batch": batch, "dtype": dtype, "name": model.name}
    vdvae = load_openai(model) if target == "vdvae" else None
    for split in SPLITS:
        if target == "vdvae":
            images = _need(folder / f"{split}_64.npy", "prepare")
            extract_latents(images, vdvae, out[split], N_LAYERS, **how)
        elif target == "clip-text":
            labels = load_json(_need(folder / f"{split}.json", "prepare"))
            extract_prompts([e["captions"] for e in labels], model, out[split], **how)
        else:
            extract_embeddings(_need(folder / f"{split}_512.npy", "prepare"), model, out[split], **how)


def _groups(target: str, n_targets: int) -> dict[str, slice]:
    """Columns that share ridge's alpha: a VDVAE layer, a token of the prompt, the whole image embedding."""
    if target == "latents":
        with torch.device("meta"):
            return layer_groups(VDVAE(VDVAEConfig()), N_LAYERS)
    if target == "prompt":
        width = n_targets // N_TOKENS
        return {f"token {k}": slice(k * width, (k + 1) * width) for k in range(N_TOKENS)}
    return {"embedding": slice(0, n_targets)}


def fit_targets(folder: Path, training: Training = TRAINING, ranks: dict[str, int] = RANKS) -> None:
    """Ridge and MLP to every target that has not been fitted yet."""
    voxels = _need(folder / "train_voxels.npy", "prepare")
    for name, target in FEATURES.items():
        Y = _need(folder / f"{target}_train.npy", f"features --target {name}")
        if not (folder / f"{target}_fit.json").exists():
            fit(target, voxels, Y, _groups(target, open_array(Y).shape[1]), folder, ranks[target], training)


def encode_voxels(folder: Path) -> dict:
    """The encoding model and the scores of every voxel."""
    images = {split: _need(folder / f"{split}_64.npy", "prepare") for split in SPLITS}
    latents = {split: _need(folder / f"latents_{split}.npy", "features --target vdvae") for split in SPLITS}
    return encode(images, latents, folder / "train_voxels.npy", folder / "subject.h5", folder)


def make_bundle(folder: Path, out: Path) -> dict:
    """What the app needs, in the folder `out`; the manifest names the published decoders. Returns the manifest.

    Training captions and test pictures come with it: it is for those who have access to NSD.
    """
    _need(folder / "voxel_scores.h5", "encode")
    labels = load_json(_need(folder / "train.json", "prepare"))
    embeddings = open_array(_need(folder / "image_train.npy", "features --target clip-image"))
    CaptionIndex([e["captions"][0] for e in labels], np.asarray(embeddings, np.float32)).save(folder / "captions.h5")
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(_need(folder / name, "fit"), out / name)
    subject = load_subject(out / "subject.h5")
    content = {"name": subject.name, "simulated": subject.simulated, "n_layers": N_LAYERS, "decoders": "published"}
    write_manifest(out, content | {"evaluation": None})
    return load_bundle(out).manifest
