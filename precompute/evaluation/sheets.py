"""Contact sheets of a simulated subject's test pictures, for the README beside the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from precompute.evaluation.candidates import Candidates
from recon.files import whole_file
from recon.images import area_average, to_images, to_pixels
from recon.settings import LCMSettings

N_SHEET = 24
SHEET_STEPS = (1, 2, 4, 8)
GUIDED_SHEET = "guided_sheet.jpg"  # originals; the MLP's stage 2 by text, by the image embedding, by both


def draw_sheets(test: Candidates, images: np.ndarray, out: Path, seed: int) -> None:
    """Writes `contact_sheet.png` (stage 1) and `stage2_sheet.jpg` of some of the `images` (n, S, S, 3) that `test` shows."""
    n = len(images)
    chosen = np.sort(np.random.default_rng((seed, 51)).choice(n, min(N_SHEET, n), replace=False))
    some, side = test.subset(chosen), test.bundle.diffusion.size
    layouts = {name: some.layouts(name) for name in ("ceiling", "ridge", "mlp")}
    truth = area_average(images[chosen], test.bundle.vdvae.cfg.image_size)
    contact_sheet([truth, *layouts.values()], out / "contact_sheet.png", 2)
    prompts = some.meaning("ridge")
    by_steps = [some.refined(layouts["ridge"], prompts, 0, LCMSettings(steps)) for steps in SHEET_STEPS]
    if not test.bundle.why_unguided():
        guided = [
            some.refined(layouts["mlp"], some.meaning(m), 0, LCMSettings()) for m in ("mlp", "mlp_image", "mlp_both")
        ]
        contact_sheet([area_average(images[chosen], side), *guided], out / GUIDED_SHEET, 1)
    ceiling = some.refined(layouts["ceiling"], some.meaning("oracle"), 0, LCMSettings())
    enlarged = to_images(to_pixels(layouts["ridge"], side))
    contact_sheet([area_average(images[chosen], side), enlarged, *by_steps, ceiling], out / "stage2_sheet.jpg", 1)


def contact_sheet(kinds: list[np.ndarray], path: Path, scale: int, columns: int = 12) -> None:
    """One column an image; the kinds of picture stacked; as many bands as needed; enlarged `scale` times."""
    bands = []
    for k in range(0, len(kinds[0]), columns):
        part = [np.concatenate(list(kind[k : k + columns]), axis=1) for kind in kinds]
        part[-1] = np.concatenate([part[-1], np.full((6, *part[-1].shape[1:]), 255, np.uint8)])
        bands.append(np.concatenate(part))
    width = max(band.shape[1] for band in bands)
    padded = [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands]
    sheet = Image.fromarray(np.concatenate(padded))
    with whole_file(path) as part:
        sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC).save(part, quality=88)
