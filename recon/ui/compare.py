"""The Compare tab: one test picture under a grid of settings."""

from __future__ import annotations

import io
from collections.abc import Iterator

import gradio as gr

from recon.settings import AXES, Settings
from recon.ui.decode import ONE_AT_A_TIME, PRIVATE, data_link, in_one_sentence
from recon.ui.panel import data_uri
from recon.ui.studio import Studio

NAMES = {
    "steps": "LCM steps",
    "guidance": "Guidance",
    "strength": "Strength",
    "seed": "Seed",
    "regressor": "Regressor",
    "prompt": "Prompt source",
    "components": "Components kept",
    "repeats": "Repeats averaged",
}
HELP = '<p class="lead">How much does each setting matter? Cells fill one by one; everything not varied is at its default.</p>'


def table(original, cells: list, rows: tuple, columns: tuple, after: str = "") -> str:
    """The grid so far, as HTML."""
    there = {(c.row, c.column): c for c in cells}
    head = "".join(f'<th scope="col">{NAMES[columns[0]]} <b>{value}</b></th>' for value in columns[1])
    lines = []
    for r, row_value in enumerate(rows[1]):
        line = f'<th scope="row">{NAMES[rows[0]]} <b>{row_value}</b></th>'
        for c, column_value in enumerate(columns[1]):
            cell = there.get((r, c))
            label = f"{NAMES[rows[0]]} {row_value}, {NAMES[columns[0]]} {column_value}"
            line += (
                f'<td><img src="{data_uri(cell.picture, "webp")}" alt="{label}"></td>' if cell else "<td><i></i></td>"
            )
        lines.append(f"<tr>{line}</tr>")
    corner = f'<td class="corner"><img src="{data_uri(original, "webp")}" alt="Original"><small>original</small></td>'
    n = len(rows[1]) * len(columns[1])
    return (
        f'<section class="panel grid" data-done="{len(cells)}" data-last="{str(len(cells) == n).lower()}">'
        f"<table><thead><tr>{corner}{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        f'<p class="small">{len(cells)} of {n} cells</p>{after}</section>'
    )


def compare_tab(studio: Studio) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""

    def run(index: float, row_axis: str, column_axis: str) -> Iterator[str]:
        from recon.compare import grid, labelled_sheet

        rows, columns, cells = (row_axis, AXES[row_axis]), (column_axis, AXES[column_axis]), []
        try:
            index = int(index)
            studio.subject.test.response(index)
            original = studio.subject.test.images[index]
            yield table(original, cells, rows, columns)
            studio.stage_2.result()
            for cell in grid(studio.bundle, index, Settings(), rows, columns):
                cells.append(cell)
                yield table(original, cells, rows, columns)
        except (IndexError, ValueError, TypeError) as error:
            raise in_one_sentence(error) from error
        buffer = io.BytesIO()
        labelled_sheet(original, cells, rows, columns).save(buffer, "PNG")
        name = f"{studio.manifest['name']}_picture{index}_{row_axis}_{column_axis}.png"
        save = data_link(name, "image/png", buffer.getvalue(), "Save the grid as PNG")
        yield table(original, cells, rows, columns, f'<p class="saves">{save}</p>')

    choices = [(NAMES[axis], axis) for axis in AXES]
    gr.HTML(HELP, apply_default_css=False)
    with gr.Row(elem_classes="tab-controls"):
        index = gr.Number(0, label="Test picture", precision=0, minimum=0, maximum=len(studio.pictures) - 1)
        rows = gr.Dropdown(choices, value="strength", label="Rows")
        columns = gr.Dropdown(choices, value="steps", label="Columns")
        start = gr.Button("Fill the grid", variant="primary", elem_classes="start-grid")
        stop = gr.Button("Stop", elem_classes="stop-grid")
    view = gr.HTML("", apply_default_css=False)
    running = start.click(run, [index, rows, columns], view, **ONE_AT_A_TIME, **PRIVATE)
    stop.click(None, None, None, cancels=[running])
