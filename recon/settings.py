"""What a visitor may choose of a reconstruction, checked. Imports no model: a page needs this before any is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

REGRESSORS = ("ridge", "mlp")
MAX_STEPS, MAX_GUIDANCE, MAX_PROMPT = 8, 2.0, 300  # denoising steps, guidance scale, characters
MAX_REPEATS, MAX_GAIN = 3, 2.0  # of an image in NSD; of a ROI: 0 is a virtual lesion, 1 leaves it alone
MIN_STRENGTH = 0.2  # 10 of the 50 timesteps an LCM is distilled on: eight steps need at least eight
PROMPTS = {
    "decoded": "the prompt embedding decoded from the brain",
    "caption": "the training caption nearest to what the brain says",
    "own": "your own words",
    "none": "no prompt",
    "oracle": "the true captions: knows the answer",
}


@dataclass(frozen=True)
class LCMSettings:
    """How stage 2 runs. Raises ValueError, naming what was expected, on anything out of range."""

    steps: int = 4  # denoising steps = UNet evaluations
    guidance: float = 1.0  # above 1 the empty prompt is evaluated as well
    strength: float = 0.8  # how much of the noise schedule is run through; 1 forgets the picture it starts from
    seed: int = 0

    def __post_init__(self):
        _in_range("LCM steps", self.steps, 1, MAX_STEPS, whole=True)
        _in_range("guidance", self.guidance, 1, MAX_GUIDANCE)
        _in_range("strength", self.strength, MIN_STRENGTH, 1)
        _in_range("seed", self.seed, 0, 2**32 - 1, whole=True)


def _in_range(name: str, value, low, high, whole: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (whole and value != int(value)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: expected {kind} from {low} to {high}, got {value!r}")


def _check_gains(gains: tuple[tuple[str, float], ...]) -> None:
    names = [name for name, _ in gains]
    if len(set(names)) < len(names):
        raise ValueError(f"gains: expected each ROI once, got {', '.join(names)}")
    for name, gain in gains:
        _in_range(f"gain of {name}", gain, 0, MAX_GAIN)


@dataclass(frozen=True)
class Settings:
    """What is made of a response, what feeds stage 2, and how it runs.

    Raises ValueError on an unknown regressor or prompt source, an empty own prompt, or anything out of range.
    """

    regressor: str = "mlp"
    prompt: str = "decoded"
    own_prompt: str = ""
    lcm: LCMSettings = LCMSettings()
    components: int | None = None  # the first k of each regressor, at most all it has; None: all
    repeats: int | None = None  # the first 1, 2 or 3 of the image are averaged; None: all there are
    gains: tuple[tuple[str, float], ...] = ()  # ROI -> factor of its voxels' betas

    def __post_init__(self):
        if self.components is not None:
            _in_range("components", self.components, 1, 10**6, whole=True)
        if self.repeats is not None:
            _in_range("repeats", self.repeats, 1, MAX_REPEATS, whole=True)
        _check_gains(self.gains)
        if self.regressor not in REGRESSORS:
            raise ValueError(f"regressor: expected one of {', '.join(REGRESSORS)}, got {self.regressor!r}")
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt source: expected one of {', '.join(PROMPTS)}, got {self.prompt!r}")
        if self.prompt == "own" and not self.own_prompt.strip():
            raise ValueError("own prompt: expected some words, got none: type a prompt or choose another prompt source")


def stage_1_key(index: int, settings: Settings) -> tuple:
    """Equal for equal stage 1 pictures of test image `index`, whatever stage 2 does: a key for caches.

    Stage 1 shows all regressors at once, so which of them feeds stage 2 does not matter.
    """
    gains = tuple(sorted((name, float(gain)) for name, gain in settings.gains if gain != 1))
    return index, settings.components, settings.repeats, gains
