"""One picture under many settings: a grid whose cells come one by one, and the grid as one labelled picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.metrics import similarity
from recon.reconstruct import Frame, Shown
from recon.settings import Settings, with_choice

Axis = tuple[str, Sequence]  # of AXES, and the values it takes


@dataclass(frozen=True)
class Cell:
    row: int
    column: int
    settings: Settings
    image: np.ndarray  # (S, S, 3) uint8
    seconds: float
    pixcorr: float  # with the original, at stage 1's size at most
    absent: Mapping[str, str]  # decoders that are: without stage 2's the image is a layout
    unguided: str = ""  # why no image embedding guided it, though one was to


@dataclass(frozen=True)
class Compared:
    """The test image that a grid is about."""

    shown: Shown
    read: Callable[[Settings], np.ndarray]  # its response, as the settings want it: (n_voxels,)
    reconstruct: Callable[..., Iterator[Frame]]  # (response, settings, shown, layout) -> frames


def grid(image: Compared, base: Settings, rows: Axis, columns: Axis) -> Iterator[Cell]:
    """Both stages for every pair of values, row by row; layouts that several cells need are decoded once.

    Closing the generator stops it at the next cell. Raises ValueError if both axes are the same, a value is out of range, or
    stage 1's decoder is absent.
    """
    if rows[0] == columns[0]:
        raise ValueError(f"expected two different axes, got {rows[0]!r} twice: choose another one")
    layouts: dict[tuple, Frame] = {}
    for r, row_value in enumerate(rows[1]):
        for c, column_value in enumerate(columns[1]):
            start = time.perf_counter()
            settings = with_choice(with_choice(base, rows[0], row_value), columns[0], column_value)
            key = settings.regressor, settings.reading
            layouts[key], frame = _finished(image, settings, layouts.get(key))
            found = frame.images["lcm" if frame.stage == "lcm" else settings.regressor]
            seconds = time.perf_counter() - start
            yield Cell(
                r, c, settings, found, seconds, similarity(found, image.shown.image), frame.absent, frame.unguided
            )


def _finished(image: Compared, settings: Settings, layout: Frame | None) -> tuple[Frame, Frame]:
    """The layout and the last frame that a cell needs. What would follow, another layout or the ceiling, is not waited for."""
    with closing(image.reconstruct(image.read(settings), settings, image.shown, layout)) as frames:
        for frame in frames:
            if frame.stage == "none":
                raise ValueError(frame.absent["vdvae"])
            if frame.stage == "vdvae":
                layout = frame
            if frame.ready and (frame.stage == "lcm" or "diffusion" in frame.absent):
                return layout, frame
    raise RuntimeError(f"a reconstruction ended without an image, with {settings}")


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
        put(cell.image, x, y)
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
