"""The Image → brain tab: a picture of the visitor's, the response that the encoding model predicts, and that decoded back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr

from recon.settings import LCMSettings, Settings
from recon.ui.brain import brain_panel
from recon.ui.decode import ONE_AT_A_TIME, PRIVATE, decoded_cards, in_one_sentence, response_decoder
from recon.ui.panel import REGRESSOR_NAMES
from recon.ui.studio import STAGE_1_SIZE, Studio

SHOWN_SIZE = 128  # pixels
HELP = (
    '<p class="lead"><b>Predicted, not measured.</b> An encoding model says how this subject’s voxels would answer to your '
    "picture; the map shows that, and the decoder reads it back. Without noise this is far better than any scan: add noise at the "
    "measured level to see what a scan of that many repeats would leave.</p>"
)
NOTE = "What the encoding model predicts for your picture, in standard deviations; not measured."
REPEATS = {"no noise": 0, "noise of 1 scan": 1, "noise of 3 scans": 3}


def image_to_brain_tab(studio: Studio) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""
    decode = response_decoder(studio)

    def run(path: str | None, noise: str, regressor: str, seed: float) -> Iterator[tuple]:
        from recon.brainmap import map_payload, response_map
        from recon.picture_file import prepare_picture
        from recon.reconstruct import predicted_response, with_noise

        if path is None:
            raise gr.Error("Choose a picture first: drop a PNG, JPEG or WebP file.", print_exception=False)
        try:
            data, settings = Path(path).read_bytes(), Settings(regressor, lcm=LCMSettings(seed=int(seed)))
            response = predicted_response(prepare_picture(data, STAGE_1_SIZE)[None], studio.bundle)[0]
            if n_repeats := REPEATS[noise]:
                response = with_noise(response, studio.subject.ncsnr, n_repeats, settings.lcm.seed)
            shown = {"Your picture": prepare_picture(data, SHOWN_SIZE)}
            predicted = replace(response_map(response), label="Predicted response", note=NOTE)
            about = {"response": "predicted by the encoding model, not measured", "noise": noise}
            cards = decoded_cards(studio, decode(response, settings), settings, shown, "image_to_brain", about)
            for k, html in enumerate(cards):
                yield html, gr.skip() if k else json.dumps(map_payload(predicted))
        except (ValueError, TypeError) as error:
            raise in_one_sentence(error) from error

    gr.HTML(HELP, apply_default_css=False)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=19, min_width=340):
            with gr.Row(elem_classes="tab-controls"):
                upload = gr.Image(type="filepath", label="Picture", sources=["upload", "clipboard"], height=190)
                with gr.Column(min_width=200):
                    noise = gr.Radio(list(REPEATS), value="no noise", label="Noise at the measured level")
                    regressor = gr.Radio([(v, k) for k, v in REGRESSOR_NAMES.items()], value="mlp", label="Regressor")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            view = gr.HTML("", apply_default_css=False)
        with gr.Column(scale=10, min_width=340):
            brain = brain_panel(studio)
    how = {"fn": run, "inputs": [upload, noise, regressor, seed], "outputs": [view, brain], **ONE_AT_A_TIME, **PRIVATE}
    upload.upload(**how)
    for control in (noise, regressor):
        control.input(**how)
    seed.submit(**how)
