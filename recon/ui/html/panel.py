"""What the page shows of one reconstruction, as HTML: cards of pictures, and the header over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from recon.decoders.published_models import COMMAND
from recon.metrics import similarity
from recon.recipes import TRANSDUCTIVE, recipe_of
from recon.settings import RESPONSES, Settings
from recon.ui.html.image_scores import on_screen
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.parts import (
    ABSENT,
    FINAL,
    ORACLE,
    REGRESSOR_NAMES,
    RESPONSE_BUTTON,
    TITLES,
    data_uri,
    enlargeable,
    picture_or,
    term,
)
from recon.ui.html.under_images import Told, captions, filmstrip, progress

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle
    from recon.reconstruct import Frame

NOTES = {
    "ridge": "from the brain, linear",
    "mlp": "from the brain, nonlinear",
    "ceiling": "drawn from the picture itself",
}
HINTS = {
    "original": "The picture that was shown",
    "ridge": "Stage 1: latents by ridge regression from the voxels, decoded by the VDVAE",
    "mlp": "Stage 1: latents by the MLP from the voxels, decoded by the VDVAE",
    "ceiling": "What a perfect regressor would give: the picture's own latents, decoded. It has seen the picture.",
    "lcm": "Stage 2: stage 1's layout refined by Stable Diffusion in a few LCM steps",
    "mean": "Stage 2 with several seeds, averaged pixel by pixel: what they agree on is sharp",
    "silence": "Every voxel at its mean: what the decoder draws from no signal at all",
    "final": "Stage 2: stage 1's layout refined by Stable Diffusion in a few LCM steps",
}
EMPTY = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # one transparent pixel
NEEDED_BY = {"vdvae": "Stage 1", "diffusion": "Stage 2"}  # of the bundle's decoders
WORDS_FROM = {  # prompt source -> what the image was drawn from, beside the brain
    "own": "the brain activity and your own words",
    "oracle": "the brain activity and the true captions, which know the answer",
}
ACTIONS = html(
    '<p class="actions"><button type="button" class="button copy-link" title="A link that restores picture, settings, tab and '
    'brain view">Copy link</button><button type="button" class="button download-panel" title="These pictures as one labelled '
    'PNG, and all settings, versions and seeds as JSON">Download these pictures</button></p>'
)
N_SIGNAL = 96  # voxels that the picture of a signal draws


def score(picture: np.ndarray, truth: np.ndarray) -> Markup:
    """Pixel correlation with the original, as HTML."""
    return html("<span>{} <b>{:.2f}</b></span>", term("pixcorr", "pixel r"), similarity(picture, truth)).replace(
        "-", "−"
    )


def card(kind: str, title: str, picture: Markup, value: str, note: str) -> Markup:
    return html(
        '<figure class="card {}"><figcaption title="{}">{}</figcaption>{}'
        '<p class="value">{}</p><p class="note">{}</p></figure>',
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


def hero_result(view: View, layout: Frame | None, frame: Frame | None, waits: str) -> Markup:
    """The right half of the hero: the newest step; before the first one the layout; or the words `waits`."""
    settings, known = view.settings, layout.images.get(view.settings.regressor) if layout else None
    kind, note = ("lcm oracle", ORACLE) if settings.knows_the_answer else ("lcm", "")
    picture = frame.images["lcm"] if frame else None if waits == ABSENT else known
    if picture is None:
        return card(kind, "Drawn from the brain", picture_or(waits, None, ""), "", note)
    played = html('<img class="played" src="{}" alt="An earlier step" hidden>', EMPTY)
    image = enlargeable(picture, FINAL if frame else TITLES[settings.regressor], played)
    return card(kind, "Drawn from the brain", image, score(picture, view.truth) if frame else "", note)


def scrubber(frame: Frame | None, n_steps: int) -> Markup:
    """To look through the steps again, or to play them."""
    step = frame.step if frame else 0
    return html(
        '<div class="scrub"><button type="button" class="button replay" title="Shows how the picture was drawn, step by step">'
        '▶ Replay</button><input type="range" class="slider scrubber" min="0" max="{}" value="{}" aria-label="Step of the drawing, '
        '0 is the rough layout" title="Step of the drawing"><output>{}</output></div>',
        max(step, 1),
        step,
        f"step {step} of {n_steps}" if step else "rough layout",
    )


def stage_1_cards(view: View, layout: Frame | None) -> dict[str, Markup]:
    """Of both regressors, the chosen one and those whose gains are transductive marked, and the ceiling."""
    cards = {}
    for source, title in TITLES.items():
        picture = layout.images.get(source) if layout else None
        value = score(picture, view.truth) if picture is not None else ""
        role = {"ceiling": "", view.settings.regressor: " chosen"}.get(source, " other")
        blank = picture_or("to come" if layout else ABSENT, picture, title)
        note = NOTES[source] + (", transductive" if source in view.transductive else "")
        cards[source] = card(source + role, title, blank, value, note)
    return cards


def signal(response: np.ndarray, note: str) -> Markup:
    """A few of a response's (n_voxels,) values as a line, and what the response is."""
    shown = response[np.linspace(0, len(response) - 1, min(N_SIGNAL, len(response))).astype(int)]
    heights = 50 - 12 * np.clip(shown, -4, 4)
    line = "L".join(f"{100 * k / len(shown):.0f} {h:.0f}" for k, h in enumerate(heights))
    return html(
        '<figure class="card signal"><figcaption title="The response that is decoded">Brain signal</figcaption>'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{} of {} voxels, in standard deviations">'
        '<path d="M{}"/></svg><p class="value"><span>{} {}</span></p><p class="note">{}</p></figure>',
        len(shown),
        len(response),
        line,
        f"{len(response):,}",
        term("voxel", "voxels"),
        note,
    )


def way(view: View, layout: Frame | None, frame: Frame | None, note: str) -> Markup:
    """Brain signal → rough layout → final picture; what would be possible; the other regressor's layout."""
    chosen, cards = view.settings.regressor, stage_1_cards(view, layout)
    other = next(source for source in REGRESSOR_NAMES if source != chosen)
    small = html('<img src="{}" alt="{}">', data_uri(frame.images["lcm"], "webp"), FINAL) if frame else NOTHING
    last = card("final", FINAL, small or picture_or("follows", None, ""), "", f"{view.settings.lcm.steps} steps")
    shown = [signal(view.response, note), cards[chosen], last, cards["ceiling"], cards[other]]
    return html('<div class="way"><h2>The way there</h2><div class="cards">{}</div></div>', joined(shown))


@dataclass(frozen=True)
class View:
    """What a panel is about."""

    index: int  # of the test image
    serial: int  # of the wish that it answers
    query: str  # of the link that brings it back
    settings: Settings
    told: Told
    standing: Markup  # the image's scores
    truth: np.ndarray  # (S, S, 3) uint8: the image at stage 1's size
    response: np.ndarray  # (n_voxels,) that is decoded
    transductive: tuple[str, ...] = ()  # regressors of the latents whose gains come from the test images' predictions


def panel(bundle: Bundle, view: View, layout: Frame | None, steps: list[Frame], last: bool) -> Markup:
    """Everything that one frame changes on the page.

    layout: stage 1's newest frame, None if there is no VDVAE; steps: stage 2's frames so far; last: no frame follows.
    """
    frame = steps[-1] if steps else None
    index, settings, trials = view.index, view.settings, bundle.subject.test
    note = reading_note(trials.n_averaged(index, settings.repeats), settings)
    data = {
        "index": index,
        "serial": view.serial,
        "layout": layout.step if layout else 0,
        "step": frame.step if frame else 0,
        "last": str(last).lower(),
        "query": view.query,
    }
    return html(
        '<section class="panel view{}" {}>{}<div class="captions">{}</div>{}{}{}</section>',
        " null" * (settings.response != "own"),
        joined((html('data-{}="{}"', name, value) for name, value in data.items()), " "),
        hero(view, trials.images[index], layout, frame, bundle.absent),
        captions(trials.labels[index], view.told, settings, frame.unguided if frame else ""),
        way(view, layout, frame, note),
        telemetry(bundle, view, layout, steps, last),
        ACTIONS,
    )


def drawn_from(settings: Settings, transductive: tuple[str, ...] = ()) -> str:
    """What the drawn image owes itself to, for lay people."""
    if settings.regressor in transductive:
        return f"{drawn_from(settings)}, and from the spread of all test responses (transductive)"
    if settings.response != "own":
        return f"{RESPONSES[settings.response]}, as a check: a null"
    return WORDS_FROM.get(settings.prompt, "the brain activity alone")


def hero(view: View, image: np.ndarray, layout: Frame | None, frame: Frame | None, absent: dict) -> Markup:
    """What was seen beside what was drawn, and one sentence that says so."""
    seen = card(
        "original", "What was seen", enlargeable(image, "What was seen"), html("picture <b>{}</b>", view.index), ""
    )
    drawn = hero_result(view, layout, frame, ABSENT if absent else "follows")
    return html(
        '<div class="hero"><p class="hero-words"><span class="wide">Left</span><span class="narrow">First</span>: what was seen. '
        '<span class="wide">Right</span><span class="narrow">Then</span>: what a computer drew from {}.</p>'
        '<div class="pair">{}{}</div>{}</div>',
        drawn_from(view.settings, view.transductive),
        seen,
        drawn,
        NOTHING if absent else scrubber(frame, view.settings.lcm.steps),
    )


def telemetry(bundle: Bundle, view: View, layout: Frame | None, steps: list[Frame], last: bool) -> Markup:
    """Unfolded by who wants it: every step, how long each took, and the image's scores."""
    frame, n_steps = steps[-1] if steps else None, view.settings.lcm.steps
    shapes = bundle.vdvae.layer_shapes() if bundle.vdvae else []
    resolutions = sorted({shape[1] for shape in shapes[: bundle.n_layers]})
    waits = ABSENT if bundle.absent else "waits"
    return html(
        '<details class="more"><summary><b>Steps, times and scores</b></summary>'
        '<div class="telemetry">{}{}{}{}<p>{}</p></div></details>',
        filmstrip(steps, n_steps, last),
        progress(layout, frame, resolutions, n_steps, waits),
        on_screen(shown_images(layout, frame, view.settings.regressor), view.truth),
        view.standing,
        RESPONSE_BUTTON,
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


def recipe_banner(manifest: dict) -> Markup:
    """That stage 1 is not of our recipe, and which layouts owe something to the other test images."""
    names = " and ".join(REGRESSOR_NAMES[name] for name in recipe_of(manifest).transductive)
    return html(
        '<p class="banner recipe"><b>Stage 1 as {}:</b> layouts of {} are {}.</p>',
        manifest["recipe"],
        names,
        TRANSDUCTIVE,
    )


def header(manifest: dict, absent: dict[str, str]) -> Markup:
    """Title, one sentence for everybody, what is simulated and what is absent; a tour, and a switch of light and dark."""
    banners = [absent_banner(absent)] if absent else []
    if manifest["simulated"]:
        banners.append(
            html(
                '<p class="banner"><b>Simulated subject:</b> the responses come from a model of visual cortex, '
                "not from a person.</p>"
            )
        )
    banners += [recipe_banner(manifest)] if recipe_of(manifest).transductive else []
    return html(
        '<header><div class="title"><h1>Brain <span>→</span> Image</h1><p>See a picture drawn again from the brain activity of '
        'someone who looked at it.</p></div><div class="banners">{}</div><div class="tools"><button type="button" '
        'class="button start-tour" title="Six stops, about a minute">Take the tour</button><button type="button" '
        'class="button theme-switch" aria-label="Light or dark" title="Light or dark">◐</button></div></header>',
        joined(banners),
    )
