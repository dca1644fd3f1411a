"""The Explore tab: choose a test picture and watch its reconstructions appear."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from recon.settings import Settings
from recon.share import from_query, to_query
from recon.ui.brain_panel import brain_panel
from recon.ui.controls import control_values, read_settings, reading_of, settings_controls
from recon.ui.decode import ONE_AT_A_TIME
from recon.ui.html.image_scores import orders, standing
from recon.ui.html.panel import panel
from recon.ui.html.parts import COLUMNS, QUIET, THUMBNAIL
from recon.ui.html.under_images import Told
from recon.ui.server.endpoint import panel_files
from recon.ui.server.frames import frames_of, read_response
from recon.ui.server.studio import Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame

PAGE = Path(__file__).parents[3] / "assets" / "page"
ENDED = "() => { document.dispatchEvent(new Event('reconstructed')); }"  # to the picker, after errors too
FACETS = ("setting", "object", "light")  # labels to filter by, where pictures have them
SEARCH = """(_, ...others) => {
    document.querySelector(".random-seed")?.setAttribute("title", "Draws another seed");
    return [window.location.search, ...others];
}"""  # a link's query; and the line of help that a gr.Button has no place for


@dataclass
class Visit:
    """What one browser tab wants and shows; Gradio keeps it, and forgets it some time after the tab is closed."""

    newest: int = 0  # serial number of its newest wish
    shown: tuple | None = None  # picture and reading whose stage 1 and response map it shows


def tell(studio: Studio, index: int, response: np.ndarray, settings: Settings) -> Told:
    """What CLIP's space says of a response (n_voxels,) to picture `index`."""
    from recon.reconstruct import decode_caption, decoded_rank

    bundle, how = studio.bundle, (settings.regressor, settings.components)
    rows, similarities = decode_caption(response[None], bundle, *how)
    rank = decoded_rank(response, index, bundle, *how)
    return Told(bundle.captions.captions[rows[0]], similarities[0], rank, studio.n_pictures)


def reconstruct(
    studio: Studio, frames: Callable[[int, Settings], Iterator[Frame]], wish: dict, visit: Visit
) -> Iterator[tuple]:
    """(view, response map) once per frame of both stages; ends early for a newer wish.

    Stage 1 alone and the response map are shown if the picture, or what is read from the brain, is another than before.
    """
    from recon.brain.maps import map_payload, response_map

    bundle, index = studio.bundle, wish["index"]
    settings = read_settings(wish["settings"], wish["reading"])
    response, moved = read_response(studio, index, settings), visit.shown != (index, settings.reading)
    told, scores = tell(studio, index, response, settings), standing(studio.image_scores, index, settings.regressor)

    def view(layout: Frame | None, steps: list[Frame]) -> str:
        query = to_query(studio.manifest["name"], index, settings)
        return panel(bundle, studio.picture(index), wish | {"query": query}, settings, told, scores, layout, steps)

    def brain() -> str:
        visit.shown = index, settings.reading
        return json.dumps(map_payload(response_map(response)))

    layout, steps = None, []
    for frame in frames(index, settings):
        if frame.stage == "vdvae":
            layout = frame
        else:
            steps.append(frame)
        if moved or steps:
            arrived = moved and not steps and layout.ready
            yield view(layout, steps), brain() if arrived else gr.skip()
        if visit.newest > wish["serial"]:
            return
    if layout is None:
        yield view(None, []), brain()


def linked_wish(studio: Studio, query: str) -> dict | None:
    """What a link wants of the page that it opens: picture, settings and reading; None for an empty query.

    Raises ValueError for a link that cannot be read, or is not this subject's.
    """
    if not query.strip("?"):
        return None
    subject, index, settings = from_query(query, studio.n_pictures)
    if subject not in (None, studio.manifest["name"]):
        raise ValueError(f"this link is of subject {subject!r}, this page shows {studio.manifest['name']!r}")
    read_response(studio, index, settings)  # are its areas this subject's?
    return {"index": index, "serial": 0, "settings": control_values(settings), "reading": reading_of(settings)}


def words(label: dict) -> str:
    """What a picture can be found by: its captions and labels, in small letters."""
    return " ".join([*label["captions"], *(v for k, v in label.items() if isinstance(v, str))]).lower()


def facets(labels: list[dict]) -> dict[str, list[str | None]]:
    """FACETS that the pictures have -> the value of each picture."""
    found = {name: [label.get(name) for label in labels] for name in FACETS}
    return {name: values for name, values in found.items() if any(values)}


def catalogue(studio: Studio) -> str:
    """By what pictures can be found and sorted, of every test picture, as JSON: each event copies all that a component holds,
    lists item by item."""
    labels = studio.subject.test.labels
    found = {
        "words": [words(label) for label in labels],
        "facets": facets(labels),
        "unseen": [bool(label.get("unseen")) for label in labels],
        "scores": orders(studio.image_scores),
    }
    return json.dumps(found)


def page_text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def explore_tab(studio: Studio, arrival: Callable) -> gr.HTML:
    """Lays the tab out and wires it, inside an open gr.Tab, to begin at `arrival`; returns the picker, whose value is what is
    wanted."""

    frames = frames_of(studio)

    def download(wish: dict) -> list[dict]:
        return panel_files(studio, frames, wish)

    def thumbnails(_: None) -> str:
        return studio.thumbnails

    def run(wish: dict, visit: Visit) -> Iterator[tuple]:
        try:
            yield from reconstruct(studio, frames, wish, visit)
        except (IndexError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def begin(query: str, wish: dict, visit: Visit) -> Iterator[list]:
        linked = None
        try:
            linked = linked_wish(studio, query)
        except ValueError as error:
            gr.Warning(str(error))
        if linked and not visit.newest:  # else the visitor did not wait for the link
            yield [linked, linked["reading"], *linked["settings"], gr.skip(), gr.skip()]
        for shown in run(linked or wish, visit):
            yield [gr.skip()] * len(restored) + [*shown]

    def announce(wish: dict, visit: Visit) -> None:
        visit.newest = max(visit.newest, wish["serial"])

    visit = gr.State(Visit())
    with gr.Row(elem_classes="columns", equal_height=True):
        with gr.Column(scale=19, min_width=340):
            picker = gr.HTML(
                {"index": 0, "serial": 0},
                html_template=page_text("picker.html"),
                js_on_load="\n".join(page_text(f"{name}.js") for name in ("wishes", "picker", "comparison")),
                apply_default_css=False,
                n_images=studio.n_pictures,
                columns=COLUMNS,
                side=THUMBNAIL,
                catalogue=catalogue(studio),
                server_functions=[download, thumbnails],
            )
            view = gr.HTML('<section class="panel waiting">Reconstructing …</section>', apply_default_css=False)
            controls = settings_controls()
            reading = gr.HTML(
                reading_of(Settings()),
                html_template=page_text("reading.html"),
                js_on_load=page_text("reading.js"),
                apply_default_css=False,
                rois=list(studio.subject.geometry.rois),
                rank=studio.manifest["components"],
            )
        with gr.Column(scale=10, min_width=340):
            brain = brain_panel(studio)
    picker.value |= {"settings": [control.value for control in controls], "reading": reading.value}
    link, restored = gr.Textbox(visible=False), [picker, reading, *controls]
    one_at_a_time = {"trigger_mode": "multiple", **ONE_AT_A_TIME}
    for running in (
        arrival(begin, [link, picker, visit], [*restored, view, brain], js=SEARCH, **one_at_a_time),
        picker.input(run, [picker, visit], [view, brain], **one_at_a_time),
    ):
        running.success(js=ENDED)
        running.failure(js=ENDED)
    picker.stop(announce, [picker, visit], queue=False, trigger_mode="multiple", **QUIET)
    return picker
