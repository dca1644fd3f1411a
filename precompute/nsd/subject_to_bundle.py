"""A prepared NSD subject through the published models to a bundle, stage by stage, each resumable or quickly done again.

python -m precompute features --subject 1 --target vdvae|clip-text|clip-image
python -m precompute fit --subject 1
python -m precompute encode --subject 1
python -m precompute bundle --subject 1
python -m precompute evaluate --subject 1

`folder` is everywhere the one that `prepare` filled; all that is made of it lies there too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from precompute.evaluation.evaluate import Inputs, Options, digest_parts, held_out_r2
from precompute.evaluation.network_metrics import open_networks
from precompute.evaluation.protocols import PHOTOGRAPH, PUBLISHED_PROTOCOLS
from precompute.evaluation.summary import attach, evaluate, overview
from precompute.fitting.encode import encode
from precompute.fitting.features import extract_embeddings, extract_latents, extract_prompts
from precompute.fitting.fit import ALPHAS, BRAIN_DIFFUSER, fit, inputs, layer_groups
from precompute.fitting.response_model import fit_response
from precompute.fitting.train_network import Training
from precompute.team import team
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import FILES, TARGETS, write_manifest
from recon.bundle.subject import load_subject
from recon.decoders.published_models import MODELS, locate, locked
from recon.decoders.vdvae import VDVAE, load_openai
from recon.decoders.vdvae_layers import VDVAEConfig
from recon.files import BadFile, file_digest, load_json, open_array, open_plain, whole_file

N_TOKENS = 77  # of a prompt embedding
N_LAYERS = 31  # of the VDVAE's 75: those that Brain-Diffuser regresses
FEATURES = dict(zip(("vdvae", "clip-text", "clip-image"), TARGETS))  # `--target` -> what its files are called
NEEDED = dict(zip(FEATURES, ("vdvae", "diffusion", "clip")))  # -> the model that makes them
RANKS = {"latents": 512, "prompt": 256, "image": 256}
TRAINING = Training(hidden=1024)
SPLITS = ("train", "test")
CAPTIONS = "captions.h5"  # made for the bundle; its other files are copies


def _need(path: Path, command: str) -> Path:
    if not path.exists():
        raise BadFile(f"{path} is missing: make it with `python -m precompute {command} --subject N`")
    return path


# --- features ---------------------------------------------------------------------------------------------------------


def features(folder: Path, target: str, dtype: str, batch: int) -> dict:
    """Writes TARGET_train.npy and TARGET_test.npy, (n, n_targets) of `dtype`; returns their shapes.

    Raises BadFile if pictures or the model are missing, or files of another dtype or model are there.
    """
    out = {split: folder / f"{FEATURES[target]}_{split}.npy" for split in SPLITS}
    finished = all(path.exists() for path in out.values())
    if not finished:
        _extract(folder, target, out, dtype, batch)
    arrays = {path.name: open_array(path) for path in out.values()}
    for name, array in arrays.items():
        if array.dtype != dtype:
            raise BadFile(f"{folder / name} holds {array.dtype}, {dtype} is asked for: remove it to make it anew")
    return {"already finished": finished, "dtype": dtype, "shapes": {name: a.shape for name, a in arrays.items()}}


def _extract(folder: Path, target: str, out: dict[str, Path], dtype: str, batch: int) -> None:
    side = 64 if target == "vdvae" else 512
    images = {split: _need(folder / f"{split}_{side}.npy", "prepare") for split in SPLITS}
    model, entry = locate(NEEDED[target]), locked(NEEDED[target])
    how = {"batch": batch, "dtype": dtype, "name": entry.get("revision") or entry["sha256"]}
    vdvae = load_openai(model) if target == "vdvae" else None
    for split in SPLITS:
        if target == "vdvae":
            extract_latents(images[split], vdvae, out[split], N_LAYERS, **how)
        elif target == "clip-text":
            labels = load_json(folder / f"{split}.json")
            extract_prompts([e["captions"] for e in labels], model, out[split], **how)
        else:
            extract_embeddings(images[split], model, out[split], **how)


# --- regressors and the encoding model --------------------------------------------------------------------------------


def _groups(target: str, n_targets: int) -> dict[str, slice]:
    """Columns that share ridge's alpha: a VDVAE layer, a token of the prompt, the whole image embedding."""
    if target == "latents":
        with torch.device("meta"):
            return layer_groups(VDVAE(VDVAEConfig()), N_LAYERS)
    if target == "prompt":
        width = n_targets // N_TOKENS
        return {f"token {k}": slice(k * width, (k + 1) * width) for k in range(N_TOKENS)}
    return {"embedding": slice(0, n_targets)}


def fit_targets(folder: Path, alpha: str, training: Training = TRAINING, ranks: dict[str, int] = RANKS) -> dict:
    """Ridge and MLP to every target, unless just this fit to just these inputs is there; returns R² of held-out training
    images by target.

    `alpha`: "held-out" or "per-target", chosen by those for each group of targets or for each target; "brain-diffuser", the
    published constants.
    """
    voxels = _need(folder / "train_voxels.npy", "prepare")
    Y = {t: _need(folder / f"{t}_train.npy", f"features --target {name}") for name, t in FEATURES.items()}
    reports = {}
    for target in TARGETS:
        groups = _groups(target, open_plain(Y[target]).shape[1])
        alphas = BRAIN_DIFFUSER[target] if alpha == "brain-diffuser" else ALPHAS
        per_target = alpha == "per-target"
        reports[target] = fit(target, voxels, Y[target], groups, folder, ranks[target], training, alphas, per_target)
    there = [t for t, report in reports.items() if report["already finished"]]
    r2 = {t: {name: r[name]["validation_r2_mean"] for name in ("ridge", "mlp")} for t, r in reports.items()}
    return {"already finished": there, "r2": r2}


def encode_voxels(folder: Path) -> dict:
    """The encoding model and the scores of every voxel; returns what `encode.json` holds."""
    images = {split: _need(folder / f"{split}_64.npy", "prepare") for split in SPLITS}
    latents = {split: _need(folder / f"latents_{split}.npy", "features --target vdvae") for split in SPLITS}
    report = encode(images, latents, folder / "train_voxels.npy", folder / "subject.h5", folder)
    if not (report["already finished"] and (folder / "response.safetensors").exists()):
        report["response"] = fit_response(latents, folder / "train_voxels.npy", folder)
    return report


# --- bundle -----------------------------------------------------------------------------------------------------------


def make_bundle(folder: Path, out: Path) -> dict:
    """What the app needs, in the folder `out`; the manifest names the published decoders. Returns name, place and size.

    Training captions and test pictures come with it: it is for those who have access to NSD.
    """
    labels = _need(folder / "train.json", "prepare")
    embeddings = [_need(folder / f"image_{split}.npy", "features --target clip-image") for split in SPLITS]
    makers = {
        "subject.h5": "prepare",
        "voxel_scores.h5": "encode",
        "response.safetensors": "encode",
        "response_test.npy": "encode",
    }
    for target in TARGETS:
        _check_fit(folder, target)
    parts = [_need(folder / name, makers.get(name, "fit")) for name in FILES if name != CAPTIONS]
    finished = _is_bundle_of(parts, out)
    subject = load_subject(folder / "subject.h5")
    if not finished:
        for part in parts:
            with whole_file(out / part.name) as copy:
                shutil.copyfile(part, copy)
        captions = [e["captions"][0] for e in load_json(labels)]
        CaptionIndex(captions, *(np.asarray(open_array(e), np.float32) for e in embeddings)).save(out / CAPTIONS)
        for name in EVALUATION_FILES:  # of other parts
            (out / name).unlink(missing_ok=True)
        components = load_json(folder / "latents_fit.json")["rank"]
        content = {"name": subject.name, "simulated": subject.simulated, "n_layers": N_LAYERS, "components": components}
        write_manifest(out, content | {"decoders": "published"})
    size = sum((out / name).stat().st_size for name in FILES)
    show = f"RECON_BUNDLE={out} python app.py"
    return {"already finished": finished, "name": subject.name, "bytes": size, "show": show, "absent": _absent()}


def _check_fit(folder: Path, target: str) -> None:
    """Raises BadFile if the regressors are not finished, or were fitted to other files than are there now."""
    report = load_json(_need(folder / f"{target}_fit.json", "fit"))
    if report.get("inputs") != inputs(folder / "train_voxels.npy", folder / f"{target}_train.npy"):
        raise BadFile(f"{folder}: voxels or {target}_train.npy were made anew since they were fitted: run `fit` again")


def _is_bundle_of(parts: list[Path], out: Path) -> bool:
    """Whether `out` is a whole bundle of just these files, and captions."""
    manifest = out / "manifest.json"
    listed = {k: v["sha256"] for k, v in load_json(manifest)["files"].items()} if manifest.exists() else {}
    names = (*FILES, *EVALUATION_FILES)
    there = {name: file_digest(out / name) for name in names if (out / name).exists()}
    return there == listed and all(listed.get(part.name) == file_digest(part) for part in parts)


def evaluate_bundle(folder: Path, bundle: Path, options: Options) -> dict:
    """Scores the bundle on the test images of `folder`, where the evaluation is kept, and makes it a part of the bundle.

    Returns the means. Raises BadFile where something is missing, saying which command makes it.
    """
    _need(bundle / "manifest.json", "bundle")
    protocol = PUBLISHED_PROTOCOLS.get(options.protocol)
    networks, absent = open_networks(protocol) if protocol else open_networks()
    photographs = f"test_{PHOTOGRAPH if protocol else 512}.npy"
    inputs = Inputs(
        bundle=load_bundle(bundle),
        parts=digest_parts(bundle, "published"),
        images=open_array(_need(folder / photographs, "prepare")),
        latents=open_array(_need(folder / "latents_test.npy", "features --target vdvae")),
        embeddings=np.asarray(open_array(_need(folder / "image_test.npy", "features --target clip-image")), np.float32),
        training_images=open_array(_need(folder / "train_512.npy", "prepare")),
        training_labels=load_json(_need(folder / "train.json", "prepare")),
        held_out_r2=held_out_r2(load_json(_need(folder / "latents_fit.json", "fit"))),
        describe=networks,
        not_computed=absent,
    )
    evaluation = evaluate(inputs, folder, options, team())
    if team().first:
        attach(folder, bundle)
    return overview(evaluation)


def _absent() -> list[str]:
    """Why the models that the page needs are not there."""
    reasons = []
    for name in MODELS:
        try:
            locate(name)
        except BadFile as error:
            reasons.append(str(error))
    return reasons
