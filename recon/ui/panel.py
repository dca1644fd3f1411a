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


def picture_or(words: str, picture: np.ndarray | None, title: str) -> str:
    """Words, in a blank of the same size, where there is no picture."""
    if picture is None:
        return f'<div class="blank">{escape(words)}</div>'
    return f'<img src="{data_uri(picture, "png")}" alt="{escape(title)}">'


def card(kind: str, title: str, picture: str, value: str, note: str) -> str:
    """`picture`, `value` and `note` are HTML."""
    return (
        f'<figure class="card {kind}"><figcaption>{escape(title)}</figcaption>{picture}'
        f'<p class="value">{value}</p><p class="note">{note}</p></figure>'
    )


def reading_note(n_repeats: int, settings: Settings) -> str:
    """How many responses, and what was done to them."""
    n = min(settings.repeats or n_repeats, n_repeats)
    parts = [f"mean of {n} responses" if n > 1 else "one response"]
    if settings.components:
        parts.append(f"{settings.components} component{'s' * (settings.components > 1)}")
    lesions = [f"{roi} ×{gain:g}" for roi, gain in settings.gains]
    return escape(", ".join([*parts, *lesions[:2], *(["…"] if len(lesions) > 2 else [])]))


def versus(picture: np.ndarray, original: np.ndarray, title: str) -> str:
    """A picture with the original under a movable cut (`picker.js` moves it)."""
    top, under = data_uri(picture, "png"), data_uri(original, "webp")
    return (
        f'<div class="versus" tabindex="0" role="slider" aria-label="{escape(title)} against the original" aria-valuenow="100" '
        f'aria-valuemin="0" aria-valuemax="100" title="Move over it, or ← →: original to the right of the line">'
        f'<img src="{top}" alt="{escape(title)}"><img class="under-cut" src="{under}" alt="Original"></div>'
    )


def filmstrip(steps: list[Frame]) -> str:
    """All denoising steps so far, small."""
    if len(steps) < 2:
        return ""
    frames = "".join(
        f'<figure><img src="{data_uri(area_average(f.images["lcm"][None], 64)[0], "webp")}" alt="after step {f.step}">'
        f"<figcaption>{f.step} · {duration(f.seconds)}</figcaption></figure>"
        for f in steps
    )
    return f'<div class="filmstrip"><span>Denoising steps</span>{frames}</div>'


def stage_2_card(frame: Frame | None, truth: np.ndarray, original: np.ndarray, settings: Settings, waits: str) -> str:
    """Before its first step the words `waits`. truth (S, S, 3) at stage 1's size; original at its own."""
    name = REGRESSOR_NAMES[settings.regressor]
    kind = "lcm oracle" if settings.prompt == "oracle" else "lcm"
    note = f"UNet steps run: {frame.step if frame else 0}"
    note += ORACLE if settings.prompt == "oracle" else f"<br>starts from {TITLES[settings.regressor]}"
    if frame is None:
        blank = picture_or(waits, None, "")
        return card(kind, f"{name} → VDVAE → LCM", blank, f"<b>0</b> of {settings.lcm.steps} steps", note)
    picture, title = frame.images["lcm"], f"{name} → VDVAE → LCM"
    return card(kind, title, versus(picture, original, title), score(picture, truth, frame.seconds), note)


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
    steps: list[Frame],
) -> str:
    """Everything that one frame changes on the page.

    truth (S, S, 3): the picture at stage 1's size; wish: picture, serial number, and the query of its link; decoded: caption and
    similarity; layout: None if there is no VDVAE; steps: stage 2's so far.
    """
    frame = steps[-1] if steps else None
    index, trials, shapes = wish["index"], bundle.subject.test, bundle.vdvae.layer_shapes() if bundle.vdvae else []
    resolutions = sorted({shape[1] for shape in shapes[: bundle.n_layers]})
    note = reading_note(int(trials.n_repeats[index]), settings)
    original = picture_or("", trials.images[index], "Original")
    cards = {"original": card("original", "Original", original, f"<b>picture {index}</b>", note)}
    for source, title in TITLES.items():
        picture = layout.images.get(source) if layout else None
        value = "" if picture is None else score(picture, truth, layout.seconds)
        blank = "to come" if layout else ABSENT
        cards[source] = card(source, title, picture_or(blank, picture, title), value, NOTES[source])
    follows, waits = (ABSENT, ABSENT) if bundle.absent else ("follows stage 1", "waits")
    cards["lcm"] = stage_2_card(frame, truth, trials.images[index], settings, follows)
    last = layout is None or layout.last and (bundle.open_stage_2 is None or bool(frame and frame.last))
    return (
        f'<section class="panel view" data-index="{index}" data-serial="{wish["serial"]}" '
        f'data-step="{frame.step if frame else 0}" data-last="{str(last).lower()}" data-query="{escape(wish["query"])}">'
        f'<div class="cards">{"".join(cards[name] for name in ORDER)}</div>'
        '<p class="actions"><button type="button" class="copy-link" title="A link that restores picture and settings">'
        'Copy link</button><button type="button" class="download-panel" title="This panel as PNG, its settings as JSON">'
        f'Download</button></p><div class="under">{captions(trials.labels[index], *decoded, settings)}'
        f"{progress(layout, frame, resolutions, settings.lcm.steps, waits)}{filmstrip(steps)}</div></section>"
    )


def absent_banner(absent: dict[str, str]) -> str:
    """Which stage lacks its decoder, the command that fetches it, and, when unfolded, every reason."""
    stages = " and ".join(NEEDED_BY[name].lower() for name in absent)
    reasons = "".join(f"<p>{escape(why)}</p>" for why in absent.values())
    return (
        f'<details class="banner absent"><summary><b>No decoder for {stages}:</b> run <code>{COMMAND}</code></summary>'
        f"{reasons}</details>"
    )


def header(manifest: dict, absent: dict[str, str], device: str) -> str:
    """Title, and in plain words on what the models run, what is simulated and what is absent."""
    banners = [absent_banner(absent)] if absent else []
    if manifest["simulated"]:
        banners.append(
            '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
            "not from a person.</p>"
        )
    return (
        "<header><div><h1>Brain <span>→</span> Image</h1><p>Pictures reconstructed live from fMRI responses"
        f"{', on ' + escape(device) if device else ''}.</p></div>"
        f"{''.join(banners)}</header>"
    )
