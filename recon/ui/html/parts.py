"""Names that the page uses everywhere, and pictures and times as HTML."""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image

from recon.ui.html.markup import NOTHING, html

THUMBNAIL, COLUMNS = 64, 20  # side in pixels, thumbnails in a row of the sheet
REGRESSOR_NAMES = {"ridge": "Ridge", "mlp": "MLP"}
TARGET_NAMES = {"latents": "latents of the layout", "prompt": "the prompt", "image": "the image embedding"}
TITLES = {"ridge": "Rough layout (ridge)", "mlp": "Rough layout (MLP)", "ceiling": "Best possible layout"}
FINAL = "Final picture"
ABSENT = "no decoder"
ORACLE = html('<span class="badge warning">⚠ knows the answer</span>')
RESPONSE_BUTTON = html(
    '<button type="button" class="button download-response" title="The brain response that Explore decodes, with its settings, as '
    'a NumPy file that Your data reads">This response as .npy</button>'
)
QUIET = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}  # of events
CURRENT = "() => Number(document.querySelector('.view')?.dataset.index ?? 0)"  # Explore's picture, in the browser


def data_uri(picture: np.ndarray, kind: str) -> str:
    """(h, w, 3) uint8 -> a data URI; kind "png" or "webp"."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, quality=80, compress_level=1, method=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def thumbnail_sheet(pictures: np.ndarray) -> str:
    """(n, THUMBNAIL, THUMBNAIL, 3) uint8 -> one picture of all, COLUMNS in a row, as a data URI."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, THUMBNAIL, THUMBNAIL, 3), np.uint8)
    sheet[: len(pictures)] = pictures
    grid = sheet.reshape(rows, COLUMNS, THUMBNAIL, THUMBNAIL, 3).swapaxes(1, 2)
    return data_uri(grid.reshape(rows * THUMBNAIL, COLUMNS * THUMBNAIL, 3), "webp")


def duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def picture_or(words: str, picture: np.ndarray | None, title: str) -> Markup:
    """An image to enlarge; words, in a blank of the same size, where there is none."""
    if picture is None:
        return html('<div class="blank">{}</div>', words)
    return enlargeable(picture, title)


def enlargeable(picture: np.ndarray, title: str, over: Markup = NOTHING) -> Markup:
    """An image that is shown at full size on a click; `over` lies upon it."""
    return enlarged_by(html('<img src="{}" alt="{}">{}', data_uri(picture, "png"), title, over), title)


def enlarged_by(images: Markup, title: str) -> Markup:
    """A button around images of which the last visible one is shown at full size."""
    return html(
        '<button type="button" class="enlarge" aria-label="Enlarge: {}" title="Shows it large, beside the original">{}</button>',
        title,
        images,
    )


def term(name: str, words: str) -> Markup:
    """Words that are explained on a tap; `name` is one of the TERMS of `words.json`."""
    return html('<button type="button" class="term" data-term="{}" title="What is this?">{}</button>', name, words)
