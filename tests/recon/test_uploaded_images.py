"""Any picture becomes a square of the size wanted; whatever is no picture is refused in one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from recon.images import area_average
from recon.uploads import prepare_picture


def file_of(pixels, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (128, 192, 3), dtype=np.uint8)


def test_the_central_square_is_area_averaged(pixels):
    expected = area_average(pixels[None, :, 32:160], 64)[0].astype(int)
    for source in (pixels, file_of(pixels), file_of(pixels, "WEBP", lossless=True)):
        assert np.abs(prepare_picture(source, 64) - expected).max() <= 1


def test_a_jpeg_lies_as_its_exif_says(pixels):
    smooth = np.kron(pixels[:4, :4], np.ones((32, 32, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    turned = prepare_picture(file_of(smooth, "JPEG", exif=exif, quality=100, subsampling=0), 64)
    expected = prepare_picture(np.rot90(smooth, -1).copy(), 64)
    assert np.abs(turned.astype(int) - expected).mean() < 4


def test_alpha_is_dropped_and_grey_and_palettes_become_colours(pixels):
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(prepare_picture(file_of(alpha), 64), prepare_picture(pixels, 64))
    grey = prepare_picture(file_of(pixels[:, :, 0]), 64)
    assert (grey == grey[:, :, :1]).all()
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(16).save(buffer, "PNG")
    assert prepare_picture(buffer.getvalue(), 64).shape == (64, 64, 3)


def test_small_pictures_are_enlarged(pixels):
    assert prepare_picture(pixels[:20, :20], 64).shape == (64, 64, 3)


def huge_png(side: int) -> bytes:
    """A header alone that claims side × side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


def test_what_is_no_picture_is_refused(pixels):
    whole, sixteen = file_of(pixels), file_of(pixels[:, :, 0].astype(np.uint16) * 256)
    for source, problem in (
        (b"", "expected a PNG, JPEG or WebP"),
        (b"some text", "expected a PNG, JPEG or WebP"),
        (file_of(pixels, "GIF"), "expected a PNG, JPEG or WebP"),
        (file_of(pixels, "TIFF"), "expected a PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected a PNG, JPEG or WebP"),
        (whole[: len(whole) // 2], "damaged"),
        (huge_png(20_000), "PNG, JPEG or WebP|million pixels"),
        (huge_png(7_000), "at most 40 million pixels, got 7000 × 7000"),
        (sixteen, "expected 8 bits a colour"),
        (pixels[:8], "at least 16 pixels a side, got 8"),
        (pixels.astype(float), "uint8, got"),
        (pixels[:, :, 0], "uint8, got"),
        (whole + bytes(21 << 20), "at most 20 MB, got 21"),
    ):
        with pytest.raises(ValueError, match=problem) as refused:
            prepare_picture(source, 64)
        assert "\n" not in str(refused.value)
