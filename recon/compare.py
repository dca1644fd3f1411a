"""One image under many settings: a grid of pictures, cell by cell, and one labelled sheet of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from recon.bundle import Bundle
from recon.pictures import area_average
from recon.reconstruct import Frame, chosen_response, reconstruct_layout, reconstruct_picture
from recon.settings import LCMSettings, Settings, stage_1_key

AXES = {
    "steps": "LCM steps",
    "guidance": "guidance",
    "strength": "strength",
    "seed": "seed",
    "regressor": "stage 1",
    "prompt": "prompt",
    "components": "components",
    "repeats": "repeats",
}
MAX_CELLS = 64
LCM = {f.name for f in fields(LCMSettings)}

Axis = tuple[str, Sequence]  # a name of AXES, and its values


@dataclass(frozen=True)
class Cell:
    """One picture of the grid."""

    row: int
    column: int
    picture: np.ndarray  # (S, S, 3) uint8
    seconds: float


def varied(settings: Settings, name: str, value) -> Settings:
    """The settings with one of them changed. Raises ValueError for an unknown name or an impossible value."""
    if name not in AXES:
        raise ValueError(f"axis: expected one of {', '.join(AXES)}, got {name!r}")
    change = {name: value}
    return replace(settings, lcm=replace(settings.lcm, **change)) if name in LCM else replace(settings, **change)


def grid(bundle: Bundle, index: int, base: Settings, rows: Axis, columns: Axis) -> Iterator[Cell]:
    """Test image `index` by `base` but for what rows and columns say, row by row; the same pictures as one by one.

    Stage 1 is run once for cells that share it. Closing the iterator stops the work. Raises, before anything runs, ValueError for
    axes that are empty, the same, too long or impossible, or decoders that are absent; IndexError for the image.
    """
    if bundle.absent:
        raise ValueError("; ".join(bundle.absent.values()))
    if rows[0] == columns[0]:
        raise ValueError(f"axes: expected two different ones, got {rows[0]} twice")
    if not 1 <= len(rows[1]) * len(columns[1]) <= MAX_CELLS:
        raise ValueError(f"axes: expected 1 to {MAX_CELLS} cells, got {len(rows[1])} × {len(columns[1])}")
    table = [[varied(varied(base, rows[0], r), columns[0], c) for c in columns[1]] for r in rows[1]]
    chosen_response(bundle.subject, index, base)
    return _cells(bundle, index, table)


def _cells(bundle: Bundle, index: int, table: list[list[Settings]]) -> Iterator[Cell]:
    test, size = bundle.subject.test, bundle.vdvae.cfg.image_size
    image, captions = area_average(test.images[index : index + 1], size)[0], test.labels[index]["captions"]
    layouts: dict[tuple, np.ndarray] = {}
    for row, line in enumerate(table):
        for column, settings in enumerate(line):
            start = time.perf_counter()
            response = chosen_response(bundle.subject, index, settings)
            key = (*stage_1_key(index, settings), settings.regressor)
            if key not in layouts:
                layouts[key] = _ready(response, image, bundle, settings).images[settings.regressor]
            *_, frame = reconstruct_picture(layouts[key], response, captions, bundle, settings)
            yield Cell(row, column, frame.images["lcm"], time.perf_counter() - start)


def _ready(response: np.ndarray, image: np.ndarray, bundle: Bundle, settings: Settings) -> Frame:
    """Stage 1 as far as stage 2 needs it."""
    frames = reconstruct_layout(response, image, bundle, settings.regressor, settings.components)
    return next(frame for frame in frames if frame.ready)


def in_order(cells: Iterable[Cell], n_rows: int, n_columns: int) -> list[list[np.ndarray | None]]:
    """Pictures by row and column; None where there is none yet."""
    table: list[list[np.ndarray | None]] = [[None] * n_columns for _ in range(n_rows)]
    for cell in cells:
        table[cell.row][cell.column] = cell.picture
    return table
