"""What the app needs of one subject, in one folder: opened whole and checked, or refused with one sentence.

manifest.json        name, simulated or not, sizes, decoders, size and SHA-256 of every other file
subject.h5           geometry, ncsnr, test trials          voxel_scores.h5      R², r and noise ceiling of every voxel
captions.h5          training captions, and where CLIP puts their pictures and the test pictures
response.safetensors VDVAE latents -> voxels: what the subject would have answered to any picture
response_test.npy    where the test pictures lie in it
TARGET_ridge.safetensors, TARGET_mlp.safetensors    voxels -> VDVAE latents, prompt embedding, image embedding

and, if it has been evaluated (`recon.bundle.evaluation`): evaluation.json, evaluation.csv, image_scores.h5, gallery.h5

and, if its decoders are its own:

vdvae.safetensors    stage 1's decoder (and encoder, for the ceiling)
diffusion/           stage 2's pipeline, in diffusers' layout     lcm_lora.safetensors    its LCM-LoRA
ip_adapter.safetensors    its image adapter; a bundle may do without

If they are the published ones (`recon.decoders.published_models`), the bundle opens without those that have not been fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recon.brain.voxel_scores import VoxelScores, load_scores
from recon.bundle.adapter_file import find_adapter
from recon.bundle.captions import CaptionIndex
from recon.bundle.manifest import ADAPTER, CHOICES, DECODERS, TARGETS, check_files, read_manifest
from recon.bundle.subject import Subject, load_subject
from recon.decoders.published_models import locate
from recon.files import BadFile, open_plain
from recon.recipes import Recipe, recipe_of
from recon.regressors.low_rank import LowRank
from recon.torchvision_guard import why_unusable

if TYPE_CHECKING:
    from recon.decoders.diffusion import Diffusion
    from recon.decoders.vdvae import VDVAE
    from recon.regressors.mlp import MLP

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    manifest: dict
    subject: Subject
    scores: VoxelScores
    vdvae: VDVAE | None  # None: not fetched
    open_stage_2: Callable[[], Diffusion] | None  # slow, so that a page may show stage 1 before
    captions: CaptionIndex
    regressors: dict[str, dict[str, LowRank | MLP]]  # target -> "ridge", "mlp"
    response: LowRank  # VDVAE latents -> voxels
    test_coordinates: np.ndarray  # (n_test, rank) of the test pictures' latents, of `response`
    absent: dict[str, str]  # "vdvae", "diffusion" -> why it is None, and what to do
    no_adapter: str = ""  # why stage 2 has no image adapter, and what to do

    @property
    def diffusion(self) -> Diffusion | None:
        """Opened when first asked for; None: not fetched. Raises BadFile if it is damaged or does not fit the regressors."""
        if self.open_stage_2 is None:
            return None
        diffusion = self.open_stage_2()
        _check_targets(self, {"prompt": int(np.prod(diffusion.prompt_shape))})
        return diffusion

    def why_unguided(self) -> str:
        """Why no image embedding can guide stage 2, and what to do; empty if one can. Opens the diffusion model."""
        if self.no_adapter:
            return self.no_adapter
        wanted, got = self.stage_2.embedding_width, self.captions.embeddings.shape[1]
        if wanted == got:
            return ""
        return (
            f"The image adapter takes embeddings of {wanted} numbers, this bundle's have {got}: make them again with "
            "`python -m precompute features --target clip-vision`, then `fit` and `bundle`"
        )

    @property
    def embedding_rescaling(self) -> str:
        """How decoded image embeddings are rescaled before they guide stage 2: "gain", "norm" or "none"."""
        return self.manifest.get("embedding", CHOICES["embedding"][0])

    @property
    def recipe(self) -> Recipe:
        """How stage 1 was fitted and is drawn."""
        return recipe_of(self.manifest)

    @property
    def n_layers(self) -> int:
        """How many leading VDVAE layers the regressors predict."""
        return self.manifest["n_layers"]

    def own_latents(self, images: np.ndarray) -> np.ndarray:
        """Images (n, S, S, 3) uint8, at the VDVAE's size -> (n, n_latents): what a perfect regressor would say of them.

        Raises ValueError, saying what to do, if the VDVAE is absent.
        """
        return self.stage_1.encode(images, self.n_layers)

    @property
    def stage_1(self) -> VDVAE:
        """The VDVAE. Raises ValueError, saying what to do, if it is absent."""
        if self.vdvae is None:
            raise ValueError(self.absent["vdvae"])
        return self.vdvae

    @property
    def stage_2(self) -> Diffusion:
        """The diffusion model. Raises ValueError, saying what to do, if it is absent."""
        diffusion = self.diffusion
        if diffusion is None:
            raise ValueError(self.absent["diffusion"])
        return diffusion


def once(make: Callable[[], T]) -> Callable[[], T]:
    """What `make` returns, made at the first call; threads that ask meanwhile wait. After an error the next call tries again."""
    lock, made = Lock(), []

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return get


def load_bundle(folder: Path, like: Bundle | None = None) -> Bundle:
    """Opens and checks a bundle; of one that is open, `like`, it shares the decoders if they are the same.

    Raises BadFile: missing, truncated, of another version, or parts that do not fit.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if like is None or _which_decoders(like.manifest) != _which_decoders(manifest):
        return open_parts(folder, manifest)
    shared = like.vdvae, like.open_stage_2 and (lambda: like.diffusion), like.absent, like.no_adapter
    return open_parts(folder, manifest, shared)


def _which_decoders(manifest: dict) -> list[str]:
    """Whose they are and, of own ones, what is in them."""
    kind = manifest["decoders"]
    own = [name for name in (*DECODERS[kind], ADAPTER) if name in manifest["files"]]
    return [kind, manifest.get("adapter", ""), *(manifest["files"][name]["sha256"] for name in own)]


Decoders = tuple[
    "VDVAE | None", "Callable[[], Diffusion] | None", dict[str, str], str
]  # stage 1, stage 2, why one is absent, why there is no image adapter


def _own_decoders(folder: Path, manifest: dict) -> Decoders:
    from recon.decoders.vdvae import VDVAE  # imports torch, which takes seconds: what only names a bundle does without

    adapter, no_adapter = find_adapter(folder, manifest)

    def stage_2() -> Diffusion:
        why_unusable()
        from recon.decoders.diffusion import load_diffusion  # imports diffusers and transformers, which takes seconds

        return load_diffusion(folder / "diffusion", folder / "lcm_lora.safetensors", adapter=adapter)

    return VDVAE.load(folder / "vdvae.safetensors"), stage_2, {}, no_adapter


def _published_decoders(folder: Path, manifest: dict) -> Decoders:
    """Those that have been fetched."""
    from recon.decoders.vdvae import load_openai
    from recon.device import choose_dtype

    vdvae, stage_2, absent = None, None, {}
    adapter, no_adapter = find_adapter(folder, manifest)
    try:
        vdvae = load_openai(locate("vdvae"), choose_dtype())
    except BadFile as error:
        absent["vdvae"] = str(error)
    try:
        parts = [locate(name) for name in ("diffusion", "lcm_lora", "preview")]
    except BadFile as error:
        absent["diffusion"] = str(error)
    else:

        def stage_2() -> Diffusion:
            why_unusable()
            from recon.decoders.diffusion import load_diffusion

            return load_diffusion(*parts, choose_dtype(), adapter)

    return vdvae, stage_2, absent, no_adapter


def open_parts(folder: Path, manifest: dict, decoders: Decoders | None = None) -> Bundle:
    """The parts of a bundle in `folder`, checked against one another but not against digests. Raises BadFile.

    `manifest` says how many layers, and whose decoders.
    """
    if decoders is None:
        decoders = (_own_decoders if manifest["decoders"] == "own" else _published_decoders)(folder, manifest)
    from recon.regressors.mlp import MLP

    kinds: dict[str, type[LowRank | MLP]] = {"ridge": LowRank, "mlp": MLP}
    vdvae, stage_2, absent, no_adapter = decoders
    bundle = Bundle(
        manifest=manifest,
        subject=load_subject(folder / "subject.h5"),
        scores=load_scores(folder / "voxel_scores.h5"),
        vdvae=vdvae,
        open_stage_2=stage_2 and once(stage_2),
        captions=CaptionIndex.load(folder / "captions.h5"),
        regressors={
            target: {name: kind.load(folder / f"{target}_{name}.safetensors") for name, kind in kinds.items()}
            for target in TARGETS
        },
        response=LowRank.load(folder / "response.safetensors"),
        test_coordinates=np.asarray(open_plain(folder / "response_test.npy"), np.float32),
        absent=absent,
        no_adapter=no_adapter,
    )
    n_voxels, n_latents = bundle.subject.geometry.n_voxels, len(bundle.regressors["latents"]["ridge"].intercept)
    got = len(bundle.response.standardise.mean), len(bundle.response.intercept)
    if got != (n_latents, n_voxels):
        raise BadFile(
            f"bundle {folder}: expected a response model from {n_latents} latents to {n_voxels} voxels, got {got[0]} to {got[1]}"
        )
    coordinates = len(bundle.subject.test.images), bundle.response.n_components
    if bundle.test_coordinates.shape != coordinates:
        raise BadFile(
            f"bundle {folder}: expected coordinates of test pictures {coordinates}, got {bundle.test_coordinates.shape}"
        )
    n_targets = {"latents": vdvae.n_latents(bundle.n_layers)} if vdvae else {}
    _check_targets(bundle, n_targets | {"image": bundle.captions.embeddings.shape[1]})
    if len(bundle.scores.r2) != n_voxels:
        raise BadFile(f"bundle {folder}: {n_voxels} voxels, but voxel scores of {len(bundle.scores.r2)}")
    embeddings, n_test = bundle.captions.test_embeddings, len(bundle.subject.test.images)
    if embeddings is not None and len(embeddings) != n_test:
        raise BadFile(f"bundle {folder}: {n_test} test images, but embeddings of {len(embeddings)}")
    return bundle


def _check_targets(bundle: Bundle, n_targets: dict[str, int]) -> None:
    """Whether regressors were fitted to the subject's voxels, and predict as many numbers as what reads them takes."""
    n_voxels = bundle.subject.geometry.n_voxels
    for target, wanted in n_targets.items():
        for name, regressor in bundle.regressors[target].items():
            got = len(regressor.standardise.mean), len(regressor.intercept)
            if got != (n_voxels, wanted):
                raise BadFile(
                    f"bundle of {bundle.subject.name}: the subject has {n_voxels} voxels and its decoders take {wanted} "
                    f"{target} numbers, but {target}_{name} was fitted to {got[0]} voxels and {got[1]} numbers"
                )
