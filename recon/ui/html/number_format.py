"""How the Evaluate tab writes names and numbers: every metric in its own unit, true minus signs, "–" for what is not known."""

from __future__ import annotations

import re

from recon.bundle.evaluation import Evaluation, Row
from recon.metrics import METRICS
from recon.ui.html.inspector import number
from recon.ui.html.panel import REGRESSOR_NAMES

STAGES = {"vdvae": "Stage 1", "lcm": "Stage 2"}
DECODERS = {"vdvae": "the VDVAE’s layout", "lcm": "the LCM’s picture, from layout and prompt"}
GROUPS = {  # of a stage's rows
    "Reconstructions": ("ridge", "mlp"),
    "Guided by an image embedding": ("ridge_image", "ridge_both", "mlp_image", "mlp_both"),
    "Nulls": ("shuffled", "other_image", "mean", "empty_prompt", "nearest_training"),
    "Ceilings": ("ceiling", "oracle"),
}
SOURCES = REGRESSOR_NAMES | {
    "ridge_image": "Ridge, image only",
    "ridge_both": "Ridge, text and image",
    "mlp_image": "MLP, image only",
    "mlp_both": "MLP, text and image",
    "shuffled": "Shuffled responses",
    "other_image": "Another image’s response",
    "mean": "Mean latents",
    "empty_prompt": "Empty prompt",
    "nearest_training": "Nearest training image",
    "ceiling": "Ceiling",
    "oracle": "Oracle caption",
    "truth": "True pictures",
}
ARROWS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better")}
UNKNOWN = float("nan")


def in_percent(metric: str) -> bool:
    """Identification is a share of comparisons; everything else is a plain number."""
    return METRICS[metric].chance is not None


def score(metric: str, value: float | None, signed: bool = False) -> str:
    """In the metric's own unit; a `signed` one shows its plus too."""
    value = UNKNOWN if value is None else value
    value, digits = (100 * value, 1) if in_percent(metric) else (value, 3)
    shown = number(round(value, digits) + 0.0, digits)  # + 0.0: no minus before a zero
    return f"+{shown}" if signed and value > 0 else shown


def interval(metric: str, low: float, high: float, signed: bool = False) -> str:
    return f"[{score(metric, low, signed)}, {score(metric, high, signed)}]"


def percent(share: float | None, digits: int = 1) -> str:
    return number(UNKNOWN if share is None else 100 * share, digits, " %")


def plain(value: float | None, digits: int = 2, unit: str = "") -> str:
    return number(UNKNOWN if value is None else value, digits, unit)


def chance_level(evaluation: Evaluation, stage: str, metric: str) -> tuple[float, str] | None:
    """Value and name: of guessing, or, where that depends on the pictures, of shuffled responses."""
    chance, row = METRICS[metric].chance, found_row(evaluation, stage, "shuffled", metric)
    if chance is not None:
        return chance, "chance"
    return (row.value, "shuffled") if row else None


def chance_of(evaluation: Evaluation, stage: str, metric: str) -> str:
    """The same in words."""
    found = chance_level(evaluation, stage, metric)
    if found is None:
        return "–"
    return score(metric, found[0]) + (" %" if in_percent(metric) else f" ({found[1]})")


def found_row(evaluation: Evaluation, stage: str, source: str, metric: str) -> Row | None:
    rows = (r for r in evaluation.rows if (r.stage, r.source, r.metric) == (stage, source, metric))
    return next(rows, None)


def title(metric: str) -> str:
    return METRICS[metric].title + (" (%)" if in_percent(metric) else "")


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else plain(p, 3)


def in_words(note: str) -> str:
    """A note of the evaluation, with the page's names and minus signs."""
    names = STAGES | SOURCES
    worded = re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], note)
    return re.sub(r"-(?=\d)", "−", worded)
