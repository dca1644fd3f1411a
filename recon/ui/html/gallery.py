"""The Evaluate tab's galleries, as HTML: test images and all that was made of them, chosen by a rule that is stated."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from recon.bundle.evaluation import Evaluation, Gallery
from recon.images import area_average
from recon.settings import Settings
from recon.share import to_query
from recon.ui.html.markup import html, joined
from recon.ui.html.number_format import STAGES, chance_of, in_percent, score
from recon.ui.html.parts import data_uri, enlarged_by

LARGEST = 192  # side of an original, in pixels
ORIGINAL = "original"
KINDS = {  # title, and where its scores are
    ORIGINAL: ("Original", None),
    "ridge_layout": ("Ridge, stage 1", "vdvae/ridge"),
    "ridge": ("Ridge, stage 2", "lcm/ridge"),
    "mlp_layout": ("MLP, stage 1", "vdvae/mlp"),
    "mlp": ("MLP, stage 2", "lcm/mlp"),
    "ceiling": ("Ceiling, stage 2", "lcm/ceiling"),
    "nearest_training": ("Nearest training image", "lcm/nearest_training"),
}
SHOWN = {"pixcorr": "pixel r", "clip": "CLIP", "clip_demo": "own CLIP"}  # metrics under a picture, where they are there


def small(image: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8, block means where it is a multiple of a smaller size."""
    factor = len(image) // LARGEST
    whole = factor > 1 and len(image) % factor == 0
    return area_average(image[None], len(image) // factor)[0] if whole else image


def scores_under(evaluation: Evaluation, where: str | None, image: int) -> str:
    """The chosen metrics of one picture."""
    place, shown = np.flatnonzero(evaluation.images == image), []
    for metric, name in SHOWN.items():
        values = evaluation.image_scores.get(f"{where}/{metric}")
        if values is not None and len(place):
            shown.append(f"{name} {score(metric, values[place[0]])}{' %' * in_percent(metric)}")
    return " · ".join(shown)


def legend(evaluation: Evaluation) -> str:
    """What the scores under the pictures are, and their chance levels."""
    chance = " in stage 1, ".join(chance_of(evaluation, stage, "pixcorr") for stage in STAGES)
    return (
        f"pixel r: pixel correlation, chance {chance} in stage 2. CLIP: two-way identification by its features, chance 50 %. "
        "Stage 2’s scores are means over seeds, its pictures are those of the first."
    )


def picture(image: np.ndarray, alt: str, under: str) -> Markup:
    shown = html('<img src="{}" alt="{}">', data_uri(image, "webp"), alt)
    return html("<td>{}<small>{}</small></td>", enlarged_by(shown, alt), under)


def gallery_row(evaluation: Evaluation, gallery: Gallery, kind: str, originals: np.ndarray) -> Markup:
    name, where = KINDS[kind]
    shown = [small(originals[k]) for k in gallery.images] if kind == ORIGINAL else gallery.pictures[kind]
    cells = (
        picture(p, f"{name} of picture {k}", scores_under(evaluation, where, k)) for p, k in zip(shown, gallery.images)
    )
    return html('<tr class="{}"><th scope="row">{}</th>{}</tr>', kind, name, joined(cells))


def gallery_table(evaluation: Evaluation, group: str, originals: np.ndarray) -> Markup:
    """One column a test image, one row a kind of picture; originals (n_test, S, S, 3) uint8."""
    gallery = next((g for g in evaluation.galleries if g.group == group), None)
    if gallery is None:
        return html('<section class="panel result"><p class="about">No gallery.</p></section>')
    query = {int(k): to_query(evaluation.subject, int(k), Settings()) for k in gallery.images}
    heads = joined(
        html('<th scope="col"><a href="?{}" title="Open in Explore">picture {}</a></th>', q, k)
        for k, q in query.items()
    )
    rows = joined(gallery_row(evaluation, gallery, kind, originals) for kind in KINDS)
    name, n = group, f"{len(gallery.images)} of n = {evaluation.n_images} test images"
    return html(
        '<section class="panel result gallery" data-group="{}"><h2>{}</h2>'
        '<p class="about">Rule: <b>{}</b>; {}. {}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Gallery: {}"><table>'
        '<thead><tr><th scope="col">drawn from</th>{}</tr></thead><tbody>{}</tbody></table></div></section>',
        name,
        name.capitalize(),
        gallery.rule,
        n,
        legend(evaluation),
        name,
        heads,
        rows,
    )
