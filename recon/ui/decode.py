"""Any response, decoded by both stages: what the tabs beside Explore share."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from recon.settings import REGRESSORS, Settings
from recon.share import png_with_record, record
from recon.ui.controls import HELP as CONTROLS
from recon.ui.html.panel import TITLES, card
from recon.ui.html.parts import QUIET, REGRESSOR_NAMES, duration, picture_or
from recon.ui.server.serve import on_gpu
from recon.ui.server.studio import Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame

ONE_AT_A_TIME = {"concurrency_id": "reconstruct", "concurrency_limit": 1, **QUIET}


def decoder_controls(regressor: str) -> tuple[gr.Radio, gr.Number]:
    """Regressor and seed."""
    choices = [(name, key) for key, name in REGRESSOR_NAMES.items()]
    return (
        gr.Radio(choices, value=regressor, label="Regressor", info=CONTROLS["regressor"]),
        gr.Number(0, label="Seed", precision=0, minimum=0, info=CONTROLS["seed"]),
    )


def response_decoder(studio: Studio) -> Callable[[np.ndarray, Settings], Iterator[Frame]]:
    """(response (n_voxels,), settings) -> frames of both stages; no picture was shown, so there is no ceiling.

    An oracle prompt is no prompt here: nobody knows an answer. Raises ValueError on bad voxels or settings.
    """

    def decode(response: np.ndarray, settings: Settings) -> Iterator[Frame]:
        from recon.reconstruct import reconstruct_layout, reconstruct_picture

        bundle = studio.bundle
        if bundle.vdvae is None:
            raise ValueError(bundle.absent["vdvae"])
        for layout in reconstruct_layout(response, None, bundle, settings.regressor, settings.components):
            yield layout
        if bundle.open_stage_2 is not None:
            studio.stage_2.result()
            yield from reconstruct_picture(layout.images[settings.regressor], response, [""], bundle, settings)

    return on_gpu(decode)


def data_link(name: str, kind: str, data: bytes, text: str) -> str:
    """A link that saves a file which the page itself carries."""
    return f'<a class="save" download="{name}" href="data:{kind};base64,{base64.b64encode(data).decode("ascii")}">{text}</a>'


def downloads(studio: Studio, stem: str, shown: dict[str, np.ndarray], settings: Settings, about: dict) -> str:
    """Links to the pictures side by side as PNG, and to what made them as JSON."""
    from recon.compare import labelled_row

    content = record(studio.manifest, None, settings, {}) | about
    png = png_with_record(labelled_row(shown), content)
    text = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return (
        f'<p class="saves">{data_link(f"{stem}.png", "image/png", png, "Save PNG")}'
        f"{data_link(f'{stem}.json', 'application/json', text, 'Save JSON')}</p>"
    )


def section(cards: list[str], last: bool, after: str = "") -> str:
    return (
        f'<section class="panel decoded-cards" data-last="{str(last).lower()}" data-saved="{str(bool(after)).lower()}">'
        f'<div class="cards">{"".join(cards)}</div>{after}</section>'
    )


def decoded_cards(
    studio: Studio, frames: Iterator[Frame], settings: Settings, before: dict[str, np.ndarray], stem: str, about: dict
) -> Iterator[str]:
    """HTML after every frame: pictures `before`, stage 1 by both regressors, stage 2; and at the end links to save them."""
    images, seconds = {}, {}
    title = f"{REGRESSOR_NAMES[settings.regressor]} → VDVAE → LCM"
    for frame in frames:
        images |= frame.images
        seconds[frame.stage] = f"{duration(frame.seconds)}"
        step = f", UNet steps run: {frame.step}" if frame.stage == "lcm" else ""
        cards = [card("original", name, picture_or("", picture, name), "", "") for name, picture in before.items()]
        cards += [
            card(k, TITLES[k], picture_or("to come", images.get(k), TITLES[k]), seconds["vdvae"], "")
            for k in REGRESSORS
        ]
        cards.append(
            card("lcm", title, picture_or("follows", images.get("lcm"), title), seconds.get("lcm", "") + step, "")
        )
        last = frame.stage == "lcm" and frame.last
        yield section(cards, last)
    shown = before | {TITLES[k]: images[k] for k in REGRESSORS} | ({title: images["lcm"]} if "lcm" in images else {})
    saves = downloads(studio, stem, shown, settings, about)
    yield section(cards, True, saves)


def in_one_sentence(error: Exception) -> gr.Error:
    return gr.Error(str(error), print_exception=False)
