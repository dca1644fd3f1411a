"""Live stage 2 on the shipped bundle: a layout and a prompt embedding to a picture in four steps, each decoded.

`python tests/bench/bench_lcm.py` prints one JSON object last. The peer is diffusers' StableDiffusionImg2ImgPipeline with the same
weights and timesteps, which decodes only the last step: the ratio is what the previews cost.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import LCMScheduler

sys.path.insert(0, str(Path(__file__).parents[2]))
from recon.bundle.bundle import load_bundle
from recon.decoders.diffusion import Meaning, refine
from recon.images import area_average, to_pixels
from recon.reconstruct import prompt_embeddings
from recon.settings import LCMSettings, Settings

REPEATS = 20


def main():
    bundle = load_bundle(Path(__file__).parents[2] / "assets" / "demo")
    pipe, settings = bundle.diffusion.pipe, LCMSettings()
    scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(settings.steps, strength=settings.strength)
    timesteps = scheduler.timesteps.tolist()
    times = {"unet_ms": [], "decode_ms": [], "total_ms": [], "diffusers_ms": []}
    for k in range(REPEATS):
        layout = area_average(bundle.subject.test.images[k : k + 1], 64)
        prompt = prompt_embeddings(bundle.subject.test.response(k)[None], bundle, Settings())
        start = time.perf_counter()
        previews = list(refine(bundle.diffusion, layout, Meaning(prompt), settings))
        times["total_ms"].append(time.perf_counter() - start)
        times["unet_ms"] += [p.unet_seconds for p in previews]
        times["decode_ms"] += [p.decode_seconds for p in previews]
        start = time.perf_counter()
        pipe(
            image=(to_pixels(layout, bundle.diffusion.size) + 1) / 2,
            prompt_embeds=torch.as_tensor(prompt),
            timesteps=timesteps,
            strength=1.0,
            guidance_scale=1.0,
            output_type="np",
        )
        times["diffusers_ms"].append(time.perf_counter() - start)
    ms = {name: round(1000 * statistics.median(values), 1) for name, values in times.items()}
    ms["step_ms"] = round(ms["unet_ms"] + ms["decode_ms"], 1)
    print(
        json.dumps({"threads": torch.get_num_threads(), **ms, "ratio": round(ms["total_ms"] / ms["diffusers_ms"], 2)})
    )


if __name__ == "__main__":
    main()
