"""The demo subject's stages: responses, features, regressors, encoding models, and what is chosen by held-out images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from precompute.demo import scan, world
from precompute.demo.assess import assess
from precompute.demo.chain import staged
from precompute.demo.decoders import network_stages, scene_stage
from precompute.demo.recipe import Settings
from precompute.demo.taken import parts_of, taken_stage
from precompute.demo.train_clip import CONTEXT
from precompute.demo.train_vdvae import N_LAYERS
from precompute.demo.tune import choose_rescaling, try_guidance, try_strengths
from precompute.fitting.encode import Encoding, encode_stage
from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts
from precompute.fitting.fit import Fit, fit_stage, layer_groups
from precompute.fitting.response_model import response_stage
from precompute.stage import Stage, place_of
from recon.bundle.captions import CaptionIndex
from recon.bundle.manifest import ADAPTER, FILES, TARGETS
from recon.decoders.vdvae import VDVAE
from recon.files import load_json, open_array
from recon.settings import REGRESSORS

SPLITS = ("train", "test")
REGRESSOR_FILES = tuple(f"{target}_{name}.safetensors" for target in TARGETS for name in REGRESSORS)


# --- the subject ------------------------------------------------------------------------------------------------------


def _subject(work: Path, s: Settings) -> list[Stage]:
    """Responses to the scenes, and the subject's file."""
    scenes, brain = work / "scenes", work / "brain"
    seen = [scenes / f"{split}{rest}" for split in SPLITS for rest in (".npy", ".json")]
    scanned = [brain / name for name in ("betas.npy", "trials.npy", "truth.npz")]
    made = [work / "subject.h5", brain / "train_voxels.npy"]
    return [
        staged("responses", seen, scanned, partial(scan.make_responses, scenes, brain), seed=s.seed),
        staged("subject", [*seen, *scanned[:2]], made, partial(scan.make_subject, scenes, brain, made[0]), seed=s.seed),
    ]


# --- features ---------------------------------------------------------------------------------------------------------


def _features(work: Path) -> list[Stage]:
    """Targets of the training images, latents and embeddings of the test images, and the caption index."""
    scenes = work / "scenes"
    small = [scenes / f"{split}_{world.SMALL}.npy" for split in SPLITS]
    images, labels = [scenes / f"{split}.npy" for split in SPLITS], scenes / "train.json"
    latents, embeddings = ([work / f"{target}_{split}.npy" for split in SPLITS] for target in ("latents", "image"))
    vdvae, diffusion, vision = (work / name for name in ("vdvae.safetensors", "diffusion", "vision"))
    prompts, captions = work / "prompt_train.npy", work / "captions.h5"
    into = {name: partial(Into, work=place_of(work, name)) for name in ("latents", "embeddings", "prompts")}
    return [
        staged(
            "latents",
            [*small, vdvae],
            latents,
            partial(_latents, vdvae, small, [into["latents"](path) for path in latents]),
            n_layers=N_LAYERS,
        ),
        staged(
            "embeddings",
            [*images, vision],
            embeddings,
            partial(_embeddings, vision, images, [into["embeddings"](path) for path in embeddings]),
        ),
        staged(
            "prompts", [labels, diffusion], [prompts], partial(_prompts, labels, diffusion, into["prompts"](prompts))
        ),
        staged("captions", [labels, *embeddings], [captions], partial(_captions, labels, embeddings, captions)),
    ]


def _latents(vdvae: Path, images: list[Path], into: list[Into], n_layers: int) -> None:
    model = VDVAE.load(vdvae)
    for source, one in zip(images, into):
        extract_latents(source, model, n_layers, one)


def _embeddings(vision: Path, images: list[Path], into: list[Into]) -> None:
    for source, one in zip(images, into):
        extract_embeddings(source, vision, one)


def _prompts(labels: Path, diffusion: Path, into: Into) -> None:
    extract_prompts([entry["captions"] for entry in load_json(labels)], diffusion, into)


def _captions(labels: Path, embeddings: list[Path], out: Path) -> None:
    """The first caption of each training image, to be found by its embedding."""
    CaptionIndex([entry["captions"][0] for entry in load_json(labels)], *map(open_array, embeddings)).save(out)


# --- regressors and encoding models -----------------------------------------------------------------------------------


def _fits(work: Path, s: Settings) -> list[Stage]:
    """Ridge and MLP to each target; an alpha for each VDVAE layer, for each token of the prompt, and for the embedding."""
    with torch.device("meta"):
        layers = layer_groups(VDVAE(s.vdvae), N_LAYERS)
    width = s.clip.text_width
    tokens = {f"token {k}": slice(k * width, (k + 1) * width) for k in range(CONTEXT)}
    groups = {"latents": layers, "prompt": tokens, "image": {"embedding": slice(0, s.clip.embedding)}}
    voxels = work / "brain" / "train_voxels.npy"
    return [
        fit_stage(Fit(target, columns, rank, training), voxels, work / f"{target}_train.npy", work / "fitted")
        for (target, columns), rank, training in zip(groups.items(), s.ranks, s.mlps)
    ]


def _encodings(work: Path) -> list[Stage]:
    brain, images = work / "brain", {split: work / "scenes" / f"{split}_{world.SMALL}.npy" for split in SPLITS}
    latents, embeddings = (
        {split: work / f"{target}_{split}.npy" for split in SPLITS} for target in ("latents", "image")
    )
    voxels = brain / "train_voxels.npy"
    files = Encoding(images, latents, embeddings, voxels, work / "subject.h5", brain / "truth.npz")
    return [encode_stage(files, work), response_stage(latents, voxels, work)]


def _choices(work: Path, s: Settings, parts: tuple[str, ...]) -> list[Stage]:
    """What is chosen by looking at held-out training images: the latents' rescaling, and a strength of stage 2."""
    scenes, brain, fitted = work / "scenes", work / "brain", work / "fitted"
    read = [brain / "train_voxels.npy", scenes / "train.npy", scenes / "train.json", *(work / name for name in parts)]
    read += [work / name for name in FILES if name not in REGRESSOR_FILES]
    fits, ready = ([folder / name for name in REGRESSOR_FILES] for folder in (fitted, work))
    how = {"training": s.mlps[0], "seed": s.seed}
    rescaling, strengths, guidance = (work / f"{name}.json" for name in ("rescaling", "strengths", "guidance"))
    guided = [staged("guidance", [*read, *ready], [guidance], partial(try_guidance, work), **how)]
    return [
        staged(
            "rescaling",
            [*read, *fits, work / "latents_train.npy"],
            [rescaling, *ready],
            partial(choose_rescaling, work),
            **how,
        ),
        staged("strengths", [*read, *ready], [strengths], partial(try_strengths, work), **how),
        *(guided if ADAPTER in parts else []),
    ]


# --- all -----------------------------------------------------------------------------------------------------------


def subject_stages(work: Path, s: Settings, decoders: Path | None = None) -> list[Stage]:
    """All that a bundle is made of; networks are trained, or, if `decoders` names a folder of trained ones, taken from there."""
    scenes, lora, checker = work / "scenes", work / "lcm_lora.safetensors", work / "checker.safetensors"
    test = [scenes / "test.npy", scenes / "test.json"]
    taken = {name: name for name in parts_of(decoders)}
    networks = [
        *(scene_stage(work, split, n, s.seed) for split, n in (("train", s.n_train), ("test", s.n_test))),
        *([taken_stage(decoders, work, taken, s)] if decoders else []),
    ]
    samples = [work / "samples.json", work / "samples.jpg"]
    return [
        *(networks if decoders else network_stages(work, s)),
        *_subject(work, s),
        staged(
            "samples",
            [work / "diffusion", lora, checker, *test],
            samples,
            partial(assess, work / "diffusion", lora, checker, scenes, work),
            seed=s.seed,
        ),
        *_features(work),
        *_fits(work, s),
        *_encodings(work),
        *_choices(work, s, parts_of(decoders)),
    ]
