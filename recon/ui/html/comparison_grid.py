"""One picture under a grid of settings, as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from recon.settings import PROMPTS
from recon.share import to_query
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.parts import REGRESSOR_NAMES, data_uri, duration, enlarged_by

if TYPE_CHECKING:
    from recon.compare import Axis, Cell

NAMES = {
    "steps": "Steps",
    "guidance": "Guidance",
    "strength": "Strength",
    "seed": "Seed",
    "regressor": "Regressor",
    "prompt": "Prompt",
    "components": "Components kept",
    "repeats": "Repeats averaged",
    "balance": "Text ↔ image",
    "image_scale": "Image scale",
    "guide": "Image embedding",
}


@dataclass(frozen=True)
class Grid:
    """What a grid is about: the original, whose it is, its caption, and both axes."""

    subject: str
    index: int
    caption: str
    original: np.ndarray  # (S, S, 3) uint8
    rows: Axis
    columns: Axis


def value_words(axis: str, value: object) -> str:
    """A value as the page says it."""
    if axis == "prompt":
        return PROMPTS.get(str(value), str(value))
    return REGRESSOR_NAMES.get(str(value), str(value))


def cell_html(grid: Grid, cell: Cell | None, label: str) -> Markup:
    """A cell's image, its score, and a link that opens it in Explore; a blank before it is there."""
    if cell is None:
        return html("<td><i></i></td>")
    return html(
        '<td>{}<small><b>pixel r {}</b> {} <a href="?{}" title="Opens this picture with these settings in Explore">open</a>'
        "</small></td>",
        enlarged_by(html('<img src="{}" alt="{}">', data_uri(cell.image, "webp"), label), label),
        f"{cell.pixcorr:.2f}".replace("-", "−"),
        duration(cell.seconds),
        to_query(grid.subject, grid.index, cell.settings),
    )


def table(grid: Grid, cells: list[Cell], after: Markup = NOTHING) -> Markup:
    """The grid so far."""
    there, lines = {(c.row, c.column): c for c in cells}, []
    names = [[f"{NAMES[axis]} {value_words(axis, v)}" for v in values] for axis, values in (grid.rows, grid.columns)]
    for r, row in enumerate(names[0]):
        line = joined(cell_html(grid, there.get((r, c)), f"{row}, {column}") for c, column in enumerate(names[1]))
        lines.append(html('<tr><th scope="row">{}</th>{}</tr>', row, line))
    n = len(names[0]) * len(names[1])
    corner = html('<td class="corner"><img src="{}" alt="What was seen"></td>', data_uri(grid.original, "webp"))
    return html(
        '<section class="panel grid" data-done="{}" data-last="{}"><h2>Picture {}: “{}”</h2><div class="scroll" tabindex="0" '
        'role="region" aria-label="The grid"><table><thead><tr>{}{}</tr></thead><tbody>{}</tbody></table></div>'
        '<p class="small" role="status">{} of {} pictures drawn</p>{}</section>',
        len(cells),
        str(len(cells) == n).lower(),
        grid.index,
        grid.caption,
        corner,
        joined(html('<th scope="col">{}</th>', name) for name in names[1]),
        joined(lines),
        len(cells),
        n,
        after,
    )
