"""The Explore tab: choose a test picture and watch its reconstructions appear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from recon.pictures import area_average
from recon.settings import MAX_GUIDANCE, MAX_PROMPT, MAX_STEPS, MIN_STRENGTH, LCMSettings, Settings
from recon.ui.brain import brain_panel
from recon.ui.panel import COLUMNS, REGRESSOR_NAMES, THUMBNAIL, panel, thumbnail_sheet
from recon.ui.studio import KEPT, Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame

PAGE = Path(__file__).parents[2] / "assets" / "page"
PROMPT_CHOICES = [
    ("Decoded", "decoded"),
    ("Caption", "caption"),
    ("Own", "own"),
    ("None", "none"),
    ("⚠ Oracle: knows the answer", "oracle"),
]
OWN_PROMPT = "a red boat on the sea at sunset"
CHANGED = "(...values) => { document.dispatchEvent(new CustomEvent('settings', {detail: values})); }"  # to the picker
ENDED = "() => { document.dispatchEvent(new Event('reconstructed')); }"  # to the picker, after errors too
RANDOM_SEED = "() => Math.floor(Math.random() * 1e6)"


@dataclass
class Visit:
    """What one browser tab wants and shows; Gradio keeps it, and forgets it some time after the tab is closed."""

    newest: int = 0  # serial number of its newest wish
    picture: int | None = None  # whose stage 1 and response map it shows


def read_settings(values: list) -> Settings:
    """The controls' values, in their order -> settings. Raises ValueError."""
    regressor, steps, guidance, strength, seed, prompt, own = values
    return Settings(regressor, prompt, own, LCMSettings(steps, guidance, strength, seed))


def layouts(studio: Studio, index: int, response: np.ndarray, regressor: str) -> Iterator[Frame]:
    """Stage 1: all its frames, or only the last of a picture that was there lately."""
    from recon.reconstruct import reconstruct_layout

    if index in studio.layouts:
        studio.layouts.move_to_end(index)
        yield studio.layouts[index]
        return
    for frame in reconstruct_layout(response, studio.pictures[index], studio.bundle, regressor):
        yield frame
    studio.layouts[index] = frame
    if len(studio.layouts) > KEPT:
        studio.layouts.popitem(last=False)


def reconstruct(studio: Studio, wish: dict, visit: Visit) -> Iterator[tuple]:
    """(view, response map) once per frame of both stages; ends early for a newer wish.

    Stage 1 and the response map are shown if the picture is another one than before. Stage 2 begins as soon as what it
    starts from is there; what is left of stage 1 follows it. What has not been fetched is left out.
    """
    from recon.brainmap import map_payload, response_map
    from recon.reconstruct import decode_caption, reconstruct_picture

    bundle, index, moved = studio.bundle, wish["index"], visit.picture != wish["index"]
    response = bundle.subject.test.response(index)
    settings = read_settings(wish["settings"])
    rows, similarities = decode_caption(response[None], bundle, settings.regressor)
    shown = bundle, studio.pictures[index], wish, settings, (bundle.captions.captions[rows[0]], similarities[0])

    def brain() -> str:
        visit.picture = index
        return json.dumps(map_payload(response_map(response)))

    if bundle.vdvae is None:
        yield panel(*shown, None, None), brain()
        return
    stage_1 = layouts(studio, index, response, settings.regressor)
    for layout in stage_1:
        if moved:
            yield panel(*shown, layout, None), brain() if layout.ready else gr.skip()
        if visit.newest > wish["serial"]:
            return
        if layout.ready:
            break
    truth, frame = bundle.subject.test.labels[index]["captions"], None
    if bundle.open_stage_2 is not None:
        studio.stage_2.result()
        for frame in reconstruct_picture(layout.images[settings.regressor], response, truth, bundle, settings):
            yield panel(*shown, layout, frame), gr.skip()
            if visit.newest > wish["serial"]:
                return
    for layout in stage_1:
        yield panel(*shown, layout, frame), gr.skip()
        if visit.newest > wish["serial"]:
            return


def settings_controls() -> list:
    """Stage 2's controls, in the order of read_settings; every change of one is told to the picker."""
    with gr.Row(elem_classes="controls"):
        lcm = LCMSettings()
        steps = gr.Slider(1, MAX_STEPS, lcm.steps, step=1, label="LCM steps", buttons=[])
        guidance = gr.Slider(1, MAX_GUIDANCE, lcm.guidance, step=0.1, label="Guidance", buttons=[])
        strength = gr.Slider(MIN_STRENGTH, 1, lcm.strength, step=0.05, label="Strength", buttons=[])
        seed = gr.Number(lcm.seed, label="Seed", elem_classes="seed")
        random_seed = gr.Button("Random seed", elem_classes="random-seed")
        choices = [(name, key) for key, name in REGRESSOR_NAMES.items()]
        regressor = gr.Radio(choices, value="mlp", label="Stage 1")
        prompt = gr.Radio(PROMPT_CHOICES, value="decoded", label="Prompt", elem_classes="prompt")
        own = gr.Textbox(OWN_PROMPT, label="Own prompt", max_length=MAX_PROMPT, elem_classes="own")
    controls = [regressor, steps, guidance, strength, seed, prompt, own]
    told = {"fn": None, "inputs": controls, "js": CHANGED}
    for control in (regressor, steps, guidance, strength, prompt):
        control.input(**told)
    for control in (seed, own):
        control.submit(**told)
        control.blur(**told)
    random_seed.click(None, None, seed, js=RANDOM_SEED).then(**told)
    return controls


def page_text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def explore_tab(studio: Studio, demo: gr.Blocks) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""

    def run(wish: dict, visit: Visit) -> Iterator[tuple]:
        try:
            yield from reconstruct(studio, wish, visit)
        except (IndexError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def announce(wish: dict, visit: Visit) -> None:
        visit.newest = max(visit.newest, wish["serial"])

    visit = gr.State(Visit())
    with gr.Row(elem_classes="columns", equal_height=True):
        with gr.Column(scale=19, min_width=340):
            picker = gr.HTML(
                {"index": 0, "serial": 0},
                html_template=page_text("picker.html"),
                js_on_load=page_text("picker.js"),
                apply_default_css=False,
                n_images=len(studio.pictures),
                columns=COLUMNS,
                side=THUMBNAIL,
                sheet=thumbnail_sheet(area_average(studio.subject.test.images, THUMBNAIL)),
            )
            view = gr.HTML('<section class="panel waiting">Reconstructing …</section>', apply_default_css=False)
            controls = settings_controls()
        with gr.Column(scale=10, min_width=340):
            brain = brain_panel(studio)
    picker.value["settings"] = [control.value for control in controls]
    wish = {"inputs": [picker, visit], "show_progress": "hidden", "api_visibility": "private"}
    running = gr.on(
        [demo.load, picker.input],
        run,
        outputs=[view, brain],
        trigger_mode="multiple",
        concurrency_id="reconstruct",
        concurrency_limit=1,
        **wish,
    )
    running.success(js=ENDED)
    running.failure(js=ENDED)
    picker.stop(announce, queue=False, trigger_mode="multiple", **wish)
