"""The page: choose a test picture and watch its reconstructions appear. Layout and wiring only.

python app.py                              http://127.0.0.1:7860
GRADIO_SERVER_PORT=8000 RECON_BUNDLE=assets/demo python app.py
"""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one picture is too small to share among busy cores

import base64
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import plotly
from PIL import Image

from recon.brainmap import map_payload, response_map, score_maps, surface_payload
from recon.bundle import Bundle, load_bundle
from recon.files import BadFile
from recon.metrics import pixel_correlation
from recon.pictures import area_average
from recon.reconstruct import Frame, reconstruct

HERE = Path(__file__).parent
PAGE = HERE / "assets" / "page"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
THUMBNAIL, COLUMNS = 64, 20  # side in pixels, thumbnails in a row of the sheet
CARDS = {  # stage -> source -> card title
    "vdvae": {"ridge": "Ridge → VDVAE", "mlp": "MLP → VDVAE", "ceiling": "Ceiling → VDVAE"},
}
NOTES = {
    "ridge": "from the brain, linear",
    "mlp": "from the brain, non-linear",
    "ceiling": "the picture's own latents",
}
ENDED = "() => { document.dispatchEvent(new Event('reconstructed')); }"  # tells the picker, after errors too
ROWS = {
    "ridge": "Ridge",
    "mlp": "MLP",
    "ceiling": "Ceiling",
    "shuffled": "Shuffled responses",
}


@dataclass(frozen=True)
class Page:
    """What the handlers need: the subject's bundle, and its test pictures (n, S, S, 3) uint8 at the VDVAE's size."""

    bundle: Bundle
    pictures: np.ndarray


def page_text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def data_uri(picture: np.ndarray, kind: str) -> str:
    """(h, w, 3) uint8 -> a data URI; kind "png" or "webp"."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, quality=80, compress_level=3)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def thumbnail_sheet(pictures: np.ndarray) -> str:
    """(n, THUMBNAIL, THUMBNAIL, 3) uint8 -> one picture of all, COLUMNS in a row, as a data URI."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, THUMBNAIL, THUMBNAIL, 3), np.uint8)
    sheet[: len(pictures)] = pictures
    grid = sheet.reshape(rows, COLUMNS, THUMBNAIL, THUMBNAIL, 3).swapaxes(1, 2)
    return data_uri(grid.reshape(rows * THUMBNAIL, COLUMNS * THUMBNAIL, 3), "webp")


def card(source: str, title: str, note: str, picture: np.ndarray, value: str) -> str:
    return (
        f'<figure class="card {source}"><figcaption>{escape(title)}</figcaption>'
        f'<img src="{data_uri(picture, "png")}" alt="{escape(title)}">'
        f'<p class="value">{value}</p><p class="note">{escape(note)}</p></figure>'
    )


def frame_cards(frame: Frame, truth: np.ndarray) -> list[str]:
    """The cards of one frame; truth (S, S, 3)."""
    cards = []
    for source, title in CARDS[frame.stage].items():
        picture = frame.images[source]
        r = pixel_correlation(picture[None], truth[None])[0]
        value = f"<b>r = {r:.2f}</b> · {1000 * frame.seconds:.0f} ms".replace("-", "−")
        cards.append(card(source, title, NOTES[source], picture, value))
    return cards


def truth_line(label: dict) -> str:
    hint = "Setting, object and light never occur together in training"
    badge = f'<span class="badge" title="{hint}">unseen combination</span>'
    return (
        f'<p class="truth"><span class="tag">truth</span> “{escape(label["captions"][0])}”'
        f"{badge if label.get('unseen') else ''}</p>"
    )


def progress(step: int, steps: list[int], done: bool) -> str:
    pills = "".join(f'<i class="{"on" if s <= step else ""}">{s}×{s}</i>' for s in steps)
    return f'<p class="progress"><span>{"Latents" if done else "Refining"}</span>{pills}</p>'


def picture_view(page: Page, index: int, frame: Frame) -> str:
    """Everything that one frame changes on the page, as one piece of HTML."""
    trials = page.bundle.subject.test
    steps = sorted({shape[1] for shape in page.bundle.vdvae.layer_shapes()[: page.bundle.n_layers]})
    seen = f"shown {trials.n_repeats[index]}×, responses averaged"
    original = card("original", "Original", seen, trials.images[index], f"<b>picture {index}</b>")
    return (
        f'<section class="panel" data-index="{index}" data-last="{str(frame.last).lower()}">'
        f'<div class="cards">{original}{"".join(frame_cards(frame, page.pictures[index]))}</div>'
        f'<div class="under">{truth_line(trials.labels[index])}{progress(frame.step, steps, frame.last)}</div>'
        "</section>"
    )


def show(page: Page, index: int) -> Iterator[tuple]:
    """Test picture -> (view, response map) once per frame; the map comes with the last. Complaints become messages."""
    try:
        response = page.bundle.subject.test.response(index)
        brain = json.dumps(map_payload(response_map(response)))
        for frame in reconstruct(response, page.pictures[index], page.bundle):
            yield picture_view(page, index, frame), brain if frame.last else gr.skip()
    except (IndexError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def header(manifest: dict) -> str:
    banner = (
        '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
        "not from a person.</p>"
    )
    return (
        "<header><div><h1>Brain <span>→</span> Image</h1><p>Pictures reconstructed live from fMRI responses.</p></div>"
        f"{banner if manifest['simulated'] else ''}</header>"
    )


def score_table(evaluation: dict) -> str:
    """Scores over the whole test set; a row without latent scores gets dashes."""
    rows = []
    for name, scores in evaluation["rows"].items():
        latent = evaluation["latent_r2"].get(name)
        cells = [f"{scores['pixel_correlation']:.2f}", f"{100 * scores['identification']:.1f} %"]
        cells += [f"{latent[k]:.3f}" for k in ("cv", "test")] if latent else ["–", "–"]
        cells = "".join(f"<td>{c}</td>" for c in cells).replace("-", "−")
        rows.append(f'<tr class="{name}"><th>{escape(ROWS.get(name, name))}</th>{cells}</tr>')
    return (
        '<section class="panel scores"><table><thead><tr>'
        f"<th>All {evaluation['n_images']} test pictures</th><th>Pixel correlation</th>"
        "<th>Identification <small>chance 50 %</small></th><th>Latent R² <small>cross-validated</small></th>"
        f"<th>Latent R² <small>test</small></th></tr></thead><tbody>{''.join(rows)}</tbody></table></section>"
    )


def build(page: Page) -> gr.Blocks:
    bundle = page.bundle
    brain_static = {
        "surface": surface_payload(bundle.subject.geometry),
        "maps": {name: map_payload(m) for name, m in score_maps(bundle.scores).items()},
    }

    def brain_data(_) -> dict:
        return brain_static

    def choose(index) -> Iterator[tuple]:
        yield from show(page, int(index))

    with gr.Blocks(title="Brain → Image", fill_width=True, analytics_enabled=False) as demo:
        gr.HTML(header(bundle.manifest), apply_default_css=False)
        with gr.Row(elem_classes="columns", equal_height=True):
            with gr.Column(scale=17, min_width=340):
                picker = gr.HTML(
                    0,
                    html_template=page_text("picker.html"),
                    js_on_load=page_text("picker.js"),
                    apply_default_css=False,
                    n_images=len(page.pictures),
                    columns=COLUMNS,
                    side=THUMBNAIL,
                    sheet=thumbnail_sheet(area_average(bundle.subject.test.images, THUMBNAIL)),
                )
                view = gr.HTML('<section class="panel waiting">Reconstructing …</section>', apply_default_css=False)
                gr.HTML(score_table(bundle.manifest["evaluation"]), apply_default_css=False)
            with gr.Column(scale=10, min_width=340):
                brain = gr.HTML(
                    "",
                    html_template=page_text("brain.html"),
                    js_on_load=page_text("brain.js"),
                    apply_default_css=False,
                    plotly=f"gradio_api/file={PLOTLY}",
                    server_functions=[brain_data],
                )
        event = {
            "fn": choose,
            "inputs": picker,
            "outputs": [view, brain],
            "show_progress": "hidden",
            "concurrency_id": "reconstruct",
            "concurrency_limit": 1,
            "api_visibility": "private",
        }
        demo.load(**event)
        choice = picker.input(**event, trigger_mode="multiple")
        choice.success(js=ENDED)
        choice.failure(js=ENDED)
    return demo.queue(max_size=32)


def main() -> None:
    try:
        bundle = load_bundle(Path(os.environ.get("RECON_BUNDLE", HERE / "assets" / "demo")))
    except BadFile as error:
        sys.exit(str(error))
    gr.set_static_paths([PLOTLY])
    page = Page(bundle, area_average(bundle.subject.test.images, bundle.vdvae.cfg.image_size))
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
