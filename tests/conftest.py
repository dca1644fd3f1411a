"""Shared fixtures: a seeded generator, a tiny VDVAE, a tiny bundle on disk, and the shipped bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recon.bundle import load_bundle, write_manifest
from recon.encoding import VoxelScores, save_scores
from recon.mlp import MLP, Network, Training
from recon.regression import Rescaler, Standardiser
from recon.ridge import LowRank
from recon.subject import Geometry, Subject, Trials, save_subject
from recon.vdvae import VDVAE, VDVAEConfig

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


def write_tiny_bundle(folder: Path, n_voxels: int = 7, fitted_voxels: int = 7) -> Path:
    """A whole bundle of random parts; `fitted_voxels` other than `n_voxels` makes it inconsistent."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    vdvae = VDVAE(TINY)
    vdvae.save(folder / "vdvae.safetensors")
    n_latents = vdvae.n_latents(TINY_LAYERS)
    voxels = rng.normal(size=(5, 3, n_voxels)).astype(np.float32)
    voxels[0, 2] = np.nan
    images = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    labels = [{"captions": [f"picture {k}"], "unseen": k == 1} for k in range(5)]
    rois = {"V1": np.arange(n_voxels) < 3}
    geometry = Geometry("fsaverage5", np.zeros(n_voxels, np.uint8), np.arange(n_voxels, dtype=np.int32), rois)
    ncsnr = np.ones(n_voxels, np.float32)
    save_subject(folder / "subject.h5", Subject("tiny", True, geometry, ncsnr, Trials(voxels, images, labels)))
    standardise = Standardiser(np.zeros(fitted_voxels, np.float32), np.ones(fitted_voxels, np.float32))
    rescale = Rescaler(np.ones(n_latents, np.float32), np.zeros(n_latents, np.float32))
    basis = rng.normal(size=(3, n_latents)).astype(np.float32)
    down = rng.normal(size=(fitted_voxels, 3)).astype(np.float32)
    intercept = np.zeros(n_latents, np.float32)
    LowRank(standardise, down, basis, intercept, rescale).save(folder / "ridge.safetensors")
    network = Network(fitted_voxels, 3, Training(hidden=4)).eval()
    MLP(standardise, network, basis, intercept, rescale).save(folder / "mlp.safetensors")
    scores = VoxelScores(ncsnr * 0.1, ncsnr * 0.3, ncsnr * 50, 5)
    save_scores(folder / "voxel_scores.h5", scores)
    write_manifest(folder, {"name": "tiny", "simulated": True, "n_layers": TINY_LAYERS, "evaluation": {}})
    return folder


@pytest.fixture
def tiny_bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def demo_bundle():
    return load_bundle(ROOT / "assets" / "demo")
