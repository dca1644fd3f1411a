"""Any picture becomes a square of the size wanted; whatever is no picture is refused in one sentence."""

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.files import BadFile
from recon.images import area_average
from recon.uploaded_images import prepare_picture, read_image

ROOT = Path(__file__).parents[2]


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


def through(alpha: int, colour: int) -> float:
    """What a colour is over mid grey."""
    return (alpha * colour + (255 - alpha) * 128) / 255


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("alpha", [0, 7, 128, 255])
def test_what_is_transparent_shows_mid_grey_and_never_what_hides_under_it(kind, alpha):
    pixels = np.full((300, 300, 4), (200, 0, 40, alpha), np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    got = prepare_picture(file_of(pixels, kind, **options), 64)
    assert np.abs(got - [through(alpha, 200), through(alpha, 0), through(alpha, 40)]).max() <= 1


def half_transparent() -> dict[str, bytes]:
    """The same picture, transparent on its left, in the ways that a PNG may say so."""
    grey = np.zeros((32, 32), np.uint8)
    grey[:, 16:] = 250
    made = {"grey and a key": (Image.fromarray(grey), {"transparency": 0})}
    made["colours and a key"] = Image.fromarray(np.dstack([grey] * 3)), {"transparency": (0, 0, 0)}
    made["grey and alpha"] = Image.fromarray(np.dstack([grey, grey // 250 * 255]), "LA"), {}
    palette = Image.fromarray(grey // 250, "P")
    palette.putpalette([0, 0, 0, 250, 250, 250])
    made["palette"] = palette, {"transparency": 0}
    made["palette of alphas"] = palette.copy(), {"transparency": bytes([0, 255])}
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    made["16 bits and a key"] = sixteen, {"transparency": 0}
    files = {}
    for name, (image, options) in made.items():
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.parametrize("how", half_transparent())
def test_transparency_is_seen_however_a_png_says_it(how):
    got = prepare_picture(half_transparent()[how], 32).astype(int)
    assert np.abs(got[:, :16] - 128).max() <= 1 and np.abs(got[:, 16:] - 250).max() <= 1


def test_grey_and_palettes_become_colours(pixels):
    grey = prepare_picture(file_of(pixels[:, :, 0]), 64)
    assert (grey == grey[:, :, :1]).all()
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(16).save(buffer, "PNG")
    assert prepare_picture(buffer.getvalue(), 64).shape == (64, 64, 3)


def test_sixteen_bits_are_scaled_to_eight(pixels):
    sixteen = pixels[:, :, 0].astype(np.uint16) * 257
    got, expected = prepare_picture(file_of(sixteen), 64), prepare_picture(file_of(pixels[:, :, 0]), 64)
    assert np.array_equal(got, expected) and got.max() > 150


# --- metadata ---------------------------------------------------------------------------------------------------------


def jpeg_with(exif: bytes) -> bytes:
    """A JPEG of a red top and a blue bottom, with these bytes of metadata."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :, 0], pixels[32:, :, 2] = 255, 255
    return file_of(pixels, "JPEG", quality=95, subsampling=0, exif=exif)


def tiff(*entries: tuple[int, int, int, int], offset: int = 8, order: str = "<") -> bytes:
    """EXIF of (tag, type, count, value) entries."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", offset)
    body = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return b"Exif\0\0" + head + body + bytes(4)


UPRIGHT = {
    "absent": b"",
    "a header alone": b"Exif\0\0II*\0",
    "no header": b"Exif\0\0" + b"\xff" * 40,
    "an offset beyond the end": tiff((0x0112, 3, 1, 6), offset=60_000),
    "an orientation of 0": tiff((0x0112, 3, 1, 0)),
    "an orientation of 9": tiff((0x0112, 3, 1, 9)),
    "an orientation of many numbers": tiff((0x0112, 3, 4_000_000_000, 6)),
    "an orientation of text": tiff((0x0112, 2, 4, 0x00363636)),
    "an unknown type": tiff((0x0112, 77, 1, 6)),
    "more entries than there are": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20),
    "a directory within itself": tiff((0x8769, 4, 1, 8)),
}


@pytest.mark.parametrize("what", UPRIGHT)
def test_odd_metadata_never_matter(what):
    got = prepare_picture(jpeg_with(UPRIGHT[what]), 64)
    assert got[:24, :, 0].mean() > 240 and got[40:, :, 2].mean() > 240


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "others", [[], [(0x011A, 5, 1, 4_000_000_000), (0x9286, 7, 2**31, 3)], [(0x010F, 2, 50_000, 1)]]
)
def test_the_orientation_is_read_beside_metadata_that_are_broken(order, others):
    value = 6 if order == "<" else 6 << 16  # of two bytes, in a field of four
    got = prepare_picture(jpeg_with(tiff((0x0112, 3, 1, value), *others, order=order)), 64)
    assert got[:, 40:, 0].mean() > 240 and got[:, :24, 2].mean() > 240


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation):
    held = np.zeros((48, 48, 3), np.uint8)
    held[:20, :12], held[:12, 30:], held[40:, :] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = [None, held, held[:, ::-1], held[::-1, ::-1], held[::-1], held.swapaxes(0, 1), np.rot90(held),
              held[::-1, ::-1].swapaxes(0, 1), np.rot90(held, -1)][orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        got = prepare_picture(file_of(np.ascontiguousarray(stored), kind, exif=exif, **options), 48)
        assert np.array_equal(got, held)


def test_small_pictures_are_enlarged(pixels):
    assert prepare_picture(pixels[:20, :20], 64).shape == (64, 64, 3)


def huge_png(side: int) -> bytes:
    """A header alone that claims side × side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


def test_what_is_no_picture_is_refused(pixels):
    whole = file_of(pixels)
    for source, problem in (
        (b"", "expected a PNG, JPEG or WebP"),
        (b"some text", "expected a PNG, JPEG or WebP"),
        (file_of(pixels, "GIF"), "expected a PNG, JPEG or WebP"),
        (file_of(pixels, "TIFF"), "expected a PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected a PNG, JPEG or WebP"),
        (whole[: len(whole) // 2], "damaged"),
        (huge_png(20_000), "PNG, JPEG or WebP|million pixels"),
        (huge_png(7_000), "at most 24 million pixels, got 7000 × 7000"),
        (pixels[:8], "at least 16 pixels a side, got 8"),
        (pixels.astype(float), "uint8, got"),
        (pixels[:, :, 0], "uint8, got"),
        (whole + bytes(21 << 20), "at most 20 MB, got 21"),
    ):
        with pytest.raises(ValueError, match=problem) as refused:
            prepare_picture(source, 64)
        assert "\n" not in str(refused.value)


def progressive(side: int, scans: int) -> bytes:
    """A JPEG whose last scan comes again and again, as many times as wanted."""
    whole = file_of(np.zeros((side, side, 3), np.uint8), "JPEG", progressive=True)
    start, end = whole.rfind(b"\xff\xda"), whole.rfind(b"\xff\xd9")
    return whole[:end] + whole[start:end] * scans + whole[end:]


@pytest.mark.parametrize("side, scans", [(64, 91), (1024, 12_000), (1024, 500), (4800, 8)])
def test_a_jpeg_of_more_scans_than_any_camera_makes_is_refused_undecoded(side, scans):
    content = progressive(side, scans)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"expected a JPEG of about 10 scans, got \d+: save it again, not progressive"):
        prepare_picture(content, 64)
    assert time.process_time() - start < 0.5


def test_an_ordinary_progressive_jpeg_is_read(pixels):
    expected = prepare_picture(file_of(pixels, "JPEG", quality=95), 64)
    np.testing.assert_array_equal(prepare_picture(file_of(pixels, "JPEG", quality=95, progressive=True), 64), expected)


def chunks_without_end() -> bytes:
    """A PNG of millions of empty chunks, each of which is read and checked."""
    whole, empty = file_of(np.zeros((64, 64, 3), np.uint8)), struct.pack(">I", 0) + b"teSt"
    empty += struct.pack(">I", zlib.crc32(b"teSt"))
    at = whole.index(b"IDAT") - 4
    return whole[:at] + empty * 1_700_000 + whole[at:]


def largest(kind: str, **options) -> bytes:
    side = 3100 if kind == "WEBP" else 4896
    return file_of(np.zeros((side, side, 3), np.uint8), kind, **options)


LARGEST = {
    "PNG": lambda: largest("PNG"),
    "PNG with alpha": lambda: file_of(np.zeros((4896, 4896, 4), np.uint8)),
    "PNG with a palette": lambda: file_of(np.zeros((4896, 4896), np.uint8)),
    "JPEG": lambda: largest("JPEG"),
    "progressive JPEG": lambda: largest("JPEG", progressive=True, subsampling=0),
    "WebP": lambda: largest("WEBP", lossless=True, method=0),
}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_images_are_read_once_within_300_mb(tmp_path, kind):
    (tmp_path / "large").write_bytes(LARGEST[kind]())
    code = (
        "import resource, sys; from pathlib import Path; from recon.uploaded_images import read_image\n"
        "assert [len(s) for s in read_image(Path(sys.argv[1]), (64, 192)).images] == [64, 192]\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "large")], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 300


@pytest.mark.slow
def test_an_image_that_takes_long_ends_its_own_process_and_is_refused(tmp_path):
    (tmp_path / "slow.png").write_bytes(chunks_without_end())
    start = time.monotonic()
    with pytest.raises(BadFile, match="slow.png is damaged, or needs more than|slow.png takes more than"):
        read_image(tmp_path / "slow.png", (64,))
    assert time.monotonic() - start < 40


def test_what_is_refused_in_a_process_of_its_own_is_told_in_its_words(tmp_path, pixels):
    (tmp_path / "small.png").write_bytes(file_of(pixels[:8]))
    with pytest.raises(BadFile, match="^picture: expected at least 16 pixels a side, got 8: choose a larger one$"):
        read_image(tmp_path / "small.png", (64,))
    (tmp_path / "whole.png").write_bytes(file_of(pixels))
    for size, image in zip((64, 192), read_image(tmp_path / "whole.png", (64, 192)).images):
        np.testing.assert_array_equal(image, prepare_picture(pixels, size))


@pytest.mark.parametrize("size, orientation, note", [
    ((90, 60), 1, "90 × 60 pixels: its middle 60 × 60 are decoded, the rest at left and right is cut off"),
    ((60, 90), 1, "60 × 90 pixels: its middle 60 × 60 are decoded, the rest at top and bottom is cut off"),
    ((90, 60), 6, "60 × 90 pixels: its middle 60 × 60 are decoded, the rest at top and bottom is cut off"),
    ((60, 60), 6, ""),
    ((4000, 3000), 1, "4,000 × 3,000 pixels: its middle 3,000 × 3,000"),
])  # fmt: skip
def test_what_is_cut_off_is_told_as_the_picture_is_seen(tmp_path, size, orientation, note):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "mine.jpg", exif=exif)
    notes = read_image(tmp_path / "mine.jpg", (64,)).notes
    assert len(notes) == bool(note) and note in "".join(notes)


@pytest.mark.parametrize("mode, colour, told", [
    ("RGBA", (200, 30, 30, 255), False),
    ("RGBA", (200, 30, 30, 254), True),
    ("LA", (90, 0), True),
    ("RGB", (200, 30, 30), False),
])  # fmt: skip
def test_transparency_that_is_put_on_grey_is_told_and_none_is_not(tmp_path, mode, colour, told):
    Image.new(mode, (40, 40), colour).save(tmp_path / "mine.png")
    assert read_image(tmp_path / "mine.png", (64,)).notes == ["Its transparent parts are put on grey."] * told
