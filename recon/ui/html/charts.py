"""The Evaluate tab's charts, as SVG in the colours of the theme."""

from __future__ import annotations

from html import escape

import numpy as np

from recon.bundle.evaluation import CurvePoint, Evaluation
from recon.metrics import METRICS, percentile
from recon.ui.html.inspector import number, pixels, ticks
from recon.ui.html.number_format import STAGES, chance_level, chance_of, found_row, in_percent, score, title
from recon.ui.html.panel import REGRESSOR_NAMES

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 300, 48, 552, 26, 252  # of a chart and its axes, in pixels
BINS = 30
NULL = "shuffled"


def svg(name: str, description: str, body: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        f"<title>{escape(name)}</title><desc>{escape(description)}</desc>{body}</svg>"
    )


def figure(kind: str, name: str, description: str, body: str, legend: str, words: str) -> str:
    """A panel with a chart; legend and words are HTML."""
    return (
        f'<figure class="panel result {kind}"><h3>{escape(name)}</h3>{svg(name, description, body)}'
        f'<p class="legend">{legend}</p><figcaption>{words}</figcaption></figure>'
    )


def key(kind: str, words: str) -> str:
    return f'<span><i class="{kind}"></i>{words}</span>'


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


def distribution(evaluation: Evaluation, stage: str, metric: str, picture: int | None) -> str:
    """Per-image scores of ridge and MLP over those of the null, a test image marked."""
    found = {s: evaluation.image_scores.get(f"{stage}/{s}/{metric}") for s in (NULL, *REGRESSOR_NAMES)}
    found = {s: values for s, values in found.items() if values is not None}
    name = f"{STAGES[stage]}, {METRICS[metric].title}: scores of single images"
    if not any(np.isfinite(values).any() for values in found.values()):
        return f'<section class="panel result"><h3>{escape(name)}</h3><p class="about">Not computed.</p></section>'
    low, high = around(np.concatenate(list(found.values())))
    edges = np.linspace(low, high, BINS + 1)
    top = max(np.histogram(v[np.isfinite(v)], edges)[0].max() for v in found.values())
    x = pixels(edges, low, high, LEFT, RIGHT)
    body = axis(metric, low, high, int(top))
    body += "".join(f'<path class="area {s}" d="{steps(v, edges, x, top)}"/>' for s, v in found.items())
    body += chance_mark(metric, low, high)
    curves = {s: found[s] for s in REGRESSOR_NAMES if s in found}
    place = np.flatnonzero(evaluation.images == picture)
    for source, values in curves.items():
        known = (values[k] for k in place if np.isfinite(values[k]))
        body += "".join(mark(source, float(pixels(v, low, high, LEFT, RIGHT))) for v in known)
    shuffles = escape(str(evaluation.settings.get("shuffles", 1)))
    names = {NULL: f"Shuffled responses (null, mean of {shuffles} permutations)"} | REGRESSOR_NAMES
    legend = "".join(key(s, f"{names[s]}: mean {score(metric, np.nanmean(v))}, n = {len(v)}") for s, v in found.items())
    legend += key("at", f"picture {picture}") if len(place) else ""
    said = [standing(evaluation, REGRESSOR_NAMES[s], v, metric, picture) for s, v in curves.items()]
    words = " ".join([*dict.fromkeys(said), f"Chance level: {chance_of(evaluation, stage, metric)}."])
    return figure("distribution", name, words, body, legend, words)


def axis(metric: str, low: float, high: float, top: int) -> str:
    """Scores along the floor, numbers of images up the side."""
    along = "".join(
        f'<text x="{float(pixels(t, low, high, LEFT, RIGHT)):.1f}" y="{BOTTOM + 18}">{tick_text(metric, t)}</text>'
        for t in ticks(low, high)
    )
    up = f'<text x="{LEFT - 6}" y="{TOP + 5}" class="end">{top}</text><text x="{LEFT - 6}" y="{BOTTOM + 4}" class="end">0</text>'
    names = f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}" class="axis">{escape(title(metric).removesuffix(" (%)"))}</text>'
    names += f'<text class="axis" transform="translate(16 {(TOP + BOTTOM) / 2}) rotate(-90)">images</text>'
    return f'<g class="grid"><path d="M{LEFT} {BOTTOM}H{RIGHT}"/></g><g class="ticks">{along}{up}{names}</g>'


def chance_mark(metric: str, low: float, high: float) -> str:
    chance = METRICS[metric].chance
    if chance is None or not low <= chance <= high:
        return ""
    x = float(pixels(chance, low, high, LEFT, RIGHT))
    return (
        f'<path class="chance" d="M{x:.1f} {TOP}V{BOTTOM}"/><text class="note" x="{x:.1f}" y="{TOP - 8}">chance</text>'
    )


def mark(source: str, x: float) -> str:
    """Where the chosen picture stands."""
    line, arrow = f"M{x:.1f} {TOP + 6}V{BOTTOM}", f"M{x - 6:.1f} {TOP - 2}h12l-6 10z"
    return f'<g class="mark {source}"><path d="{line}"/><path class="head" d="{arrow}"/></g>'


# --- bottleneck -------------------------------------------------------------------------------------------------------

FACETS = {"vdvae": (LEFT, 288), "lcm": (312, RIGHT)}  # from where to where along the chart
APART = {"ridge": -2, "mlp": 2}  # pixels, so that equal curves are both seen


def levels(evaluation: Evaluation, stage: str, metric: str) -> dict[str, tuple[float, str]]:
    """Horizontal lines: class -> value and name."""
    ceiling, chance = found_row(evaluation, stage, "ceiling", metric), chance_level(evaluation, stage, metric)
    found = {"top": (ceiling.value, "ceiling")} if ceiling else {}
    return found | ({"chance": chance} if chance else {})


def curve(points: list[CurvePoint], x: np.ndarray, y) -> str:
    """One regressor's line with its intervals; x (k,) in pixels; y: value -> pixels."""
    source = points[0].regressor
    line = "L".join(f"{a:.1f} {y(p.value):.1f}" for a, p in zip(x, points))
    bars = "".join(f"M{a:.1f} {y(p.low):.1f}V{y(p.high):.1f}" for a, p in zip(x, points))
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{y(p.value):.1f}" r="3"><title>{REGRESSOR_NAMES[source]}, {p.components} components: '
        f"{score(p.metric, p.value)} [{score(p.metric, p.low)}, {score(p.metric, p.high)}], n = {p.n}</title></circle>"
        for a, p in zip(x, points)
    )
    return f'<g class="curve {source}"><path class="bars" d="{bars}"/><path d="M{line}"/>{dots}</g>'


def facet(evaluation: Evaluation, stage: str, points: list[CurvePoint], largest: int, y) -> str:
    """One stage: both regressors, the ceiling and chance."""
    start, end = FACETS[stage]
    top = max(np.log2(largest), 1)
    body = f'<path class="frame" d="M{start} {BOTTOM}H{end}"/>'
    body += f'<text class="stage start" x="{start}" y="{TOP - 10}">{STAGES[stage]}</text>'
    for kind, (value, name) in levels(evaluation, stage, points[0].metric).items():
        body += f'<path class="{kind}" d="M{start} {y(value):.1f}H{end}"/>'
        body += f'<text class="note end" x="{end}" y="{y(value) - 5:.1f}">{name}</text>'
    for k in range(0, int(top) + 1, 2):
        body += f'<text x="{float(pixels(k, 0, top, start + 8, end - 8)):.1f}" y="{BOTTOM + 18}">{2**k}</text>'
    for regressor in REGRESSOR_NAMES:
        here = sorted((p for p in points if p.stage == stage and p.regressor == regressor), key=lambda p: p.components)
        if here:
            x = pixels(np.log2([p.components for p in here]), 0, top, start + 8, end - 8)
            body += curve(here, x + APART[regressor], y)
    return body


def bottleneck(evaluation: Evaluation, metric: str) -> str:
    """A metric against the number of components that the regressors keep."""
    points = [p for p in evaluation.bottleneck if p.metric == metric]
    name = f"Bottleneck: {METRICS[metric].title} against components"
    if not points:
        return f'<section class="panel result"><h3>{escape(name)}</h3><p class="about">Not computed.</p></section>'
    lines = [v for stage in STAGES for v, _ in levels(evaluation, stage, metric).values()]
    low, high = around(np.array([*lines, *(p.low for p in points), *(p.high for p in points)]))

    def y(value: float) -> float:
        return float(pixels(value, low, high, BOTTOM, TOP))

    grid = "".join(f'<path d="M{LEFT} {y(t):.1f}H{RIGHT}"/>' for t in ticks(low, high))
    sides = "".join(
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" class="end">{tick_text(metric, t)}</text>' for t in ticks(low, high)
    )
    largest = max(p.components for p in points)
    facets = "".join(facet(evaluation, stage, points, largest, y) for stage in STAGES)
    names = f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}">components kept, logarithmic</text>'
    n = sorted({p.n for p in points})
    words = (
        f"Both regressors cut down to their first 1, 2, 4 … components, for latents and prompt alike; bars are 95 % intervals over "
        f"n = {', '.join(map(str, n))} images. Ceiling and chance level: n = {evaluation.n_images}. "
        "A curve that is flat early says that little of the brain is needed for that score."
    )
    body = f'<g class="grid">{grid}</g><g class="ticks">{sides}{facets}{names}</g>'
    legend = (
        "".join(key(s, REGRESSOR_NAMES[s]) for s in REGRESSOR_NAMES)
        + key("top", "ceiling")
        + key("chance", "chance level")
    )
    return figure("bottleneck", name, words, body, legend, words)
