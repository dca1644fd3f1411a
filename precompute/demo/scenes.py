"""Scenes: what is in them, the picture, five captions. Deterministic: scene `index` of `seed` is always the same picture.

A scene is a setting × a light × a main object × its colour, with jittered horizon, position, size and texture, and
sometimes a second object. About one in eight (setting, object, light) combinations is kept out of training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import skia

from precompute.demo.brush import LIGHTS, Brush, lit
from precompute.demo.objects import COLOURS, OBJECTS
from precompute.demo.places import SETTINGS, Stage, sky

SIZE = 192  # pixels
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Scene:
    """Attributes of one picture; positions and sizes are shares of the picture's side."""

    setting: str
    light: str
    object: str
    colour: str
    x: float
    size: float
    horizon: float
    second: str | None
    second_colour: str | None
    second_x: float
    seed: tuple[int, int]

    @property
    def combination(self) -> tuple[str, str, str]:
        return self.setting, self.object, self.light


def fits(setting: str, thing: str) -> bool:
    """Whether an object can be in a setting: boats need water, open sea has no ground."""
    place = OBJECTS[thing][2]
    if place == "water":
        return setting in ("beach", "lake", "harbour", "sea")
    if place == "shore":
        return setting in ("beach", "lake", "harbour", "sea", "mountains", "meadow")
    return place == "sky" or setting != "sea"


def combinations() -> list[tuple[str, str, str]]:
    """All possible (setting, object, light)."""
    return [(s, o, li) for s in SETTINGS for o in OBJECTS for li in LIGHTS if fits(s, o)]


def unseen_combinations(seed: int) -> set[tuple[str, str, str]]:
    """The eighth of all combinations that training never shows."""
    every = combinations()
    order = np.random.default_rng((seed, 8)).permutation(len(every))
    return {every[k] for k in order[: len(every) // 8]}


def sample_scene(index: int, seed: int, allowed: list[tuple[str, str, str]]) -> Scene:
    """Draws the attributes of scene `index`."""
    rng = np.random.default_rng((seed, index))
    setting, thing, light = allowed[rng.integers(len(allowed))]
    x = rng.uniform(0.2, 0.8)
    second = None
    if rng.random() < 0.3:
        others = [o for o in OBJECTS if o != thing and fits(setting, o)]
        second = others[rng.integers(len(others))]
    return Scene(
        setting=setting,
        light=light,
        object=thing,
        colour=list(COLOURS)[rng.integers(len(COLOURS))],
        x=x,
        size=rng.uniform(0.85, 1.3),
        horizon=rng.uniform(0.42, 0.58),
        second=second,
        second_colour=list(COLOURS)[rng.integers(len(COLOURS))] if second else None,
        second_x=(x + rng.uniform(0.35, 0.65)) % 1.0,
        seed=(seed, index),
    )


def _place(b: Brush, stage: Stage, what: tuple[str, str], x: float, size: float, horizon: float):
    """Puts a thing of a colour where its kind belongs."""
    thing, colour = what
    painter, height, home = OBJECTS[thing]
    height = height * size
    if home == "sky":
        base = b.rng.uniform(min(height + 0.02, horizon), max(horizon, height + 0.04))
    else:
        span = stage.water if home == "water" or stage.ground is None else stage.ground
        base = b.rng.uniform(*span)
        base = max(base, min(height + 0.03, 0.97))
        b.ellipse((x + 0.04, base), (0.42 * height, 0.035 + 0.02 * height), (0, 0, 0), b.light.shadow)
    tone = lit(np.clip(np.add(COLOURS[colour], b.rng.normal(0, 6, 3)), 0, 255), b.light.on_objects)
    b.canvas.save()
    b.canvas.translate(x, base)
    b.canvas.scale(height * (1 if b.rng.random() < 0.5 else -1), height)
    painter(b, tuple(float(c) for c in tone))
    b.canvas.restore()


def render(scene: Scene) -> np.ndarray:
    """Paints a scene: (SIZE, SIZE, 3) uint8 RGB."""
    side = SIZE * SUPERSAMPLE
    surface = skia.Surface(side, side)
    canvas = surface.getCanvas()
    canvas.scale(side, side)
    b = Brush(canvas, np.random.default_rng((*scene.seed, 1)), LIGHTS[scene.light])
    sky(b, scene.horizon)
    stage = SETTINGS[scene.setting](b, scene.horizon)
    if scene.second:
        _place(b, stage, (scene.second, scene.second_colour), scene.second_x, 0.55, scene.horizon)
    _place(b, stage, (scene.object, scene.colour), scene.x, scene.size, scene.horizon)
    pixels = surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3]
    blocks = pixels.reshape(SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE, 3).astype(np.uint16)
    return ((blocks.sum((1, 3)) + SUPERSAMPLE**2 // 2) // SUPERSAMPLE**2).astype(np.uint8)


_PLACES = {
    "beach": ("on a sandy beach", "at the beach", "by the shore"),
    "meadow": ("in a green meadow", "on a flowery meadow", "among grassy hills"),
    "forest": ("in a pine forest", "in the woods", "among tall firs"),
    "city": ("on a city street", "in the city", "between tall buildings"),
    "desert": ("in the desert", "among sand dunes", "in a dry desert with cacti"),
    "snow": ("in the snow", "on a snowy plain", "in a winter landscape"),
    "lake": ("by a mountain lake", "at a lake", "near a calm lake"),
    "harbour": ("in a harbour", "at the docks", "by the quay of a harbour"),
    "sea": ("on the open sea", "out at sea", "over rolling waves at sea"),
    "mountains": ("in the mountains", "below snowy peaks", "in front of high mountains"),
}
_TIMES = {
    "noon": ("at noon", "under a bright blue sky", "on a sunny day"),
    "sunset": ("at sunset", "in the evening light", "under an orange sky"),
    "night": ("at night", "under the stars", "in the moonlight"),
    "overcast": ("on an overcast day", "under grey clouds", "on a cloudy day"),
}


def captions(scene: Scene) -> list[str]:
    """Five differently worded captions of a scene."""
    rng = np.random.default_rng((*scene.seed, 2))
    place = [_PLACES[scene.setting][k] for k in rng.integers(0, 3, 5)]
    time = [_TIMES[scene.light][k] for k in rng.integers(0, 3, 5)]
    article = "an" if scene.colour == "orange" else "a"
    thing = f"{article} {scene.colour} {scene.object}"
    other = f" and a {scene.second}" if scene.second else ""
    side = "on the left" if scene.x < 0.4 else "on the right" if scene.x > 0.6 else "in the middle"
    return [
        f"{thing}{other} {place[0]} {time[0]}",
        f"a picture of {thing} {place[1]}, {time[1]}",
        f"{place[2]}, {time[2]}: {thing}{other}",
        f"{thing} {side}, {place[3]} {time[3]}",
        f"the {scene.object} is {scene.colour}, {place[4]}, {time[4]}",
    ]


def labels(scene: Scene) -> dict:
    """The attributes as a flat, JSON-ready dictionary."""
    return {k: v for k, v in asdict(scene).items() if k != "seed"}
