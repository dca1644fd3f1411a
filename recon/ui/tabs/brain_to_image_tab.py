"""The Brain → image tab: areas driven at will, and what the decoder makes of them; nobody saw a picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import gradio as gr
import numpy as np

from recon.responses import optimal_response
from recon.settings import LCMSettings, Settings
from recon.ui.decode import (
    NEWEST_LAST,
    Decoding,
    decoded_cards,
    decoder_controls,
    section,
)
from recon.ui.html.markup import html
from recon.ui.html.panel import card
from recon.ui.html.parts import enlargeable
from recon.ui.html_block import html_block
from recon.ui.server.frames import live
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

MAX_LEVEL, PRESET_LEVEL = 4.0, 2.0  # z-scores
N_SEEDS = 5  # of a mean
PRESET = f"Sets that area to {PRESET_LEVEL:g}, all others to 0, and decodes."
MEAN = "Beside the single picture: what stays is not the noise’s. Four more runs of stage 2."
LEVELS = html('<p class="small">The level of each area, in standard deviations; 0 is its mean.</p>')
SILENCE = "Silence: all areas at 0"
LEAD = html(
    '<p class="lead"><b>No picture was shown.</b> Voxels of the areas below are set to a level (in standard deviations), all '
    "others to their mean, and that artificial response is decoded: what the decoder takes the area to stand for, after the "
    "ROI-optimal stimuli of Ozcelik &amp; VanRullen (2023). It shows the decoder’s habits as much as the brain’s.</p>"
)


@lru_cache(maxsize=16)
def silence(studio: Studio, settings: Settings) -> np.ndarray | None:
    """(S, S, 3) uint8: the image that no signal at all gives; None without a decoder for stage 2."""
    images = {}
    for frame in live(studio)(np.zeros(studio.subject.geometry.n_voxels, np.float32), settings):
        images |= frame.images
    return images.get("lcm")


def driven_cards(studio: Studio, levels: dict[str, float], settings: Settings, n_seeds: int) -> Iterator[str]:
    """What silence gives, and, after every frame, what the areas at their levels give. Raises ValueError."""
    geometry, still = studio.subject.geometry, silence(studio, settings)
    before = {} if still is None else {SILENCE: still}
    if before and not levels:
        yield section(
            [card("silence", SILENCE, enlargeable(still, SILENCE), "Drive an area to see what it adds.", "")], True
        )
        return
    response = optimal_response(geometry.areas, levels, geometry.n_voxels)
    about = {"levels": levels, "response": "artificial: no picture was shown"}
    yield from decoded_cards(
        studio, response, Decoding(settings, before, "driven_areas", about, kind="silence", n_seeds=n_seeds)
    )


def area_controls(names: list[str]) -> tuple[gr.Dropdown, gr.Radio, gr.Number, gr.Checkbox, list[gr.Slider]]:
    """One area alone, regressor, seed, mean of seeds, and the level of every area."""
    with gr.Row(elem_classes="tab-controls"):
        preset = gr.Dropdown(
            ["none", *names], value="none", label="Drive one area alone", info=PRESET, elem_classes="preset"
        )
        regressor, seed = decoder_controls("ridge")
        mean = gr.Checkbox(False, label=f"Mean of {N_SEEDS} seeds", info=MEAN, elem_classes="mean-of-seeds")
    with gr.Row(elem_classes="levels"):
        html_block(LEVELS)
        levels = [
            gr.Slider(-MAX_LEVEL, MAX_LEVEL, 0, step=0.25, label=name, buttons=[], min_width=150) for name in names
        ]
    return preset, regressor, seed, mean, levels


def brain_to_image_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lays the open `tab` out and wires it; what silence gives is there when it is opened."""
    names = list(studio.subject.geometry.areas)

    def run(decoded: tuple | None, regressor: str, seed: float, mean: bool, *levels: float) -> Iterator[dict]:
        chosen = {name: level for name, level in zip(names, levels) if level}
        if decoded == (wanted := (chosen, regressor, seed, mean)):
            return  # a dropdown tells each choice twice
        try:
            settings = Settings(regressor, lcm=LCMSettings(seed=int(seed)))
            for cards in driven_cards(studio, chosen, settings, N_SEEDS if mean else 1):
                yield {view: cards}
            yield {newest: wanted}
        except (ValueError, TypeError) as error:
            raise in_one_sentence(error) from error

    def move(*inputs) -> Iterator[dict]:
        """Decodes what a slider was moved to; no area is driven alone any more."""
        yield {preset: "none"}
        yield from run(*inputs)

    def drive(area: str, *inputs) -> Iterator[dict]:
        """Moves the sliders and decodes. Not in two events: the second may be sent before the sliders are moved."""
        wanted = [PRESET_LEVEL if name == area else 0 for name in names]
        yield dict(zip(levels, wanted))
        yield from run(*inputs, *wanted)

    newest = gr.State()  # levels, regressor, seed and whether there is a mean, of what is shown
    html_block(LEAD)
    with gr.Row(elem_classes=["columns", "driven"]):
        with gr.Column():
            preset, regressor, seed, mean, levels = area_controls(names)
        with gr.Column():
            start = gr.Button("Decode", variant="primary", elem_classes="start-driven")
            view = html_block()
    inputs, outputs = [newest, regressor, seed, mean], [view, newest]
    for trigger in (tab.select, start.click, regressor.input, seed.submit, seed.blur, mean.input):
        trigger(run, [*inputs, *levels], outputs, **NEWEST_LAST)
    for level in levels:  # its release is told, too, when the pointer that chose in the list above goes up over it
        level.input(move, [*inputs, *levels], [*outputs, preset], **NEWEST_LAST)
    preset.input(drive, [preset, *inputs], [*outputs, *levels], **NEWEST_LAST)
