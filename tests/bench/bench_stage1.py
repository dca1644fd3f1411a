"""Live stage 1 on the shipped bundle: voxels to pictures, three sources at once, four steps, coarse to fine.

`python tests/bench/bench_stage1.py` prints one JSON object last. The peer is decoding the last step alone, without the preview
steps: the ratio is what the streaming costs.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from without import without

from recon.bundle.bundle import load_bundle
from recon.reconstruct import Shown, decoded, reconstruct
from recon.settings import Settings

REPEATS = 20


def main():
    start = time.perf_counter()
    bundle = load_bundle(Path(__file__).parents[2] / "assets" / "demo")
    load_s = time.perf_counter() - start
    test, stage_1 = bundle.subject.test, without(bundle, "diffusion")
    size = bundle.vdvae.cfg.image_size
    first, total, alone = [], [], []
    for k in range(REPEATS):
        image = np.asarray(Image.fromarray(test.images[k]).resize((size, size), Image.Resampling.BOX))
        frames = list(reconstruct(test.response(k), stage_1, Settings(), shown=Shown(image, [])))
        first.append(frames[0].seconds)
        total.append(frames[-1].seconds)
        start = time.perf_counter()
        X = test.response(k)[None]
        latents = [decoded("latents", X, bundle, name) for name in ("ridge", "mlp")]
        bundle.vdvae.decode(np.concatenate([*latents, bundle.own_latents(image[None])]))
        alone.append(time.perf_counter() - start)
    ms = {name: round(1000 * statistics.median(v), 1) for name, v in (("first_ms", first), ("total_ms", total))}
    plain = round(1000 * statistics.median(alone), 1)
    print(json.dumps({"load_s": round(load_s, 2), **ms, "plain_ms": plain, "ratio": round(ms["total_ms"] / plain, 2)}))


if __name__ == "__main__":
    main()
