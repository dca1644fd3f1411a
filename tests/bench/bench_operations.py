"""How many operations every stage takes, counted, and how many hours they are at a rate: a bound, for nothing waits for a disk.

    python tests/bench/bench_operations.py [--float32 10] [--float16 100] [--devices 1]

Prints one JSON object last. `gigaflop_a_picture`: of the published networks, by torch's counter, without weights; of stage 2 on a
GPU, where the whole autoencoder decodes. `hours`: of a subject of 9,000 training and 1,000 test images and 15,724 voxels, evaluated
on all of them with three seeds, on so many devices of the given rates (10¹² operations a second, sustained) that share it evenly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_features import N_LAYERS, TOWER, VISION
from bench_scale import Size, mlp_operations, ridge_operations
from full_size import random_vdvae

CAPTIONS, STEPS = 5, 4
TARGETS = {"vdvae": 91_168, "clip_text": 77 * 768, "clip_vision": 1024}
N_TRAIN, N_TEST, N_VOXELS = 9000, 1000, 15_724
ALPHAS, CHOSEN, EPOCHS = 13, 8, 30  # of a fit; the latter two are typical
PICTURES = 18 * N_TEST + 18 * 100 + 96  # of stage 2: six sources and three seeds; the curve; galleries


def count(run: Callable[[], object]) -> float:
    """10⁹ operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 1e9


def of_pictures() -> dict[str, float]:
    """Stage -> 10⁹ operations a picture."""
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **TOWER))
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=224, patch_size=14, **VISION))
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
        wide = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
        vae = AutoencoderKL(down_block_types=down, up_block_types=up, **wide)
        ids, pixels, latents = (
            torch.zeros(1, 77, dtype=torch.long),
            torch.zeros(1, 3, 512, 512),
            torch.zeros(1, 4, 64, 64),
        )
        step = count(lambda: unet(latents, torch.tensor(1.0), torch.zeros(1, 77, 768)))
        around = count(lambda: vae.encoder(pixels)) + count(lambda: vae.decoder(latents))
        clip = count(lambda: text(ids)), count(lambda: vision(torch.zeros(1, 3, 224, 224)))
    vdvae = random_vdvae()
    return {
        "vdvae": count(lambda: vdvae.encode(np.zeros((1, 64, 64, 3), np.uint8), N_LAYERS)),
        "clip_text": CAPTIONS * clip[0],
        "clip_vision": clip[1],
        "stage_1": count(lambda: vdvae.decode(np.zeros((1, vdvae.n_latents(N_LAYERS)), np.float32))),
        "stage_2": STEPS * step + around,
    }


def fit_operations() -> float:
    sizes = [Size(N_TRAIN, N_VOXELS, q) for q in TARGETS.values()]
    return sum(ridge_operations(size, ALPHAS, CHOSEN) + mlp_operations(size, EPOCHS) for size in sizes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--float32", type=float, default=10, help="of features and fits")
    parser.add_argument("--float16", type=float, default=100, help="of stage 2")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    each, n = of_pictures(), N_TRAIN + N_TEST
    operations = {f"features {target}": n * each[target] * 1e9 for target in TARGETS} | {"fit": fit_operations()}
    rates = dict.fromkeys(operations, options.float32) | {"evaluate": options.float16}
    operations["evaluate"] = PICTURES * each["stage_2"] * 1e9
    hours = {k: v / rates[k] / 1e12 / 3600 / options.devices for k, v in operations.items()}
    report = {"float32": options.float32, "float16": options.float16, "devices": options.devices}
    report |= {"gigaflop_a_picture": {k: round(v, 1) for k, v in each.items()}}
    report |= {"operations": {k: float(f"{v:.2g}") for k, v in operations.items()}}
    print(json.dumps(report | {"hours": {k: round(v, 3) for k, v in hours.items()}}))


if __name__ == "__main__":
    main()
