"""The places that scenes happen in. Each painter draws sky-to-foreground below a horizon and tells where things may stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from precompute.demo.brush import Brush, mix, shade
from precompute.demo.objects import LAMP, WOOD


@dataclass(frozen=True)
class Stage:
    """Vertical ranges (share of the picture, y down) in which the base of a thing may lie; None where it cannot."""

    ground: tuple[float, float] | None
    water: tuple[float, float] | None


def sky(b: Brush, horizon: float):
    """Sky gradient, sun or moon with its glow, clouds or stars."""
    light, rng = b.light, b.rng
    tint = rng.normal(0, 7, 3)
    zenith, low = (tuple(np.add(c, tint)) for c in (light.zenith, light.horizon))
    b.rect((0, 0, 1, horizon + 0.16), (zenith, low))
    if light.name == "night":
        for x, y, r in rng.uniform((0, 0, 0.002), (1, horizon, 0.006), (40, 3)):
            b.ellipse((x, y), (r, r), (255, 255, 245), rng.uniform(0.5, 1))
    if light.disc:
        x = rng.uniform(0.1, 0.9)
        y = horizon - 0.06 if light.name == "sunset" else rng.uniform(0.1, 0.24)
        radius = {"noon": 0.06, "sunset": 0.09, "night": 0.065}[light.name]
        b.glow(x, y, 5 * radius, light.disc, 0.55)
        b.ellipse((x, y), (radius, radius), light.disc)
    for _ in range({"noon": 3, "sunset": 3, "night": 1, "overcast": 8}[light.name]):
        _cloud(b, rng.uniform(0, 1), rng.uniform(0.05, max(0.12, horizon - 0.12)), rng.uniform(0.06, 0.14))


def _cloud(b: Brush, x, y, size):
    tones = {"noon": (255, 255, 255), "sunset": (255, 188, 160), "night": (60, 70, 110), "overcast": (176, 182, 190)}
    tone = tones[b.light.name]
    for dx, dy, r in ((-0.9, 0.1, 0.5), (-0.3, -0.15, 0.65), (0.35, -0.05, 0.7), (0.95, 0.12, 0.45)):
        b.ellipse((x + dx * size, y + dy * size), (r * size, 0.62 * r * size), tone, 0.72)


def _specks(b: Brush, n, y_range, colour, stroke, alpha=0.5):
    """n short strokes, larger when nearer: the texture of grass, waves, sand. `stroke`: how far right, how far up, and width."""
    (y0, y1), (length, slope, width) = y_range, stroke
    for u, v, k in b.rng.uniform(0, 1, (n, 3)):
        y = y0 + v * (y1 - y0)
        scale = 0.4 + 0.9 * (y - y0) / max(y1 - y0, 1e-6)
        b.line([(u, y), (u + length * scale, y - slope * scale)], width * scale, shade(colour, 0.5 * k - 0.2), alpha)


def _water(b: Brush, y0, y1, colour=(36, 112, 168)):
    far = mix(b.land(colour), b.light.horizon, 0.45)
    b.rect((0, y0, 1, y1), (far, b.land(shade(colour, -0.2))))
    _specks(b, 46, (y0 + 0.01, y1), mix(far, (255, 255, 255), 0.25), (0.06, 0, 0.004), alpha=0.45)


def _conifer(b: Brush, x, base, height, colour):
    for k in range(3):
        top, low, half = base - height * (1 - 0.22 * k), base - height * (0.55 - 0.25 * k), height * (0.14 + 0.06 * k)
        b.polygon([(x - half, low), (x, top), (x + half, low)], (shade(colour, 0.1), shade(colour, -0.25)))


def beach(b: Brush, h):
    shore = h + b.rng.uniform(0.12, 0.2)
    _water(b, h, shore + 0.06, (30, 140, 180))
    sand = b.land(shade((236, 208, 150), b.rng.uniform(-0.08, 0.08)))
    y = b.ridge(shore + 0.04, (0.05, 0.05), (shade(sand, 0.12), shade(sand, -0.16)), peaks=2)
    b.line(list(zip(np.linspace(0, 1, 33), y)), 0.014, b.land((255, 255, 255)), 0.85)
    _specks(b, 50, (shore + 0.06, 1), sand, (0.02, 0, 0.004))
    return Stage((shore + 0.12, 0.95), (h + 0.05, shore))


def meadow(b: Brush, h):
    grass = shade((104, 176, 66), b.rng.uniform(-0.12, 0.12))
    b.ridge(h + 0.02, (0.12, 0), b.land(shade(mix(grass, (90, 150, 150), 0.4), -0.1)), peaks=3)
    b.ridge(h + 0.07, (0.07, 0), (b.land(shade(grass, 0.15)), b.land(shade(grass, -0.3))), peaks=2)
    _specks(b, 90, (h + 0.08, 1), b.land(grass), (0.006, 0.03, 0.006), alpha=0.7)
    petals = [(255, 255, 255), (250, 214, 70), (236, 120, 160)]
    for u, v in b.rng.uniform(0, 1, (22, 2)):
        b.ellipse((u, h + 0.12 + v * (0.86 - h)), (0.008, 0.007), b.land(petals[int(u * 3)]))
    return Stage((h + 0.14, 0.94), None)


def forest(b: Brush, h):
    dark = shade((36, 96, 58), b.rng.uniform(-0.1, 0.15))
    for row, (base, size, tone) in enumerate(((h + 0.03, 0.3, 0.18), (h + 0.1, 0.42, -0.1))):
        for x in np.arange(-0.05, 1.08, 0.1 + 0.03 * row):
            _conifer(b, x + b.rng.normal(0, 0.015), base, size * b.rng.uniform(0.8, 1.15), b.land(shade(dark, tone)))
    floor = b.land(shade((84, 104, 48), b.rng.uniform(-0.1, 0.1)))
    b.rect((0, h + 0.08, 1, 1), (shade(floor, 0.05), shade(floor, -0.35)))
    _specks(b, 80, (h + 0.1, 1), floor, (0.012, 0.015, 0.007), alpha=0.6)
    return Stage((h + 0.18, 0.94), None)


def city(b: Brush, h):
    x = -0.03
    while x < 1:
        width, height = b.rng.uniform(0.1, 0.18), b.rng.uniform(0.18, 0.46)
        tone = b.land(shade((130, 120, 132), b.rng.uniform(-0.35, 0.3)))
        base = h + 0.08
        b.rect((x, base - height, x + width, base), (shade(tone, 0.1), shade(tone, -0.1)))
        for wx in np.arange(x + 0.02, x + width - 0.03, 0.035):
            for wy in np.arange(base - height + 0.03, base - 0.04, 0.05):
                on = b.light.name == "night" and b.rng.random() < 0.55
                b.rect((wx, wy, wx + 0.018, wy + 0.025), LAMP if on else shade(tone, -0.35))
        x += width + b.rng.uniform(0, 0.015)
    road = b.land(shade((92, 92, 100), b.rng.uniform(-0.1, 0.15)))
    b.rect((0, h + 0.08, 1, h + 0.15), b.land((186, 180, 172)))
    b.rect((0, h + 0.15, 1, 1), (shade(road, 0.05), shade(road, -0.2)))
    for x in np.arange(b.rng.uniform(-0.1, 0), 1, 0.2):
        b.rect((x, h + 0.29, x + 0.1, h + 0.305), b.land((250, 246, 226)))
    return Stage((h + 0.17, 0.94), None)


def desert(b: Brush, h):
    sand = shade((232, 168, 96), b.rng.uniform(-0.1, 0.1))
    b.ridge(h + 0.02, (0.14, 0.08), b.land(shade((190, 100, 66), b.rng.uniform(-0.1, 0.1))), peaks=2)
    b.ridge(h + 0.08, (0.1, 0), (b.land(shade(sand, 0.2)), b.land(shade(sand, -0.15))), peaks=2)
    b.ridge(h + 0.24, (0.12, 0), (b.land(shade(sand, 0.08)), b.land(shade(sand, -0.25))), peaks=1)
    for _ in range(b.rng.integers(1, 4)):
        x, y, s = b.rng.uniform(0, 1), h + b.rng.uniform(0.06, 0.14), b.rng.uniform(0.08, 0.14)
        green = b.land((66, 120, 70))
        b.line([(x, y), (x, y - s)], 0.022, green)
        b.line([(x - 0.035, y - 0.75 * s), (x - 0.035, y - 0.45 * s), (x, y - 0.4 * s)], 0.014, green)
        b.line([(x + 0.035, y - 0.85 * s), (x + 0.035, y - 0.55 * s), (x, y - 0.5 * s)], 0.014, green)
    return Stage((h + 0.18, 0.94), None)


def snow(b: Brush, h):
    white = shade((232, 240, 250), b.rng.uniform(-0.06, 0.0))
    b.ridge(h + 0.02, (0.16, 0.03), b.land(shade((150, 176, 206), b.rng.uniform(-0.1, 0.1))), peaks=3)
    for x in b.rng.uniform(0, 1, 6):
        _conifer(b, x, h + 0.08, b.rng.uniform(0.12, 0.22), b.land((60, 104, 100)))
    b.ridge(h + 0.1, (0.07, 0), (b.land(white), b.land(shade((180, 204, 236), -0.05))), peaks=2)
    for u, v in b.rng.uniform(0, 1, (46, 2)):
        b.ellipse((u, v), (0.007, 0.007), b.land((255, 255, 255)), 0.85)
    return Stage((h + 0.15, 0.94), None)


def lake(b: Brush, h):
    peak = shade((92, 118, 140), b.rng.uniform(-0.15, 0.15))
    b.ridge(h + 0.02, (0.26, 0.12), (b.land(shade(peak, 0.25)), b.land(shade(peak, -0.2))), peaks=3)
    b.ridge(h + 0.03, (0.06, 0.3), b.land((58, 108, 74)), peaks=5)
    shore = b.rng.uniform(0.8, 0.86)
    _water(b, h + 0.02, 1, (52, 122, 150))
    b.ridge(h + 0.09, (-0.05, 0.2), b.land((50, 92, 84)), peaks=5, bottom=h + 0.02, alpha=0.55)
    grass = b.land((92, 150, 64))
    b.ridge(shore, (0.04, 0.08), (shade(grass, 0.1), shade(grass, -0.3)), peaks=2)
    _specks(b, 36, (shore, 1), grass, (0.006, 0.035, 0.007), alpha=0.8)
    return Stage((shore + 0.04, 0.96), (h + 0.1, shore - 0.04))


def harbour(b: Brush, h):
    x = -0.02
    while x < 1:
        width, height = b.rng.uniform(0.12, 0.2), b.rng.uniform(0.1, 0.18)
        tone = b.land(
            shade([(176, 92, 72), (206, 176, 132), (112, 132, 150)][b.rng.integers(3)], b.rng.uniform(-0.1, 0.1))
        )
        b.rect((x, h - height, x + width, h + 0.02), (shade(tone, 0.1), shade(tone, -0.15)))
        b.polygon([(x, h - height), (x + width / 2, h - height - 0.05), (x + width, h - height)], shade(tone, -0.35))
        x += width
    crane = b.land((222, 160, 46))
    cx = b.rng.uniform(0.15, 0.85)
    b.line([(cx, h), (cx, h - 0.34), (cx + 0.22, h - 0.36)], 0.016, crane)
    b.line([(cx + 0.18, h - 0.36), (cx + 0.18, h - 0.24)], 0.006, crane)
    _water(b, h, 1, (44, 96, 124))
    quay = b.rng.uniform(0.78, 0.84)
    stone = b.land(shade((158, 150, 140), b.rng.uniform(-0.1, 0.1)))
    b.rect((0, quay, 1, 1), (shade(stone, 0.12), shade(stone, -0.25)))
    b.line([(0, quay), (1, quay)], 0.02, shade(stone, 0.3))
    for x in np.arange(b.rng.uniform(0, 0.15), 1, 0.24):
        b.rect((x, quay - 0.06, x + 0.03, quay + 0.02), b.land(shade(WOOD, -0.2)), radius=0.01)
    return Stage((quay + 0.06, 0.96), (h + 0.08, quay - 0.05))


def sea(b: Brush, h):
    if b.rng.random() < 0.6:
        b.ridge(h + 0.005, (0.05, 0.1), b.land(shade((96, 116, 120), b.rng.uniform(-0.1, 0.2))), peaks=2)
    colour = shade((22, 84, 150), b.rng.uniform(-0.15, 0.15))
    _water(b, h, 1, colour)
    for k, y in enumerate(np.linspace(h + 0.1, 0.96, 5)):
        crest = b.land(shade(colour, 0.3 - 0.03 * k))
        b.ridge(y, (0.03 + 0.008 * k, 0), (crest, b.land(shade(colour, -0.15))), peaks=6, bottom=y + 0.06, alpha=0.55)
    return Stage(None, (h + 0.14, 0.9))


def mountains(b: Brush, h):
    rock = shade((118, 112, 128), b.rng.uniform(-0.15, 0.15))
    n = b.rng.integers(2, 4)
    for x in np.sort(b.rng.uniform(0.05, 0.95, n)):
        top, half = h - b.rng.uniform(0.24, 0.4), b.rng.uniform(0.3, 0.45)
        b.polygon([(x - half, h + 0.06), (x, top), (x + half, h + 0.06)], (b.land(shade(rock, 0.12)), b.land(rock)))
        b.polygon([(x, top), (x + half, h + 0.06), (x + 0.25 * half, h + 0.06)], b.land(shade(rock, -0.35)), 0.7)
        cap, k = b.land((246, 250, 255)), 0.3
        low = top + k * (h + 0.06 - top)
        zigzag = [(x + k * half * t, low + (0.03 if i % 2 else 0)) for i, t in enumerate((1, 0.5, 0, -0.5, -1))]
        b.polygon([(x, top), *zigzag], cap)
    slope = shade((86, 132, 76), b.rng.uniform(-0.12, 0.1))
    b.ridge(h + 0.1, (0.08, 0.05), (b.land(shade(slope, 0.1)), b.land(shade(slope, -0.35))), peaks=3)
    _specks(b, 46, (h + 0.12, 1), b.land(shade(slope, -0.05)), (0.02, 0.01, 0.007))
    return Stage((h + 0.16, 0.94), None)


SETTINGS = {
    painter.__name__: painter for painter in (beach, meadow, forest, city, desert, snow, lake, harbour, sea, mountains)
}
