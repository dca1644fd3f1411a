"""The Explore tab: choose a test picture and watch its reconstructions appear."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.components import Component

from recon.bundle.adapter_file import find_adapter
from recon.bundle.evaluation import read_shares
from recon.responses import response_to
from recon.settings import Settings
from recon.settings import shown as quoted
from recon.share import from_query, to_query
from recon.ui.brain_panel import brain_panel
from recon.ui.controls import control_values, read_settings, reading_of, settings_controls
from recon.ui.decode import ONE_AT_A_TIME
from recon.ui.html.image_scores import orders, standing
from recon.ui.html.markup import html
from recon.ui.html.panel import View, panel
from recon.ui.html.parts import COLUMNS, QUIET, THUMBNAIL
from recon.ui.html.under_images import Told
from recon.ui.html_block import html_block
from recon.ui.server.endpoint import panel_files, response_file
from recon.ui.server.frames import frames_of
from recon.ui.server.studio import Studio
from recon.ui.told import as_text, in_one_sentence, without_folders

if TYPE_CHECKING:
    from recon.reconstruct import Frame, Reading

PAGE = Path(__file__).parents[3] / "assets" / "page"
ENDED = "() => { document.dispatchEvent(new Event('reconstructed')); }"  # to the picker, after errors too
APPLIED = (
    "(wish) => [...{}.map((name) => wish.settings[name]), wish.reading]"  # what controls and the reading panel show
)
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


def tell(studio: Studio, index: int, reading: Reading) -> Told:
    """What CLIP's space says of a response to image `index`."""
    captions = studio.bundle.captions
    rows, similarities = captions.nearest(reading.embedding[None])
    rank = None if captions.test_embeddings is None else captions.rank(reading.embedding, index)
    return Told(captions.captions[rows[0]], similarities[0], rank, studio.n_pictures)


def explored(
    studio: Studio, frames: Callable[[int, Settings], Iterator[Frame]], wish: dict, visit: Visit
) -> Iterator[tuple]:
    """(view, response map) once per frame of both stages; ends early for a newer wish.

    Stage 1 alone and the response map are shown if the image, or what is read from the brain, is another than before.
    """
    from recon.brain.maps import map_payload, response_map

    index, settings = wish["index"], read_settings(wish["settings"], wish["reading"])
    moved = visit.shown != (index, settings.reading)
    query = to_query(studio.manifest["name"], index, settings)
    layout, steps, view = None, [], None
    for frame in frames(index, settings):
        if view is None:
            scores = standing(studio.image_scores, index, settings.regressor, studio.n_seeds)
            told, response = tell(studio, index, frame.reading), frame.reading.response
            owed = studio.bundle.recipe.transductive
            view = View(index, wish["serial"], query, settings, told, scores, studio.picture(index), response, owed)
        if frame.stage == "lcm":
            steps.append(frame)
        elif frame.stage == "vdvae":
            layout = frame
        if moved or steps or frame.last:
            shown = panel(studio.bundle, view, layout, steps, frame.last)
            if moved and not steps and frame.ready:
                visit.shown = index, settings.reading
                yield shown, json.dumps(map_payload(response_map(frame.reading.response)))
            else:
                yield shown, gr.skip()
        if visit.newest > wish["serial"]:
            return


def linked_wish(studio: Studio, query: str) -> dict | None:
    """What a link wants of the page that it opens: picture, settings and reading; None for an empty query.

    Raises ValueError for a link that cannot be read, or is not this subject's.
    """
    if not query.strip("?"):
        return None
    subject, index, settings = from_query(query, studio.n_pictures)
    index = index if "picture=" in query else studio.first_picture
    if subject not in (None, studio.manifest["name"]):
        raise ValueError(f"this link is of subject {quoted(subject)}, this page shows {studio.manifest['name']!r}")
    response_to(studio.subject, index, settings)  # are its areas this subject's?
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
        "scores": orders(studio.image_scores, studio.n_seeds),
    }
    return json.dumps(found)


def page_text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def image_picker(studio: Studio) -> gr.HTML:
    """All test images to choose from; its value is what the visitor wants."""

    def download(wish: dict) -> list[dict] | None:
        return panel_files(studio, wish)

    def response(wish: dict) -> dict | None:
        return response_file(studio, wish)

    def thumbnails(_: None) -> str:
        return studio.thumbnails

    return gr.HTML(
        {
            "index": studio.first_picture,
            "serial": 0,
            "settings": control_values(Settings()),
            "reading": reading_of(Settings()),
        },
        html_template=page_text("picker.html"),
        js_on_load="\n".join(page_text(f"{name}.js") for name in ("wishes", "picker", "panel")),
        apply_default_css=False,
        n_images=studio.n_pictures,
        columns=COLUMNS,
        side=THUMBNAIL,
        catalogue=catalogue(studio),
        server_functions=[download, response, thumbnails],
    )


def reading_panel(studio: Studio) -> gr.HTML:
    """What is read from the brain: repeats, components, gains of areas."""
    return gr.HTML(
        reading_of(Settings()),
        html_template=page_text("reading.html"),
        js_on_load=page_text("reading.js"),
        apply_default_css=False,
        rois=list(studio.subject.geometry.areas),
        rank=studio.manifest["components"],
    )


def presets(studio: Studio) -> gr.HTML:
    """Settings to try, each with a sentence."""
    areas = studio.subject.geometry.rois
    return gr.HTML(
        "",
        html_template=page_text("presets.html"),
        js_on_load=page_text("presets.js"),
        apply_default_css=False,
        area=max(areas, key=lambda name: areas[name].sum(), default=None),
        settings=control_values(Settings()),
    )


def controls_of(studio: Studio) -> dict[str, Component]:
    """Stage 2's controls, by name, as this subject has them."""
    has_captions = any(label["captions"] for label in studio.subject.test.labels)
    _, no_adapter = find_adapter(studio.folder, studio.manifest)
    return settings_controls(has_captions, no_adapter, read_shares(studio.folder))


def explore_tab(studio: Studio, arrival: Callable) -> gr.HTML:
    """Lays the tab out and wires it, inside an open gr.Tab, to begin at `arrival`; returns the picker, whose value is what is
    wanted."""
    frames, visit, link = frames_of(studio), gr.State(Visit()), gr.Textbox(visible=False)
    with gr.Row(elem_classes="columns"):
        with gr.Column():
            picker = image_picker(studio)
            view = html_block(html('<section class="panel waiting">The first picture is being drawn …</section>'))
        with gr.Column():
            presets(studio)
            controls, reading = controls_of(studio), reading_panel(studio)
        with gr.Column():
            brain = brain_panel(studio)

    def run(wish: dict, visit: Visit) -> Iterator[dict]:
        try:
            for shown, response in explored(studio, frames, wish, visit):
                yield {view: shown, brain: response}
        except (IndexError, ValueError) as error:
            if visit.shown is None:  # nothing will follow what the page began with
                yield {view: html('<section class="panel waiting">{}</section>', without_folders(error))}
            raise in_one_sentence(error) from error

    def begin(query: str, wish: dict, visit: Visit) -> Iterator[dict]:
        linked = None
        try:
            linked = linked_wish(studio, query)
        except ValueError as error:
            gr.Warning(as_text(error))
        if linked and not visit.newest:  # else the visitor did not wait for the link
            told = {controls[name]: value for name, value in linked["settings"].items()}
            yield told | {picker: linked, reading: linked["reading"]}
        yield from run(linked or wish, visit)

    def announce(wish: dict, visit: Visit) -> None:
        visit.newest = max(visit.newest, wish["serial"])

    restored, one_at_a_time = [picker, reading, *controls.values()], {"trigger_mode": "multiple", **ONE_AT_A_TIME}
    for running in (
        arrival(begin, [link, picker, visit], [*restored, view, brain], js=SEARCH, **one_at_a_time),
        picker.input(run, [picker, visit], [view, brain], **one_at_a_time),
    ):
        running.success(js=ENDED)
        running.failure(js=ENDED)
    picker.apply(None, picker, [*controls.values(), reading], js=APPLIED.format(json.dumps(list(controls))), **QUIET)
    picker.stop(announce, [picker, visit], queue=False, trigger_mode="multiple", **QUIET)
    return picker
