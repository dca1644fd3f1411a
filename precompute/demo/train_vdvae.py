"""Trains the demo's small VDVAE on the corpus of scenes at 64×64.

Loss: the negative evidence lower bound, nats per colour value (Child 2021): discretised mixture of logistics plus the
KL of every layer, KL weight warmed up, gradients clipped and skipped when they explode, weights averaged (EMA). The KL weighs
half (beta-VAE: Higgins et al. 2017), and the squared error of the mixture's expectation, which is what is shown, is added.

One addition: *depth dropout*. For a part of each batch the layers finer than a random resolution take their prior's mean,
which is what `VDVAE.decode` gives them when only coarser ones are known. So coarse layers carry layout, edges and colour by
themselves, as a decoder of regressed layers needs. The rest of the batch uses every layer, so that fine detail is left to fine
layers. For the first part the loss is no bound on the evidence, since the noise of the finer layers is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from precompute.demo.psnr import psnr
from precompute.demo.training import Schedule, Weights, draw_rows, pixels_of, resident, rows_of, step_rng, train
from recon.decoders.dmol import dmol_expectation, dmol_log_likelihood
from recon.decoders.vdvae import VDVAE
from recon.decoders.vdvae_layers import VDVAEConfig, gaussian_kl
from recon.device import choose_device
from recon.files import BadFile, open_array

KL_START, KL_WARMUP = 0.02, 0.5  # initial share of the KL's weight; share of the steps until it is whole
KL_WEIGHT, SQUARED = 0.5, 60.0  # weights of the KL, and of the squared error of what `VDVAE.decode` would show
EDGES = 60.0  # weight of the squared error of its steps from pixel to pixel, where blocks would show
DEPTH_SHARES = {4: 0.05, 8: 0.12, 16: 0.38, 64: 0.45}  # how often the posterior reaches down to which resolution

N_LAYERS = 13  # of the demo VDVAE's 20 layers: all up to 16 × 16
DEMO_CONFIG = VDVAEConfig(
    enc_blocks="64x1,64d2,32x2,32d2,16x3,16d2,8x3,8d2,4x2,4d4,1x2",
    dec_blocks="1x1,4m1,4x2,8m4,8x3,16m8,16x4,32m16,32x3,64m32,64x2",
    width=160,
    custom_widths={64: 48, 32: 96, 16: 144},
    zdim=8,
    bottleneck=0.5,
    n_mixtures=3,
    mean=120.0,
    std=66.0,
    upsampling="bilinear",
)


def negative_elbo(model: VDVAE, pixels: Tensor, deepest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distortion and rate per image (B,), nats per colour value, and the squared errors (B,) of the expectation, pixels in [-1, 1],
    and of its differences between neighbouring pixels.

    `pixels` (B, 3, S, S) in [-1, 1]; `deepest` (B,): the finest resolution whose layers come from the posterior. The layers of
    finer ones are the prior's means.
    """
    features = model.encoder(((pixels + 1) * 127.5 - model.cfg.mean) / model.cfg.std)
    state = model.decoder.start(len(pixels))
    rate = 0.0
    for block in model.decoder.dec_blocks:
        inside = (deepest >= block.resolution).float()[:, None, None, None]
        h = block.enter(state)
        mean_q, logsd_q = (x.float() for x in block.posterior_of(h, features[block.resolution]))
        mean_p, logsd_p, h = block.prior_of(h)
        mean_p, logsd_p = mean_p.float(), logsd_p.float()
        rate = rate + (inside * gaussian_kl(mean_q, logsd_q, mean_p, logsd_p)).sum((1, 2, 3))
        sampled = mean_q + logsd_q.exp() * torch.randn_like(mean_q)
        state = block.leave(h, torch.lerp(mean_p, sampled, inside), state)
    params = model.decoder.finish(state).permute(0, 2, 3, 1).float()
    target = pixels.permute(0, 2, 3, 1)
    n_values = target[0].numel()
    error = dmol_expectation(params, model.cfg.n_mixtures) - target
    edges = sum(error.diff(dim=axis).square().mean((1, 2, 3)) for axis in (1, 2))
    distortion = -dmol_log_likelihood(target, params, model.cfg.n_mixtures) / n_values
    return distortion, rate / n_values, error.square().mean((1, 2, 3)), edges


def _kl_weight(step: int, n_steps: int) -> float:
    """Share of the KL's weight."""
    return min(1.0, KL_START + (1 - KL_START) * step / (KL_WARMUP * n_steps))


def _batch(images: Tensor, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pixels (half of the pictures mirrored) and depths of one step, on the device."""
    pixels = pixels_of(rows_of(images, draw_rows(len(images), batch, rng)))
    mirror = torch.as_tensor(rng.random(len(pixels)) < 0.5, device=pixels.device)
    pixels = torch.where(mirror[:, None, None, None], pixels.flip(3), pixels)
    depth = rng.choice(list(DEPTH_SHARES), len(pixels), p=list(DEPTH_SHARES.values()))
    return pixels, torch.as_tensor(depth, device=pixels.device)


def held_out_psnr(model: VDVAE, images: np.ndarray, n_layers: int) -> dict[str, float]:
    """Reconstruction of pictures that were not trained on: from all posterior means, and from the first n_layers alone."""
    pairs = []
    for k in range(0, len(images), 50):
        latents = model.encode(images[k : k + 50])
        pairs.append([model.decode(z) for z in (latents, latents[:, : model.n_latents(n_layers)])])
    whole, leading = (np.concatenate(x) for x in zip(*pairs))
    return {"all layers": psnr(images, whole), f"first {n_layers} layers": psnr(images, leading)}


def _start(cfg: VDVAEConfig, weights: Path | None) -> VDVAE:
    """A random network, or the one that was saved as `weights`. Raises BadFile if that has another configuration."""
    if weights is None:
        return VDVAE(cfg)
    model = VDVAE.load(weights)
    if model.cfg != cfg:
        raise BadFile(f"{weights}: expected a VDVAE of the configuration {cfg}, got {model.cfg}: start from another")
    return model.train().requires_grad_(True)


def train_vdvae(
    scenes: Path, held_out: Path, weights: Weights, schedule: Schedule, seed: int, cfg: VDVAEConfig
) -> dict:
    """Trains on `scenes` (n, 64, 64, 3) and saves the weights (safetensors); resumes from its checkpoint. Returns a report.

    `held_out` images are only reconstructed at the end, for the report.
    """
    images = resident(scenes)
    torch.manual_seed(seed)
    model = _start(cfg, weights.start).to(choose_device(), memory_format=torch.channels_last)

    def loss(step: int) -> dict[str, Tensor]:
        distortion, rate, squared, edges = negative_elbo(model, *_batch(images, schedule.batch, step_rng(seed, step)))
        weight = KL_WEIGHT * _kl_weight(step, schedule.steps)
        return {
            "loss": (distortion + weight * rate + SQUARED * squared + EDGES * edges).mean(),
            "distortion (nats per value)": distortion.mean(),
            "rate (nats per value)": rate.mean(),
            "squared error": squared.mean(),
            "squared error of edges": edges.mean(),
        }

    best, report = train(model, loss, weights.checkpoint(), schedule, seed)
    best.save(weights.out)
    seen = held_out_psnr(VDVAE.load(weights.out), np.asarray(open_array(held_out)), N_LAYERS)
    return report | {"held_out_psnr_db": seen}
