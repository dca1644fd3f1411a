"""The page: choose a test picture and watch its reconstructions appear. Layout and wiring only.

python app.py                              http://127.0.0.1:7860
GRADIO_SERVER_PORT=8000 RECON_BUNDLE=assets/demo python app.py
"""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one picture is too small to share among busy cores

import json
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import numpy as np
import plotly

from recon.brainmap import geometry_payload, map_payload, response_map, score_maps
from recon.bundle import Bundle, load_bundle
from recon.files import BadFile
from recon.lcm import MAX_GUIDANCE, MAX_PROMPT, MAX_STEPS, MIN_STRENGTH, LCMSettings
from recon.page import COLUMNS, REGRESSOR_NAMES, THUMBNAIL, header, panel, score_table, thumbnail_sheet
from recon.pictures import area_average
from recon.reconstruct import Frame, Settings, decode_caption, reconstruct_layout, reconstruct_picture

HERE = Path(__file__).parent
PAGE = HERE / "assets" / "page"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
STAGE_1_SIZE = 64  # pixels of a VDVAE's pictures
KEPT = 64  # pictures whose stage 1 is remembered
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


@dataclass(frozen=True)
class Page:
    """What the handlers need: the subject's bundle, and its test pictures (n, S, S, 3) uint8 at the VDVAE's size."""

    bundle: Bundle
    pictures: np.ndarray
    layouts: OrderedDict[int, Frame] = field(default_factory=OrderedDict)  # stage 1's last frames, newest last


@dataclass
class Visit:
    """What one browser tab wants and shows; Gradio keeps it, and forgets it some time after the tab is closed."""

    newest: int = 0  # serial number of its newest wish
    picture: int | None = None  # whose stage 1 and response map it shows


def page_text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def read_settings(values: list) -> Settings:
    """The controls' values, in their order -> settings. Raises ValueError."""
    regressor, steps, guidance, strength, seed, prompt, own = values
    return Settings(regressor, prompt, own, LCMSettings(steps, guidance, strength, seed))


def layouts(page: Page, index: int, response: np.ndarray, regressor: str) -> Iterator[Frame]:
    """Stage 1: all its frames, or only the last of a picture that was there lately."""
    if index in page.layouts:
        page.layouts.move_to_end(index)
        yield page.layouts[index]
        return
    for frame in reconstruct_layout(response, page.pictures[index], page.bundle, regressor):
        yield frame
    page.layouts[index] = frame
    if len(page.layouts) > KEPT:
        page.layouts.popitem(last=False)


def reconstruct(page: Page, wish: dict, visit: Visit) -> Iterator[tuple]:
    """(view, response map) once per frame of both stages; ends early for a newer wish.

    Stage 1 and the response map are shown if the picture is another one than before. Stage 2 begins as soon as what it
    starts from is there; what is left of stage 1 follows it. What has not been fetched is left out.
    """
    bundle, index, moved = page.bundle, wish["index"], visit.picture != wish["index"]
    response = bundle.subject.test.response(index)
    settings = read_settings(wish["settings"])
    rows, similarities = decode_caption(response[None], bundle, settings.regressor)
    shown = bundle, page.pictures[index], wish, settings, (bundle.captions.captions[rows[0]], similarities[0])

    def brain() -> str:
        visit.picture = index
        return json.dumps(map_payload(response_map(response)))

    if bundle.vdvae is None:
        yield panel(*shown, None, None), brain()
        return
    stage_1 = layouts(page, index, response, settings.regressor)
    for layout in stage_1:
        if moved:
            yield panel(*shown, layout, None), brain() if layout.ready else gr.skip()
        if visit.newest > wish["serial"]:
            return
        if layout.ready:
            break
    truth, frame = bundle.subject.test.labels[index]["captions"], None
    if bundle.diffusion is not None:
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


def build(page: Page) -> gr.Blocks:
    bundle = page.bundle
    brain_static = {
        "geometry": geometry_payload(bundle.subject.geometry),
        "maps": {name: map_payload(m) for name, m in score_maps(bundle.scores).items()},
    }

    def brain_data(_) -> dict:
        return brain_static

    def run(wish: dict, visit: Visit) -> Iterator[tuple]:
        try:
            yield from reconstruct(page, wish, visit)
        except (IndexError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def announce(wish: dict, visit: Visit) -> None:
        visit.newest = max(visit.newest, wish["serial"])

    with gr.Blocks(title="Brain → Image", fill_width=True, analytics_enabled=False) as demo:
        visit = gr.State(Visit())
        gr.HTML(header(bundle), apply_default_css=False)
        with gr.Row(elem_classes="columns", equal_height=True):
            with gr.Column(scale=19, min_width=340):
                picker = gr.HTML(
                    {"index": 0, "serial": 0},
                    html_template=page_text("picker.html"),
                    js_on_load=page_text("picker.js"),
                    apply_default_css=False,
                    n_images=len(page.pictures),
                    columns=COLUMNS,
                    side=THUMBNAIL,
                    sheet=thumbnail_sheet(area_average(bundle.subject.test.images, THUMBNAIL)),
                )
                view = gr.HTML('<section class="panel waiting">Reconstructing …</section>', apply_default_css=False)
                controls = settings_controls()
            with gr.Column(scale=10, min_width=340):
                brain = gr.HTML(
                    "",
                    html_template=page_text("brain.html"),
                    js_on_load=page_text("brain.js"),
                    apply_default_css=False,
                    plotly=f"gradio_api/file={PLOTLY}",
                    server_functions=[brain_data],
                )
        if bundle.manifest["evaluation"]:
            gr.HTML(score_table(bundle.manifest["evaluation"]), apply_default_css=False)
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
    return demo.queue(max_size=32)


def main() -> None:
    try:
        bundle = load_bundle(Path(os.environ.get("RECON_BUNDLE", HERE / "assets" / "demo")))
    except BadFile as error:
        sys.exit(str(error))
    gr.set_static_paths([PLOTLY])
    page = Page(bundle, area_average(bundle.subject.test.images, STAGE_1_SIZE))
    build(page).launch(
        server_port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        share=False,
        ssr_mode=False,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=[PAGE / "page.css"],
        footer_links=[],
        favicon_path=PAGE / "icon.svg",
    )


if __name__ == "__main__":
    main()
