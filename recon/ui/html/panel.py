"""What the page shows of one reconstruction, as HTML: cards of pictures, and the header over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from recon.decoders.published_models import COMMAND
from recon.metrics import similarity
from recon.settings import RESPONSES, Settings
from recon.ui.html.image_scores import on_screen
from recon.ui.html.markup import html, joined
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
ACTIONS = html(
    '<p class="actions"><button type="button" class="copy-link" title="A link that restores subject, picture and settings">'
    'Copy link</button><button type="button" class="download-panel" title="These pictures as one labelled PNG, and all '
    'settings, versions and seeds as JSON">Download this panel</button></p>'
)


def score(picture: np.ndarray, truth: np.ndarray, seconds: float) -> Markup:
    """Pixel correlation and a time, as HTML."""
    return html("<b>r = {:.2f}</b><span>{}</span>", similarity(picture, truth), duration(seconds)).replace("-", "−")


def card(kind: str, title: str, picture: Markup, value: str, note: str) -> Markup:
    return html(
        '<figure class="card {}"><figcaption title="{}">{}</figcaption>{}'
        '<p class="value" title="Pixel correlation with the original, and time">{}</p><p class="note">{}</p></figure>',
        kind,
        HINTS[kind.split()[0]],
        title,
        picture,
        value,
        note,
    )


def reading_note(n: int, settings: Settings) -> str:
    """Of how many responses the mean is read, and what was done to it."""
    parts = [f"mean of {n} responses" if n > 1 else "one response"]
    if settings.response != "own":
        parts = [f"⚠ {RESPONSES[settings.response]}"]
    if settings.components:
        parts.append(f"{settings.components} component{'s' * (settings.components > 1)}")
    lesions = [f"{roi} ×{gain:g}" for roi, gain in settings.gains]
    return ", ".join([*parts, *lesions[:2], *(["…"] if len(lesions) > 2 else [])])


def versus(picture: np.ndarray, original: np.ndarray, title: str) -> Markup:
    """A picture with the original under a movable cut (`comparison.js` moves it)."""
    top, under = data_uri(picture, "png"), data_uri(original, "webp")
    return html(
        '<div class="versus" tabindex="0" role="slider" aria-label="{} against the original, percent shown" '
        'aria-valuenow="100" aria-valuemin="0" aria-valuemax="100" title="Drag, or ← →: the original is right of the line">'
        '<img src="{}" alt="{}"><img class="under-cut" src="{}" alt="Original"></div>',
        title,
        top,
        title,
        under,
    )


def stage_2_card(
    frame: Frame | None, truth: np.ndarray, original: np.ndarray, settings: Settings, waits: str
) -> Markup:
    """Before its first step the words `waits`. truth (S, S, 3) at stage 1's size; original at its own."""
    title = f"{REGRESSOR_NAMES[settings.regressor]} → VDVAE → LCM"
    kind = "lcm oracle" if settings.knows_the_answer else "lcm"
    note = html("UNet steps run: {}{}", frame.step if frame else 0, ORACLE if settings.knows_the_answer else "")
    if frame is None:
        return card(kind, title, picture_or(waits, None, ""), html("<b>0</b> of {} steps", settings.lcm.steps), note)
    picture = frame.images["lcm"]
    return card(kind, title, versus(picture, original, title), score(picture, truth, frame.seconds), note)


def stage_1_cards(layout: Frame | None, truth: np.ndarray) -> dict[str, Markup]:
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
    standing: Markup  # the image's scores


def panel(
    bundle: Bundle, truth: np.ndarray, view: View, layout: Frame | None, steps: list[Frame], last: bool
) -> Markup:
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
        "original": card("original", "Original", original, html("<b>picture {}</b>", index), note),
        "lcm": stage_2_card(frame, truth, trials.images[index], settings, follows),
    }
    data = {
        "index": index,
        "serial": view.serial,
        "layout": layout.step if layout else 0,
        "step": frame.step if frame else 0,
        "last": str(last).lower(),
        "query": view.query,
    }
    attributes = joined((html('data-{}="{}"', name, value) for name, value in data.items()), " ")
    return html(
        '<section class="panel view{}" {}>'
        '<div class="cards">{}</div>'
        '<div class="under"><div class="captions">{}</div>'
        "{}{}"
        "{}{}{}</div></section>",
        " null" * (settings.response != "own"),
        attributes,
        joined(cards[name] for name in ORDER),
        captions(trials.labels[index], view.told, settings, frame.unguided if frame else ""),
        filmstrip(steps, settings.lcm.steps),
        progress(layout, frame, resolutions, settings.lcm.steps, waits),
        ACTIONS,
        on_screen(shown_images(layout, frame, settings.regressor), truth),
        view.standing,
    )


def shown_images(layout: Frame | None, frame: Frame | None, regressor: str) -> dict[str, np.ndarray]:
    """Stage -> its newest image, of stage 1 the one that stage 2 starts from."""
    first = {"vdvae": layout.images[regressor]} if layout and regressor in layout.images else {}
    return first | ({"lcm": frame.images["lcm"]} if frame else {})


def absent_banner(absent: dict[str, str]) -> Markup:
    """Which stage lacks its decoder, the command that fetches it, and, when unfolded, every reason."""
    stages = " and ".join(NEEDED_BY[name].lower() for name in absent)
    reasons = joined(html("<p>{}</p>", why) for why in absent.values())
    return html(
        '<details class="banner absent"><summary><b>No decoder for {}:</b> run <code>{}</code></summary>{}</details>',
        stages,
        COMMAND,
        reasons,
    )


def header(manifest: dict, absent: dict[str, str], device: str) -> Markup:
    """Title, and in plain words on what the models run, what is simulated and what is absent; a switch of light and dark."""
    banners = [absent_banner(absent)] if absent else []
    if manifest["simulated"]:
        banners.append(
            html(
                '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
                "not from a person.</p>"
            )
        )
    return html(
        "<header><div><h1>Brain <span>→</span> Image</h1><p>Pictures reconstructed live from fMRI responses"
        "{}.</p></div>"
        '{}<button type="button" class="theme-switch" aria-label="Light or dark" title="Light or dark">◐'
        "</button></header>",
        ", on " + device if device else "",
        joined(banners),
    )
