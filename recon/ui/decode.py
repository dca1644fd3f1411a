"""Any response, decoded by both stages: what the tabs beside Explore share."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import gradio as gr
import numpy as np
from markupsafe import Markup

from recon.settings import REGRESSORS, Settings
from recon.share import png_with_record, record
from recon.ui.controls import HELP as CONTROLS
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.panel import TITLES, absent_banner, card
from recon.ui.html.parts import ABSENT, QUIET, REGRESSOR_NAMES, duration, picture_or
from recon.ui.server.frames import live
from recon.ui.server.studio import Studio

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

    @property
    def title(self) -> str:
        """Of stage 2's card."""
        return f"{REGRESSOR_NAMES[self.settings.regressor]} → VDVAE → LCM"


def cards_of(decoding: Decoding, images: dict[str, np.ndarray], seconds: dict[str, str], absent: Mapping) -> list[str]:
    """Images before, stage 1 by both regressors, stage 2; words in place of those that are not there."""
    first, second = ABSENT if "vdvae" in absent else "to come", ABSENT if absent else "follows"
    cards = [card("original", name, picture_or("", picture, name), "", "") for name, picture in decoding.before.items()]
    for k in REGRESSORS:
        cards.append(card(k, TITLES[k], picture_or(first, images.get(k), TITLES[k]), seconds.get("vdvae", ""), ""))
    picture = picture_or(second, images.get("lcm"), decoding.title)
    return [*cards, card("lcm", decoding.title, picture, seconds.get("lcm", ""), "")]


def decoded_cards(studio: Studio, response: np.ndarray, decoding: Decoding) -> Iterator[str]:
    """HTML after every frame of a response (n_voxels,) that no image gave; and at the end links to save the images.

    Where a decoder is absent, the page says which command fetches it.
    """
    images, seconds = {}, {}
    for frame in live(studio)(response, decoding.settings):
        images |= frame.images
        step = f", UNet steps run: {frame.step}" if frame.stage == "lcm" else ""
        seconds[frame.stage] = duration(frame.seconds) + step
        cards = cards_of(decoding, images, seconds, frame.absent)
        yield section(cards, frame.last and bool(images))
    shown = decoding.before | {TITLES[k]: images[k] for k in REGRESSORS if k in images}
    shown |= {decoding.title: images["lcm"]} if "lcm" in images else {}
    after = absent_banner(frame.absent) if frame.absent else NOTHING
    if images:
        after += downloads(studio, decoding.stem, shown, decoding.settings, decoding.about)
    yield section(cards, True, after)
