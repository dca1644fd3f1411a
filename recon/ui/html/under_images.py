"""What stands under the pictures: captions and prompt, how far each stage is, the denoising steps, scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from recon.images import area_average
from recon.settings import GUIDES, PROMPTS, Settings
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.parts import ABSENT, ORACLE, REGRESSOR_NAMES, data_uri, duration

if TYPE_CHECKING:
    from recon.reconstruct import Frame

STRIP = 64  # pixels of a small picture


@dataclass(frozen=True)
class Told:
    """What CLIP's space says of a response."""

    caption: str  # of the training picture nearest to the decoded embedding
    similarity: float  # its cosine
    rank: float | None  # of the picture shown, among n, by its likeness to the decoded embedding; None: not known
    n: int


def ranked(told: Told) -> Markup:
    """The rank of the picture among all test pictures."""
    if told.rank is None:
        return NOTHING
    hint = (
        "All test pictures sorted by how near CLIP puts them to the embedding decoded from the brain: where the one that "
        f"was shown stands. 1 is best; chance is {(told.n + 1) / 2:g}."
    )
    return html(' <span class="rank" title="{}">picture ranks <b>{:g}</b> of {}</span>', hint, told.rank, told.n)


def quoted(caption: str) -> str:
    """A caption in quotation marks; of an experiment without captions, that."""
    return f"“{caption}”" if caption else "no captions came with this subject"


def true_caption(label: dict) -> str:
    """The first caption of an image, and where it is from if nobody wrote it for this image."""
    source = f" (nearest in {label['captions_from']})" if label.get("captions_from") else ""
    return quoted(next(iter(label["captions"]), "")) + source


def guided_by(settings: Settings, unguided: str) -> Markup | str:
    """Whether an image embedding guides stage 2: which, and how strongly; or why none does, though one was to."""
    if not settings.image_share:
        return ""
    words = GUIDES[settings.guide].removesuffix(": knows the answer")
    mark = ORACLE if settings.guide == "oracle" else ""
    if unguided:
        words, mark = f"none: text alone guides. {unguided}", ""
    scale = "" if unguided else f", scale {settings.image_share:g}; text {100 * settings.text_share:.0f} %"
    return html('<p class="image-used"><span class="tag">image</span>{}{} {}</p>', words, scale, mark)


def captions(label: dict, told: Told, settings: Settings, unguided: str = "") -> Markup:
    """The true caption, the decoded one and what that is, and what guides stage 2; `unguided`: why no image embedding does."""
    hint = "Setting, object and light never occur together in training"
    unseen = html(' <span class="badge" title="{}">unseen</span>', hint) if label.get("unseen") else ""
    prompt = f"“{settings.own_prompt}”" if settings.prompt == "own" else PROMPTS[settings.prompt]
    if settings.prompt == "oracle":
        prompt = html("the true captions {}", ORACLE)
    what = (
        "Caption of the training picture nearest to the CLIP image embedding that "
        f"{REGRESSOR_NAMES[settings.regressor]} reads from the brain; r: cosine similarity"
    )
    similarity = f"(r = {told.similarity:.2f})".replace("-", "−")
    return html(
        '<p class="truth"><span class="tag">truth</span>{}{}</p>'
        '<p class="decoded" title="{}"><span class="tag">decoded</span>{} '
        "<span>{}</span>{}</p>"
        '<p class="prompt-used"><span class="tag">prompt</span>{}</p>{}',
        true_caption(label),
        unseen,
        what,
        quoted(told.caption),
        similarity,
        ranked(told),
        prompt,
        guided_by(settings, unguided),
    )


def reduced(picture: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 at STRIP pixels, or as small as it is."""
    return area_average(picture[None], min(STRIP, len(picture)))[0]


def filmstrip(steps: list[Frame], n_steps: int) -> Markup:
    """All denoising steps so far, small, in as many places as there will be."""
    figures = [
        html(
            '<figure><img src="{}" alt="after step {}"><figcaption>{}</figcaption></figure>',
            data_uri(reduced(f.images["lcm"]), "webp"),
            f.step,
            duration(f.seconds),
        )
        for f in steps
    ]
    figures += [html("<figure><i></i><figcaption>–</figcaption></figure>")] * (n_steps - len(figures))
    return html(
        '<div class="filmstrip" title="The clean estimate after every denoising step">{}</div>', joined(figures)
    )


def pills(names: list[str], n_done: int) -> Markup:
    return joined(html('<i class="{}">{}</i>', "on" if k < n_done else "", name) for k, name in enumerate(names))


def progress(layout: Frame | None, frame: Frame | None, resolutions: list[int], n_steps: int, waits: str) -> Markup:
    """Both stages: which steps are done, and how long they took; the words `waits` before stage 2 begins."""
    first = pills([f"{s}×{s}" for s in resolutions], sum(s <= layout.step for s in resolutions) if layout else 0)
    run = frame.step if frame else 0
    second = pills([str(k + 1) for k in range(n_steps)], run)
    took = f"{duration(frame.seconds)}, {run} UNet step{'s' * (run != 1)}" if frame else waits
    return html(
        '<div class="progress"><p><span>Stage 1</span>{}<b>{}</b></p><p><span>Stage 2</span>{}<b>{}</b></p></div>',
        first,
        duration(layout.seconds) if layout else ABSENT,
        second,
        took,
    )
