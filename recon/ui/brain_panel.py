"""The brain map and the panel under it that tells of a clicked voxel or area."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import numpy as np

from recon.responses import response_around
from recon.settings import Settings
from recon.ui.decode import NEWEST_LAST, Decoding, decoded_cards
from recon.ui.html.inspector import HINT, drawn_panel, roi_panel, voxel_panel
from recon.ui.html.parts import QUIET, REGRESSOR_NAMES
from recon.ui.html_block import html_block
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

FOLDER = Path(__file__).parents[2] / "assets" / "page" / "brain"
LEVEL = 2.0  # standard deviations that a voxel is driven by
PLOTLY = Path(str(files("plotly").joinpath("package_data", "plotly.min.js")))
SCRIPTS = ("scales", "points", "plot", "slices", "glass", "turn", "whole", "pointer", "controls", "start")
SHOW = """() => {
    const seen = (selector) => [...document.querySelectorAll(selector)].find((part) => part.offsetParent);
    const brain = seen(".brain");
    if (brain?.dataset.followed) delete brain.dataset.followed; // it was the address that chose
    else seen(".inspector")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
}"""


def page_part(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def server_functions(studio: Studio) -> list:
    """What the browser asks for: geometry, a surface, a map; each is made once, for however many brain views."""

    @cache
    def maps() -> dict:
        from recon.brain.maps import score_maps, weight_map  # imports nilearn, which takes seconds
        from recon.regressors.weights import weight_magnitude

        bundle = studio.bundle
        weights = {
            f"weights_{name}": weight_map(REGRESSOR_NAMES[name], weight_magnitude(regressor))
            for name, regressor in bundle.regressors["latents"].items()
        }
        return score_maps(bundle.scores, studio.subject.ncsnr) | weights

    @cache
    def geometry() -> dict:
        from recon.brain.geometry import geometry_payload

        names = {"maps": [(name, shown.label) for name, shown in maps().items()]}
        return geometry_payload(studio.subject.geometry) | names

    @cache
    def surface(name: str) -> dict:
        from recon.brain.geometry import surface_mesh

        return surface_mesh(studio.subject.geometry, name)

    def brain_geometry(_) -> dict:
        return geometry()

    def brain_surface(name: str) -> dict:
        return surface(name)

    def brain_map(name: str) -> dict:
        from recon.brain.maps import map_payload

        return map_payload(maps()[name])

    def brain_file(wish: dict) -> dict:
        return map_download(studio, maps(), wish)

    return [brain_geometry, brain_surface, brain_map, brain_file]


def map_download(studio: Studio, maps: dict, wish: dict) -> dict:
    """{"map": name, "kind": kind, "values": base64 of a response or None} -> name, type and content of a file.

    Raises ValueError for a map, a kind or values that there are not.
    """
    from recon.brain.map_files import TYPES, map_file
    from recon.brain.maps import response_map

    name, kind, values = wish.get("map"), wish.get("kind"), wish.get("values")
    if name == "response" and isinstance(values, str):
        response = np.frombuffer(base64.b64decode(values, validate=True), "<f4")
        if len(response) != studio.subject.geometry.n_voxels:
            raise ValueError(f"values: expected {studio.subject.geometry.n_voxels} of them, got {len(response)}")
        shown = response_map(response)
    elif isinstance(name, str) and name in maps:
        shown = maps[name]
    else:
        raise ValueError("map: expected the name of one that the page shows")
    file, content = map_file(f"{studio.subject.name}_{name}", shown, studio.subject.geometry, str(kind)[:20])
    return {"name": file, "type": TYPES[str(kind)], "data": base64.b64encode(content).decode()}


def predicted_tests(studio: Studio, voxel: int) -> np.ndarray | None:
    """(n_test,) what the response model says of a voxel; None if there is no such voxel."""
    bundle = studio.bundle
    if not isinstance(voxel, int) or not 0 <= voxel < len(bundle.response.intercept):
        return None
    return bundle.test_coordinates @ bundle.response.up[:, voxel] + bundle.response.intercept[voxel]


@lru_cache(maxsize=8)
def decoded_tests(studio: Studio) -> np.ndarray:
    """(n_test, d): the image embeddings that are decoded of all test images' responses, all repeats averaged."""
    from recon.reconstruct import decoded  # imports torch

    return decoded("image", studio.subject.test.averaged(), studio.bundle, "mlp")


def drawn_for(studio: Studio, voxel: int) -> Iterator[str]:
    """What drives a voxel most, decoded: HTML after every frame. Raises ValueError."""
    response = response_around(voxel, LEVEL, studio.bundle)
    about = {"voxel": voxel, "level": LEVEL, "response": "artificial: no picture was shown"}
    for cards in decoded_cards(studio, response, Decoding(Settings(), {}, f"voxel_{voxel}", about)):
        yield drawn_panel(voxel, LEVEL, cards)


def inspected(studio: Studio, chosen: dict, gains: bool = True) -> str:
    """{"roi": name}, or {"voxel": number} and perhaps the "index" of an image -> the panel that tells of it.

    Raises ValueError or IndexError if there is no such thing.

    gains: with buttons that weaken or strengthen an area.
    """
    if "roi" in chosen:
        return roi_panel(studio.bundle, chosen["roi"], gains)
    voxel, index = chosen["voxel"], chosen.get("index")
    index = index if isinstance(index, int) else None
    embeddings = None if index is None else decoded_tests(studio)
    return voxel_panel(studio.bundle, voxel, predicted_tests(studio, voxel), index, embeddings)


def brain_panel(studio: Studio, first: str = "r2", response: str = "Response to this picture") -> gr.HTML:
    """Lays out map and inspector -> the map, whose value is a response map as JSON; its click carries voxel or ROI.

    first: the name of what it shows at first, "r2" on Explore, where areas have gains; response: what its value is called.
    """

    def inspect(event: gr.EventData) -> tuple[str, str]:
        try:
            return inspected(studio, event._data, gains=first == "r2"), ""
        except (ValueError, IndexError) as error:
            raise in_one_sentence(error) from error

    def draw(event: gr.EventData) -> Iterator[str]:
        try:
            yield from drawn_for(studio, event._data["voxel"])
        except ValueError as error:
            raise in_one_sentence(error) from error

    brain = gr.HTML(
        "",
        html_template=page_part("brain.html"),
        js_on_load="\n".join(page_part(f"{name}.js") for name in SCRIPTS),
        apply_default_css=False,
        elem_classes="brain-block",
        plotly=f"gradio_api/file={quote(str(PLOTLY))}",
        first=first,
        response=response,
        server_functions=server_functions(studio),
    )
    inspector, drawing = html_block(HINT), html_block()
    shown = brain.click(
        inspect,
        None,
        [inspector, drawing],
        queue=False,
        trigger_mode="always_last",
        **QUIET,
    )
    shown.success(js=SHOW)
    brain.select(draw, None, drawing, **NEWEST_LAST)
    return brain
