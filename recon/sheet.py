"""A grid of pictures as one labelled picture, to keep or to print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.compare import AXES, Axis, Cell, in_order

CELL, GAP, MARGIN = 192, 8, 24  # pixels
INK, PALE, EMPTY, WHITE = "#1a1a1a", "#5c5c5c", "#ececec", "#ffffff"
TEXT, SMALL = 20, 15  # font sizes in pixels
LINE = 24  # pixels from line to line
LETTERS = 18  # of a label's line
CAPTION = 60  # height of what is written above columns


def labelled_sheet(
    original: np.ndarray, cells: Iterable[Cell], rows: Axis, columns: Axis, title: str = ""
) -> Image.Image:
    """Pictures of a grid, (S, S, 3) uint8, with the names and values of both axes, and the original at the corner.

    Cells that are missing are left grey. A title stands above everything.
    """
    font = {size: ImageFont.load_default(size) for size in (TEXT, SMALL)}
    left, top = MARGIN + CELL + 2 * GAP, MARGIN + (LINE + GAP if title else 0) + CELL + GAP
    step = CELL + GAP
    width, height = left + len(columns[1]) * step - GAP + MARGIN, top + len(rows[1]) * step - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN - 4), title, INK, font[TEXT])
    corner = top - GAP - CELL
    sheet.paste(_scaled(original, CELL - CAPTION // 2), (MARGIN, corner))
    draw.text((MARGIN, corner + CELL - CAPTION // 2 + 4), "original", PALE, font[SMALL])
    for k, value in enumerate(columns[1]):
        at = (left + k * step + CELL / 2, top - GAP)
        _label(draw, at, AXES[columns[0]], value, "md", font)
    for k, value in enumerate(rows[1]):
        at = (left - 2 * GAP, top + k * step + CELL / 2)
        _label(draw, at, AXES[rows[0]], value, "rm", font)
    for r, line in enumerate(in_order(cells, len(rows[1]), len(columns[1]))):
        for c, picture in enumerate(line):
            x, y = left + c * step, top + r * step
            if picture is None:
                draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), EMPTY)
            else:
                sheet.paste(_scaled(picture, CELL), (x, y))
    return sheet


def _scaled(picture: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)


def _label(draw: ImageDraw.ImageDraw, at: tuple[float, float], name: str, value, anchor: str, font: dict) -> None:
    """The axis's name in pale letters over its value; `at` is the bottom middle ("md") or the right middle ("rm")."""
    words = "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    lines = textwrap.wrap(words, LETTERS) or [""]
    height = LINE * (1 + len(lines))
    x, y = at
    y -= height if anchor[1] == "d" else height / 2
    draw.text((x, y), name, PALE, font[SMALL], anchor=anchor[0] + "a")
    for k, line in enumerate(lines, 1):
        draw.text((x, y + k * LINE), line, INK, font[TEXT], anchor=anchor[0] + "a")
