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
from recon.settings import AXES
from recon.ui.controls import read_settings
from recon.ui.decode import ONE_AT_A_TIME, data_link
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.panel import absent_banner
from recon.ui.html.parts import CURRENT, QUIET, data_uri, duration
from recon.ui.html_block import html_block
from recon.ui.server.frames import live, shown_image
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

if TYPE_CHECKING:
    from recon.compare import Cell

NAMES = {
    "steps": "LCM steps",
    "guidance": "Guidance",
    "strength": "Strength",
    "seed": "Seed",
    "regressor": "Regressor",
    "prompt": "Prompt source",
    "components": "Components kept",
    "repeats": "Repeats averaged",
    "balance": "Text ↔ image",
    "image_scale": "Image scale",
    "guide": "Image embedding",
}
LEAD = html(
    '<p class="lead">How much does each setting matter? Cells fill one by one; whatever is not varied is as the Explore tab has '
    "it. <b>r</b> is the pixel correlation with the original; what chance alone gives stands on the Evaluate tab.</p>"
)
HELP = {
    "index": "Which test picture; opening this tab takes Explore’s.",
    "rows": "What changes from row to row.",
    "columns": "What changes from column to column.",
}


@dataclass
class Running:
    """What one browser tab has under way."""

    stopped: bool = False


def caption(cell: Cell) -> Markup:
    return html("<small><b>r = {:.2f}</b> {}</small>", cell.pixcorr, duration(cell.seconds)).replace("-", "−")


def table(original, cells: list, rows: tuple, columns: tuple, after: Markup = NOTHING) -> Markup:
    """The grid so far, as HTML."""
    there = {(c.row, c.column): c for c in cells}
    head = joined(html('<th scope="col">{} <b>{}</b></th>', NAMES[columns[0]], value) for value in columns[1])
    lines = []
    for r, row_value in enumerate(rows[1]):
        line = html('<th scope="row">{} <b>{}</b></th>', NAMES[rows[0]], row_value)
        for c, column_value in enumerate(columns[1]):
            cell = there.get((r, c))
            label = f"{NAMES[rows[0]]} {row_value}, {NAMES[columns[0]]} {column_value}"
            shown = cell and html('<img src="{}" alt="{}">{}', data_uri(cell.image, "webp"), label, caption(cell))
            line += html("<td>{}</td>", shown or html("<i></i>"))
        lines.append(html("<tr>{}</tr>", line))
    corner = html(
        '<td class="corner"><img src="{}" alt="Original"><small>original</small></td>', data_uri(original, "webp")
    )
    n = len(rows[1]) * len(columns[1])
    return html(
        '<section class="panel grid" data-done="{}" data-last="{}">'
        "<table><thead><tr>{}{}</tr></thead><tbody>{}</tbody></table>"
        '<p class="small">{} of {} cells</p>{}</section>',
        len(cells),
        str(len(cells) == n).lower(),
        corner,
        head,
        joined(lines),
        len(cells),
        n,
        after,
    )


def compare_tab(studio: Studio, tab: gr.Tab, picker: gr.HTML) -> None:
    """Lays the open `tab` out and wires it; `picker` knows Explore's picture and settings."""

    def run(index: float, row_axis: str, column_axis: str, wish: dict, under_way: Running) -> Iterator[str]:
        from recon.compare import Compared, grid, labelled_sheet

        rows, columns, cells = (row_axis, AXES[row_axis]), (column_axis, AXES[column_axis]), []
        under_way.stopped = False
        try:
            index, base = int(index), read_settings(wish["settings"], wish["reading"])
            response_to(studio.subject, index, base)  # is there such an image?
            original = studio.subject.test.images[index]
            yield table(original, cells, rows, columns)
            read = partial(response_to, studio.subject, index)
            for cell in grid(Compared(shown_image(studio, index), read, live(studio)), base, rows, columns):
                cells.append(cell)
                yield table(original, cells, rows, columns)
                if under_way.stopped:
                    break
        except (IndexError, ValueError, TypeError) as error:
            raise in_one_sentence(error) from error
        buffer = io.BytesIO()
        labelled_sheet(original, cells, rows, columns).save(buffer, "PNG")
        name = f"{studio.manifest['name']}_picture{index}_{row_axis}_{column_axis}.png"
        save = data_link(name, "image/png", buffer.getvalue(), "Save the grid as PNG")
        absent = absent_banner(cells[-1].absent) if cells[-1].absent else NOTHING
        why = next((cell.unguided for cell in cells if cell.unguided), "")
        told = html('<p class="small unguided">Text alone guided stage 2. {}</p>', why) if why else NOTHING
        yield table(original, cells, rows, columns, html('{}{}<p class="saves">{}</p>', absent, told, save))

    def stop(under_way: Running) -> None:
        under_way.stopped = True

    choices, last, under_way = [(NAMES[axis], axis) for axis in AXES], studio.n_pictures - 1, gr.State(Running())
    html_block(LEAD)
    with gr.Row(elem_classes="tab-controls"):
        index = gr.Number(0, label="Test picture", precision=0, minimum=0, maximum=last, info=HELP["index"])
        rows = gr.Dropdown(choices, value="strength", label="Rows", info=HELP["rows"])
        columns = gr.Dropdown(choices, value="steps", label="Columns", info=HELP["columns"])
        start = gr.Button("Fill the grid", variant="primary", elem_classes="start-grid")
        end = gr.Button("Stop", elem_classes="stop-grid")
    view = html_block()
    start.click(run, [index, rows, columns, picker, under_way], view, **ONE_AT_A_TIME)
    end.click(stop, under_way, queue=False, **QUIET)
    tab.select(None, None, index, js=CURRENT)
