"""Trains the demo's small VDVAE on the training scenes at 64×64.

Loss: the negative evidence lower bound, nats per colour value (Child 2021): discretised mixture of logistics plus the
KL of every layer, KL weight warmed up, gradients clipped and skipped when they explode, weights averaged (EMA).

One addition: *depth dropout*. For a part of each batch the posterior is the prior below a random resolution, which is
still a valid lower bound (the KL of those layers is zero). It makes coarse layers carry layout and colour by
themselves, as a decoder that gets only the regressed layers needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from precompute.demo.psnr import psnr
from precompute.demo.training import Schedule, draw_rows, save_report, step_rng, train
from recon.decoders.dmol import dmol_log_likelihood
from recon.decoders.vdvae import VDVAE
from recon.decoders.vdvae_layers import VDVAEConfig, gaussian_kl
from recon.files import open_array

KL_START, KL_WARMUP = 0.02, 0.5  # initial weight; share of the steps until it is 1
DEPTH_SHARES = {4: 0.08, 8: 0.12, 16: 0.35, 64: 0.45}  # how often the posterior reaches down to which resolution

DEMO_CONFIG = VDVAEConfig(
    enc_blocks="64d2,32x1,32d2,16x3,16d2,8x3,8d2,4x2,4d4,1x2",
    dec_blocks="1x1,4m1,4x1,8m4,8x2,16m8,16x4,32m16,32x2,64m32",
    width=144,
    custom_widths={64: 16, 32: 40, 16: 80},
    zdim=8,
    bottleneck=0.5,
    n_mixtures=3,
    mean=120.0,
    std=66.0,
)


def negative_elbo(model: VDVAE, images: np.ndarray, deepest: torch.Tensor):
    """Distortion and rate per picture (B,), nats per colour value; `deepest` (B,) is where the posterior ends."""
    x = model.scale_pixels(images)
    features = model.encoder(x)
    state = model.decoder.start(len(images))
    rate = 0.0
    for block in model.decoder.dec_blocks:
        inside = (deepest >= block.resolution).float()[:, None, None, None]
        h = block.enter(state)
        mean_q, logsd_q = block.posterior_of(h, features[block.resolution])
        mean_p, logsd_p, h = block.prior_of(h)
        rate = rate + (inside * gaussian_kl(mean_q, logsd_q, mean_p, logsd_p)).sum((1, 2, 3))
        mean, logsd = (inside * q + (1 - inside) * p for q, p in ((mean_q, mean_p), (logsd_q, logsd_p)))
        state = block.leave(h, mean + logsd.exp() * torch.randn_like(mean), state)
    target = torch.as_tensor(images).float() / 127.5 - 1
    params = model.decoder.finish(state).permute(0, 2, 3, 1)
    n_values = target[0].numel()
    return -dmol_log_likelihood(target, params, model.cfg.n_mixtures) / n_values, rate / n_values


def _kl_weight(step: int, n_steps: int) -> float:
    return min(1.0, KL_START + (1 - KL_START) * step / (KL_WARMUP * n_steps))


def _batch(images: np.ndarray, batch: int, rng: np.random.Generator):
    """Pictures (half of them mirrored) and depths of one step."""
    chosen = images[draw_rows(len(images), batch, rng)]
    mirror = rng.random(len(chosen)) < 0.5
    chosen = np.where(mirror[:, None, None, None], chosen[:, :, ::-1], chosen)
    depth = rng.choice(list(DEPTH_SHARES), len(chosen), p=list(DEPTH_SHARES.values()))
    return chosen, torch.as_tensor(depth)


def held_out_psnr(model: VDVAE, images: np.ndarray, n_layers: int) -> dict[str, float]:
    """Reconstruction of pictures that were not trained on: from all posterior means, and from the first n_layers alone."""
    pairs = []
    for k in range(0, len(images), 50):
        latents = model.encode(images[k : k + 50])
        pairs.append([model.decode(z) for z in (latents, latents[:, : model.n_latents(n_layers)])])
    whole, leading = (np.concatenate(x) for x in zip(*pairs))
    return {"all layers": psnr(images, whole), f"first {n_layers} layers": psnr(images, leading)}


def train_vdvae(
    scenes: Path, held_out: Path, out: Path, schedule: Schedule, seed: int, cfg: VDVAEConfig, n_layers: int
) -> dict:
    """Trains on `scenes` (n, 64, 64, 3), saves `out` (safetensors) and a report beside it; resumes from its checkpoint.

    `held_out` pictures are only reconstructed at the end, for the report.
    """
    images = open_array(scenes)
    torch.manual_seed(seed)
    model = VDVAE(cfg).to(memory_format=torch.channels_last)

    def loss(step: int) -> dict[str, torch.Tensor]:
        distortion, rate = negative_elbo(model, *_batch(images, schedule.batch, step_rng(seed, step)))
        total = (distortion + _kl_weight(step, schedule.steps) * rate).mean()
        return {"loss": total, "distortion (nats per value)": distortion.mean(), "rate (nats per value)": rate.mean()}

    checkpoint = out.with_suffix(".checkpoint.pt")
    best, report = train(model, loss, checkpoint, schedule, seed)
    best.save(out)
    report["held_out_psnr_db"] = held_out_psnr(VDVAE.load(out), np.asarray(open_array(held_out)), n_layers)
    save_report(out, report, checkpoint)
    return report
