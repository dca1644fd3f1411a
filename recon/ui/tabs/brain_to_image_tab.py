"""The Brain → image tab: areas driven at will, and what the decoder makes of them; nobody saw a picture."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from recon.responses import optimal_response
from recon.settings import LCMSettings, Settings
from recon.ui.decode import (
    NEWEST_LAST,
    Decoding,
    decoded_cards,
    decoder_controls,
)
from recon.ui.html.markup import html
from recon.ui.html_block import html_block
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

MAX_LEVEL, PRESET_LEVEL = 4.0, 2.0  # z-scores
PRESET = f"Sets that area to {PRESET_LEVEL:g}, all others to 0, and decodes."
LEVEL = "Its level, in SD."
LEAD = html(
    '<p class="lead"><b>No picture was shown.</b> Voxels of the areas below are set to a level (in standard deviations), all '
    "others to their mean, and that artificial response is decoded: what the decoder takes the area to stand for, after the "
    "ROI-optimal stimuli of Ozcelik &amp; VanRullen (2023). It shows the decoder’s habits as much as the brain’s.</p>"
)


def brain_to_image_tab(studio: Studio) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""
    rois = studio.subject.geometry.rois
    names = list(rois)

    def run(decoded: tuple | None, regressor: str, seed: float, *levels: float) -> Iterator[dict]:
        chosen = {name: level for name, level in zip(names, levels) if level}
        if decoded == (wanted := (chosen, regressor, seed)):
            return  # a dropdown tells each choice twice
        try:
            settings = Settings(regressor, lcm=LCMSettings(seed=int(seed)))
            response = optimal_response(rois, chosen, studio.subject.geometry.n_voxels)
            about = {"levels": chosen, "response": "artificial: no picture was shown"}
            for cards in decoded_cards(studio, response, Decoding(settings, {}, "driven_areas", about)):
                yield {view: cards}
            yield {newest: wanted}
        except (ValueError, TypeError) as error:
            raise in_one_sentence(error) from error

    def drive(area: str, *inputs) -> Iterator[dict]:
        """Moves the sliders and decodes. Not in two events: the second may be sent before the sliders are moved."""
        wanted = [PRESET_LEVEL if name == area else 0 for name in names]
        yield dict(zip(levels, wanted))
        yield from run(*inputs, *wanted)

    newest = gr.State()  # levels, regressor and seed that are shown
    html_block(LEAD)
    with gr.Row(elem_classes="tab-controls"):
        preset = gr.Dropdown(
            ["none", *names], value="none", label="Drive one area alone", info=PRESET, elem_classes="preset"
        )
        regressor, seed = decoder_controls("ridge")
        start = gr.Button("Decode", variant="primary", elem_classes="start-driven")
    with gr.Row(elem_classes="levels"):
        levels = [
            gr.Slider(-MAX_LEVEL, MAX_LEVEL, 0, step=0.25, label=name, info=LEVEL, buttons=[], min_width=150)
            for name in names
        ]
    view = html_block()
    inputs, outputs = [newest, regressor, seed], [view, newest]
    for trigger in (start.click, *(level.release for level in levels)):
        trigger(run, [*inputs, *levels], outputs, **NEWEST_LAST)
    preset.input(drive, [preset, *inputs], [*outputs, *levels], **NEWEST_LAST)
