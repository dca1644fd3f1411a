"""One picture under many settings: a grid whose cells come one by one, and the grid as one labelled picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.bundle import Bundle
from recon.lesion import read_as
from recon.reconstruct import reconstruct_layout, reconstruct_picture
from recon.settings import Settings, with_choice

Axis = tuple[str, Sequence]  # of AXES, and the values it takes


@dataclass(frozen=True)
class Cell:
    row: int
    column: int
    settings: Settings
    picture: np.ndarray  # (S, S, 3) uint8
    seconds: float


def grid(bundle: Bundle, index: int, base: Settings, rows: Axis, columns: Axis) -> Iterator[Cell]:
    """Both stages of test picture `index` for every pair of values, row by row.

    Closing the generator stops it at the next cell. Raises ValueError if both axes are the same, or a value is out of range.
    """
    if rows[0] == columns[0]:
        raise ValueError(f"expected two different axes, got {rows[0]!r} twice: choose another one")
    test, layouts = bundle.subject.test, {}
    for r, row_value in enumerate(rows[1]):
        for c, column_value in enumerate(columns[1]):
            start = time.perf_counter()
            settings = with_choice(with_choice(base, rows[0], row_value), columns[0], column_value)
            response = read_as(bundle.subject, index, settings)
            key = settings.regressor, settings.reading
            if key not in layouts:
                *_, layouts[key] = reconstruct_layout(response, None, bundle, settings.regressor, settings.components)
            layout, captions = layouts[key].images[settings.regressor], test.labels[index]["captions"]
            *_, frame = reconstruct_picture(layout, response, captions, bundle, settings)
            yield Cell(r, c, settings, frame.images["lcm"], time.perf_counter() - start)


def labelled_sheet(original: np.ndarray, cells: Sequence[Cell], rows: Axis, columns: Axis) -> Image.Image:
    """The original in the corner, values along both sides, the cells that there are in their places; on white."""
    side, gap = 160, 8
    left, top = side + 6 * gap, side + 6 * gap
    sheet = Image.new("RGB", (left + len(columns[1]) * (side + gap), top + len(rows[1]) * (side + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)

    def put(picture: np.ndarray, x: int, y: int) -> None:
        sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), (x, y))

    put(original, gap, gap)
    draw.text((gap + side // 2, 3 * gap + side), "original", "black", font, "mm")
    for c, value in enumerate(columns[1]):
        draw.text((left + c * (side + gap) + side // 2, top - gap), f"{columns[0]} {value}", "black", font, "ms")
    for r, value in enumerate(rows[1]):
        draw.text((left - gap, top + r * (side + gap) + side // 2), f"{rows[0]} {value}", "black", font, "rm")
    for cell in cells:
        put(cell.picture, left + cell.column * (side + gap), top + cell.row * (side + gap))
    return sheet


def labelled_row(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Pictures (S, S, 3) uint8 side by side under their names, on white: (h, w, 3) uint8."""
    side, gap, band = 256, 10, 30
    sheet = Image.new("RGB", (gap + len(pictures) * (side + gap), side + band + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for k, (name, picture) in enumerate(pictures.items()):
        x = gap + k * (side + gap)
        draw.text((x + side // 2, band // 2), name, "black", font, "mm")
        sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), (x, band))
    return np.asarray(sheet)
