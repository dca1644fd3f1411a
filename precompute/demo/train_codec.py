"""Trains the demo's small autoencoder, 192×192 pixels to 24×24 latents and back.

Two cores cannot learn one from nothing in an hour, so it starts from a linear codec: the encoder's convolutions are set so that the
latents are exactly the principal components of 8×8×3 patches. Training then lets encoder and decoder improve together,
with the latents held near compressed principal components (heavy tails pulled in, unit variance).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from precompute.demo.psnr import psnr
from precompute.demo.training import Schedule, Weights, draw_rows, pixels_of, resident, rows_of, step_rng, train
from recon.device import choose_device
from recon.files import open_array
from recon.images import to_images, to_pixels

PATCH, CROP = 8, 64  # pixels: a latent's side, a training crop's side
SQUARED, ANCHOR = 4.0, 0.05  # weights beside the absolute error: squared error, distance to the principal components
NOISE = 0.05  # on the latents that the decoder learns from
SAMPLE = 1800  # pictures that statistics are taken of
COMPRESSION = 2.0  # of the principal components: asinh(COMPRESSION · x)


@dataclass(frozen=True)
class CodecSize:
    """Channels everywhere, and residual blocks at 24², 48², 96² and 192² of the decoder."""

    channels: int = 48
    latents: int = 16
    decoder_blocks: tuple[int, int, int, int] = (3, 3, 1, 0)


@dataclass(frozen=True)
class PatchComponents:
    """Whitened principal components of patches: (x - mean) @ whiten, x (…, 192) in [-1, 1], columns in (y, x, colour) order."""

    mean: Tensor  # (192,)
    whiten: Tensor  # (192, K)
    spread: Tensor  # (K,) standard deviation of the compressed components

    @classmethod
    def fit(cls, images: np.ndarray, k: int) -> PatchComponents:
        rows = _patches(to_pixels(images)).flatten(0, 2)
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T))
        whiten = (vectors[:, -k:] / values[-k:].sqrt()).flip(1)
        spread = torch.asinh(COMPRESSION * ((rows - mean) @ whiten)).std(0)
        return cls(*(x.to(choose_device()) for x in (mean, whiten, spread)))

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) in [-1, 1] -> (n, K, S/8, S/8), compressed, unit variance."""
        components = (_patches(pixels) - self.mean) @ self.whiten
        return (torch.asinh(COMPRESSION * components) / self.spread).permute(0, 3, 1, 2)


def _patches(pixels: Tensor) -> Tensor:
    """(n, 3, S, S) -> (n, S/8, S/8, 192)."""
    n, _, height, width = pixels.shape
    grid = pixels.reshape(n, 3, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, height // PATCH, width // PATCH, -1)


def make_autoencoder(size: CodecSize) -> AutoencoderTiny:
    widths = (size.channels,) * 4
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        latent_channels=size.latents,
        num_encoder_blocks=(0, 0, 0, 2),
        num_decoder_blocks=size.decoder_blocks,
    )


@torch.no_grad()
def start_encoder(model: AutoencoderTiny, components: PatchComponents) -> None:
    """Sets the encoder to the components: three strided convolutions gather a patch, their last projects it.

    The residual blocks that follow keep what is positive, so each component goes through them twice, with both signs.
    """
    convolutions = [m for m in model.encoder.layers if isinstance(m, nn.Conv2d)]
    first, *gather, project, out = convolutions
    k = len(components.spread)
    first.weight.zero_()
    first.bias.zero_()
    colour = components.mean.reshape(-1, 3).mean(0)  # the strided convolutions have no bias: the mean colour goes here
    for c in range(3):
        first.weight[c, c, 1, 1] = 1
        first.bias[c] = -(colour[c] + 1) / 2
    order, side = [(0, 0, c) for c in range(3)], 1
    corners = [(y, x) for y in (0, 1) for x in (0, 1)]
    for conv in gather:
        conv.weight.zero_()
        finer = [(i, y, x, old) for i, old in enumerate(order) for y, x in corners]
        for row, (i, y, x, _) in enumerate(finer):
            conv.weight[row, i, 1 + y, 1 + x] = 1
        order = [(old[0] + y * side, old[1] + x * side, old[2]) for _, y, x, old in finer]
        side *= 2
    whiten = 2 * components.whiten.reshape(PATCH, PATCH, 3, k)  # the encoder sees pixels in [0, 1]
    project.weight.mul_(0.3)
    project.weight[: 2 * k] = 0
    for i, (y0, x0, c) in enumerate(order):
        for y, x in corners:
            column = whiten[y0 + side * y, x0 + side * x, c]
            project.weight[:k, i, 1 + y, 1 + x] = column
            project.weight[k : 2 * k, i, 1 + y, 1 + x] = -column
    for block in model.encoder.layers:
        if hasattr(block, "conv"):
            block.conv[-1].weight.zero_()
            block.conv[-1].bias.zero_()
    out.weight.zero_()
    out.bias.zero_()
    for c in range(k):
        out.weight[c, c, 1, 1], out.weight[c, k + c, 1, 1] = 0.6, -0.6


@torch.no_grad()
def reconstruct(model: AutoencoderTiny, images: np.ndarray, chunk: int = 50) -> np.ndarray:
    """There and back again: (n, S, S, 3) uint8."""
    parts = []
    for k in range(0, len(images), chunk):
        parts.append(to_images(model.decoder(model.encoder(to_pixels(images[k : k + chunk]).to(model.device)))))
    return np.concatenate(parts)


@torch.no_grad()
def latent_spread(model: AutoencoderTiny, images: np.ndarray) -> Tensor:
    """Standard deviation of each latent channel over `images`, (K,)."""
    z = torch.cat([model.encoder(to_pixels(images[k : k + 50]).to(model.device)) for k in range(0, len(images), 50)])
    return z.std((0, 2, 3))


def train_codec(scenes: Path, held_out: Path, weights: Weights, schedule: Schedule, size: CodecSize, seed: int) -> dict:
    """Trains on `scenes` (n, 192, 192, 3 uint8) and saves the model to a folder. Returns a report."""
    images = resident(scenes)
    sample = np.asarray(open_array(scenes)[:: -(-len(images) // SAMPLE)])
    components = PatchComponents.fit(sample, size.latents)
    torch.manual_seed(seed)
    model = make_autoencoder(size)
    start_encoder(model, components)
    model = model.to(choose_device(), memory_format=torch.channels_last)
    places = (images.shape[1] - CROP) // PATCH + 1

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed, step)
        y, x = PATCH * rng.integers(0, places, 2)
        rows = draw_rows(len(images), schedule.batch, rng)
        pixels = pixels_of(rows_of(images[:, y : y + CROP, x : x + CROP], rows))
        if rng.random() < 0.5:
            pixels = pixels.flip(3).contiguous(memory_format=torch.channels_last)
        latents = model.encoder(pixels).float()
        error = model.decoder(latents + NOISE * torch.randn_like(latents)) - pixels
        anchor = (latents - components(pixels)).square().mean()
        return {"loss": error.abs().mean() + SQUARED * error.square().mean() + ANCHOR * anchor, "anchor": anchor}

    best, report = train(model, loss, weights.checkpoint(), schedule, seed)
    spread = latent_spread(best, sample)
    best.register_to_config(scaling_factor=1 / float(spread.square().mean().sqrt()))
    best.save_pretrained(weights.out)
    test = np.asarray(open_array(held_out))
    report["latent_spread"] = [round(float(v), 3) for v in spread]
    return report | {"held_out_psnr_db": psnr(test, reconstruct(best, test))}
