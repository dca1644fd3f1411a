"""The Image → brain tab: a picture of the visitor's, the response that the encoding model predicts, and that decoded back."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial

import gradio as gr
import numpy as np

from recon.settings import LCMSettings, Settings
from recon.ui.brain_panel import brain_panel
from recon.ui.decode import NEWEST_LAST, Decoding, decoded_cards, decoder_controls, section
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.panel import card
from recon.ui.html.parts import CURRENT, QUIET, enlargeable
from recon.ui.html_block import html_block
from recon.ui.server.received import UPLOADING, Brought, received
from recon.ui.server.studio import STAGE_1_SIZE, Studio
from recon.ui.told import in_one_sentence

SHOWN_SIZE = 192  # pixels
LEAD = html(
    '<p class="lead"><b>Predicted, not measured.</b> An encoding model says how this subject’s voxels would answer to your '
    "picture; the map shows that, and the decoder reads it back. On 300 test pictures of the simulated subject, rough layouts by "
    "the MLP correlate with the picture by .78 without noise, by .77 from measured responses and by .75 with the noise of 3 "
    "scans; 30 % of the pictures come out worse without noise than measured. Add noise to see what a scan would leave.</p>"
)
NOTE = "What the encoding model predicts for the picture, in standard deviations; not measured."
MEASURED = " Over voxels it correlates with the response that was measured by r = {:.2f}."
REPEATS = {"no noise": 0, "noise of 1 scan": 1, "noise of 3 scans": 3}
TEST = "Its number; opening this tab takes Explore’s."
NOISE = "Adds to each voxel the noise that its ncsnr says a scan has."
NO_NOISE = "Unknown for this subject: no image was shown twice."

UPLOADED = "Your picture, as it is decoded"

Picture = list[np.ndarray] | int | None  # an uploaded image at both sizes, the number of a test image, or nothing yet


def read(upload: str | None, brought: Brought) -> Iterator[tuple]:
    """(what was brought, what is said of it, cards): at first nothing, nor of the picture before it; then the square that will be
    decoded; the file is deleted."""
    from recon.uploaded_images import read_image

    brought.content = None
    yield brought, NOTHING, NOTHING
    with received(upload) as path:
        squares = read_image(path, (STAGE_1_SIZE, SHOWN_SIZE))
    brought.content = squares.images
    shown = card("original", UPLOADED, enlargeable(squares.images[1], UPLOADED), "", "")
    yield (
        brought,
        joined(html('<p class="said" role="status">{}</p>', note) for note in squares.notes),
        section([shown], False),
    )


def take(studio: Studio, number: float, brought: Brought) -> tuple:
    """A test picture in place of what was brought; a number there is not changes nothing. Raises gr.Error."""
    try:
        studio.subject.test.response(number)  # is there such a one?
    except (IndexError, TypeError) as error:
        raise in_one_sentence(error) from error
    brought.content = int(number)
    return brought, NOTHING


def squares_of(studio: Studio, picture: Picture) -> list[np.ndarray]:
    """At both sizes. Raises ValueError if nothing was chosen."""
    from recon.uploaded_images import prepare_picture

    if picture is None:
        raise ValueError("choose a picture first: drop a PNG, JPEG or WebP file, or take a test picture")
    if isinstance(picture, list):
        return picture
    return [prepare_picture(studio.subject.test.images[picture], size) for size in (STAGE_1_SIZE, SHOWN_SIZE)]


def predicted(studio: Studio, picture: Picture, noise: str, settings: Settings) -> Generator[tuple]:
    """(cards, response map) after every frame: the response that is predicted for a picture, decoded."""
    from recon.brain.maps import map_payload, response_map
    from recon.responses import predicted_response, with_noise

    small, large = squares_of(studio, picture)
    response = predicted_response(small[None], studio.bundle)[0]
    name, note, about = UPLOADED, NOTE, {"picture": "uploaded"}
    if isinstance(picture, int):
        r = np.corrcoef(response, studio.subject.test.response(picture))[0, 1]
        name, note, about = f"Test picture {picture}", NOTE + MEASURED.format(r), {"picture": picture}
    if n_repeats := REPEATS[noise]:
        response = with_noise(response, studio.subject.ncsnr, n_repeats, settings.lcm.seed)
    brain = replace(response_map(response), label="Predicted response", note=note)
    about |= {"response": "predicted by the encoding model, not measured", "noise": noise}
    decoding = Decoding(settings, {name: large}, "image_to_brain", about)
    for k, cards in enumerate(decoded_cards(studio, response, decoding)):
        yield cards, gr.skip() if k else json.dumps(map_payload(brain))


def noise_control(ncsnr: np.ndarray) -> gr.Radio:
    """How much noise is added; none alone where its level is unknown."""
    known = bool(np.isfinite(ncsnr).any())
    choices, info = (list(REPEATS), NOISE) if known else (list(REPEATS)[:1], NO_NOISE)
    return gr.Radio(choices, value="no noise", label="Noise at the measured level", info=info)


def image_to_brain_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lays the open `tab` out and wires it."""

    def run(brought: Brought, noise: str, regressor: str, seed: float) -> Iterator[tuple]:
        brought.decoded = noise, regressor, seed
        try:
            settings = Settings(regressor, lcm=LCMSettings(seed=int(seed)))
            yield from brought.while_it_stays(predicted(studio, brought.content, noise, settings))
        except (ValueError, TypeError) as error:
            raise in_one_sentence(error) from error

    def follow(brought: Brought, *choices) -> Iterator[tuple]:
        """Decodes again if a choice is another one; nothing before there is a picture."""
        if brought.content is not None and brought.decoded != choices:
            yield from run(brought, *choices)

    def forget(brought: Brought) -> tuple:
        brought.content = None
        return NOTHING, NOTHING

    brought, last = gr.State(Brought()), studio.n_pictures - 1
    html_block(LEAD)
    with gr.Row(elem_classes=["columns", "two"]):
        with gr.Column(scale=19, min_width=340):
            with gr.Row(elem_classes="tab-controls"):
                with gr.Column(min_width=200):
                    upload = gr.File(label="Your picture", file_types=[".png", ".jpg", ".jpeg", ".webp"], height=140)
                    said = html_block()
                    index = gr.Number(0, label="or a test picture", precision=0, minimum=0, maximum=last, info=TEST)
                    chosen = gr.Button("Take the test picture", elem_classes="take-picture")
                with gr.Column(min_width=200):
                    noise = noise_control(studio.subject.ncsnr)
                    regressor, seed = decoder_controls("mlp")
            view = html_block()
        with gr.Column(scale=10, min_width=340):
            brain = brain_panel(studio, "response", "Predicted response")
    how = {"fn": run, "inputs": [brought, noise, regressor, seed], "outputs": [view, brain], **NEWEST_LAST}
    quiet = {"queue": False, **QUIET}
    uploaded = upload.upload(read, [upload, brought], [brought, said, view], **UPLOADING)
    taken = gr.on([chosen.click, index.submit], partial(take, studio), [index, brought], [brought, said], **UPLOADING)
    upload.clear(forget, brought, [said, view], **quiet)
    for trigger in (uploaded.success, taken.success):
        trigger(**how)
    for trigger in (noise.input, regressor.input, seed.submit, seed.blur):
        trigger(**(how | {"fn": follow}))
    tab.select(None, None, index, js=CURRENT)
