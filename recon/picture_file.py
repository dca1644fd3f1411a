"""Somebody's picture -> a square one of the size that a model takes, or one sentence that says why not."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES, MAX_PIXELS = 20 << 20, 40_000_000
MIN_SIDE = 16  # pixels


def prepare_picture(source: bytes | np.ndarray, size: int) -> np.ndarray:
    """A file's bytes, or pixels (H, W, 3) uint8 -> (size, size, 3) uint8: the central square, area-averaged.

    Alpha is dropped, EXIF orientation applied, of several frames the first is taken; pictures smaller than `size` are
    enlarged bicubically. Raises ValueError: no PNG, JPEG or WebP, damaged, too large or too small.
    """
    image = _from_file(source) if isinstance(source, bytes) else _from_array(source)
    side = min(image.size)
    if side < MIN_SIDE:
        raise ValueError(f"picture: expected at least {MIN_SIDE} pixels a side, got {side}: choose a larger one")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    how = Image.Resampling.BOX if side >= size else Image.Resampling.BICUBIC
    return np.asarray(square.resize((size, size), how))


def _from_file(content: bytes) -> Image.Image:
    if len(content) > MAX_BYTES:
        raise ValueError(f"picture: expected at most {MAX_BYTES >> 20} MB, got {len(content) / 2**20:.0f}: shrink it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(io.BytesIO(content), formats=FORMATS)  # reads the header alone
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ValueError(
            "picture: expected a PNG, JPEG or WebP file, got another or a damaged one: save it again"
        ) from error
    _check_pixels(image.width, image.height)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"picture: expected 8 bits a colour, got mode {image.mode}: save it again with 8 bits")
    try:
        return ImageOps.exif_transpose(image).convert("RGBA").convert("RGB")  # by RGBA: palettes may hold alpha
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"picture: the file is damaged ({error}): save it again") from error


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"picture: expected pixels (height, width, 3) uint8, got {pixels.shape} {pixels.dtype}")
    _check_pixels(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(pixels)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"picture: expected at most {MAX_PIXELS // 10**6} million pixels, got {width} × {height}: shrink it"
        )
