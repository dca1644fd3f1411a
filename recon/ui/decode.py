"""Any response, decoded by both stages: what the tabs beside Explore share."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from markupsafe import Markup

from recon.settings import REGRESSORS, Settings
from recon.share import png_with_record, record
from recon.ui.controls import HELP as CONTROLS
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.panel import TITLES, absent_banner, card
from recon.ui.html.parts import ABSENT, QUIET, REGRESSOR_NAMES, duration, picture_or, term
from recon.ui.html.under_images import quoted
from recon.ui.server.frames import live
from recon.ui.server.studio import Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame

N_SEEDS = 2**32  # that there are
ONE_AT_A_TIME = {"concurrency_id": "reconstruct", "concurrency_limit": 1, **QUIET}
NEWEST_LAST = {"trigger_mode": "always_last", **ONE_AT_A_TIME}  # else gradio drops what is asked for while it runs


def decoder_controls(regressor: str) -> tuple[gr.Radio, gr.Number]:
    """Regressor and seed."""
    choices = [(name, key) for key, name in REGRESSOR_NAMES.items()]
    return (
        gr.Radio(choices, value=regressor, label="Regressor", info=CONTROLS["regressor"]),
        gr.Number(0, label="Seed", precision=0, minimum=0, info=CONTROLS["seed"]),
    )


def data_link(name: str, kind: str, data: bytes, text: str) -> Markup:
    """A link that saves a file which the page itself carries."""
    content = base64.b64encode(data).decode("ascii")
    return html('<a class="save" download="{}" href="data:{};base64,{}">{}</a>', name, kind, content, text)


def downloads(studio: Studio, stem: str, shown: dict[str, np.ndarray], settings: Settings, about: dict) -> Markup:
    """Links to the pictures side by side as PNG, and to what made them as JSON."""
    from recon.compare import labelled_row

    content = record(studio.manifest, None, settings, {}) | about
    png = png_with_record(labelled_row(shown), content)
    text = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return html(
        '<p class="saves">{}{}</p>',
        data_link(f"{stem}.png", "image/png", png, "Save PNG"),
        data_link(f"{stem}.json", "application/json", text, "Save JSON"),
    )


def section(cards: list[Markup], last: bool, after: Markup = NOTHING) -> Markup:
    return html(
        '<section class="panel decoded-cards" data-last="{}" data-saved="{}"><div class="cards">{}</div>{}</section>',
        str(last).lower(),
        str(bool(after)).lower(),
        joined(cards),
        after,
    )


@dataclass(frozen=True)
class Decoding:
    """What a tab decodes, and what is said of it."""

    settings: Settings
    before: dict[str, np.ndarray]  # name -> image that stands before the decoded ones
    stem: str  # of the names of files to save
    about: dict  # where the response came from, for the record
    kind: str = "original"  # of what stands before: of HINTS
    n_seeds: int = 1  # of stage 2; if there are more, the mean of their images stands beside the first

    @property
    def title(self) -> str:
        """Of stage 2's card."""
        return f"{REGRESSOR_NAMES[self.settings.regressor]} → VDVAE → LCM"


def cards_of(decoding: Decoding, images: dict[str, np.ndarray], seconds: dict[str, str], absent: Mapping) -> list[str]:
    """Images before, stage 1 by both regressors, stage 2; words in place of those that are not there."""
    first, second = ABSENT if "vdvae" in absent else "to come", ABSENT if absent else "follows"
    cards = [
        card(decoding.kind, name, picture_or("", picture, name), "", "") for name, picture in decoding.before.items()
    ]
    for k in REGRESSORS:
        cards.append(card(k, TITLES[k], picture_or(first, images.get(k), TITLES[k]), seconds.get("vdvae", ""), ""))
    picture = picture_or(second, images.get("lcm"), decoding.title)
    cards.append(card("lcm", decoding.title, picture, seconds.get("lcm", ""), ""))
    if decoding.n_seeds > 1:
        title = f"Mean of {decoding.n_seeds} seeds"
        cards.append(card("mean", title, picture_or(second, images.get("mean"), title), seconds.get("mean", ""), ""))
    return cards


def means_over_seeds(
    studio: Studio, layout: Frame, first: Frame, decoding: Decoding
) -> Iterator[tuple[int, np.ndarray]]:
    """(number of seeds, mean of their images) from two seeds on; stage 1's last frame and stage 2's last frame are known."""
    settings, total = decoding.settings, first.images["lcm"].astype(np.float32)
    for k in range(1, decoding.n_seeds):
        lcm = replace(settings.lcm, seed=(settings.lcm.seed + k) % N_SEEDS)
        *_, last = live(studio)(first.reading.response, replace(settings, lcm=lcm), None, layout)
        total += last.images["lcm"]
        yield k + 1, np.rint(total / (k + 1)).astype(np.uint8)


def caption_of(studio: Studio, frame: Frame) -> Markup:
    """The caption of the training image whose CLIP embedding is nearest to what is read from a response."""
    captions = studio.bundle.captions
    rows, similarities = captions.nearest(frame.reading.embedding[None])
    return html(
        '<p class="said decoded"><span class="tag">read from brain</span>{} <span>({} {})</span></p>',
        quoted(captions.captions[rows[0]]),
        term("cosine", "cosine"),
        f"{similarities[0]:.2f}".replace("-", "−"),
    )


def decoded_cards(studio: Studio, response: np.ndarray, decoding: Decoding) -> Iterator[str]:
    """HTML after every frame of a response (n_voxels,) that no image gave; and at the end links to save the images.

    Where a decoder is absent, the page says which command fetches it.
    """
    images, seconds, newest = {}, {}, {}
    for frame in live(studio)(response, decoding.settings):
        images, newest = images | frame.images, newest | {frame.stage: frame}
        step = f", UNet steps run: {frame.step}" if frame.stage == "lcm" else ""
        seconds[frame.stage] = duration(frame.seconds) + step
        cards = cards_of(decoding, images, seconds, frame.absent)
        yield section(cards, frame.last and bool(images) and decoding.n_seeds == 1)
    if "lcm" in newest:
        for n, images["mean"] in means_over_seeds(studio, newest["vdvae"], newest["lcm"], decoding):
            seconds["mean"] = f"seeds so far: {n}"
            cards = cards_of(decoding, images, seconds, frame.absent)
            yield section(cards, False)
    shown = decoding.before | {TITLES[k]: images[k] for k in REGRESSORS if k in images}
    names = {"lcm": decoding.title, "mean": f"Mean of {decoding.n_seeds} seeds"}
    shown |= {name: images[k] for k, name in names.items() if k in images}
    after = caption_of(studio, frame) + (absent_banner(frame.absent) if frame.absent else NOTHING)
    if images:
        after += downloads(studio, decoding.stem, shown, decoding.settings, decoding.about)
    yield section(cards, True, after)
