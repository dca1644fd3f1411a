"""What the cap of the latents' gain does to layouts, over R² from 0.001 to 0.5: ours (a cap of 4) beside none, and no rescaling.

`python tests/bench/bench_gain.py` prints a table, and one JSON object last. Predictions are synthetic: of the shipped bundle's test
images, least-squares predictions of their own latents whose every latent has the R² of the row (Var ŷ = R² Var y). What is wrong in
them is independent noise, or looks like another image's latents, as a regressor's errors do that mixes images up. Gains come from
one half of the images, as at a fit; the other half is decoded. `spread`: SD over images of the layouts' pixels, over that of the
layouts of true latents, 1 is as real, 0 all the same; `pixcorr`, `ssim`: means against the images, as in an evaluation.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from precompute.evaluation.judge import Judge
from precompute.evaluation.protocols import Protocol
from recon.bundle.bundle import load_bundle
from recon.images import area_average
from recon.reconstruct import decode_layouts
from recon.regressors.standardise import Rescaler

R2 = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
CAPS = {"cap 4": Rescaler.MAX_GAIN, "no cap": np.inf, "none": 1.0}  # a gain of 1 leaves predictions as they are


def predicted(Y: np.ndarray, r2: float, errors: str, rng: np.random.Generator) -> np.ndarray:
    """Y (n, q) -> predictions of that R²."""
    mean, sd = Y.mean(0), Y.std(0)
    wrong = rng.standard_normal(Y.shape) if errors == "noise" else (np.roll(Y, len(Y) // 3, 0) - mean) / (sd + 1e-12)
    return mean + r2 * (Y - mean) + np.sqrt(r2 * (1 - r2)) * sd * wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200, help="half of them are decoded")
    n = parser.parse_args().images
    bundle, rng = load_bundle(Path(__file__).parents[2] / "assets" / "demo"), np.random.default_rng(0)
    images = area_average(bundle.subject.test.images[:n], bundle.vdvae.cfg.image_size)
    Y = bundle.own_latents(images)
    judge = Judge(images[n // 2 :], Protocol("own", images.shape[1]), {}, None, [{}] * (n - n // 2))
    real = decode_layouts(Y[n // 2 :], bundle).astype(float).std(0).mean()
    rows = []
    for errors in ("noise", "another image"):
        for r2 in R2:
            guesses = predicted(Y, r2, errors, rng)
            of_fit, row = guesses[: n // 2], {"errors": errors, "r2": r2}
            for name, cap in CAPS.items():
                rescale = Rescaler.fit(of_fit.mean(0), of_fit.std(0), Y[: n // 2].mean(0), Y[: n // 2].std(0), cap)
                layouts = decode_layouts(rescale(guesses[n // 2 :]).astype(np.float32), bundle)
                scores = judge.score(layouts)
                row[name] = {"spread": float(layouts.astype(float).std(0).mean() / real)}
                row[name] |= {metric: float(scores[metric].mean()) for metric in ("pixcorr", "ssim")}
                row[name] = {metric: round(value, 3) for metric, value in row[name].items()}
            rows.append(row)
            print(row, flush=True)
    print(json.dumps({"images": n - n // 2, "rows": rows}))


if __name__ == "__main__":
    main()
