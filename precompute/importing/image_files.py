"""What was shown: a folder of image files, or one array of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from precompute.importing.arrays_on_disk import open_dataset
from precompute.importing.experiment import ImageSource
from precompute.nsd.prepare import resized
from recon.files import BadFile, file_digest
from recon.uploaded_images import prepare_picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
IdsOf = Callable[[Path, list[str]], list[int]]


def open_images(folder: Path) -> tuple[Callable[[list[int]], ImageSource], IdsOf]:
    """What opens the images of some ids, and what finds ids: `ids_of(table, names)`. Raises BadFile: none, or both kinds.

    `images/` holds files, named in tables with or without their suffix; of `images.npy` or `images.h5` tables name rows, from 0.
    """
    found = [p for p in (folder / name for name in ("images", "images.npy", "images.h5", "images.hdf5")) if p.exists()]
    if len(found) != 1:
        there = ", ".join(p.name for p in found) or "none of them"
        raise BadFile(f"{folder}: expected one of images/, images.npy and images.h5, got {there}")
    if found[0].is_dir():
        return _folder(found[0])
    open_rows = open_dataset(found[0], "images")
    return partial(_numbered, found[0], open_rows), partial(_row_numbers, found[0], len(open_rows()))


# --- files ------------------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> tuple[Callable[[list[int]], ImageSource], IdsOf]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return partial(file_source, folder, files), partial(_file_numbers, folder, files)


def _file_numbers(folder: Path, files: list[Path], table: Path, names: list[str]) -> list[int]:
    """Rows of `files` by paths below the folder, by names, or by names without suffix where these are unique."""
    known: dict[str, int | None] = {}
    for kind in (_path_below, lambda _, p: p.name, lambda _, p: p.stem, lambda f, p: _path_below(f, p.with_suffix(""))):
        for k, path in enumerate(files):
            known[kind(folder, path)] = k if known.get(kind(folder, path), k) == k else None
    for line, name in enumerate(names, 2):
        if name not in known:
            raise BadFile(
                f"{table}, line {line}: {folder} has no image {name!r} (PNG, JPEG or WebP): add it or correct the name"
            )
        if known[name] is None:
            raise BadFile(f"{table}, line {line}: {folder} has several images {name!r}: give suffix and folder as well")
    return [known[name] for name in names]


def _path_below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def file_source(folder: Path, files: list[Path], ids: list[int]) -> ImageSource:
    """Of these ids, rows of `files`. Raises BadFile later, where a file is no whole image."""

    def squares(some: list[int], side: int) -> np.ndarray:
        return np.stack([_square(files[k], side) for k in some])

    shapes = {_size(files[k]) for k in ids}
    names = {k: _path_below(folder, files[k]) for k in ids}
    return ImageSource(names, squares, lambda k: file_digest(files[k]), _shape_notes(shapes))


def _square(path: Path, side: int) -> np.ndarray:
    try:
        return prepare_picture(path.read_bytes(), side)
    except ValueError as error:
        raise BadFile(f"{path}: {error}") from error


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFile(f"{path} is not a readable image ({error}): save it again") from error


def _shape_notes(shapes: set[tuple[int, int]]) -> tuple[str, ...]:
    notes = []
    if any(width != height for width, height in shapes):
        notes.append("some images are not square: their middle square is used")
    if (small := min(min(shape) for shape in shapes)) < 64:
        notes.append(f"the smallest image has {small} pixels a side: it is enlarged")
    return tuple(notes)


# --- arrays -----------------------------------------------------------------------------------------------------------


def _row_numbers(path: Path, n: int, table: Path, names: list[str]) -> list[int]:
    for line, name in enumerate(names, 2):
        if not name.isdecimal() or int(name) >= n:
            raise BadFile(
                f"{table}, line {line}: expected the number of an image, 0 to {n - 1} in {path.name}, got {name!r}: numbers "
                "count from 0"
            )
    return [int(name) for name in names]


def _numbered(path: Path, open_rows: Callable[[], np.ndarray], ids: list[int]) -> ImageSource:
    """Images that tables number; it is told if these may have counted from 1."""
    source = array_source(path, open_rows, ids)
    doubt = () if 0 in ids else ("no trial shows image 0: do the numbers count from 1?",)
    return replace(source, notes=(*source.notes, *doubt))


def array_source(path: Path, open_rows: Callable[[], np.ndarray], ids: list[int]) -> ImageSource:
    """Images (n, H, W, 3), (n, 3, H, W) or (n, H, W), uint8 or floats from 0 to 1. Raises BadFile for any other array."""
    shape, dtype = open_rows().shape, open_rows().dtype
    is_grey, channels_first = len(shape) == 3, len(shape) == 4 and shape[1] == 3 and shape[3] != 3
    if not (is_grey or channels_first or (len(shape) == 4 and shape[3] == 3)) or not (
        dtype == np.uint8 or dtype.kind == "f"
    ):
        raise BadFile(f"{path}: expected images (n, height, width, 3) uint8, got {shape} {dtype}")

    def pixels(k: int) -> np.ndarray:
        values = np.asarray(open_rows()[k])
        values = np.moveaxis(values, 0, -1) if channels_first else values
        return as_uint8(path, np.repeat(values[..., None], 3, -1) if is_grey else values)

    def squares(some: list[int], side: int) -> np.ndarray:
        return np.concatenate([resized(central_square(pixels(k))[None], side) for k in some])

    height, width = shape[2:] if channels_first else shape[1:3]
    notes = (*_shape_notes({(width, height)}), *(["images are grey"] if is_grey else []))
    return ImageSource(
        {k: str(k) for k in ids}, squares, lambda k: hashlib.sha256(pixels(k).tobytes()).hexdigest(), notes
    )


def as_uint8(path: Path, pixels: np.ndarray) -> np.ndarray:
    """uint8 as it is; floats from 0 to 1 times 255, rounded. Raises BadFile for floats beyond that."""
    if pixels.dtype == np.uint8:
        return pixels
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise BadFile(
            f"{path}: expected floats from 0 to 1, got {pixels.min():g} to {pixels.max():g}: save images as uint8"
        )
    return np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)


def central_square(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> its middle, as wide as high."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
