"""One picture under many settings: a grid whose cells come one by one, and the grid as one labelled picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.bundle.bundle import Bundle
from recon.images import area_average
from recon.metrics import similarity
from recon.reconstruct import reconstruct_layout, reconstruct_picture
from recon.responses import read_as
from recon.settings import Settings, with_choice

Axis = tuple[str, Sequence]  # of AXES, and the values it takes


@dataclass(frozen=True)
class Cell:
    row: int
    column: int
    settings: Settings
    picture: np.ndarray  # (S, S, 3) uint8
    seconds: float
    pixcorr: float  # with the original, at stage 1's size at most


def grid(bundle: Bundle, index: int, base: Settings, rows: Axis, columns: Axis) -> Iterator[Cell]:
    """Both stages of test picture `index` for every pair of values, row by row.

    Closing the generator stops it at the next cell. Raises ValueError if both axes are the same, or a value is out of range.
    """
    if rows[0] == columns[0]:
        raise ValueError(f"expected two different axes, got {rows[0]!r} twice: choose another one")
    test, layouts = bundle.subject.test, {}
    original = area_average(test.images[index][None], bundle.vdvae.cfg.image_size)[0]
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
            picture, seconds = frame.images["lcm"], time.perf_counter() - start
            yield Cell(r, c, settings, picture, seconds, similarity(picture, original))


def labelled_sheet(original: np.ndarray, cells: Sequence[Cell], rows: Axis, columns: Axis) -> Image.Image:
    """The original in the corner, values along both sides, the cells that there are in their places; on white."""
    side, gap = 160, 16  # r stands in the gap
    left, top = side + 3 * gap, side + 3 * gap
    sheet = Image.new("RGB", (left + len(columns[1]) * (side + gap), top + len(rows[1]) * (side + gap)), "white")
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(12)

    def put(picture: np.ndarray, x: int, y: int) -> None:
        sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), (x, y))

    put(original, gap, gap)
    draw.text((gap + side // 2, 2 * gap + side), "original", "black", font, "mm")
    for c, value in enumerate(columns[1]):
        draw.text((left + c * (side + gap) + side // 2, top - gap // 2), f"{columns[0]} {value}", "black", font, "ms")
    for r, value in enumerate(rows[1]):
        draw.text((left - gap // 2, top + r * (side + gap) + side // 2), f"{rows[0]} {value}", "black", font, "rm")
    for cell in cells:
        x, y = left + cell.column * (side + gap), top + cell.row * (side + gap)
        put(cell.picture, x, y)
        draw.text((x + side // 2, y + side + gap), f"r = {cell.pixcorr:.2f}", "black", small, "mm")
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
