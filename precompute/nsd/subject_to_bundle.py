"""A prepared or imported subject through the published models to a bundle, stage by stage, each resumable or quickly done again.

python -m precompute features --subject 1 --target vdvae|clip-text|clip-vision
python -m precompute fit --subject 1
python -m precompute encode --subject 1
python -m precompute bundle --subject 1
python -m precompute evaluate --subject 1

`folder` is everywhere the one that `prepare` or `import` filled; all that is made of it lies there too.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch

from precompute.evaluation.evaluate import SESSIONS_FOR, Inputs, Options, digest_parts, held_out_r2, shares_of_network
from precompute.evaluation.network_metrics import OWN, absent_networks, open_networks
from precompute.evaluation.protocols import PHOTOGRAPH, PUBLISHED_PROTOCOLS, Protocol
from precompute.evaluation.refits import FILE as REFITS
from precompute.evaluation.refits import Learned, refit, spread_of_fits
from precompute.evaluation.summary import attach, detach, evaluate, overview
from precompute.fitting.encode import Encoding, encode_stage
from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts, extract_samples
from precompute.fitting.fit import ALPHAS, PUBLISHED_ALPHAS, Fit, fit_stage, layer_groups
from precompute.fitting.response_model import response_stage
from precompute.fitting.train_network import Training
from precompute.nsd.prepare_job import JOB
from precompute.stage import Stage, changed_inputs, make, make_all, place_of, record
from precompute.team import team
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import CHOICES, FILES, TARGETS, read_manifest, write_manifest
from recon.bundle.subject import load_subject
from recon.decoders.published_models import IMAGE_ENCODER, MODELS, locate, locked, read_lock
from recon.decoders.vdvae import VDVAE, load_openai
from recon.decoders.vdvae_layers import VDVAEConfig
from recon.files import BadFile, load_json, open_array, open_plain, whole_file
from recon.recipes import BRAIN_DIFFUSER, RECIPES

N_TOKENS = 77  # of a prompt embedding
N_LAYERS = 31  # of the VDVAE's 75: those that Brain-Diffuser regresses
FEATURES = dict(zip(("vdvae", "clip-text", "clip-vision"), TARGETS))  # `--target` -> what its files are called
SAMPLES = "vdvae-samples"  # of the posterior whose means are the target "vdvae": Brain-Diffuser's targets
STEMS = FEATURES | {SAMPLES: "samples"}
NEEDED = dict(zip(STEMS, ("vdvae", "diffusion", "image_encoder", "vdvae")))  # -> the model that makes them
SEEDS = {"train": 0, "test": 1 << 20}  # of the samples of the first image
RANKS = {"latents": 512, "prompt": 256, "image": 256}
TRAINING = Training(hidden=1024)
SPLITS = ("train", "test")
SIDES = {"vdvae": 64, SAMPLES: 64, "clip-vision": 512}  # of the images that a model sees
PREPARE = "prepare --subject N` or `python -m precompute import"  # as messages name the commands between backticks
CAPTIONS = "captions.h5"  # made for the bundle; its other files are copies
MAKERS = {  # what a bundle is made of -> the command that makes it
    "subject.h5": "prepare",
    "train.json": "prepare",
    "image_train.npy": "features --target clip-vision",
    "image_test.npy": "features --target clip-vision",
    "voxel_scores.h5": "encode",
    "response.safetensors": "encode",
    "response_test.npy": "encode",
    "latents_fit.json": "fit",
}


def _in_full(command: str) -> str:
    """With its subject; `prepare` is not the only command that makes one."""
    return PREPARE if command == "prepare" else f"{command} --subject N"


def _need(path: Path, command: str) -> Path:
    if not path.exists():
        raise BadFile(f"{path} is missing: make it with `python -m precompute {_in_full(command)}`")
    return path


# --- features ---------------------------------------------------------------------------------------------------------


def features_stage(folder: Path, target: str, dtype: str = "float32", batch: int = 8) -> Stage:
    """Makes TARGET_train.npy and TARGET_test.npy, (n, n_targets) of `dtype`, by a published model. Raises BadFile without it."""
    name = f"features {target}"
    sources = [
        folder / (f"{split}.json" if target == "clip-text" else f"{split}_{SIDES[target]}.npy") for split in SPLITS
    ]
    entry = locked(NEEDED[target]) or {}
    into = {
        split: Into(folder / f"{STEMS[target]}_{split}.npy", place_of(folder, name), dtype, batch) for split in SPLITS
    }
    return Stage(
        name,
        dict.fromkeys(sources, PREPARE),
        tuple(one.path for one in into.values()),
        partial(EXTRACT[target], dict(zip(SPLITS, sources)), into),
        {"dtype": dtype, "model": entry.get("revision") or entry.get("sha256"), "layers": N_LAYERS},
        shared=True,
    )


def _latents(sources: dict[str, Path], into: dict[str, Into]) -> dict:
    vdvae = load_openai(locate("vdvae"))
    for split, one in into.items():
        extract_latents(sources[split], vdvae, N_LAYERS, one)
    return _shapes(into)


def _samples(sources: dict[str, Path], into: dict[str, Into]) -> dict:
    vdvae = load_openai(locate("vdvae"))
    for split, one in into.items():
        extract_samples(sources[split], vdvae, N_LAYERS, one, SEEDS[split])
    return _shapes(into)


def _prompts(sources: dict[str, Path], into: dict[str, Into]) -> dict:
    for split, one in into.items():
        extract_prompts([e["captions"] or [""] for e in load_json(sources[split])], locate("diffusion"), one)
    return _shapes(into)


def _embeddings(sources: dict[str, Path], into: dict[str, Into]) -> dict:
    for split, one in into.items():
        extract_embeddings(sources[split], locate("image_encoder") / IMAGE_ENCODER, one, unit=False)
    return _shapes(into)


EXTRACT = {"vdvae": _latents, SAMPLES: _samples, "clip-text": _prompts, "clip-vision": _embeddings}


def _shapes(into: dict[str, Into]) -> dict:
    return {
        "dtype": into["train"].dtype,
        "shapes": {one.path.name: open_array(one.path).shape for one in into.values()},
    }


def features(folder: Path, target: str, dtype: str, batch: int) -> dict:
    """Makes the features of a target, shared by the processes of the team; returns their shapes.

    Raises BadFile if images or the model are missing, or finished files of another dtype are there: those may have taken hours.
    """
    stage = features_stage(folder, target, dtype, batch)
    for path in stage.outputs:
        if path.exists() and (there := open_array(path).dtype) != dtype:
            raise BadFile(f"{path} holds {there}, {dtype} is asked for: remove it to make it anew")
    return make(stage, team())


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


@dataclass(frozen=True)
class How:
    """How regressors are fitted.

    `alpha`: "held-out" or "per-target", chosen by held-out training images for each group of targets or for each target;
    "brain-diffuser", the published constants. `recipe`, one of RECIPES, is that of the latents' ridge.
    """

    alpha: str = "held-out"
    recipe: str = next(iter(RECIPES))
    training: Training = TRAINING
    ranks: dict[str, int] = field(default_factory=lambda: dict(RANKS))


def fit_stages(folder: Path, how: How = How()) -> list[Stage]:
    """Ridge and MLP to every target. Raises BadFile where an input is missing: its shape is needed."""
    voxels, stages = _need(folder / "train_voxels.npy", "prepare"), []
    published = how.recipe == BRAIN_DIFFUSER
    if published:
        _need_their_voxels(folder)
    for target, name in zip(TARGETS, FEATURES):
        theirs = published and target == "latents"
        name = SAMPLES if theirs else name
        Y = _need(folder / f"{STEMS[name]}_train.npy", f"features --target {name}")
        groups = _groups(target, open_plain(Y).shape[1])
        alphas = PUBLISHED_ALPHAS[target] if theirs or how.alpha == "brain-diffuser" else ALPHAS
        per_target = how.alpha == "per-target" and not theirs
        test = _need(folder / "subject.h5", "prepare") if theirs else None
        job = Fit(target, groups, how.ranks[target], how.training, tuple(alphas), per_target, test)
        stages.append(fit_stage(job, voxels, Y, folder))
    return stages


def _need_their_voxels(folder: Path) -> None:
    """Raises BadFile unless voxels and images were prepared as Brain-Diffuser's: a part of what its recipe reproduces."""
    made = record(place_of(folder, JOB)).get("settings", {}).get("recipe")
    if made != BRAIN_DIFFUSER:
        raise BadFile(
            f"--recipe {BRAIN_DIFFUSER}: expected a subject made by `python -m precompute prepare --recipe {BRAIN_DIFFUSER}`, "
            f"which standardises voxels and resizes images as that paper does, {folder} was "
            + (f"prepared by the recipe {made!r}" if made else "not made by `prepare`")
        )


def fit_targets(folder: Path, how: How = How()) -> dict:
    """Ridge and MLP to every target, each by one process of the team; returns R² of held-out training images by target."""
    stages = fit_stages(folder, how)
    reports = dict(zip(TARGETS, make_all(stages, team())))
    there = [target for target, report in reports.items() if report["already finished"]]
    r2 = {t: {name: r[name]["validation_r2_mean"] for name in ("ridge", "mlp")} for t, r in reports.items()}
    return {"already finished": there, "r2": r2}


def encode_stages(folder: Path) -> list[Stage]:
    """The encoding model with the scores of every voxel, and the one that the page predicts responses by."""
    images = {split: folder / f"{split}_64.npy" for split in SPLITS}
    latents, embeddings = (
        {split: folder / f"{target}_{split}.npy" for split in SPLITS} for target in ("latents", "image")
    )
    voxels, maker = folder / "train_voxels.npy", "features --target vdvae --subject N"
    makers = dict.fromkeys([*images.values(), voxels, folder / "subject.h5"], PREPARE)
    makers |= dict.fromkeys(latents.values(), maker)
    makers |= dict.fromkeys(embeddings.values(), "features --target clip-vision --subject N")
    files = Encoding(images, latents, embeddings, voxels, folder / "subject.h5")
    return [encode_stage(files, folder, makers), response_stage(latents, voxels, folder, (maker, makers[voxels]))]


def encode_voxels(folder: Path) -> dict:
    """Both encoding models; returns their reports."""
    report, response = (make(stage) for stage in encode_stages(folder))
    return report | {"response": response}


# --- bundle -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guidance:
    """How decoded image embeddings guide stage 2: by which published adapter, and rescaled how (`recon.bundle.manifest`)."""

    adapter: str = CHOICES["adapter"][0]
    embedding: str = CHOICES["embedding"][0]


def guidance_of(out: Path) -> Guidance:
    """What was chosen for a bundle that is there; else the defaults."""
    if not (out / "manifest.json").exists():
        return Guidance()
    manifest = read_manifest(out)
    return Guidance(**{f.name: manifest.get(f.name, f.default) for f in fields(Guidance)})


def bundle_stage(folder: Path, out: Path, guidance: Guidance = Guidance()) -> Stage:
    """Makes all that the app needs, in the folder `out`."""
    makers = MAKERS | {f"{t}_{name}.safetensors": "fit" for t in TARGETS for name in ("ridge", "mlp")}
    inputs = {folder / name: _in_full(command) for name, command in makers.items()}
    outputs = (out / "manifest.json", *(out / name for name in FILES))
    return Stage("bundle", inputs, outputs, partial(write_bundle, folder, out, guidance), asdict(guidance))


def write_bundle(folder: Path, out: Path, guidance: Guidance) -> dict:
    """Copies what the app needs into `out`, with a manifest that names the published decoders. Returns name and size."""
    subject = load_subject(folder / "subject.h5")
    for name in FILES:
        if name != CAPTIONS:
            with whole_file(out / name) as copy:
                shutil.copyfile(folder / name, copy)
    captions = [next(iter(e["captions"]), "") for e in load_json(folder / "train.json")]
    embeddings = (np.asarray(open_array(folder / f"image_{split}.npy"), np.float32) for split in SPLITS)
    CaptionIndex(captions, *embeddings).save(out / CAPTIONS)
    for name in EVALUATION_FILES:  # of other parts
        (out / name).unlink(missing_ok=True)
    fit = load_json(folder / "latents_fit.json")
    content = {"name": subject.name, "simulated": subject.simulated, "n_layers": N_LAYERS, "components": fit["rank"]}
    write_manifest(out, content | {"decoders": "published", "recipe": fit["recipe"]} | asdict(guidance))
    return {"name": subject.name, "bytes": sum((out / name).stat().st_size for name in FILES)}


def make_bundle(folder: Path, out: Path, guidance: Guidance = Guidance()) -> dict:
    """What the app needs, in the folder `out`. Returns name, place and size.

    Training captions and test images come with it: it is for those who have access to NSD. Raises BadFile if the regressors are
    not finished, or were fitted to other files than are there now.
    """
    _need(folder / "train.json", "prepare")
    for target, name in zip(TARGETS, FEATURES):
        _need(folder / f"{target}_train.npy", f"features --target {name}")
        _need(folder / f"{target}_fit.json", "fit")
        if changed_inputs(place_of(folder, f"fit {target}"), folder):
            raise BadFile(
                f"{folder}: voxels or {target}_train.npy were made anew since they were fitted: run `fit` again"
            )
    report = make(bundle_stage(folder, out, guidance))
    return report | {"show": f"RECON_BUNDLE={out} python app.py", "absent": _absent()}


# --- evaluation -------------------------------------------------------------------------------------------------------


def _protocol(options: Options) -> Protocol:
    return PUBLISHED_PROTOCOLS.get(options.protocol, OWN)


def _photographs(options: Options) -> str:
    """The test images that a protocol compares with: as they were, or at stage 2's size."""
    return f"test_{PHOTOGRAPH if options.protocol in PUBLISHED_PROTOCOLS else SIDES['clip-vision']}.npy"


def _predicted(bundle: Path) -> str:
    """Which target the latents' regressors of a bundle were to predict; before there is a bundle, that of our recipe."""
    theirs = (bundle / "manifest.json").exists() and read_manifest(bundle).get("recipe") == BRAIN_DIFFUSER
    return SAMPLES if theirs else "vdvae"


def evaluate_stage(folder: Path, bundle: Path, options: Options) -> Stage:
    """Makes the evaluation a part of the bundle; its pieces are kept in `folder`."""
    protocol = PUBLISHED_PROTOCOLS.get(options.protocol)  # for which no import makes the photographs
    makers = {
        _photographs(options): f"prepare --sessions {SESSIONS_FOR[protocol.n_images]}" if protocol else "prepare",
        "train_512.npy": "prepare",
        "train.json": "prepare",
        "latents_fit.json": "fit",
    }
    target = _predicted(bundle)
    makers |= {
        f"{STEMS[target]}_test.npy": f"features --target {target}",
        "image_test.npy": "features --target clip-vision",
    }
    inputs = {folder / name: _in_full(command) for name, command in makers.items()}
    inputs |= {bundle / name: "bundle --subject N" for name in FILES}
    inputs |= {folder / REFITS: "refits --subject N"} if (folder / REFITS).exists() else {}
    settings = asdict(options) | {"absent": sorted(absent_networks(_protocol(options))), "models": read_lock()}
    outputs = tuple(bundle / name for name in EVALUATION_FILES)
    return Stage("evaluate", inputs, outputs, partial(write_evaluation, folder, bundle, options), settings, shared=True)


def _gather(folder: Path, bundle: Path, options: Options) -> Inputs:
    networks, absent = open_networks(_protocol(options))
    return Inputs(
        bundle=load_bundle(bundle),
        parts=digest_parts(bundle, "published"),
        images=open_array(folder / _photographs(options)),
        latents=open_array(folder / f"{STEMS[_predicted(bundle)]}_test.npy"),
        embeddings=np.asarray(open_array(folder / "image_test.npy"), np.float32),
        training_images=open_array(folder / "train_512.npy"),
        training_labels=load_json(folder / "train.json"),
        held_out_r2=held_out_r2(load_json(folder / "latents_fit.json")),
        shares=shares_of_network({target: load_json(folder / f"{target}_fit.json") for target in TARGETS}),
        describe=networks,
        not_computed=absent,
        refits=spread_of_fits(folder),
    )


def write_evaluation(folder: Path, bundle: Path, options: Options) -> dict:
    """Scores the bundle on the test images of `folder`; the processes of the team share the pieces. Returns the means."""
    if team().first:
        detach(bundle)
    team().wait()
    evaluation = evaluate(_gather(folder, bundle, options), folder, options, team())
    if team().first:
        attach(folder, bundle)
    return overview(evaluation)


def evaluate_bundle(folder: Path, bundle: Path, options: Options) -> dict:
    """Scores the bundle, unless this has been done; returns the means. Raises BadFile where something is missing, saying which
    command makes it."""
    _need(bundle / "manifest.json", "bundle")
    return make(evaluate_stage(folder, bundle, options), team())


def refit_latents(folder: Path, bundle: Path, n: int) -> dict:
    """Fits the regressors of the latents n times with other seeds, and scores stage 1; returns the spread. Raises BadFile."""
    _need(bundle / "manifest.json", "bundle")
    if read_manifest(bundle).get("recipe") == BRAIN_DIFFUSER:
        raise BadFile(
            f"refits: expected a bundle of our own recipe, {bundle} is of {BRAIN_DIFFUSER}, whose ridge has no seed"
        )
    voxels = _need(folder / "train_voxels.npy", "prepare")
    latents = _need(folder / "latents_train.npy", "features --target vdvae")
    learned = Learned(voxels, latents, load_json(_need(folder / "latents_fit.json", "fit")))
    return refit(learned, _gather(folder, bundle, Options()), folder, n)


def _absent() -> list[str]:
    """Why the models that the page needs are not there."""
    reasons = []
    for name in MODELS:
        try:
            locate(name)
        except BadFile as error:
            reasons.append(str(error))
    return reasons
