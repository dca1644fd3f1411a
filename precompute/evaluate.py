"""Scores both stages on the test images and draws the contact sheets; `python -m precompute demo` runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPVisionModelWithProjection

from recon.bundle import REGRESSORS, Bundle, open_parts
from recon.clip import image_embeddings
from recon.files import load_json, open_array, save_json, whole_file
from recon.lcm import refine_all
from recon.metrics import pixel_correlation, two_way_identification
from recon.pictures import area_average, to_images, to_pixels
from recon.reconstruct import decode_caption, decoded, prompt_embeddings
from recon.regression import r2_per_target
from recon.settings import LCMSettings, Settings

N_SHUFFLES, N_SHEET = 20, 24
SHEET_STEPS = (1, 2, 4, 8)
ATTRIBUTES = ("setting", "light", "object", "colour")
# pictures (n, S, S, 3) uint8 and their labels -> in what share of them each attribute is seen to be right
Find = Callable[[np.ndarray, list[dict]], dict[str, float]]


def decode_layouts(bundle: Bundle, latents: np.ndarray, batch: int = 64) -> np.ndarray:
    """Stage 1: (n, n_latents) -> (n, S, S, 3) uint8."""
    return np.concatenate([bundle.vdvae.decode(latents[k : k + batch]) for k in range(0, len(latents), batch)])


def wrong_partners(n: int, seed: int) -> list[np.ndarray]:
    """N_SHUFFLES ways to give each of n images another image's response: cyclic shifts of random orders."""
    rng = np.random.default_rng((seed, 50))
    partners = []
    for _ in range(N_SHUFFLES):
        order = rng.permutation(n)
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        partners.append(other)
    return partners


def shuffled_mean(score: Callable[[np.ndarray], dict[str, float]], n: int, seed: int) -> dict[str, float]:
    """The mean of score(partners) over the ways to give each of n images another image's response: chance."""
    runs = [score(partners) for partners in wrong_partners(n, seed)]
    return {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}


class Judge:
    """Scores pictures against the test images: pixels at the VDVAE's size, identification also by CLIP's image embedding."""

    def __init__(self, images: np.ndarray, size: int, vision: CLIPVisionModelWithProjection):
        self.size, self.vision = size, vision
        self.truth, self.embeddings = area_average(images, size), image_embeddings(vision, images)

    def rows(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (n, S, S, 3) at the size of the pixel scores, and their embeddings (n, d)."""
        small = pictures if pictures.shape[1] == self.size else area_average(pictures, self.size)
        return small, image_embeddings(self.vision, pictures)

    def score(self, small: np.ndarray, embeddings: np.ndarray) -> dict[str, float]:
        return {
            "pixel_correlation": float(pixel_correlation(small, self.truth).mean()),
            "identification": float(two_way_identification(small, self.truth).mean()),
            "clip_identification": float(two_way_identification(embeddings, self.embeddings).mean()),
        }

    def unseen(self, pictures: np.ndarray, rows: np.ndarray) -> float:
        """CLIP identification of some of the pictures among all."""
        _, embeddings = self.rows(pictures)
        return float(two_way_identification(embeddings, self.embeddings)[rows].mean())

    def table(self, kinds: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
        """Scores of each kind of picture; "shuffled": ridge's pictures judged as those of other images."""
        rows = {name: self.rows(pictures) for name, pictures in kinds.items()}
        table = {name: self.score(*row) for name, row in rows.items()}
        small, embeddings = rows["ridge"]
        chance = shuffled_mean(lambda other: self.score(small[other], embeddings[other]), len(small), seed)
        return table | {"shuffled": chance}


def caption_scores(bundle: Bundle, X: np.ndarray, labels: list[dict], training: list[dict], seed: int) -> dict:
    """In what share of test images the nearest training picture has the right setting, light, object, colour.

    "shuffled": ridge's captions for other images. `training` are the labels of the rows of the caption index.
    """

    def right(rows) -> dict[str, float]:
        return {a: float(np.mean([training[k][a] == e[a] for k, e in zip(rows, labels)])) for a in ATTRIBUTES}

    found = {name: decode_caption(X, bundle, name)[0] for name in REGRESSORS}
    shuffled = shuffled_mean(lambda other: right(found["ridge"][other]), len(X), seed)
    return {name: right(rows) for name, rows in found.items()} | {"shuffled": shuffled}


def drawn_scores(pictures: dict[str, np.ndarray], labels: list[dict], find: Find, seed: int) -> dict:
    """In what share of pictures `find` sees the right setting, light, object, colour; "shuffled" as above."""

    def right(some: np.ndarray) -> dict[str, float]:
        found = find(some, labels)
        return {a: found[a] for a in ATTRIBUTES}

    shuffled = shuffled_mean(lambda other: right(pictures["ridge"][other]), len(labels), seed)
    return {name: right(some) for name, some in pictures.items()} | {"shuffled": shuffled}


def evaluate(
    images: Path,
    latents: Path,
    training_labels: Path,
    folder: Path,
    clip: Path,
    n_layers: int,
    seed: int,
    find: Find,
) -> dict:
    """`images` (n, 128, 128, 3), true `latents`, and in `folder` all parts of the bundle.

    `find` says in what share of pictures (n, S, S, 3) a classifier sees each attribute of their labels.
    Writes `evaluation.json`, `contact_sheet.png` (stage 1) and `stage2_sheet.jpg` to `folder`; returns the evaluation.
    """
    bundle = open_parts(folder, {"n_layers": n_layers, "decoders": "own"})
    vision = CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    pictures, own = np.asarray(open_array(images)), np.asarray(open_array(latents))
    test = bundle.subject.test
    X, captions = test.averaged(), [e["captions"] for e in test.labels]
    judge = Judge(pictures, bundle.vdvae.cfg.image_size, vision)

    latent_r2, raw = {}, {}
    for name, model in bundle.regressors["latents"].items():
        cv = float(np.nanmean(open_array(folder / f"latents_{name}_cv_r2.npy")))
        predicted = model.predict(X)
        latent_r2[name] = {"cv": cv, "test": float(np.nanmean(r2_per_target(own, predicted)))}
        raw[name] = judge.score(*judge.rows(decode_layouts(bundle, predicted)))
    layouts = {name: decode_layouts(bundle, decoded("latents", X, bundle, name)) for name in REGRESSORS}
    layouts["ceiling"] = decode_layouts(bundle, own)
    prompts = {name: prompt_embeddings(X, captions, bundle, Settings(regressor=name)) for name in REGRESSORS}
    prompts["ceiling"] = prompt_embeddings(X, captions, bundle, Settings(prompt="oracle"))
    default = LCMSettings()
    refined = {name: refine_all(bundle.diffusion, layouts[name], prompts[name], default) for name in layouts}

    unseen = np.array([bool(e.get("unseen")) for e in test.labels])
    evaluation = {
        "n_images": len(pictures),
        "n_unseen": int(unseen.sum()),
        "settings": default.__dict__,
        "rows": {"vdvae": judge.table(layouts, seed), "lcm": judge.table(refined, seed)},
        "vdvae_without_rescaling": raw,
        "lcm_unseen_clip_identification": {name: judge.unseen(refined[name], unseen) for name in REGRESSORS},
        "drawn": drawn_scores(refined | {"truth": pictures}, test.labels, find, seed),
        "captions": caption_scores(bundle, X, test.labels, load_json(training_labels), seed),
        "latent_r2": latent_r2,
    }
    save_json(folder / "evaluation.json", evaluation)

    chosen = np.sort(
        np.random.default_rng((seed, 51)).choice(len(pictures), min(N_SHEET, len(pictures)), replace=False)
    )
    contact_sheet(
        [judge.truth, layouts["ceiling"], layouts["ridge"], layouts["mlp"]], chosen, folder / "contact_sheet.png", 2
    )
    by_steps = [
        refine_all(bundle.diffusion, layouts["ridge"][chosen], prompts["ridge"][chosen], LCMSettings(steps))
        for steps in SHEET_STEPS
    ]
    ceiling = refine_all(bundle.diffusion, layouts["ceiling"][chosen], prompts["ceiling"][chosen], default)
    side = bundle.diffusion.size
    kinds = [
        area_average(pictures[chosen], side),
        to_images(to_pixels(layouts["ridge"][chosen], side)),
        *by_steps,
        ceiling,
    ]
    contact_sheet(kinds, np.arange(len(chosen)), folder / "stage2_sheet.jpg", 1)
    return evaluation


def contact_sheet(kinds: list[np.ndarray], chosen: np.ndarray, path: Path, scale: int, columns: int = 12) -> None:
    """One column an image; the kinds of picture stacked; as many bands as `chosen` needs; enlarged `scale` times."""
    bands = []
    for k in range(0, len(chosen), columns):
        part = [np.concatenate(list(kind[chosen[k : k + columns]]), axis=1) for kind in kinds]
        part[-1] = np.concatenate([part[-1], np.full((6, *part[-1].shape[1:]), 255, np.uint8)])
        bands.append(np.concatenate(part))
    width = max(band.shape[1] for band in bands)
    padded = [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands]
    sheet = Image.fromarray(np.concatenate(padded))
    with whole_file(path) as part:
        sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC).save(part, quality=88)
