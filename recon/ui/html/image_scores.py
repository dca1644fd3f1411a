"""Scores of single test pictures on the Explore tab, where the bundle has been evaluated."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from markupsafe import Markup

from recon.files import array_in, parsing
from recon.metrics import percentile
from recon.ui.html.markup import NOTHING, html, joined

FILE = "image_scores.h5"  # STAGE/SOURCE/METRIC (n,) float32, and "images" (n,): of which test pictures
NAMES = {  # metric -> its name; those of which more is better
    "pixcorr": "pixel correlation",
    "ssim": "SSIM",
    "pixels": "identification by pixels",
    "clip_demo": "identification by CLIP",
    "clip": "identification by CLIP ViT-L/14",
    "alexnet5": "identification by AlexNet(5)",
    "inception": "identification by Inception",
}
SHORT = {"pixcorr": "pixel r", "clip_demo": "by CLIP", "clip": "by CLIP"}  # those that fit under the pictures
STAGES = {"vdvae": "stage 1", "lcm": "stage 2"}

ImageScores = dict[str, np.ndarray]  # "STAGE/SOURCE/METRIC" -> (n_images,) float32, NaN where not scored


def read_image_scores(folder: Path, n_images: int) -> ImageScores:
    """Those of the two regressors and the metrics in NAMES; nothing if the bundle has not been evaluated."""
    if not (folder / FILE).exists():
        return {}
    scores = {}
    with parsing(folder / FILE), h5py.File(folder / FILE, "r") as f:
        rows = array_in(f, "images")
        for key in (f"{s}/{r}/{m}" for s in STAGES for r in ("ridge", "mlp") for m in NAMES):
            if key in f:
                scores[key] = np.full(n_images, np.nan, np.float32)
                scores[key][rows] = array_in(f, key)
    return scores


def orders(scores: ImageScores) -> dict[str, list[float | None]]:
    """What pictures can be sorted by, of the MLP: a name and a number a picture, None where there is none."""
    found = {}
    for key, values in scores.items():
        stage, source, metric = key.split("/")
        if source == "mlp":
            found[f"{STAGES[stage]}, {NAMES[metric]}"] = [float(v) if np.isfinite(v) else None for v in values]
    return found


def standing(scores: ImageScores, index: int, regressor: str) -> Markup:
    """A picture's scores at the default settings and their percentiles among all test pictures, as HTML; may be empty."""
    parts = []
    for stage, title in STAGES.items():
        known = {m: scores[f"{stage}/{regressor}/{m}"] for m in SHORT if f"{stage}/{regressor}/{m}" in scores}
        known = {m: values for m, values in known.items() if np.isfinite(values[index])}
        words = (
            html(
                "{} <b>{:.2f}</b>, percentile <b>{:.0f}</b>", SHORT[m], values[index], percentile(values[index], values)
            )
            for m, values in known.items()
        )
        if known:
            parts.append(html("<span>{}: {}</span>", title.capitalize(), joined(words, " · ")).replace("-", "−"))
    if not parts:
        return NOTHING
    hint = "Scores of this picture with the default settings; percentile: share of the test pictures that score lower"
    return html('<p class="standing" title="{}">{}</p>', hint, joined(parts))
