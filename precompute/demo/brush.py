"""A thin brush over Skia: unit coordinates, light-aware colours. Everything the scene painters share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

Colour = tuple[float, float, float]  # RGB in [0, 255]


@dataclass(frozen=True)
class Light:
    """How a light treats colours: `ambient` multiplies the landscape, `on_objects` (milder) what stands in it."""

    name: str
    zenith: Colour
    horizon: Colour
    ambient: Colour
    on_objects: Colour
    disc: Colour | None  # sun or moon
    shadow: float  # opacity of cast shadows


LIGHTS = {
    light.name: light
    for light in (
        Light("noon", (58, 137, 221), (190, 226, 246), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (255, 247, 205), 0.30),
        Light("sunset", (88, 66, 140), (255, 158, 84), (1.0, 0.74, 0.62), (1.0, 0.90, 0.84), (255, 214, 120), 0.34),
        Light("night", (10, 14, 46), (40, 56, 112), (0.34, 0.40, 0.62), (0.80, 0.82, 0.94), (240, 240, 222), 0.20),
        Light("overcast", (142, 150, 160), (206, 210, 213), (0.74, 0.77, 0.80), (0.93, 0.94, 0.95), None, 0.14),
    )
}


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """Linear blend of two colours, t = 0 gives a."""
    return tuple((1 - t) * x + t * y for x, y in zip(a, b))


def lit(colour: Colour, by: Colour) -> Colour:
    """A colour under a light (channel-wise product)."""
    return tuple(c * k for c, k in zip(colour, by))


def shade(colour: Colour, amount: float) -> Colour:
    """Lighter for amount > 0, darker for amount < 0; ±1 is white or black."""
    return mix(colour, (255, 255, 255) if amount > 0 else (0, 0, 0), abs(amount))


def to_skia(colour: Colour, alpha: float = 1.0) -> int:
    r, g, b = (int(min(255, max(0, round(c)))) for c in colour)
    return skia.Color(r, g, b, int(round(255 * alpha)))


class Brush:
    """Draws shapes on a canvas in the current frame; y grows downwards. A fill is a colour or a top-bottom pair."""

    def __init__(self, canvas: skia.Canvas, rng: np.random.Generator, light: Light):
        self.canvas, self.rng, self.light = canvas, rng, light

    def land(self, colour: Colour) -> Colour:
        return lit(colour, self.light.ambient)

    def thing(self, colour: Colour) -> Colour:
        return lit(colour, self.light.on_objects)

    def paint(self, fill, alpha=1.0, span=(0.0, 1.0), across=False) -> skia.Paint:
        paint = skia.Paint(AntiAlias=True)
        if isinstance(fill[0], tuple):
            ends = [(s, 0) if across else (0, s) for s in span]
            paint.setShader(
                skia.GradientShader.MakeLinear(
                    points=[skia.Point(*e) for e in ends], colors=[to_skia(c, alpha) for c in fill]
                )
            )
        else:
            paint.setColor(to_skia(fill, alpha))
        return paint

    def polygon(self, points, fill, alpha=1.0, span=None, across=False):
        axis = [p[0 if across else 1] for p in points]
        path = skia.Path()
        path.addPoly([skia.Point(float(x), float(y)) for x, y in points], True)
        self.canvas.drawPath(path, self.paint(fill, alpha, span or (min(axis), max(axis)), across))

    def rect(self, box, fill, alpha=1.0, radius=0.0, across=False):
        """A rectangle of rounded corners; `box`: left, top, right, bottom."""
        x0, y0, x1, y1 = box
        span = (x0, x1) if across else (y0, y1)
        self.canvas.drawRoundRect(skia.Rect.MakeLTRB(*box), radius, radius, self.paint(fill, alpha, span, across))

    def ellipse(self, centre, radii, fill, alpha=1.0, across=False):
        (x, y), (rx, ry) = centre, radii
        span = (x - rx, x + rx) if across else (y - ry, y + ry)
        self.canvas.drawOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry), self.paint(fill, alpha, span, across))

    def line(self, points, width, colour, alpha=1.0):
        paint = self.paint(colour, alpha)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        path = skia.Path()
        path.addPoly([skia.Point(float(x), float(y)) for x, y in points], False)
        self.canvas.drawPath(path, paint)

    def curve(self, start, control, end, fill, width=None, alpha=1.0):
        """A quadratic curve: stroked when `width` is given, else filled."""
        path = skia.Path()
        path.moveTo(*start)
        path.quadTo(*control, *end)
        paint = self.paint(fill, alpha, (min(start[1], control[1]), max(start[1], end[1])))
        if width:
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
        self.canvas.drawPath(path, paint)

    def dome(self, x, y, rx, ry, fill, alpha=1.0):
        """The upper half of an ellipse whose base lies at y."""
        self.canvas.save()
        self.canvas.clipRect(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y))
        self.ellipse((x, y), (rx, ry), fill, alpha)
        self.canvas.restore()

    def glow(self, x, y, radius, colour, alpha=0.6):
        paint = skia.Paint(AntiAlias=True)
        paint.setShader(
            skia.GradientShader.MakeRadial(
                center=skia.Point(x, y), radius=radius, colors=[to_skia(colour, alpha), to_skia(colour, 0.0)]
            )
        )
        self.canvas.drawCircle(x, y, radius, paint)

    def ridge(self, base, shape, fill, peaks=4, bottom=1.0, alpha=1.0):
        """A skyline from x = 0 to 1: sum of sines (round hills) plus random steps; returns its heights.

        `shape`: height of the hills, and of the steps as a part of it.
        """
        height, roughness = shape
        x = np.linspace(0, 1, 33)
        phase = self.rng.uniform(0, 2 * np.pi, 3)
        y = sum(np.sin(2 * np.pi * peaks * f * x / 2 + p) / f for f, p in zip((1, 1.7, 2.9), phase)) / 3
        y = base - height * (0.5 + 0.5 * y) - roughness * height * self.rng.uniform(0, 1, 33)
        points = [(0.0, bottom), *zip(x, y), (1.0, bottom)]
        self.polygon(points, fill, alpha, span=(float(y.min()), bottom))
        return y
