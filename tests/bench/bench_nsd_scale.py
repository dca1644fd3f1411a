"""One live reconstruction at NSD's shapes: 15,724 voxels, ImageNet-64's VDVAE, Stable Diffusion 1.5 at 512², TAESD.

`python tests/bench/bench_nsd_scale.py [--steps 4]` prints one JSON object last; weights are random. `vdvae_seconds`: voxels to the
layout that stage 2 starts from; `lcm_step_seconds`: median time of a step with its preview; `unet_seconds`: the bare UNet call, in
the same run; `guided_step_over_step`: a step that a decoded image embedding guides, over one that text guides alone, both with the
adapter there, in turns.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import LCMScheduler

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from full_size import random_stable_diffusion, random_taesd, random_vdvae

from recon.bundle.bundle import Bundle
from recon.bundle.captions import CaptionIndex
from recon.decoders.diffusion import Diffusion, with_preview
from recon.decoders.ip_adapter import adapter_shapes, attach, image_condition, set_scale
from recon.device import choose_device, choose_dtype
from recon.reconstruct import Frame, Shown, reconstruct
from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP, Network
from recon.regressors.standardise import Rescaler, Standardiser
from recon.settings import LCMSettings, Settings

N_VOXELS, N_LAYERS, TOKENS, WIDTH = 15_724, 31, 77, 768
EMBEDDING, TURNS = 1024, 3  # numbers of an image embedding; runs of either kind that are compared
RANKS, HIDDEN = {"latents": 512, "prompt": 256, "image": 256}, 1024


def random_regressors(n_targets: int, rank: int, rng: np.random.Generator) -> dict[str, LowRank | MLP]:
    """Predictions of about unit variance."""
    ones, zeros = np.ones(N_VOXELS, np.float32), np.zeros(N_VOXELS, np.float32)
    standardise = Standardiser(zeros, ones)
    rescale = Rescaler(np.ones(n_targets, np.float32), np.zeros(n_targets, np.float32))
    down = rng.standard_normal((N_VOXELS, rank), np.float32) / np.float32(N_VOXELS**0.5)
    up = rng.standard_normal((rank, n_targets), np.float32) / np.float32(rank**0.5)
    intercept = np.zeros(n_targets, np.float32)
    network = Network(N_VOXELS, rank, HIDDEN).eval()
    return {
        "ridge": LowRank(standardise, down, up, intercept, rescale),
        "mlp": MLP(standardise, network, up, intercept, rescale),
    }


def random_bundle() -> Bundle:
    rng, device, dtype = np.random.default_rng(0), choose_device(), choose_dtype()
    vdvae = random_vdvae().to(device, dtype, memory_format=torch.channels_last)
    pipe = random_stable_diffusion(dtype).to(device)
    shapes = adapter_shapes(pipe.unet, EMBEDDING)
    attach(pipe.unet, {name: 0.02 * torch.randn(shape, dtype=dtype) for name, shape in shapes.items()})
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    n_targets = {"latents": vdvae.n_latents(N_LAYERS), "prompt": TOKENS * WIDTH, "image": EMBEDDING}
    diffusion = with_preview(pipe, random_taesd(dtype).to(device))
    return Bundle(
        manifest={"n_layers": N_LAYERS},
        subject=SimpleNamespace(name="random", geometry=SimpleNamespace(n_voxels=N_VOXELS)),  # all that is asked of it
        scores=None,
        vdvae=vdvae,
        open_stage_2=lambda: diffusion,
        captions=CaptionIndex([""], np.ones((1, EMBEDDING), np.float32)),
        regressors={name: random_regressors(n, RANKS[name], rng) for name, n in n_targets.items()},
        response=None,
        test_coordinates=None,
        absent={},
    )


@torch.inference_mode()
def bare_unet_seconds(model: Diffusion, repeats: int) -> list[float]:
    unet = model.pipe.unet
    like = {"device": model.pipe.device, "dtype": unet.dtype}
    latents, prompt = torch.randn(1, 4, 64, 64, **like), torch.randn(1, TOKENS, WIDTH, **like)
    none, times = image_condition(torch.zeros(1, EMBEDDING, **like)), []
    set_scale(unet, 0)
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        unet(latents, torch.tensor(499), prompt, added_cond_kwargs=none, return_dict=False)[0].float().sum().item()
        times.append(time.perf_counter() - start)
    return times[1:]


def guided_over_text(bundle: Bundle, voxels: np.ndarray, settings: Settings, layout: Frame) -> float:
    """Median seconds of a step between the first and the last, guided by text and image, over those by text alone."""
    seconds = {0.0: [], 0.5: []}
    for _ in range(TURNS):
        for balance, found in seconds.items():
            frames = reconstruct(voxels, bundle, replace(settings, balance=balance), layout=layout)
            ends = [frame.seconds for frame in frames if frame.stage == "lcm"]
            found += np.diff(ends)[:-1].tolist()
    return statistics.median(seconds[0.5]) / statistics.median(seconds[0.0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    settings = Settings(lcm=LCMSettings(parser.parse_args().steps))
    bundle = random_bundle()
    voxels = np.random.default_rng(1).standard_normal(N_VOXELS, np.float32)
    shown = Shown(np.zeros((64, 64, 3), np.uint8), [])
    next(reconstruct(voxels, bundle, settings, shown=shown))  # warms up
    bare = bare_unet_seconds(bundle.diffusion, 2)
    layout, *frames = reconstruct(voxels, bundle, settings, shown=shown)
    frames = [frame for frame in frames if frame.stage == "lcm"]
    unet_seconds = statistics.median(bare + bare_unet_seconds(bundle.diffusion, 2))  # before and after: machines drift
    ends = [frame.seconds for frame in frames]
    steps = np.diff([0.0, *ends])
    report = {
        "device": choose_device().type,
        "dtype": str(choose_dtype()).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "vdvae_seconds": layout.seconds,
        "lcm_step_seconds": statistics.median(steps),
        "first_step_seconds": steps[0],  # with embedding and encoding
        "last_step_seconds": steps[-1],  # decoded at full size
        "unet_seconds": unet_seconds,
        "total_seconds": layout.seconds + ends[-1],
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "step_over_unet": statistics.median(steps) / unet_seconds,
        "guided_step_over_step": guided_over_text(bundle, voxels, settings, layout),
        "sides": [frame.images["lcm"].shape[0] for frame in frames],
    }
    print(json.dumps({k: round(float(v), 3) if isinstance(v, float) else v for k, v in report.items()}))


if __name__ == "__main__":
    main()
