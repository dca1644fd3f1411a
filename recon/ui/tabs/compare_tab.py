"""The Compare tab: one test picture under a grid of settings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr
from markupsafe import Markup

from recon.responses import response_to
from recon.settings import AXES, shown
from recon.ui.controls import read_settings
from recon.ui.decode import ONE_AT_A_TIME, data_link
from recon.ui.html.comparison_grid import NAMES, Grid, table
from recon.ui.html.markup import NOTHING, html
from recon.ui.html.panel import absent_banner
from recon.ui.html.parts import CURRENT, QUIET, term
from recon.ui.html_block import html_block
from recon.ui.server.frames import live, shown_image
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

if TYPE_CHECKING:
    from recon.compare import Cell

LEAD = html(
    '<p class="lead">How much does each setting matter? The grid draws one picture with every pair of values of two settings; all '
    "other settings are those chosen on the Explore tab. Under each picture stands its {} with the original.</p>",
    term("pixcorr", "pixel r"),
)
HELP = {
    "index": "By its number; first the one that Explore shows.",
    "rows": "What changes from row to row.",
    "columns": "What changes from column to column.",
    "values": "Up to six of your own, separated by commas.",
}


@dataclass
class Running:
    """What one browser tab has under way."""

    stopped: bool = False


def checked_index(index: float, n: int) -> int:
    """The number of a test image that a field holds. Raises ValueError."""
    if not isinstance(index, (int, float)) or index != int(index) or not 0 <= index < n:
        raise ValueError(f"picture: expected a whole number from 0 to {n - 1}, got {shown(index)}")
    return int(index)


def stop(under_way: Running) -> None:
    under_way.stopped = True


def about_text_alone(cells: list[Cell]) -> Markup:
    """Why no image embedding guided the pictures, where one was to."""
    why = next((cell.unguided for cell in cells if cell.unguided), "")
    return html('<p class="small unguided">Text alone guided stage 2. {}</p>', why) if why else NOTHING


def compare_tab(studio: Studio, tab: gr.Tab, picker: gr.HTML) -> None:
    """Lays the open `tab` out and wires it; `picker` knows Explore's picture and settings."""

    def run(index: float, wish: dict, under_way: Running, *axes: str) -> Iterator[str]:
        from recon.compare import Compared, grid, labelled_sheet, values_of

        cells, (row_axis, row_values, column_axis, column_values) = [], axes
        under_way.stopped = False
        try:
            index = checked_index(index, studio.n_pictures)
            rows, columns = (
                (row_axis, values_of(row_axis, row_values)),
                (column_axis, values_of(column_axis, column_values)),
            )
            base = read_settings(wish["settings"], wish["reading"])
            test = studio.subject.test
            about = Grid(
                studio.manifest["name"], index, test.labels[index]["captions"][0], test.images[index], rows, columns
            )
            yield table(about, cells)
            read = partial(response_to, studio.subject, index)
            for cell in grid(Compared(shown_image(studio, index), read, live(studio)), base, rows, columns):
                cells.append(cell)
                yield table(about, cells)
                if under_way.stopped:
                    break
        except (IndexError, ValueError, TypeError) as error:
            raise in_one_sentence(error) from error
        buffer = io.BytesIO()
        labelled_sheet(about.original, cells, rows, columns).save(buffer, "PNG")
        name = f"{about.subject}_picture{index}_{row_axis}_{column_axis}.png"
        save = data_link(name, "image/png", buffer.getvalue(), "Save the grid as PNG")
        absent = absent_banner(cells[-1].absent) if cells[-1].absent else NOTHING
        yield table(about, cells, html('{}{}<p class="saves">{}</p>', absent, about_text_alone(cells), save))

    last, under_way = studio.n_pictures - 1, gr.State(Running())
    html_block(LEAD)
    with gr.Row(elem_classes="tab-controls"):
        index = gr.Number(0, label="Picture", precision=0, minimum=0, maximum=last, info=HELP["index"])
        rows, columns = axis_fields("Rows", "strength"), axis_fields("Columns", "steps")
        with gr.Column(min_width=160):
            start = gr.Button("Draw the grid", variant="primary", elem_classes="start-grid")
            end = gr.Button("Stop", elem_classes="stop-grid")
    view = html_block()
    start.click(run, [index, picker, under_way, *rows, *columns], view, **ONE_AT_A_TIME)
    end.click(stop, under_way, queue=False, **QUIET)
    tab.select(None, None, index, js=CURRENT)


def axis_fields(label: str, axis: str) -> tuple[gr.Dropdown, gr.Textbox]:
    """Which setting changes along an axis, and its values."""

    def text(axis: str) -> str:
        return ", ".join(map(str, AXES[axis]))

    with gr.Column(min_width=200):
        chosen = gr.Dropdown(
            [(NAMES[axis], axis) for axis in AXES], value=axis, label=label, info=HELP[label.lower()], filterable=False
        )
        values = gr.Textbox(text(axis), label=f"Values of the {label.lower()}", info=HELP["values"], max_length=200)
    chosen.input(text, chosen, values, queue=False, **QUIET)
    return chosen, values
