"""What the app needs of one subject, in one folder: opened whole and checked, or refused with one sentence.

manifest.json        name, simulated or not, sizes, decoders, evaluation summary, size and SHA-256 of every other file
subject.h5           geometry, ncsnr, test trials          voxel_scores.h5      R², r and noise ceiling of every voxel
captions.h5          training captions, and where CLIP puts their pictures
TARGET_ridge.safetensors, TARGET_mlp.safetensors    voxels -> VDVAE latents, prompt embedding, image embedding

and, if its decoders are its own:

vdvae.safetensors    stage 1's decoder (and encoder, for the ceiling)
diffusion/           stage 2's pipeline, in diffusers' layout     lcm_lora.safetensors    its LCM-LoRA

If they are the published ones (`recon.models`), the bundle opens without those that have not been fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.clip import CaptionIndex
from recon.device import choose_dtype
from recon.encoding import VoxelScores, load_scores
from recon.files import BadFile, file_digest, load_json, save_json
from recon.lcm import Diffusion, load_diffusion
from recon.mlp import MLP
from recon.models import locate
from recon.ridge import LowRank
from recon.subject import Subject, load_subject
from recon.vdvae import VDVAE, load_openai

FORMAT, VERSION = "recon-bundle", 3
TARGETS, REGRESSORS = ("latents", "prompt", "image"), {"ridge": LowRank, "mlp": MLP}
PIPELINE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
FILES = (
    "subject.h5",
    "voxel_scores.h5",
    "captions.h5",
    *(f"{target}_{regressor}.safetensors" for target in TARGETS for regressor in REGRESSORS),
)
OWN_DECODERS = ("vdvae.safetensors", "lcm_lora.safetensors", *(f"diffusion/{name}" for name in PIPELINE))
DECODERS = {"own": OWN_DECODERS, "published": ()}  # what the manifest may name -> the files that come with it


@dataclass(frozen=True)
class Bundle:
    manifest: dict
    subject: Subject
    scores: VoxelScores
    vdvae: VDVAE | None  # None: not fetched
    diffusion: Diffusion | None
    captions: CaptionIndex
    regressors: dict[str, dict[str, LowRank | MLP]]  # target -> "ridge", "mlp"
    absent: dict[str, str]  # "vdvae", "diffusion" -> why it is None, and what to do

    @property
    def n_layers(self) -> int:
        """How many leading VDVAE layers the regressors predict."""
        return self.manifest["n_layers"]


def write_manifest(folder: Path, content: dict) -> None:
    """Completes `content` with format, version and the files' digests, and saves it; call it last."""
    names = (*FILES, *DECODERS[content["decoders"]])
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": file_digest(folder / n)} for n in names}
    save_json(folder / "manifest.json", {"format": FORMAT, "version": VERSION, **content, "files": files})


def _check_files(folder: Path, manifest: dict) -> None:
    for name in (*FILES, *DECODERS[manifest["decoders"]]):
        expected, path = manifest["files"][name], folder / name
        if not path.exists():
            raise BadFile(f"bundle {folder} lacks {name}: restore it or make it with `python -m precompute demo`")
        if path.stat().st_size != expected["bytes"]:
            raise BadFile(
                f"bundle {folder}: {name} should have {expected['bytes']} bytes, it has {path.stat().st_size} "
                "(truncated?): fetch or make it again"
            )
        if file_digest(path) != expected["sha256"]:
            raise BadFile(
                f"bundle {folder}: the content of {name} is not what the manifest lists: fetch or make it again"
            )


def load_bundle(folder: Path) -> Bundle:
    """Opens and checks a bundle. Raises BadFile: missing, truncated, of another version, or parts that do not fit."""
    folder = Path(folder)
    try:
        manifest = load_json(folder / "manifest.json")
    except FileNotFoundError:
        raise BadFile(
            f"no bundle at {folder}: make one with `python -m precompute demo`, or name another folder"
        ) from None
    except ValueError as error:
        raise BadFile(
            f"{folder / 'manifest.json'} is not valid JSON ({error}): fetch or make the bundle again"
        ) from error
    found = manifest.get("format"), manifest.get("version")
    if found != (FORMAT, VERSION):
        raise BadFile(
            f"bundle {folder}: expected format {FORMAT!r} version {VERSION}, got {found[0]!r} version {found[1]}"
        )
    missing = {"name", "simulated", "n_layers", "decoders", "evaluation", "files"} - manifest.keys()
    if missing or {*FILES, *DECODERS.get(manifest["decoders"], ("unknown decoders",))} - manifest["files"].keys():
        raise BadFile(f"bundle {folder}: the manifest is incomplete: fetch or make the bundle again")
    _check_files(folder, manifest)
    return open_parts(folder, manifest)


def _own_decoders(folder: Path) -> tuple[VDVAE, Diffusion, dict[str, str]]:
    diffusion = load_diffusion(folder / "diffusion", folder / "lcm_lora.safetensors")
    return VDVAE.load(folder / "vdvae.safetensors"), diffusion, {}


def _published_decoders() -> tuple[VDVAE | None, Diffusion | None, dict[str, str]]:
    """Those that have been fetched, and why the others are absent."""
    vdvae, diffusion, absent = None, None, {}
    try:
        vdvae = load_openai(locate("vdvae"), choose_dtype())
    except BadFile as error:
        absent["vdvae"] = str(error)
    try:
        diffusion = load_diffusion(*map(locate, ("diffusion", "lcm_lora", "preview")), choose_dtype())
    except BadFile as error:
        absent["diffusion"] = str(error)
    return vdvae, diffusion, absent


def open_parts(folder: Path, manifest: dict) -> Bundle:
    """The parts of a bundle in `folder`, checked against one another but not against digests. Raises BadFile."""
    own = manifest["decoders"] == "own"
    vdvae, diffusion, absent = _own_decoders(folder) if own else _published_decoders()
    bundle = Bundle(
        manifest=manifest,
        subject=load_subject(folder / "subject.h5"),
        scores=load_scores(folder / "voxel_scores.h5"),
        vdvae=vdvae,
        diffusion=diffusion,
        captions=CaptionIndex.load(folder / "captions.h5"),
        regressors={
            target: {name: kind.load(folder / f"{target}_{name}.safetensors") for name, kind in REGRESSORS.items()}
            for target in TARGETS
        },
        absent=absent,
    )
    _check_sizes(folder, bundle)
    return bundle


def _expected_targets(bundle: Bundle) -> dict[str, int]:
    """How many numbers of each target the decoders that there are take."""
    n_targets = {"image": bundle.captions.embeddings.shape[1]}
    if bundle.vdvae:
        n_targets["latents"] = bundle.vdvae.n_latents(bundle.n_layers)
    if bundle.diffusion:
        n_targets["prompt"] = int(np.prod(bundle.diffusion.prompt_shape))
    return n_targets


def _check_sizes(folder: Path, bundle: Bundle) -> None:
    n_voxels, n_targets = bundle.subject.geometry.n_voxels, _expected_targets(bundle)
    for target, regressors in bundle.regressors.items():
        for name, regressor in regressors.items():
            got = len(regressor.standardise.mean), len(regressor.intercept)
            wanted = n_targets.get(target, got[1])
            if got != (n_voxels, wanted):
                raise BadFile(
                    f"bundle {folder}: the subject has {n_voxels} voxels and its decoders take {wanted} "
                    f"{target} numbers, but {target}_{name} was fitted to {got[0]} voxels and {got[1]} numbers"
                )
    if len(bundle.scores.r2) != n_voxels:
        raise BadFile(f"bundle {folder}: {n_voxels} voxels, but voxel scores of {len(bundle.scores.r2)}")
