"""How the Evaluate tab writes names and numbers: every metric in its own unit, true minus signs, "–" for what is not known."""

from __future__ import annotations

from recon.metrics import METRICS
from recon.ui.inspector import number
from recon.ui.panel import REGRESSOR_NAMES

STAGES = {"vdvae": "Stage 1", "lcm": "Stage 2"}
DECODERS = {"vdvae": "VDVAE layout, 64 × 64", "lcm": "LCM, from the layout and the decoded prompt"}
GROUPS = {  # of a stage's rows
    "Reconstructions": ("ridge", "mlp"),
    "Nulls": ("shuffled", "other_image", "mean", "empty_prompt", "nearest_training"),
    "Ceilings": ("ceiling", "oracle"),
}
SOURCES = REGRESSOR_NAMES | {
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
    shown = number(100 * value, 1) if in_percent(metric) else number(value, 3)
    return f"+{shown}" if signed and value > 0 else shown


def interval(metric: str, low: float, high: float, signed: bool = False) -> str:
    return f"[{score(metric, low, signed)}, {score(metric, high, signed)}]"


def percent(share: float | None, digits: int = 1) -> str:
    return number(UNKNOWN if share is None else 100 * share, digits, " %")


def plain(value: float | None, digits: int = 2, unit: str = "") -> str:
    return number(UNKNOWN if value is None else value, digits, unit)


def chance_of(metric: str) -> str:
    """The level that guessing reaches, where it does not depend on the pictures."""
    chance = METRICS[metric].chance
    return "see shuffled" if chance is None else percent(chance, 0)


def title(metric: str) -> str:
    return METRICS[metric].title + (" (%)" if in_percent(metric) else "")


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else plain(p, 3)
