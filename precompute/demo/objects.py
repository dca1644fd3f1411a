"""The things that scenes are about. Each painter draws in its own frame: base centre at (0, 0), one unit tall, y down."""

from __future__ import annotations

import numpy as np

from precompute.demo.brush import Brush, shade

COLOURS = {
    "red": (216, 44, 46),
    "orange": (243, 134, 32),
    "yellow": (250, 211, 56),
    "green": (46, 164, 84),
    "blue": (42, 104, 218),
    "purple": (136, 70, 194),
    "pink": (244, 122, 174),
    "white": (246, 244, 238),
}
DARK, SKIN, WOOD, GLASS, LAMP = (44, 44, 52), (238, 190, 156), (128, 84, 50), (176, 214, 232), (255, 226, 130)


def _window(b: Brush, x0, y0, x1, y1):
    night = b.light.name == "night"
    b.rect((x0, y0, x1, y1), LAMP if night else b.thing(GLASS), radius=0.01)
    if night:
        b.glow((x0 + x1) / 2, (y0 + y1) / 2, 0.25, LAMP, 0.35)


def house(b: Brush, c):
    roof = b.thing(shade((150, 70, 52), b.rng.uniform(-0.2, 0.1)))
    b.rect((0.22, -0.98, 0.34, -0.6), b.thing((120, 86, 76)))
    b.rect((-0.48, -0.6, 0.48, 0), (shade(c, 0.12), shade(c, -0.16)), across=True)
    b.polygon([(-0.6, -0.58), (0, -1.0), (0.6, -0.58)], (roof, shade(roof, -0.25)))
    b.rect((-0.1, -0.36, 0.1, 0), b.thing(WOOD), radius=0.02)
    for x in (-0.32, 0.32):
        _window(b, x - 0.1, -0.44, x + 0.1, -0.22)


def tree(b: Brush, c):
    b.polygon([(-0.07, 0), (-0.045, -0.5), (0.045, -0.5), (0.07, 0)], b.thing(WOOD))
    blobs = [(-0.2, -0.52, 0.22), (0.2, -0.5, 0.23), (0.0, -0.74, 0.27), (-0.04, -0.5, 0.2)]
    for x, y, r in blobs:
        x, y = x + b.rng.normal(0, 0.02), y + b.rng.normal(0, 0.02)
        b.ellipse((x, y), (r, r), (shade(c, 0.16), shade(c, -0.26)))
    for _ in range(9):
        b.ellipse(b.rng.uniform((-0.28, -0.9), (0.28, -0.4)), (0.035, 0.03), shade(c, 0.3), 0.6)


def sailboat(b: Brush, c):
    b.line([(0, -0.14), (0, -1)], 0.03, b.thing(WOOD))
    b.polygon([(0.04, -0.98), (0.04, -0.22), (0.46, -0.22)], (shade(c, 0.08), shade(c, -0.16)))
    b.polygon([(-0.04, -0.88), (-0.04, -0.22), (-0.36, -0.22)], shade(c, 0.26))
    b.polygon([(-0.5, -0.17), (0.54, -0.17), (0.36, 0.02), (-0.36, 0.02)], b.thing((112, 68, 44)))
    b.line([(-0.5, -0.165), (0.54, -0.165)], 0.035, b.thing((240, 236, 226)))


def car(b: Brush, c):
    b.polygon([(-0.5, -0.5), (-0.28, -0.92), (0.34, -0.92), (0.62, -0.5)], (shade(c, 0.05), shade(c, -0.1)))
    glass = b.thing((150, 196, 220))
    b.polygon([(-0.38, -0.53), (-0.22, -0.83), (0.02, -0.83), (0.02, -0.53)], glass)
    b.polygon([(0.08, -0.53), (0.08, -0.83), (0.3, -0.83), (0.48, -0.53)], glass)
    b.rect((-0.95, -0.55, 0.95, -0.16), (shade(c, 0.12), shade(c, -0.3)), radius=0.13)
    for x in (-0.55, 0.55):
        b.ellipse((x, -0.16), (0.2, 0.2), b.thing(DARK))
        b.ellipse((x, -0.16), (0.09, 0.09), b.thing((190, 190, 196)))
    b.ellipse((0.9, -0.4), (0.05, 0.07), LAMP)
    if b.light.name == "night":
        b.glow(1.05, -0.38, 0.4, LAMP, 0.5)


def balloon(b: Brush, c):
    for x in (-0.14, 0.14):
        b.line([(x * 2.0, -0.44), (x * 0.7, -0.13)], 0.014, b.thing(DARK))
    b.polygon([(-0.33, -0.5), (0.33, -0.5), (0.12, -0.24), (-0.12, -0.24)], shade(c, -0.2))
    b.ellipse((0, -0.62), (0.38, 0.38), (shade(c, 0.1), shade(c, -0.2)))
    b.ellipse((0, -0.62), (0.22, 0.38), shade(c, 0.4))
    b.ellipse((0, -0.62), (0.09, 0.38), (shade(c, 0.05), shade(c, -0.15)))
    b.rect((-0.11, -0.14, 0.11, 0), b.thing(WOOD), radius=0.02)


def bird(b: Brush, c):
    b.polygon([(-0.45, -0.42), (-0.95, -0.62), (-0.9, -0.3)], shade(c, -0.25))
    b.ellipse((-0.05, -0.4), (0.5, 0.28), (shade(c, 0.15), shade(c, -0.25)))
    b.ellipse((0.45, -0.62), (0.2, 0.19), shade(c, 0.1))
    b.polygon([(0.6, -0.66), (0.86, -0.57), (0.6, -0.5)], b.thing((246, 166, 40)))
    b.polygon([(-0.35, -0.5), (0.2, -0.5), (-0.28, -1.0)], shade(c, -0.35))
    b.ellipse((0.5, -0.67), (0.04, 0.04), DARK)


def cat(b: Brush, c):
    b.curve((0.25, -0.08), (0.66, -0.06), (0.5, -0.5), shade(c, -0.15), width=0.1)
    b.ellipse((0, -0.27), (0.3, 0.29), (shade(c, 0.05), shade(c, -0.22)))
    b.ellipse((0, -0.22), (0.15, 0.19), shade(c, 0.45))
    for side in (-1, 1):
        b.polygon([(side * 0.27, -0.7), (side * 0.24, -1.0), (side * 0.04, -0.84)], shade(c, -0.15))
    b.ellipse((0, -0.67), (0.28, 0.23), (shade(c, 0.16), shade(c, -0.08)))
    for side in (-1, 1):
        b.ellipse((side * 0.11, -0.7), (0.045, 0.055), DARK)
        b.line([(side * 0.12, -0.6), (side * 0.36, -0.57)], 0.012, b.thing(DARK))
        b.ellipse((side * 0.14, -0.03), (0.1, 0.05), shade(c, 0.1))
    b.polygon([(-0.04, -0.63), (0.04, -0.63), (0, -0.585)], b.thing((232, 120, 130)))


def person(b: Brush, c):
    skin, trousers = b.thing(SKIN), b.thing((58, 66, 96))
    swing = b.rng.uniform(0.03, 0.12)
    for side in (-1, 1):
        b.line([(side * 0.05, -0.42), (side * swing, -0.02)], 0.1, trousers)
        b.line([(side * 0.12, -0.72), (side * (0.17 + swing), -0.44)], 0.075, shade(c, -0.12))
        b.ellipse((side * (0.17 + swing), -0.42), (0.04, 0.04), skin)
    b.rect((-0.15, -0.77, 0.15, -0.38), (shade(c, 0.1), shade(c, -0.15)), radius=0.06)
    b.ellipse((0, -0.88), (0.105, 0.12), skin)
    b.dome(0, -0.89, 0.115, 0.125, b.thing((74, 48, 34)))


def flower(b: Brush, c):
    b.line([(0, 0), (0.02, -0.62)], 0.05, b.thing((52, 128, 58)))
    for side in (-1, 1):
        b.ellipse((side * 0.15, -0.22), (0.15, 0.06), b.thing((70, 150, 70)))
    turn = b.rng.uniform(0, 1)
    for k in range(8):
        a = (k + turn) * np.pi / 4
        b.ellipse((0.02 + 0.21 * np.cos(a), -0.7 + 0.21 * np.sin(a)), (0.12, 0.12), (shade(c, 0.14), shade(c, -0.1)))
    b.ellipse((0.02, -0.7), (0.12, 0.12), b.thing((122, 78, 34)))


def plane(b: Brush, c):
    b.polygon([(-0.85, -0.5), (-1.0, -1.0), (-0.72, -1.0), (-0.5, -0.55)], shade(c, -0.2))
    b.rect((-0.95, -0.64, 0.95, -0.28), (shade(c, 0.22), shade(c, -0.22)), radius=0.18)
    for x in np.linspace(-0.5, 0.5, 6):
        b.rect((x - 0.045, -0.53, x + 0.045, -0.43), LAMP if b.light.name == "night" else b.thing((60, 90, 120)))
    b.polygon([(0.18, -0.36), (-0.15, -0.36), (-0.5, 0.0), (-0.28, 0.0)], shade(c, -0.35))
    b.ellipse((0.78, -0.5), (0.09, 0.06), b.thing(GLASS))


def tent(b: Brush, c):
    b.polygon([(-0.75, 0), (-0.08, -0.98), (0.72, 0)], (shade(c, 0.12), shade(c, -0.12)))
    b.polygon([(-0.08, -0.98), (0.72, 0), (0.95, -0.1), (0.2, -0.94)], shade(c, -0.35))
    b.polygon([(-0.32, 0), (-0.08, -0.66), (0.12, 0)], LAMP if b.light.name == "night" else b.thing((62, 54, 52)))
    b.line([(-0.08, -1.0), (-0.08, -0.94)], 0.03, b.thing(WOOD))


def lighthouse(b: Brush, c):
    white = b.thing((246, 244, 238)) if sum(c) < 640 else b.thing((200, 60, 60))
    b.ellipse((0, 0), (0.34, 0.06), b.thing((104, 98, 94)))
    half = np.interp(np.linspace(0, 1, 6), (0, 1), (0.2, 0.12))
    for k in range(5):
        y0, y1 = -0.145 * k, -0.145 * (k + 1)
        tone = c if k % 2 == 0 else white
        points = [(-half[k], y0), (half[k], y0), (half[k + 1], y1), (-half[k + 1], y1)]
        b.polygon(points, (shade(tone, 0.1), shade(tone, -0.22)), across=True)
    b.rect((-0.16, -0.76, 0.16, -0.72), b.thing(DARK))
    b.rect((-0.09, -0.88, 0.09, -0.76), LAMP)
    b.polygon([(-0.14, -0.87), (0, -1.0), (0.14, -0.87)], shade(c, -0.25))
    if b.light.name in ("night", "sunset"):
        b.glow(0, -0.82, 0.45, LAMP, 0.75)


def umbrella(b: Brush, c):
    b.line([(0, 0), (0, -0.95)], 0.035, b.thing(WOOD))
    b.dome(0, -0.5, 0.62, 0.46, (shade(c, 0.12), shade(c, -0.14)))
    b.dome(0, -0.5, 0.36, 0.46, shade(c, 0.5))
    b.dome(0, -0.5, 0.13, 0.46, shade(c, 0.0))
    b.ellipse((0, -0.97), (0.03, 0.03), b.thing(WOOD))


def mushroom(b: Brush, c):
    b.rect((-0.14, -0.5, 0.14, 0.0), (b.thing((250, 240, 220)), b.thing((206, 190, 164))), radius=0.08)
    b.dome(0, -0.42, 0.55, 0.56, (shade(c, 0.1), shade(c, -0.22)))
    dots = b.thing((250, 248, 240) if sum(c) < 640 else (214, 70, 70))
    for x, y, r in ((-0.28, -0.56, 0.07), (0.05, -0.76, 0.09), (0.3, -0.58, 0.065), (-0.08, -0.53, 0.05)):
        b.ellipse((x, y), (r, r * 0.85), dots)


# name -> (painter, typical height as a share of the picture, where it lives)
OBJECTS = {
    "house": (house, 0.42, "ground"),
    "tree": (tree, 0.52, "ground"),
    "sailboat": (sailboat, 0.46, "water"),
    "car": (car, 0.25, "ground"),
    "balloon": (balloon, 0.46, "sky"),
    "bird": (bird, 0.26, "sky"),
    "cat": (cat, 0.36, "ground"),
    "person": (person, 0.46, "ground"),
    "flower": (flower, 0.46, "ground"),
    "plane": (plane, 0.22, "sky"),
    "tent": (tent, 0.34, "ground"),
    "lighthouse": (lighthouse, 0.58, "shore"),
    "umbrella": (umbrella, 0.42, "ground"),
    "mushroom": (mushroom, 0.36, "ground"),
}
