"""Scores of single test pictures on the Explore tab, where the bundle has been evaluated."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from markupsafe import Markup

from recon.files import array_in, load_json, parsing
from recon.metrics import at_smaller_size, percentile, pixel_correlation, ssim
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


def read_n_seeds(folder: Path) -> int:
    """Of stage 2, over which the bundle's scores are means; 0 if it has not been evaluated."""
    path = folder / "evaluation.json"
    return len(load_json(path)["seeds"]) if path.exists() else 0


def made_with(stage: str, n_seeds: int) -> str:
    """Of what the bundle's scores are: not of the image on screen."""
    seeds = f", mean of {n_seeds} seeds" if n_seeds > 1 else ", one seed"
    return "default settings" + (seeds if stage == "lcm" else "")


def orders(scores: ImageScores, n_seeds: int) -> dict[str, list[float | None]]:
    """What pictures can be sorted by, of the MLP: a name and a number a picture, None where there is none."""
    found = {}
    for key, values in scores.items():
        stage, source, metric = key.split("/")
        if source == "mlp":
            name = f"{STAGES[stage]}, {NAMES[metric]} ({made_with(stage, n_seeds)})"
            found[name] = [float(v) if np.isfinite(v) else None for v in values]
    return found


def on_screen(shown: dict[str, np.ndarray], truth: np.ndarray) -> Markup:
    """Scores of the images that are shown, by stage, (S, S, 3) uint8 of any size; truth: the original, at stage 1's."""
    parts = []
    for stage, image in shown.items():
        pair = at_smaller_size(image, truth)
        r, alike = (metric(*pair)[0] for metric in (pixel_correlation, ssim))
        words = html("{}: pixel r <b>{:.2f}</b> · SSIM <b>{:.2f}</b>", STAGES[stage].capitalize(), r, alike)
        parts.append(html("<span>{}</span>", words).replace("-", "−"))
    hint = "Scores of the images on screen, with these settings and this seed"
    return (
        html('<p class="standing on-screen" title="{}"><span>On screen</span>{}</p>', hint, joined(parts))
        if parts
        else NOTHING
    )


def standing(scores: ImageScores, index: int, regressor: str, n_seeds: int) -> Markup:
    """What a picture scores with the default settings, and its percentiles among all test pictures, as HTML; may be empty."""
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
    hint = "Not of the images on screen, but of those of the evaluation; percentile: share of the test pictures that score lower"
    name = made_with("lcm", n_seeds).capitalize()
    return html('<p class="standing" title="{}"><span>{}</span>{}</p>', hint, name, joined(parts))
