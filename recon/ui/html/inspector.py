"""What is known of one voxel or one area, as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from recon.brain.space import UNLABELLED, check_voxel
from recon.images import area_average
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.parts import THUMBNAIL, data_uri

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle

HINT = html(
    '<section class="inspector panel empty">Click a voxel, or an area under the map, to see what is known of it.</section>'
)
N_LIKED = 5  # pictures shown at either end
DRAW = "Draws what drives this voxel most, as its response model has it, and what the other voxels do then"
NEED_REPEATS = ("Noise ceiling", "ncsnr")  # scores that nothing is known of if no image was shown twice
SIGNIFICANT = 0.05  # of the false discovery rate
WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = (
    300,
    190,
    30,
    30,
    8,
)  # of a chart, its axes' margins and its other margins, in pixels


def number(value: float, digits: int = 2, unit: str = "") -> str:
    """With a minus sign; "–" for NaN."""
    return f"{value:.{digits}f}{unit}".replace("-", "−") if np.isfinite(value) else "–"


def known(name: str, value: float, digits: int, unit: str) -> str:
    """A score as `number` writes it; a noise ceiling that could not be estimated is called unknown."""
    return number(value, digits, unit) if np.isfinite(value) or name not in NEED_REPEATS else "unknown"


def facts(values: dict[str, str]) -> Markup:
    """Names and values, as a list of terms."""
    return html(
        '<dl class="facts">{}</dl>',
        joined(html("<div><dt>{}</dt><dd>{}</dd></div>", k, v) for k, v in values.items()),
    )


def scores_of(bundle: Bundle) -> dict[str, tuple[np.ndarray, int, str]]:
    """Name -> what (n_voxels,) scores it names, digits, unit."""
    scores = bundle.scores
    return {
        "R²": (100 * scores.r2, 1, " %"),
        "r": (scores.r, 2, ""),
        "Noise ceiling": (scores.noise_ceiling, 1, " %"),
        "R² / ceiling": (scores.r2_over_ceiling, 0, " %"),
        "ncsnr": (bundle.subject.ncsnr, 2, ""),
        "q": (scores.q, 3, ""),
    }


# --- charts -----------------------------------------------------------------------------------------------------------


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within [low, high]."""
    rough = (high - low) / 4
    power = 10 ** np.floor(np.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    return [float(step * k) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def pixels(values: np.ndarray, low: float, high: float, start: float, end: float) -> np.ndarray:
    """Values from [low, high] to [start, end]."""
    return start + (np.asarray(values, float) - low) / (high - low) * (end - start)


def chart(
    x: np.ndarray,
    y: np.ndarray,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    names: tuple[str, str],
    line: Markup,
) -> Markup:
    """A scatter plot as SVG; x, y (n,); ranges and names of both axes; line: SVG behind the dots."""
    (x0, x1), (y0, y1) = ranges
    right, floor = WIDTH - EDGE, HEIGHT - BOTTOM
    across, up = lambda v: pixels(v, x0, x1, LEFT, right), lambda v: pixels(v, y0, y1, floor, EDGE)
    grid = joined(html('<path d="M{} {:.1f}H{}"/>', LEFT, up(t), right) for t in ticks(y0, y1))
    words = joined(
        html('<text x="{}" y="{:.1f}" class="end">{}</text>', LEFT - 5, up(t) + 4, number(t, 1 if y1 - y0 < 4 else 0))
        for t in ticks(y0, y1)
    )
    words += joined(
        html('<text x="{:.1f}" y="{}">{}</text>', across(t), floor + 13, number(t, 0)) for t in ticks(x0, x1)
    )
    dots = joined(html('<circle cx="{:.1f}" cy="{:.1f}" r="2"/>', a, b) for a, b in zip(across(x), up(y)))
    return html(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{} against {}">'
        '<g class="grid">{}</g>{}<g class="dots">{}</g><g class="ticks">{}'
        '<text x="{}" y="{}">{}</text>'
        '<text transform="translate(9 {}) rotate(-90)">{}</text></g></svg>',
        WIDTH,
        HEIGHT,
        names[1],
        names[0],
        grid,
        line,
        dots,
        words,
        (LEFT + right) / 2,
        HEIGHT - 3,
        names[0],
        (EDGE + floor) / 2,
        names[1],
    )


def around(values: np.ndarray) -> tuple[float, float]:
    """A range with all finite values in it, never empty."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    edge = 0.05 * (high - low) or 1.0
    return low - edge, high + edge


def response_chart(measured: np.ndarray, predicted: np.ndarray | None) -> Markup:
    """Measured (n_images,) against predicted responses, with the line of equality; or measured ones alone, sorted."""
    if predicted is None:
        ranks = np.arange(1, len(measured) + 1)
        ranges = around(ranks), around(measured)
        return chart(ranks, np.sort(measured), ranges, ("test pictures, sorted", "measured (z)"), NOTHING)
    both = around(np.concatenate([measured, predicted]))
    line = html('<path class="equal" d="M{} {}L{} {}"/>', LEFT, HEIGHT - BOTTOM, WIDTH - EDGE, EDGE)
    return chart(predicted, measured, (both, both), ("predicted (z)", "measured (z)"), line)


def histogram(values: np.ndarray, name: str) -> Markup:
    """Counts of (n,) values in twenty bins, as SVG."""
    counts, edges = np.histogram(values[np.isfinite(values)], bins=20)
    floor, top = HEIGHT - BOTTOM, max(counts.max(), 1)
    x = pixels(edges, edges[0], edges[-1], LEFT, WIDTH - EDGE)
    heights = counts / top * (floor - EDGE)
    bars = joined(
        html('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>', a, floor - h, b - a - 1, h)
        for a, b, h in zip(x, x[1:], heights)
    )
    words = joined(
        html(
            '<text x="{:.1f}" y="{}">{}</text>',
            pixels(t, edges[0], edges[-1], LEFT, WIDTH - EDGE),
            floor + 13,
            number(t, 0),
        )
        for t in ticks(edges[0], edges[-1])
    )
    words += html(
        '<text x="{}" y="{}" class="end">{}</text><text x="{}" y="{}" class="end">0</text>',
        LEFT - 5,
        EDGE + 8,
        top,
        LEFT - 5,
        floor,
    )
    return html(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Histogram of {}">'
        '<g class="bars">{}</g><g class="ticks">{}'
        '<text x="{}" y="{}">{}</text></g></svg>',
        WIDTH,
        HEIGHT,
        name,
        bars,
        words,
        (LEFT + WIDTH - EDGE) / 2,
        HEIGHT - 3,
        name,
    )


# --- panels -----------------------------------------------------------------------------------------------------------


def thumbnails(kind: str, title: str, bundle: Bundle, indices: np.ndarray, values: np.ndarray) -> Markup:
    """Test images of these numbers, each with its own of (n_images,) values, to be opened on Explore; `kind`: a class of CSS."""
    pictures = area_average(bundle.subject.test.images[np.sort(indices)], THUMBNAIL)
    place = {index: k for k, index in enumerate(np.sort(indices))}
    figures = joined(
        html(
            '<figure><button type="button" class="open-picture" data-index="{}" title="Opens test picture {} on Explore">'
            '<img src="{}" alt="test picture {}"></button><figcaption>{}</figcaption></figure>',
            k,
            k,
            data_uri(pictures[place[k]], "webp"),
            k,
            number(values[k]),
        )
        for k in indices
    )
    return html('<div class="thumbnails {}"><h4>{}</h4><div>{}</div></div>', kind, title, figures)


def alike(embeddings: np.ndarray, index: int) -> np.ndarray:
    """(n_images,): how alike each test image is to one of them by what is decoded of their responses; NaN for itself.

    Cosines of decoded image embeddings (n_images, d) about their mean, which all images share.
    """
    about = embeddings - embeddings.mean(0)
    about /= np.maximum(np.linalg.norm(about, axis=1, keepdims=True), 1e-12)
    cosines = about @ about[index]
    cosines[index] = np.nan
    return cosines


def voxel_panel(
    bundle: Bundle,
    voxel: int,
    predicted: np.ndarray | None = None,
    index: int | None = None,
    embeddings: np.ndarray | None = None,
) -> Markup:
    """A voxel's scores, its mean responses to the test pictures, and the pictures it likes best and least.

    predicted (n_images,): an encoding model's responses, in the units of the measured ones. index: of a test image, its
    response to which is told apart, with the images that are most like it by their decoded embeddings (n_images, d).
    Raises ValueError if there is no such voxel, IndexError if there is no such image.
    """
    check_voxel(voxel, bundle.subject.geometry.n_voxels)
    measured = np.nanmean(bundle.subject.test.voxels[:, :, voxel], axis=1)
    order = np.argsort(-measured, kind="stable")
    values = {name: known(name, all_[voxel], digits, unit) for name, (all_, digits, unit) in scores_of(bundle).items()}
    values["r"] += interval_of(bundle.scores.r[voxel], bundle.scores.n_images)
    if index is not None:
        values |= response_told(bundle, voxel, index)
    liked = thumbnails("liked", "Likes best (z)", bundle, order[:N_LIKED], measured)
    liked += thumbnails("liked", "Likes least (z)", bundle, order[: -N_LIKED - 1 : -1], measured)
    if index is not None and embeddings is not None and len(embeddings) > 1:
        cosines = alike(embeddings, index)
        nearest = np.argsort(-cosines)[:-1][:N_LIKED]  # itself, NaN, comes last
        liked += thumbnails("alike", f"Decoded most like picture {index} (cosine)", bundle, nearest, cosines)
    draw = html(
        '<p class="gains"><button type="button" class="draw-voxel" data-voxel="{}" title="{}">Draw for this voxel</button></p>',
        voxel,
        DRAW,
    )
    return panel(
        f"Voxel {voxel}",
        whereabouts(bundle, voxel),
        html('data-voxel="{}"', voxel),
        values,
        response_chart(measured, predicted) + liked + draw,
    )


def drawn_panel(voxel: int, level: float, cards: Markup) -> Markup:
    """What drives a voxel most, `level` standard deviations out, decoded: the images' cards under what they are."""
    return html(
        '<section class="panel drawn" data-voxel="{}"><h3>Drawn for voxel {}</h3><p class="small"><b>No picture was shown.</b> '
        "Of all that training pictures do to the brain, the response model looks for what raises this voxel most, {:g} "
        "standard deviations out; the other voxels do what goes with it. That is decoded.</p>{}</section>",
        voxel,
        voxel,
        level,
        cards,
    )


def interval_of(r: float, n: int) -> str:
    """95 % of a correlation over n images, by Fisher's z (1921): tanh(atanh r ± 1.96 / √(n - 3)); empty where it has none."""
    if n < 4 or not abs(r) < 1:
        return ""
    low, high = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(n - 3))
    return f" ({number(low)} to {number(high)})"


def response_told(bundle: Bundle, voxel: int, index: int) -> dict[str, str]:
    """A voxel's response to a test image: the mean of its repeats, their spread, and each of them."""
    test = bundle.subject.test
    mean = test.response(index)[voxel]
    repeats = test.voxels[index, :, voxel]
    repeats = repeats[np.isfinite(repeats)]
    told = {f"Response to picture {index}, z": number(mean)}
    if len(repeats) > 1:
        told[f"its {len(repeats)} repeats, SD {number(repeats.std(ddof=1))}"] = " · ".join(map(number, repeats))
    return told


def whereabouts(bundle: Bundle, voxel: int) -> str:
    """Hemisphere and areas of a voxel; if it is in none, how far the nearest one is."""
    from recon.brain.geometry import HEMISPHERES, hemisphere_of, nearest_area  # imports nilearn, which takes seconds

    geometry = bundle.subject.geometry
    areas = ", ".join(name for name, mask in geometry.rois.items() if mask[voxel])
    if not areas:
        near = nearest_area(geometry, voxel)
        areas = UNLABELLED if near is None else f"{UNLABELLED}, {near[1]:.0f} mm from {near[0]}"
    side = hemisphere_of(geometry)
    return areas if side is None else f"{HEMISPHERES[side[voxel]]} hemisphere · {areas}"


def roi_panel(bundle: Bundle, name: str, gains: bool = True) -> Markup:
    """An area's size, the medians of its voxels' scores, how many are significant, and how R² spreads over them.

    gains: with buttons that set the area's gain. Raises ValueError if there is no such area.
    """
    from recon.brain.geometry import hemisphere_of

    rois, scores = bundle.subject.geometry.areas, scores_of(bundle)
    if name not in rois:
        raise ValueError(f"area: expected one of {', '.join(rois)}, got {name!r}")
    here = rois[name]
    side = hemisphere_of(bundle.subject.geometry)
    sides = "" if side is None else f" · {(side[here] == 0).sum()} left, {(side[here] == 1).sum()} right"
    medians = {
        html("<small>median</small> {}", key): known(key, median(values[here]), digits, unit)
        for key, (values, digits, unit) in scores.items()
        if key != "q"
    }
    q = scores["q"][0][here]
    medians[f"q < {SIGNIFICANT}"] = f"{(q < SIGNIFICANT).sum()} of {len(q)}"
    where = f"{here.sum()} voxels{sides}"
    chart_ = histogram(100 * bundle.scores.r2[here], "R² of its voxels (%)")
    buttons = joined(
        html('<button type="button" class="set-gain" data-roi="{}" data-value="{}">{}</button>', name, value, text)
        for value, text in ((0, "Lesion"), (1, "As measured"), (2, "Double"))
    )
    return panel(
        name,
        where,
        html('data-roi="{}"', name),
        medians,
        html('{}<p class="gains">{}</p>', chart_, buttons) if gains else chart_,
    )


def median(values: np.ndarray) -> float:
    """Of the finite ones; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def panel(title: str, where: str, data: Markup, values: dict[str, str], body: Markup) -> Markup:
    return html(
        '<section class="inspector panel" aria-live="polite" {}><div class="panel-head"><h3>{}</h3>'
        "<p>{}</p></div>{}{}</section>",
        data,
        title,
        where,
        facts(values),
        body,
    )
