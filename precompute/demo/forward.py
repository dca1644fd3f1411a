"""The simulated brain's forward model: pictures to noise-free responses (FACTS of the field in the docstrings below).

Early areas (V1-V3, hV4): Gabor energy (6 orientations × 8 log-spaced frequencies) and rectified opponent colours, pooled by a
Gaussian population receptive field, then log(1 + √energy) and a compressive exponent (Kay et al. 2013). Category areas: a map
of what is where, from the scene's labels, under a large receptive field, with 10-20 % of Gabor leakage. None of these
features is used by the encoding model that the precompute fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from precompute.demo.brush import LIGHTS
from precompute.demo.cortex import Cortex
from precompute.demo.objects import COLOURS, OBJECTS
from precompute.demo.places import SETTINGS

SPAN = 8.4  # degrees of visual angle across the picture
SIDE, GRID = 64, 32  # pixels of the filtered picture, and of the maps that receptive fields pool
N_ORIENTATIONS, FREQUENCIES = 6, np.geomspace(2.0, 22.0, 8)  # cycles a picture
SLOPES = {"V1": 0.10, "V2": 0.15, "V3": 0.25, "hV4": 0.35}  # receptive-field size against eccentricity
EXPONENTS = {"V1": 0.35, "V2": 0.30, "V3": 0.25, "hV4": 0.20}
EARLY = tuple(SLOPES)
CHANNELS = N_ORIENTATIONS * len(FREQUENCIES) + 6

ANIMATE, PLACES, ARTEFACTS = ("person", "cat", "bird"), ("house", "lighthouse", "tent"), ("car", "plane", "sailboat")
PREFERENCES = {  # what an area responds to most; every voxel varies around it
    "OFA": {"person": 1.0, "cat": 0.9, "bird": 0.6, "flower": 0.5},
    "FFA": {"person": 1.0, "cat": 0.8, "bird": 0.5},
    "EBA": {"person": 1.0, "cat": 0.7, "bird": 0.8},
    "PPA": {**dict.fromkeys(PLACES, 0.9), "car": 0.4, "tree": 0.5},
    "OPA": {**dict.fromkeys(PLACES, 0.8), "tree": 0.6},
    "RSC": {**dict.fromkeys(PLACES, 0.6), "tree": 0.4},
    "VWFA": {**dict.fromkeys(ARTEFACTS, 0.8), "umbrella": 0.7, "balloon": 0.5},
}
SCENE_AREAS = ("PPA", "OPA", "RSC")


@dataclass(frozen=True)
class Tuning:
    """The truth about every voxel: receptive field, channel weights, category weights, exponent, true ncsnr."""

    x: np.ndarray  # (n_voxels,) degrees, right positive
    y: np.ndarray  # (n_voxels,) degrees, up positive
    size: np.ndarray  # (n_voxels,) degrees, SD of the Gaussian
    channels: np.ndarray  # (n_voxels, CHANNELS) non-negative
    objects: np.ndarray  # (n_voxels, n_objects)
    colours: np.ndarray  # (n_voxels, n_colours), of the main object
    settings: np.ndarray  # (n_voxels, n_settings)
    lights: np.ndarray  # (n_voxels, n_lights)
    leakage: np.ndarray  # (n_voxels,) share of the early signal: 1 in early areas, 0.1-0.2 in category areas
    exponent: np.ndarray  # (n_voxels,)
    ncsnr: np.ndarray  # (n_voxels,) SD of the signal over SD of the noise; 0 marks a null voxel


def draw_tuning(cortex: Cortex, seed: int) -> Tuning:
    """Random but area-typical tuning of every voxel."""
    rng = np.random.default_rng((seed, 21))
    n, area = len(cortex.area), cortex.area
    early = np.isin(area, EARLY)
    slope = np.array([SLOPES.get(a, 0.5) for a in area])
    size = np.where(early, 0.2, 0.9) + slope * cortex.eccentricity
    size = size * rng.lognormal(0, 0.15, n)

    orientation = rng.integers(0, N_ORIENTATIONS, n)[:, None] - np.arange(N_ORIENTATIONS)
    orientation = np.exp(2.0 * (np.cos(2 * np.pi * orientation / N_ORIENTATIONS) - 1))
    preferred = np.log(np.clip(3.5 / size, FREQUENCIES[0], FREQUENCIES[-1])) + rng.normal(0, 0.3, n)
    frequency = np.exp(-0.5 * ((np.log(FREQUENCIES) - preferred[:, None]) / 0.5) ** 2)
    gabor = (orientation[:, :, None] * frequency[:, None, :]).reshape(n, -1)
    colour = rng.gamma(0.5, 1.0, (n, 6))
    colour_share = rng.beta(1.2, 1.2, n)[:, None]
    gabor, colour = (w / w.sum(1, keepdims=True) for w in (gabor, colour))
    channels = np.concatenate([(1 - colour_share) * gabor, colour_share * colour], 1)

    objects = rng.lognormal(0, 0.6, (n, len(OBJECTS))) * 0.35
    for name, preference in PREFERENCES.items():
        base = np.array([preference.get(o, 0.1) for o in OBJECTS])
        here = area == name
        objects[here] = base * rng.lognormal(0, 0.3, (here.sum(), len(OBJECTS)))
    scene_gain = np.where(np.isin(area, SCENE_AREAS), 1.0, np.where(area == "", 0.5, 0.15))[:, None]
    settings = scene_gain * rng.normal(0, 0.8, (n, len(SETTINGS)))
    lights = scene_gain * rng.normal(0, 0.5, (n, len(LIGHTS)))
    colours = rng.normal(0, 0.35, (n, len(COLOURS)))
    leakage = np.where(early, 1.0, rng.uniform(0.1, 0.2, n))

    median = np.select([early, area == "", np.isin(area, list(PREFERENCES))], [0.5, 0.4, 0.6])
    ncsnr = median * rng.lognormal(0, 0.45, n)
    null = rng.random(n) < np.where(area == "", 0.2, 0.05)
    angle = cortex.angle
    return Tuning(
        x=cortex.eccentricity * np.cos(angle),
        y=cortex.eccentricity * np.sin(angle),
        size=size,
        channels=channels,
        objects=objects,
        colours=colours,
        settings=settings,
        lights=lights,
        leakage=leakage,
        exponent=np.array([EXPONENTS.get(a, 0.25) for a in area]),
        ncsnr=np.where(null, 0, np.minimum(ncsnr, 1.6)),
    )


def receptive_fields(tuning: Tuning) -> np.ndarray:
    """(n_voxels, GRID²) float32 Gaussian weights over the picture, each of sum at most 1 (less at the border)."""
    degrees = (np.arange(GRID) + 0.5) / GRID * SPAN - SPAN / 2
    gx = np.exp(-0.5 * ((degrees - tuning.x[:, None]) / tuning.size[:, None]) ** 2)
    gy = np.exp(-0.5 * ((-degrees - tuning.y[:, None]) / tuning.size[:, None]) ** 2)
    step = SPAN / GRID
    norm = 2 * np.pi * tuning.size**2 / step**2
    fields = (gy[:, :, None] * gx[:, None, :]).reshape(len(gx), -1) / norm[:, None]
    return np.where(fields > 1e-8, fields, 0).astype(np.float32)  # far tails would be denormals: 30 times slower


def _gabor_filters() -> torch.Tensor:
    """(n, SIDE, SIDE) transfer functions of analytic log-Gabor filters (one half-plane, so |response| is the energy)."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE) * SIDE, indexing="ij")
    radius, theta = np.hypot(fx, fy), np.arctan2(fy, fx)
    radius[0, 0] = 1e-9
    filters = []
    for k in range(N_ORIENTATIONS):
        turn = np.angle(np.exp(1j * (theta - k * np.pi / N_ORIENTATIONS)))
        around = np.exp(-0.5 * (turn / 0.35) ** 2)
        filters += [around * np.exp(-0.5 * (np.log(radius / f) / 0.4) ** 2) for f in FREQUENCIES]
    return torch.tensor(np.stack(filters), dtype=torch.float32)


def _shrink(maps: torch.Tensor, side: int) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(maps, side)


def channel_maps(images: np.ndarray) -> torch.Tensor:
    """(n, S, S, 3) uint8 -> (n, CHANNELS, GRID²) non-negative maps: log(1 + √Gabor energy), then ± opponent colours."""
    rgb = _shrink(torch.tensor(images).permute(0, 3, 1, 2).float() / 255, SIDE)
    r, g, b = rgb.unbind(1)
    luminance = (r + g + b) / 3
    spectrum = torch.fft.fft2(luminance - luminance.mean((1, 2), keepdim=True))
    energy = torch.fft.ifft2(spectrum[:, None] * _gabor_filters()).abs() ** 2
    gabor = torch.log1p(20 * _shrink(energy, GRID).sqrt())
    opponent = torch.stack([luminance - 0.45, r - g, (r + g) / 2 - b], 1)
    opponent = _shrink(opponent, GRID)
    colour = 2 * torch.cat([opponent, -opponent], 1).clamp(min=0)
    return torch.cat([gabor, colour], 1).flatten(2)


def early_signal(images: np.ndarray, tuning: Tuning, chunk: int = 50) -> np.ndarray:
    """(n, n_voxels) float32: pooled channels, weighted, compressed."""
    fields = torch.tensor(receptive_fields(tuning)).T
    weights = torch.tensor(tuning.channels, dtype=torch.float32).T  # (CHANNELS, n_voxels)
    exponent = torch.tensor(tuning.exponent, dtype=torch.float32)
    out = np.empty((len(images), len(tuning.x)), np.float32)
    for start in range(0, len(images), chunk):
        pooled = channel_maps(images[start : start + chunk]) @ fields
        out[start : start + chunk] = ((pooled * weights).sum(1) + 1e-4).pow(exponent).numpy()
    return out


def _one_hot(values, names) -> np.ndarray:
    return (np.array(values)[:, None] == np.array(list(names))[None]).astype(np.float32)


def category_signal(labels: list[dict], tuning: Tuning) -> np.ndarray:
    """(n, n_voxels) float32: objects at their places under the receptive field, plus setting, light and object colour."""
    heights = {"sky": 1.6, "ground": -1.8, "water": -0.8, "shore": -0.6}  # degrees above the centre
    drive = np.zeros((len(labels), len(tuning.x)), np.float32)
    for key, where, gain in (("object", "x", 1.0), ("second", "second_x", 0.4)):
        shown = _one_hot([e[key] or "" for e in labels], OBJECTS)
        x = np.array([e[where] for e in labels])[:, None] * SPAN - SPAN / 2
        y = np.array([heights[OBJECTS[e[key]][2]] if e[key] else 0.0 for e in labels])[:, None]
        distance2 = (x - tuning.x) ** 2 + (y - tuning.y) ** 2
        seen = 0.35 + 0.65 * np.exp(-0.5 * distance2 / (tuning.size**2 + 1.5**2))
        drive += gain * seen * (shown @ tuning.objects.T)
        if key == "object":
            drive += 0.5 * seen * (_one_hot([e["colour"] for e in labels], COLOURS) @ tuning.colours.T)
    place = _one_hot([e["setting"] for e in labels], SETTINGS) @ tuning.settings.T
    light = _one_hot([e["light"] for e in labels], LIGHTS) @ tuning.lights.T
    return drive + 0.5 * place + 0.4 * light


def _standardise(signal: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """z-scores by the statistics of `reference` (the training images)."""
    return (signal - reference.mean(0)) / np.maximum(reference.std(0), 1e-9)


def signals(images: dict[str, np.ndarray], labels: dict[str, list[dict]], tuning: Tuning) -> dict[str, np.ndarray]:
    """Noise-free responses of every split, (n, n_voxels) float32, unit variance over the training images; 0 where null."""
    early = {s: early_signal(images[s], tuning) for s in images}
    category = {s: category_signal(labels[s], tuning) for s in images}
    leak = tuning.leakage
    mixed = {
        s: np.sqrt(leak) * _standardise(early[s], early["train"])
        + np.sqrt(1 - leak) * _standardise(category[s], category["train"])
        for s in images
    }
    alive = (tuning.ncsnr > 0).astype(np.float32)
    return {s: (_standardise(mixed[s], mixed["train"]) * alive).astype(np.float32) for s in images}
