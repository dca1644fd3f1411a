"""Ridge's R² against alpha as a picture: SVG, which needs no library."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np

from recon.files import whole_file

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 56, 190, 36, 44  # pixels
FLOOR = -0.2  # curves below are cut off: tokens that never vary reach minus infinity
LABELS = 32  # groups at most are named at the side


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def _colour(k: int, n: int) -> str:
    """From violet to orange."""
    return f"hsl({270 - 240 * k / max(1, n - 1):.0f} 65% 45%)"


def draw_alphas(path: Path, title: str, alphas: np.ndarray, curve: dict[str, list[float]]) -> None:
    """Writes an SVG: one line a group, R² at each alpha (n_alphas,), a dot at its best."""
    x = LEFT + (WIDTH - LEFT - RIGHT) * (np.arange(len(alphas)) + 0.5) / len(alphas)
    low = max(FLOOR, min((min(v) for v in curve.values()), default=0))
    high = max(max(v) for v in curve.values())
    scale = (HEIGHT - TOP - BOTTOM) / max(high - low, 1e-6)
    parts = [_text(LEFT, 20, f"{title}: mean R² of held-out training images against alpha", 'font-weight="bold"')]
    for at, alpha in zip(x, alphas):
        parts.append(_text(at, HEIGHT - 18, f"{alpha:.0e}".replace("e+0", "e"), 'text-anchor="middle"'))
    for value in np.linspace(low, high, 5):
        y = HEIGHT - BOTTOM - (value - low) * scale
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:.2f}", 'text-anchor="end"'))
    for k, (name, values) in enumerate(curve.items()):
        colour, y = _colour(k, len(curve)), HEIGHT - BOTTOM - (np.maximum(values, low) - low) * scale
        points, best = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y)), int(np.argmax(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x[best]:.1f}" cy="{y[best]:.1f}" r="3" fill="{colour}"/>')
        if len(curve) <= LABELS:
            step = min(15, (HEIGHT - TOP) / len(curve))
            size = math.floor(min(11, step))
            place = TOP + step * k
            parts.append(_text(WIDTH - RIGHT + 14, place, name, f'fill="{colour}" font-size="{size}"'))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">'
    with whole_file(path) as part:
        part.write_text(head + f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>' + "".join(parts) + "</svg>\n")
