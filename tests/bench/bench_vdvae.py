"""The full-size VDVAE's decoder at batch 16: 31 given layers, 44 from the prior's mean; random weights.

`python tests/bench/bench_vdvae.py [--batch 16] [--repeats 3]` prints one JSON object last. The peer is the same network as the
paper draws it: float32, NCHW, all pictures at once, block after block. `mean_abs_grey_levels`: how far apart the pictures are.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from full_size import random_vdvae

from recon.decoders.dmol import dmol_mean
from recon.device import choose_device, choose_dtype

N_LAYERS = 31


@torch.inference_mode()
def decode_naively(model, latents):
    given = model.unflatten(latents)
    state = model.decoder.start(len(latents))
    for k, block in enumerate(model.decoder.dec_blocks):
        mean, _, h = block.prior_of(block.enter(state))
        state = block.leave(h, given[k] if k < len(given) else mean, state)
    return dmol_mean(model.decoder.finish(state).permute(0, 2, 3, 1).float(), model.cfg.n_mixtures)


def seconds_of(decode, repeats: int) -> tuple[float, np.ndarray]:
    times = []
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        pictures = decode()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), pictures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    naive = random_vdvae().to(choose_device())
    latents = np.random.default_rng(0).normal(size=(options.batch, naive.n_latents(N_LAYERS))).astype(np.float32)
    slow, theirs = seconds_of(lambda: decode_naively(naive, latents), options.repeats)
    ours = naive.to(choose_dtype(), memory_format=torch.channels_last)
    fast, pictures = seconds_of(lambda: ours.decode(latents), options.repeats)
    report = {
        "device": choose_device().type,
        "dtype": str(choose_dtype()).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "seconds_per_image": round(fast / options.batch, 4),
        "naive_seconds_per_image": round(slow / options.batch, 4),
        "ratio": round(slow / fast, 2),
        "mean_abs_grey_levels": round(float(np.abs(pictures.astype(float) - theirs).mean()), 4),
        "picture_sd_grey_levels": round(float(theirs.std()), 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
