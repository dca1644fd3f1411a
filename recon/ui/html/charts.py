"""The Evaluate tab's charts, as SVG in the colours of the theme."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from recon.bundle.evaluation import CurvePoint, Evaluation
from recon.metrics import METRICS, percentile
from recon.ui.html.inspector import number, pixels, ticks
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.number_format import STAGES, chance_level, chance_of, found_row, in_percent, score, title
from recon.ui.html.panel import REGRESSOR_NAMES

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 300, 48, 552, 26, 252  # of a chart and its axes, in pixels
BINS = 30
NULL = "shuffled"


def svg(name: str, description: str, body: str) -> Markup:
    return html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>',
        WIDTH,
        HEIGHT,
        name,
        name,
        description,
        body,
    )


def figure(kind: str, name: str, description: str, body: str, legend: str, words: str) -> Markup:
    """A panel with a chart."""
    return html(
        '<figure class="panel result {}"><h2>{}</h2>{}<p class="legend">{}</p><figcaption>{}</figcaption></figure>',
        kind,
        name,
        svg(name, description, body),
        legend,
        words,
    )


def key(kind: str, words: str) -> Markup:
    return html('<span><i class="{}"></i>{}</span>', kind, words)


def tick_text(metric: str, value: float) -> str:
    return number(100 * value, 0, " %") if in_percent(metric) else number(value, 2)


def around(values: np.ndarray) -> tuple[float, float]:
    """A range with all finite values in it and a little more, never empty."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    edge = 0.04 * (high - low) or 0.05
    return low - edge, high + edge


# --- distribution -----------------------------------------------------------------------------------------------------


def steps(values: np.ndarray, edges: np.ndarray, x: np.ndarray, top: int) -> str:
    """A histogram's outline, closed along the floor, as the path of an SVG."""
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    heights = BOTTOM - counts / top * (BOTTOM - TOP)
    across = "".join(f"V{h:.1f}H{right:.1f}" for h, right in zip(heights, x[1:]))
    return f"M{x[0]:.1f} {BOTTOM}{across}V{BOTTOM}Z"


def standing(evaluation: Evaluation, name: str, scores: np.ndarray, metric: str, picture: int | None) -> str:
    """One sentence: where a test image stands among all."""
    if picture is None:
        return "Choose a picture to see where it stands."
    place = np.flatnonzero(evaluation.images == picture)
    if not len(place):
        return f"Picture {number(picture, 0)} is not among the {len(evaluation.images)} images that were evaluated."
    value = scores[place[0]]
    better = percentile(value, scores) if METRICS[metric].direction == "higher" else 100 - percentile(value, scores)
    return (
        f"{name} scores {score(metric, value)}, better than {number(better, 0, ' %')} of the n = {len(scores)} images."
    )


def distribution(evaluation: Evaluation, stage: str, metric: str, picture: int | None) -> Markup:
    """Per-image scores of ridge and MLP over those of the null, a test image marked."""
    found = {s: evaluation.image_scores.get(f"{stage}/{s}/{metric}") for s in (NULL, *REGRESSOR_NAMES)}
    found = {s: values for s, values in found.items() if values is not None}
    name = f"{STAGES[stage]}, {METRICS[metric].title}: scores of single images"
    if not any(np.isfinite(values).any() for values in found.values()):
        return html('<section class="panel result"><h2>{}</h2><p class="about">Not computed.</p></section>', name)
    low, high = around(np.concatenate(list(found.values())))
    edges = np.linspace(low, high, BINS + 1)
    top = max(np.histogram(v[np.isfinite(v)], edges)[0].max() for v in found.values())
    x = pixels(edges, low, high, LEFT, RIGHT)
    body = axis(metric, low, high, int(top))
    body += joined(html('<path class="area {}" d="{}"/>', s, steps(v, edges, x, top)) for s, v in found.items())
    body += chance_mark(metric, low, high)
    curves = {s: found[s] for s in REGRESSOR_NAMES if s in found}
    place = np.flatnonzero(evaluation.images == picture)
    for source, values in curves.items():
        known = (values[k] for k in place if np.isfinite(values[k]))
        body += joined(mark(source, float(pixels(v, low, high, LEFT, RIGHT))) for v in known)
    shuffles = evaluation.settings.get("shuffles", 1)
    names = {NULL: f"Shuffled responses (null, mean of {shuffles} permutations)"} | REGRESSOR_NAMES
    legend = joined(key(s, f"{names[s]}: mean {score(metric, np.nanmean(v))}, n = {len(v)}") for s, v in found.items())
    legend += key("at", f"picture {picture}") if len(place) else ""
    said = [standing(evaluation, REGRESSOR_NAMES[s], v, metric, picture) for s, v in curves.items()]
    words = " ".join([*dict.fromkeys(said), f"Chance level: {chance_of(evaluation, stage, metric)}."])
    return figure("distribution", name, words, body, legend, words)


def axis(metric: str, low: float, high: float, top: int) -> Markup:
    """Scores along the floor, numbers of images up the side."""
    along = joined(
        html(
            '<text x="{:.1f}" y="{}">{}</text>',
            float(pixels(t, low, high, LEFT, RIGHT)),
            BOTTOM + 18,
            tick_text(metric, t),
        )
        for t in ticks(low, high)
    )
    up = html(
        '<text x="{}" y="{}" class="end">{}</text><text x="{}" y="{}" class="end">0</text>',
        LEFT - 6,
        TOP + 5,
        top,
        LEFT - 6,
        BOTTOM + 4,
    )
    names = html(
        '<text x="{}" y="{}" class="axis">{}</text>', (LEFT + RIGHT) / 2, HEIGHT - 8, title(metric).removesuffix(" (%)")
    )
    names += html('<text class="axis" transform="translate(16 {}) rotate(-90)">images</text>', (TOP + BOTTOM) / 2)
    return html(
        '<g class="grid"><path d="M{} {}H{}"/></g><g class="ticks">{}{}{}</g>', LEFT, BOTTOM, RIGHT, along, up, names
    )


def chance_mark(metric: str, low: float, high: float) -> Markup:
    chance = METRICS[metric].chance
    if chance is None or not low <= chance <= high:
        return NOTHING
    x = float(pixels(chance, low, high, LEFT, RIGHT))
    return html(
        '<path class="chance" d="M{:.1f} {}V{}"/><text class="note" x="{:.1f}" y="{}">chance</text>',
        x,
        TOP,
        BOTTOM,
        x,
        TOP - 8,
    )


def mark(source: str, x: float) -> Markup:
    """Where the chosen picture stands."""
    line, arrow = f"M{x:.1f} {TOP + 6}V{BOTTOM}", f"M{x - 6:.1f} {TOP - 2}h12l-6 10z"
    return html('<g class="mark {}"><path d="{}"/><path class="head" d="{}"/></g>', source, line, arrow)


# --- bottleneck -------------------------------------------------------------------------------------------------------

FACETS = {"vdvae": (LEFT, 288), "lcm": (312, RIGHT)}  # from where to where along the chart
APART = {"ridge": -2, "mlp": 2}  # pixels, so that equal curves are both seen


def levels(evaluation: Evaluation, stage: str, metric: str) -> dict[str, tuple[float, str]]:
    """Horizontal lines: class -> value and name."""
    ceiling, chance = found_row(evaluation, stage, "ceiling", metric), chance_level(evaluation, stage, metric)
    found = {"top": (ceiling.value, "ceiling")} if ceiling else {}
    return found | ({"chance": chance} if chance else {})


def curve(points: list[CurvePoint], x: np.ndarray, y) -> Markup:
    """One regressor's line with its intervals; x (k,) in pixels; y: value -> pixels."""
    source = points[0].regressor
    line = "L".join(f"{a:.1f} {y(p.value):.1f}" for a, p in zip(x, points))
    bars = "".join(f"M{a:.1f} {y(p.low):.1f}V{y(p.high):.1f}" for a, p in zip(x, points))
    dots = joined(
        html(
            '<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}, {} components: {} [{}, {}], n = {}</title></circle>',
            a,
            y(p.value),
            REGRESSOR_NAMES[source],
            p.components,
            score(p.metric, p.value),
            score(p.metric, p.low),
            score(p.metric, p.high),
            p.n,
        )
        for a, p in zip(x, points)
    )
    return html('<g class="curve {}"><path class="bars" d="{}"/><path d="M{}"/>{}</g>', source, bars, line, dots)


def facet(evaluation: Evaluation, stage: str, points: list[CurvePoint], largest: int, y) -> Markup:
    """One stage: both regressors, the ceiling and chance."""
    start, end = FACETS[stage]
    top = max(np.log2(largest), 1)
    body = html('<path class="frame" d="M{} {}H{}"/>', start, BOTTOM, end)
    body += html('<text class="stage start" x="{}" y="{}">{}</text>', start, TOP - 10, STAGES[stage])
    for kind, (value, name) in levels(evaluation, stage, points[0].metric).items():
        body += html('<path class="{}" d="M{} {:.1f}H{}"/>', kind, start, y(value), end)
        body += html('<text class="note end" x="{}" y="{:.1f}">{}</text>', end, y(value) - 5, name)
    for k in range(0, int(top) + 1, 2):
        body += html(
            '<text x="{:.1f}" y="{}">{}</text>', float(pixels(k, 0, top, start + 8, end - 8)), BOTTOM + 18, 2**k
        )
    for regressor in REGRESSOR_NAMES:
        here = sorted((p for p in points if p.stage == stage and p.regressor == regressor), key=lambda p: p.components)
        if here:
            x = pixels(np.log2([p.components for p in here]), 0, top, start + 8, end - 8)
            body += curve(here, x + APART[regressor], y)
    return body


def bottleneck(evaluation: Evaluation, metric: str) -> Markup:
    """A metric against the number of components that the regressors keep."""
    points = [p for p in evaluation.bottleneck if p.metric == metric]
    name = f"Bottleneck: {METRICS[metric].title} against components"
    if not points:
        return html('<section class="panel result"><h2>{}</h2><p class="about">Not computed.</p></section>', name)
    lines = [v for stage in STAGES for v, _ in levels(evaluation, stage, metric).values()]
    low, high = around(np.array([*lines, *(p.low for p in points), *(p.high for p in points)]))

    def y(value: float) -> float:
        return float(pixels(value, low, high, BOTTOM, TOP))

    grid = joined(html('<path d="M{} {:.1f}H{}"/>', LEFT, y(t), RIGHT) for t in ticks(low, high))
    sides = joined(
        html('<text x="{}" y="{:.1f}" class="end">{}</text>', LEFT - 6, y(t) + 4, tick_text(metric, t))
        for t in ticks(low, high)
    )
    largest = max(p.components for p in points)
    facets = joined(facet(evaluation, stage, points, largest, y) for stage in STAGES)
    names = html('<text class="axis" x="{}" y="{}">components kept, logarithmic</text>', (LEFT + RIGHT) / 2, HEIGHT - 8)
    n = sorted({p.n for p in points})
    words = (
        f"Both regressors cut down to their first 1, 2, 4 … components, for latents and prompt alike; bars are 95 % intervals over "
        f"n = {', '.join(map(str, n))} images. Ceiling and chance level: n = {evaluation.n_images}. "
        "A curve that is flat early says that little of the brain is needed for that score."
    )
    body = html('<g class="grid">{}</g><g class="ticks">{}{}{}</g>', grid, sides, facets, names)
    legend = (
        joined(key(s, REGRESSOR_NAMES[s]) for s in REGRESSOR_NAMES)
        + key("top", "ceiling")
        + key("chance", "chance level")
    )
    return figure("bottleneck", name, words, body, legend, words)
