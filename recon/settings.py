"""What a visitor may choose of a reconstruction, checked. Imports no model: a page needs this before any is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import shorten

REGRESSORS = ("ridge", "mlp")
MAX_STEPS, MAX_GUIDANCE, MAX_PROMPT = 8, 2.0, 300  # denoising steps, guidance scale, characters
MAX_IMAGE_SCALE = 1.5  # of the image adapter
MAX_GAIN = 2.0  # of an ROI
MAX_GAINS, MAX_NAME = 64, 64  # ROIs with a gain, characters of a name
MIN_STRENGTH = 0.2  # 10 of the 50 timesteps an LCM is distilled on: eight steps need at least eight
PROMPTS = {
    "decoded": "the prompt embedding decoded from the brain",
    "caption": "the training caption nearest to what the brain says",
    "own": "your own words",
    "none": "no prompt",
    "oracle": "the true captions: knows the answer",
}
GUIDES = {
    "decoded": "the image embedding decoded from the brain",
    "nearest": "the embedding of the training image nearest to what the brain says",
    "oracle": "the embedding of the image that was shown: knows the answer",
}
MEANINGS = {  # presets of `balance`
    "Text only": 0.0,
    "Both": 0.5,
    "Brain-Diffuser’s balance": 0.6,
    "Image only": 1.0,
}
RESPONSES = {  # what is decoded; all but the first are nulls: what comes of them owes nothing to the image
    "own": "the response to this image",
    "other": "the response to another image",
    "shuffled": "this response with its voxels shuffled",
    "none": "no response: every voxel at its mean",
}


@dataclass(frozen=True)
class LCMSettings:
    """How stage 2 runs. Raises ValueError, naming what was expected, on anything out of range."""

    steps: int = 4  # denoising steps = UNet evaluations
    guidance: float = 1.0  # above 1 the empty prompt is evaluated as well
    strength: float = 0.8  # how much of the noise schedule is run through; 1 forgets the picture it starts from
    seed: int = 0

    def __post_init__(self):
        in_range("LCM steps", self.steps, 1, MAX_STEPS, whole=True)
        in_range("guidance", self.guidance, 1, MAX_GUIDANCE)
        in_range("strength", self.strength, MIN_STRENGTH, 1)
        in_range("seed", self.seed, 0, 2**32 - 1, whole=True)
        for name in ("steps", "seed"):  # 4.0 is 4
            object.__setattr__(self, name, int(getattr(self, name)))


def shown(value: object) -> str:
    """A value that somebody sent, as a message quotes it: no longer than a line."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return "a very large number"  # which str() refuses to write from 4,300 on
    return shorten(repr(value) if len(str(value)) < 1000 else f"{str(value)[:60]!r}", 80, placeholder=" …")


def in_range(name: str, value, low, high, whole: bool = False) -> None:
    """Raises ValueError unless a value is a number, a whole one if told so, from low to high."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):  # NaN is not within
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: expected {kind} from {low} to {high}, got {shown(value)}")


@dataclass(frozen=True)
class Settings:
    """What is read from the brain, what feeds stage 2, and how it runs.

    Raises ValueError on an unknown regressor or prompt source, an empty own prompt, or anything out of range.
    """

    regressor: str = "mlp"
    prompt: str = "decoded"
    own_prompt: str = ""
    lcm: LCMSettings = LCMSettings()
    repeats: int | None = None  # how many responses to the picture are averaged; all that there are if None
    components: int | None = None  # of the regressors: the first of them, all if None
    gains: tuple[tuple[str, float], ...] = ()  # ROI -> what its voxels are multiplied by: 0 lesions it
    balance: float = 0.0  # what stage 2's meaning comes from: 0 text alone, 0.5 both in full, 1 the image alone
    image_scale: float = 0.8  # of the image adapter, where the image counts in full
    guide: str = "decoded"  # where the image embedding comes from
    response: str = "own"  # one of RESPONSES

    @property
    def text_share(self) -> float:
        """How much of the prompt is left: the rest is the empty prompt."""
        return min(1.0, 2 * (1 - self.balance))

    @property
    def image_share(self) -> float:
        """The adapter's scale, as far as the balance lets it count."""
        return self.image_scale * min(1.0, 2 * self.balance)

    @property
    def knows_the_answer(self) -> bool:
        """Whether something that only the image shown could tell enters."""
        return self.prompt == "oracle" or (self.guide == "oracle" and self.image_share > 0)

    @property
    def reading(self) -> tuple:
        """What stage 1 depends on besides the picture."""
        return self.repeats, self.components, self.gains, self.response

    def __post_init__(self):
        if self.regressor not in REGRESSORS:
            raise ValueError(f"regressor: expected one of {', '.join(REGRESSORS)}, got {shown(self.regressor)}")
        if self.prompt not in tuple(PROMPTS):
            raise ValueError(f"prompt source: expected one of {', '.join(PROMPTS)}, got {shown(self.prompt)}")
        if self.guide not in tuple(GUIDES):
            raise ValueError(f"image embedding: expected one of {', '.join(GUIDES)}, got {shown(self.guide)}")
        in_range("balance of text and image", self.balance, 0, 1)
        in_range("image scale", self.image_scale, 0, MAX_IMAGE_SCALE)
        if self.response not in tuple(RESPONSES):
            raise ValueError(f"response: expected one of {', '.join(RESPONSES)}, got {shown(self.response)}")
        if not isinstance(self.own_prompt, str):
            raise ValueError(f"own prompt: expected words, got {shown(self.own_prompt)}")
        if any("\ud800" <= letter <= "\udfff" for letter in self.own_prompt):  # halves of letters, which JSON may write
            raise ValueError("own prompt: expected whole letters, got half of one: type the words again")
        if len(self.own_prompt) > MAX_PROMPT:
            raise ValueError(
                f"own prompt: expected at most {MAX_PROMPT} characters, got {len(self.own_prompt)}: shorten it"
            )
        if self.prompt == "own" and not self.own_prompt.strip():
            raise ValueError("own prompt: expected some words, got none: type a prompt or choose another prompt source")
        for name in ("repeats", "components"):
            if getattr(self, name) is not None:
                in_range(name, getattr(self, name), 1, 2**31, whole=True)
                object.__setattr__(self, name, int(getattr(self, name)))
        if not isinstance(self.gains, tuple) or not all(isinstance(g, tuple) and len(g) == 2 for g in self.gains):
            raise ValueError(f"gains: expected areas and numbers, got {shown(self.gains)}")
        if len(self.gains) > MAX_GAINS:
            raise ValueError(f"gains: expected at most {MAX_GAINS} areas, got {len(self.gains)}")
        for roi, gain in self.gains:
            if not isinstance(roi, str) or len(roi) > MAX_NAME:
                raise ValueError(f"gains: expected names of areas, got {shown(roi)}")
            in_range(f"gain of {roi}", gain, 0, MAX_GAIN)


AXES = {  # what a comparison may vary -> values; those of LCMSettings first
    "steps": (1, 2, 4, 8),
    "guidance": (1.0, 1.25, 1.5, 2.0),
    "strength": (0.4, 0.6, 0.8, 1.0),
    "seed": (0, 1, 2, 3),
    "regressor": REGRESSORS,
    "prompt": tuple(p for p in PROMPTS if p != "own"),
    "components": (1, 4, 16, 64),
    "repeats": (1, 2, 3),
    "balance": (0.0, 0.3, 0.6, 1.0),
    "image_scale": (0.4, 0.6, 0.8, 1.0),
    "guide": tuple(GUIDES),
}


def with_choice(settings: Settings, axis: str, value) -> Settings:
    """Settings with one thing changed. Raises ValueError on an unknown axis or a value out of range."""
    if axis not in AXES:
        raise ValueError(f"axis: expected one of {', '.join(AXES)}, got {axis!r}")
    if axis in ("steps", "guidance", "strength", "seed"):
        return replace(settings, lcm=replace(settings.lcm, **{axis: value}))
    return replace(settings, **{axis: value})
