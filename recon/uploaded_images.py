"""Images that visitors bring: none is trusted, all are checked, decoded within limits, and refused in one sentence."""

from __future__ import annotations

import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from recon.files import BadFile
from recon.limited import answer_limited, run_limited

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_IMAGE_BYTES, MAX_PIXELS = 20 << 20, 24_000_000
MAX_PIXELS_OF = {"WEBP": 10_000_000}  # its decoder holds each pixel four times
MAX_SCANS, MAX_SCANNED = 100, 400_000_000  # of a JPEG; scans × pixels: two seconds of work
DRAFT = 1024  # pixels a side at least, to which the JPEG decoder itself may average: with less memory
MIN_SIDE = 16  # pixels
GROUND = (128, 128, 128, 255)  # what shows through transparent places
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
BAND = 32  # rows
ORIENTATION = 0x0112  # EXIF's tag -> what undoes it
WHOLE, SEE_THROUGH = "whole", "see-through"  # in the `info` of a decoded image
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations whose width is the stored height
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Squares:
    """The central square of a visitor's image, and what had to be done to the image."""

    images: list[np.ndarray]  # (size, size, 3) uint8, at every size that was asked for
    width: int  # of the whole image in pixels, turned as it is to be seen
    height: int
    see_through: bool  # parts of it were transparent, and are grey now

    @property
    def notes(self) -> list[str]:
        """What is lost of the image, a sentence each."""
        cut, side = abs(self.width - self.height), min(self.width, self.height)
        sides = "left and right" if self.width > self.height else "top and bottom"
        whole = f"The picture has {self.width:,} × {self.height:,} pixels"
        notes = [f"{whole}: its middle {side:,} × {side:,} are decoded, the rest at {sides} is cut off."] if cut else []
        return notes + ["Its transparent parts are put on grey."] * self.see_through


def read_image(path: Path, sizes: tuple[int, ...]) -> Squares:
    """A visitor's file -> its central square at each of the sizes, decoded once, within limits.

    Raises BadFile: no PNG, JPEG or WebP, damaged, too large or too small, or more memory or time needed than an image may take.
    """
    stream = io.BytesIO(run_limited("recon.uploaded_images", path, *sizes))
    images = [np.load(stream, allow_pickle=False) for _ in sizes]
    width, height, see_through = np.load(stream, allow_pickle=False).tolist()
    return Squares(images, width, height, bool(see_through))


def write_squares(path: Path, *sizes: str) -> None:
    """What `read_image` reads, to stdout: the squares, then width, height and whether anything was transparent."""
    try:
        image = _from_file(path.read_bytes())
        for size in sizes:
            np.save(sys.stdout.buffer, _central_square(image, int(size)), allow_pickle=False)
        np.save(sys.stdout.buffer, [*image.info[WHOLE], image.info[SEE_THROUGH]], allow_pickle=False)
    except ValueError as error:
        raise BadFile(str(error)) from error


def prepare_picture(source: bytes | np.ndarray, size: int) -> np.ndarray:
    """A file's bytes, or pixels (H, W, 3) uint8 -> (size, size, 3) uint8: the central square, area-averaged.

    What is transparent turns mid grey, 16 bits become 8, EXIF orientation is applied, of several frames the first is taken;
    pictures smaller than `size` are enlarged bicubically. Raises ValueError: no PNG, JPEG or WebP, damaged, too large or too small.
    """
    return _central_square(_from_file(source) if isinstance(source, bytes) else _from_array(source), size)


def _central_square(image: Image.Image, size: int) -> np.ndarray:
    side = min(image.size)
    if side < MIN_SIDE:
        raise ValueError(f"picture: expected at least {MIN_SIDE} pixels a side, got {side}: choose a larger one")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    how = Image.Resampling.BOX if side >= size else Image.Resampling.BICUBIC
    square = image.resize((size, size), how, (left, top, left + side, top + side))
    turn = TURNS.get(image.info.get(ORIENTATION))
    return np.asarray(square if turn is None else square.transpose(turn))


def _from_file(content: bytes) -> Image.Image:
    """An RGB image, not turned yet; how it is to be turned stands in its `info`, and what `Squares` tells of it."""
    if len(content) > MAX_IMAGE_BYTES:
        raise ValueError(
            f"picture: expected at most {MAX_IMAGE_BYTES >> 20} MB, got {len(content) / 2**20:.0f}: shrink it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(io.BytesIO(content), formats=FORMATS)  # reads the header alone
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise ValueError(
            "picture: expected a PNG, JPEG or WebP file, got another or a damaged one: save it again"
        ) from error
    _check_pixels(image.width, image.height, MAX_PIXELS_OF.get(image.format, MAX_PIXELS))
    _check_scans(content, image)
    width, height = image.size  # a draft is smaller
    try:
        image.draft(None, (DRAFT, DRAFT))
        image.load()
        colours = _on_grey(_eight_bits(image))
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"picture: the file is damaged ({reason}): save it again") from error
    colours.info[ORIENTATION] = turn = _orientation(image)
    colours.info[WHOLE] = (height, width) if turn in ON_ITS_SIDE else (width, height)
    colours.info.setdefault(SEE_THROUGH, False)
    return colours


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8, by the one tag that tells it; 1 where metadata is absent or odd: it never matters more."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        return value if value in TURNS else 1
    except Exception:  # struct.error, SyntaxError, ZeroDivisionError and others
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its upper eight; any other image as it is."""
    if not image.mode.startswith("I"):
        return image
    grey = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if isinstance(see_through := image.info.get("transparency"), int):
        grey.info["transparency"] = see_through >> 8
    return grey


def _on_grey(image: Image.Image) -> Image.Image:
    """In RGB; what is transparent shows mid grey, NSD's ground, in bands of rows, which need little memory."""
    if "transparency" not in image.info and image.mode not in WITH_ALPHA:
        return image if image.mode == "RGB" else image.convert("RGB")
    colours = Image.new("RGB", image.size)
    colours.info[SEE_THROUGH] = False
    for top in range(0, image.height, BAND):
        band = image.crop((0, top, image.width, min(top + BAND, image.height))).convert("RGBA")
        colours.info[SEE_THROUGH] |= min(band.getchannel("A").tobytes()) < 255
        colours.paste(Image.alpha_composite(Image.new("RGBA", band.size, GROUND), band).convert("RGB"), (0, top))
    return colours


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"picture: expected pixels (height, width, 3) uint8, got {pixels.shape} {pixels.dtype}")
    _check_pixels(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(pixels)


def _check_pixels(width: int, height: int, most: int = MAX_PIXELS) -> None:
    if width * height > most:
        raise ValueError(f"picture: expected at most {most // 10**6} million pixels, got {width} × {height}: shrink it")


def _check_scans(content: bytes, image: Image.Image) -> None:
    """A progressive JPEG of kilobytes may have thousands of scans, each of which is work on all pixels."""
    scans = content.count(b"\xff\xda")
    if image.format == "JPEG" and (scans > MAX_SCANS or scans * image.width * image.height > MAX_SCANNED):
        raise ValueError(f"picture: expected a JPEG of about 10 scans, got {scans}: save it again, not progressive")


if __name__ == "__main__":
    answer_limited(write_squares)
