"""What the page shows of one reconstruction, as HTML: cards of pictures, and the header over all."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from recon.decoders.published_models import COMMAND
from recon.metrics import similarity
from recon.settings import RESPONSES, Settings
from recon.ui.html.parts import ABSENT, ORACLE, REGRESSOR_NAMES, TITLES, data_uri, duration, picture_or
from recon.ui.html.under_images import Told, captions, filmstrip, progress

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle
    from recon.reconstruct import Frame

ORDER = ("original", "ridge", "mlp", "lcm", "ceiling")  # of the cards
NOTES = {
    "ridge": "from the brain, linear",
    "mlp": "from the brain, nonlinear",
    "ceiling": "the picture's own latents",
}
HINTS = {
    "original": "The picture that was shown",
    "ridge": "Stage 1: latents by ridge regression from the voxels, decoded by the VDVAE",
    "mlp": "Stage 1: latents by the MLP from the voxels, decoded by the VDVAE",
    "ceiling": "What a perfect regressor would give: the picture's own latents, decoded. It has seen the picture.",
    "lcm": "Stage 2: stage 1's layout refined by Stable Diffusion in a few LCM steps",
}
NEEDED_BY = {"vdvae": "Stage 1", "diffusion": "Stage 2"}  # of the bundle's decoders
ACTIONS = (
    '<p class="actions"><button type="button" class="copy-link" title="A link that restores subject, picture and settings">'
    'Copy link</button><button type="button" class="download-panel" title="These pictures as one labelled PNG, and all '
    'settings, versions and seeds as JSON">Download this panel</button></p>'
)


def score(picture: np.ndarray, truth: np.ndarray, seconds: float) -> str:
    """Pixel correlation and a time, as HTML."""
    return f"<b>r = {similarity(picture, truth):.2f}</b><span>{duration(seconds)}</span>".replace("-", "−")


def card(kind: str, title: str, picture: str, value: str, note: str) -> str:
    """`picture`, `value` and `note` are HTML."""
    return (
        f'<figure class="card {kind}"><figcaption title="{HINTS[kind.split()[0]]}">{escape(title)}</figcaption>{picture}'
        f'<p class="value" title="Pixel correlation with the original, and time">{value}</p><p class="note">{note}</p></figure>'
    )


def reading_note(n: int, settings: Settings) -> str:
    """Of how many responses the mean is read, and what was done to it."""
    parts = [f"mean of {n} responses" if n > 1 else "one response"]
    if settings.response != "own":
        parts = [f"⚠ {RESPONSES[settings.response]}"]
    if settings.components:
        parts.append(f"{settings.components} component{'s' * (settings.components > 1)}")
    lesions = [f"{roi} ×{gain:g}" for roi, gain in settings.gains]
    return escape(", ".join([*parts, *lesions[:2], *(["…"] if len(lesions) > 2 else [])]))


def versus(picture: np.ndarray, original: np.ndarray, title: str) -> str:
    """A picture with the original under a movable cut (`comparison.js` moves it)."""
    top, under = data_uri(picture, "png"), data_uri(original, "webp")
    return (
        f'<div class="versus" tabindex="0" role="slider" aria-label="{escape(title)} against the original, percent shown" '
        f'aria-valuenow="100" aria-valuemin="0" aria-valuemax="100" title="Drag, or ← →: the original is right of the line">'
        f'<img src="{top}" alt="{escape(title)}"><img class="under-cut" src="{under}" alt="Original"></div>'
    )


def stage_2_card(frame: Frame | None, truth: np.ndarray, original: np.ndarray, settings: Settings, waits: str) -> str:
    """Before its first step the words `waits`. truth (S, S, 3) at stage 1's size; original at its own."""
    title = f"{REGRESSOR_NAMES[settings.regressor]} → VDVAE → LCM"
    kind = "lcm oracle" if settings.prompt == "oracle" else "lcm"
    note = f"UNet steps run: {frame.step if frame else 0}" + (ORACLE if settings.prompt == "oracle" else "")
    if frame is None:
        return card(kind, title, picture_or(waits, None, ""), f"<b>0</b> of {settings.lcm.steps} steps", note)
    picture = frame.images["lcm"]
    return card(kind, title, versus(picture, original, title), score(picture, truth, frame.seconds), note)


def stage_1_cards(layout: Frame | None, truth: np.ndarray) -> dict[str, str]:
    cards = {}
    for source, title in TITLES.items():
        picture = layout.images.get(source) if layout else None
        value = score(picture, truth, layout.seconds) if layout and picture is not None else ""
        blank = "to come" if layout else ABSENT
        cards[source] = card(source, title, picture_or(blank, picture, title), value, NOTES[source])
    return cards


@dataclass(frozen=True)
class View:
    """What a panel is about."""

    index: int  # of the test image
    serial: int  # of the wish that it answers
    query: str  # of the link that brings it back
    settings: Settings
    told: Told
    standing: str  # the image's scores, as HTML


def panel(bundle: Bundle, truth: np.ndarray, view: View, layout: Frame | None, steps: list[Frame], last: bool) -> str:
    """Everything that one frame changes on the page.

    truth (S, S, 3): the image at stage 1's size; layout: stage 1's newest frame, None if there is no VDVAE; steps: stage 2's
    frames so far; last: no frame follows.
    """
    frame = steps[-1] if steps else None
    index, settings, trials = view.index, view.settings, bundle.subject.test
    shapes = bundle.vdvae.layer_shapes() if bundle.vdvae else []
    resolutions = sorted({shape[1] for shape in shapes[: bundle.n_layers]})
    note = reading_note(trials.n_averaged(index, settings.repeats), settings)
    original = picture_or("", trials.images[index], "Original")
    follows, waits = (ABSENT, ABSENT) if bundle.absent else ("follows stage 1", "waits")
    cards = stage_1_cards(layout, truth) | {
        "original": card("original", "Original", original, f"<b>picture {index}</b>", note),
        "lcm": stage_2_card(frame, truth, trials.images[index], settings, follows),
    }
    data = {
        "index": index,
        "serial": view.serial,
        "layout": layout.step if layout else 0,
        "step": frame.step if frame else 0,
        "last": str(last).lower(),
        "query": escape(view.query),
    }
    attributes = " ".join(f'data-{name}="{value}"' for name, value in data.items())
    return (
        f'<section class="panel view{" null" * (settings.response != "own")}" {attributes}>'
        f'<div class="cards">{"".join(cards[name] for name in ORDER)}</div>'
        f'<div class="under"><div class="captions">{captions(trials.labels[index], view.told, settings)}</div>'
        f"{filmstrip(steps, settings.lcm.steps)}{progress(layout, frame, resolutions, settings.lcm.steps, waits)}"
        f"{ACTIONS}{view.standing}</div></section>"
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
    """Title, and in plain words on what the models run, what is simulated and what is absent; a switch of light and dark."""
    banners = [absent_banner(absent)] if absent else []
    if manifest["simulated"]:
        banners.append(
            '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
            "not from a person.</p>"
        )
    return (
        "<header><div><h1>Brain <span>→</span> Image</h1><p>Pictures reconstructed live from fMRI responses"
        f"{', on ' + escape(device) if device else ''}.</p></div>"
        f'{"".join(banners)}<button type="button" class="theme-switch" aria-label="Light or dark" title="Light or dark">◐'
        "</button></header>"
    )
