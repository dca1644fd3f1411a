"""What the page shows, as HTML: pictures, captions, progress, scores."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from recon.metrics import pixel_correlation
from recon.models import COMMAND
from recon.pictures import area_average
from recon.settings import PROMPTS, Settings

if TYPE_CHECKING:
    from recon.bundle import Bundle
    from recon.reconstruct import Frame

THUMBNAIL, COLUMNS = 64, 20  # side in pixels, thumbnails in a row of the sheet
TITLES = {"ridge": "Ridge → VDVAE", "mlp": "MLP → VDVAE", "ceiling": "Ceiling → VDVAE"}
ORDER = ("original", "ridge", "mlp", "lcm", "ceiling")  # of the cards
NOTES = {
    "ridge": "from the brain, linear",
    "mlp": "from the brain, nonlinear",
    "ceiling": "the picture's own latents",
}
REGRESSOR_NAMES = {"ridge": "Ridge", "mlp": "MLP"}
NEEDED_BY = {"vdvae": "Stage 1", "diffusion": "Stage 2"}  # of the bundle's decoders
ABSENT = "no decoder"
ORACLE = '<span class="badge warning">⚠ knows the answer</span>'


def data_uri(picture: np.ndarray, kind: str) -> str:
    """(h, w, 3) uint8 -> a data URI; kind "png" or "webp"."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, quality=80, compress_level=3)
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


def score(picture: np.ndarray, truth: np.ndarray, seconds: float) -> str:
    """Pixel correlation at the truth's size, and a time."""
    r = pixel_correlation(area_average(picture[None], len(truth)), truth[None])[0]
    return f"<b>r = {r:.2f}</b><span>{duration(seconds)}</span>".replace("-", "−")


def card(kind: str, title: str, picture: np.ndarray | str, value: str, note: str) -> str:
    """`value` and `note` are HTML; words in place of a picture stand in a blank of the same size."""
    blank = f'<div class="blank">{escape(picture)}</div>' if isinstance(picture, str) else ""
    shown = blank if blank else f'<img src="{data_uri(picture, "png")}" alt="{escape(title)}">'
    return (
        f'<figure class="card {kind}"><figcaption>{escape(title)}</figcaption>{shown}'
        f'<p class="value">{value}</p><p class="note">{note}</p></figure>'
    )


def stage_2_card(frame: Frame | None, truth: np.ndarray, settings: Settings, waits: str) -> str:
    """Before its first step the words `waits`. truth (S, S, 3) at stage 1's size."""
    name = REGRESSOR_NAMES[settings.regressor]
    kind = "lcm oracle" if settings.prompt == "oracle" else "lcm"
    note = f"UNet steps run: {frame.step if frame else 0}"
    note += ORACLE if settings.prompt == "oracle" else f"<br>starts from {TITLES[settings.regressor]}"
    if frame is None:
        return card(kind, f"{name} → VDVAE → LCM", waits, f"<b>0</b> of {settings.lcm.steps} steps", note)
    picture = frame.images["lcm"]
    return card(kind, f"{name} → VDVAE → LCM", picture, score(picture, truth, frame.seconds), note)


def captions(label: dict, decoded: str, similarity: float, settings: Settings) -> str:
    """The true caption, the decoded one and what that is, and the prompt of stage 2."""
    hint = "Setting, object and light never occur together in training"
    unseen = f' <span class="badge" title="{hint}">unseen combination</span>' if label.get("unseen") else ""
    prompt = f"“{escape(settings.own_prompt)}”" if settings.prompt == "own" else PROMPTS[settings.prompt]
    if settings.prompt == "oracle":
        prompt = f"the true captions {ORACLE}"
    similarity = f"(r = {similarity:.2f})".replace("-", "−")
    return (
        f'<p class="truth"><span class="tag">truth</span>“{escape(label["captions"][0])}”{unseen}</p>'
        f'<p class="decoded"><span class="tag">decoded</span>“{escape(decoded)}” '
        f'<span title="cosine similarity">{similarity}</span></p>'
        f'<p class="prompt-used"><span class="tag">prompt</span>{prompt}</p>'
        '<p class="small">Decoded: caption of the training picture nearest to the CLIP image embedding that '
        f"{REGRESSOR_NAMES[settings.regressor]} reads from the brain.</p>"
    )


def pills(names: list[str], n_done: int) -> str:
    return "".join(f'<i class="{"on" if k < n_done else ""}">{name}</i>' for k, name in enumerate(names))


def progress(layout: Frame | None, frame: Frame | None, resolutions: list[int], n_steps: int, waits: str) -> str:
    """Both stages: which steps are done, and how long they took; the words `waits` before stage 2 begins."""
    first = pills([f"{s}×{s}" for s in resolutions], sum(s <= layout.step for s in resolutions) if layout else 0)
    run = frame.step if frame else 0
    second = pills([str(k + 1) for k in range(n_steps)], run)
    took = f"{duration(frame.seconds)}, {run} UNet step{'s' * (run != 1)}" if frame else waits
    return (
        f'<div class="progress"><p><span>Stage 1</span>{first}<b>{duration(layout.seconds) if layout else ABSENT}</b></p>'
        f"<p><span>Stage 2</span>{second}<b>{took}</b></p></div>"
    )


def panel(
    bundle: Bundle,
    truth: np.ndarray,
    wish: dict,
    settings: Settings,
    decoded: tuple[str, float],
    layout: Frame | None,
    frame: Frame | None,
) -> str:
    """Everything that one frame changes on the page.

    truth (S, S, 3): the picture at stage 1's size; decoded: caption and similarity; layout: None if there is no VDVAE; frame:
    stage 2's, once it has begun.
    """
    index, trials, shapes = wish["index"], bundle.subject.test, bundle.vdvae.layer_shapes() if bundle.vdvae else []
    resolutions = sorted({shape[1] for shape in shapes[: bundle.n_layers]})
    note = f"mean of {trials.n_repeats[index]} responses"
    cards = {"original": card("original", "Original", trials.images[index], f"<b>picture {index}</b>", note)}
    for source, title in TITLES.items():
        picture = layout.images.get(source) if layout else None
        value = "" if picture is None else score(picture, truth, layout.seconds)
        blank = "to come" if layout else ABSENT
        cards[source] = card(source, title, blank if picture is None else picture, value, NOTES[source])
    follows, waits = (ABSENT, ABSENT) if bundle.absent else ("follows stage 1", "waits")
    cards["lcm"] = stage_2_card(frame, truth, settings, follows)
    last = layout is None or layout.last and (bundle.open_stage_2 is None or bool(frame and frame.last))
    return (
        f'<section class="panel view" data-index="{index}" data-serial="{wish["serial"]}" '
        f'data-step="{frame.step if frame else 0}" data-last="{str(last).lower()}">'
        f'<div class="cards">{"".join(cards[name] for name in ORDER)}</div>'
        f'<div class="under">{captions(trials.labels[index], *decoded, settings)}'
        f"{progress(layout, frame, resolutions, settings.lcm.steps, waits)}</div></section>"
    )


def absent_banner(absent: dict[str, str]) -> str:
    """Which stage lacks its decoder, the command that fetches it, and, when unfolded, every reason."""
    stages = " and ".join(NEEDED_BY[name].lower() for name in absent)
    reasons = "".join(f"<p>{escape(why)}</p>" for why in absent.values())
    return (
        f'<details class="banner absent"><summary><b>No decoder for {stages}:</b> run <code>{COMMAND}</code></summary>'
        f"{reasons}</details>"
    )


def header(manifest: dict, absent: dict[str, str]) -> str:
    """Title, and in plain words what is simulated and what is absent."""
    banners = [absent_banner(absent)] if absent else []
    if manifest["simulated"]:
        banners.append(
            '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
            "not from a person.</p>"
        )
    return (
        "<header><div><h1>Brain <span>→</span> Image</h1><p>Pictures reconstructed live from fMRI responses.</p></div>"
        f"{''.join(banners)}</header>"
    )
