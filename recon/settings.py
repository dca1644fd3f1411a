"""What a visitor may choose of a reconstruction, checked. Imports no model: a page needs this before any is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

REGRESSORS = ("ridge", "mlp")
MAX_STEPS, MAX_GUIDANCE, MAX_PROMPT = 8, 2.0, 300  # denoising steps, guidance scale, characters
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


@dataclass(frozen=True)
class Settings:
    """What feeds stage 2, and how it runs. Raises ValueError on an unknown regressor or prompt source, or an empty own prompt."""

    regressor: str = "mlp"
    prompt: str = "decoded"
    own_prompt: str = ""
    lcm: LCMSettings = LCMSettings()

    def __post_init__(self):
        if self.regressor not in REGRESSORS:
            raise ValueError(f"regressor: expected one of {', '.join(REGRESSORS)}, got {self.regressor!r}")
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt source: expected one of {', '.join(PROMPTS)}, got {self.prompt!r}")
        if self.prompt == "own" and not self.own_prompt.strip():
            raise ValueError("own prompt: expected some words, got none: type a prompt or choose another prompt source")
