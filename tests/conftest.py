"""Shared fixtures: a seeded generator, a tiny VDVAE, a tiny bundle on disk, and the shipped bundle."""

from __future__ import annotations

import os
import re
from pathlib import Path

OURS = re.compile(  # what a shell may have set: tests make their own environment
    r"(HF|HUGGINGFACE|TRANSFORMERS|DIFFUSERS|GRADIO|RECON|OMP|MKL|HDF5|SPACES?|AWS|MASTER|TORCHELASTIC)_\w+"
    r"|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|(HTTP|HTTPS|FTP|ALL|NO)_PROXY",
    re.IGNORECASE,
)
for name in [name for name in os.environ if OURS.fullmatch(name)]:
    del os.environ[name]

if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each worker: threads of several would wait for one another
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from recon.torchvision_guard import why_unusable

why_unusable()  # before anything imports transformers or diffusers

import numpy as np
import pytest
import torch
from served import open_browser, serve_apps
from stand_ins import Shelf
from tiny_diffusion import EMBEDDING, TOKENS, WIDTH, tiny_adapter, tiny_lora, tiny_pipeline

from recon.brain.space import Geometry
from recon.brain.voxel_scores import VoxelScores, save_scores
from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.manifest import write_manifest
from recon.bundle.subject import Subject, Trials, save_subject
from recon.decoders.vdvae import VDVAE
from recon.decoders.vdvae_layers import VDVAEConfig
from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP, Network
from recon.regressors.standardise import Rescaler, Standardiser

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"
TINY = VDVAEConfig(
    enc_blocks="64d2,32d2,16d2,8x1,8d2,4d4,1x1",
    dec_blocks="1x1,4m1,8m4,8x1,16m8,32m16,64m32",
    width=8,
    zdim=2,
    bottleneck=0.5,
    n_mixtures=2,
)
TINY_LAYERS = 4  # 1, 4, 8, 8: 2 + 32 + 128 + 128 latents


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tiny_vdvae():
    torch.manual_seed(0)
    return VDVAE(TINY).eval()


def random_regressors(n_voxels: int, n_targets: int, rng: np.random.Generator) -> dict[str, LowRank | MLP]:
    standardise = Standardiser(np.zeros(n_voxels, np.float32), np.ones(n_voxels, np.float32))
    rescale = Rescaler(np.ones(n_targets, np.float32), np.zeros(n_targets, np.float32))
    basis = rng.normal(size=(3, n_targets)).astype(np.float32)
    down = rng.normal(size=(n_voxels, 3)).astype(np.float32)
    intercept = np.zeros(n_targets, np.float32)
    network = Network(n_voxels, 3, hidden=4).eval()
    return {
        "ridge": LowRank(standardise, down, basis, intercept, rescale),
        "mlp": MLP(standardise, network, basis, intercept, rescale),
    }


def write_tiny_bundle(
    folder: Path, n_voxels: int = 7, fitted_voxels: int = 7, decoders: str = "own", adapter: bool = False
) -> Path:
    """A whole bundle of random parts, with an image adapter or not; `fitted_voxels` other than `n_voxels` makes it inconsistent.

    decoders: "own" come with it; "published" are not a part of it, and the regressors predict what those take.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    own = decoders == "own"
    n_layers, n_latents, prompt = (TINY_LAYERS, 290, TOKENS * WIDTH) if own else (31, 91_168, 77 * 768)
    if own:
        torch.manual_seed(0)
        VDVAE(TINY).save(folder / "vdvae.safetensors")
        pipe = tiny_pipeline()
        pipe.save_pretrained(folder / "diffusion")
        tiny_lora(pipe, folder / "lcm_lora.safetensors")
        if adapter:
            tiny_adapter(pipe, folder / "ip_adapter.safetensors")
    voxels = rng.normal(size=(5, 3, n_voxels)).astype(np.float32)
    voxels[0, 2] = np.nan
    images = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    labels = [{"captions": [f"picture {k}"], "unseen": k == 1} for k in range(5)]
    rois = {"V1": np.arange(n_voxels) < 3}
    geometry = Geometry("fsaverage5", np.zeros(n_voxels, np.uint8), np.arange(n_voxels, dtype=np.int32), rois)
    ncsnr = np.ones(n_voxels, np.float32)
    save_subject(folder / "subject.h5", Subject("tiny", True, geometry, ncsnr, Trials(voxels, images, labels)))
    for target, n_targets in {"latents": n_latents, "prompt": prompt, "image": EMBEDDING}.items():
        for name, regressor in random_regressors(fitted_voxels, n_targets, rng).items():
            regressor.save(folder / f"{target}_{name}.safetensors")
    captions = [f"training picture {k}" for k in range(4)]
    CaptionIndex(captions, rng.normal(size=(4, EMBEDDING)).astype(np.float32)).save(folder / "captions.h5")
    random_regressors(n_latents, n_voxels, rng)["ridge"].save(folder / "response.safetensors")
    np.save(folder / "response_test.npy", rng.normal(size=(5, 3)).astype(np.float16))
    scores = VoxelScores(ncsnr * 0.1, ncsnr * 0.3, ncsnr * 50, 5, ncsnr * 0.01, ncsnr * 0.02)
    save_scores(folder / "voxel_scores.h5", scores)
    write_manifest(
        folder,
        {
            "name": "tiny",
            "simulated": True,
            "n_layers": n_layers,
            "components": 3,
            "decoders": decoders,
            "evaluation": {},
        },
    )
    return folder


@pytest.fixture
def tiny_bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def guided_bundle(tmp_path):
    """With an image adapter."""
    return write_tiny_bundle(tmp_path / "guided", adapter=True)


@pytest.fixture
def shelf():
    server = Shelf()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def demo_bundle():
    return load_bundle(ROOT / "assets" / "demo")


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    """Of the page, served by `python app.py` with the demo."""
    with serve_apps({}) as (url,):
        yield url
