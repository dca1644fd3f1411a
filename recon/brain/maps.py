"""One number per voxel, with a colour scale that does not follow the values: what a brain view can show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recon.brain.geometry import encoded
from recon.brain.voxel_scores import MIN_CEILING, VoxelScores

VARIANCE_MAX = 60.0  # percent: upper end of the scale that R² and its ceiling share
RATIO_MAX = 100.0  # percent
CORRELATION_MAX = 0.8
NCSNR_MAX = 1.5
Q_MAX = 0.1  # twice the usual 0.05
RESPONSE_MAX = 2.5  # z-score: end of the response's scale on both sides
UNKNOWN = "Unknown: no image was shown twice, so nobody can tell how much of a response is noise."
WEIGHT_PERCENTILE = 99  # of the weights' magnitudes: upper end of their scale


@dataclass(frozen=True)
class VoxelMap:
    """One number per voxel and its colour scale; NaN where there is nothing to show."""

    label: str
    note: str  # what it is, in a sentence
    unit: str  # "%", "z" or nothing
    scale: str  # "inferno", "viridis", "cividis" (dark at the high end) or "diverging"
    low: float
    high: float
    values: np.ndarray  # (n_voxels,) float32


def variance_maps(scores: VoxelScores) -> dict[str, VoxelMap]:
    """R², its ceiling and their ratio, all in percent; R² and the ceiling share one scale."""
    shared = ("%", "inferno", 0.0, VARIANCE_MAX)
    return {
        "r2": VoxelMap(
            "R²",
            "R²: test variance that the encoding model predicts. Colours start at 0; negative values are in the hover text.",
            *shared,
            100 * scores.r2,
        ),
        "ceiling": VoxelMap(
            "Noise ceiling",
            "Noise ceiling: variance that the picture can explain at all; the rest is noise between repeats. Scale of R².",
            *shared,
            scores.noise_ceiling,
        ),
        "ratio": VoxelMap(
            "R² / noise ceiling",
            f"R² as a share of what is explainable. Voxels with a ceiling under {MIN_CEILING:.0f} % are gray.",
            *("%", "viridis", 0.0, RATIO_MAX),
            scores.r2_over_ceiling,
        ),
    }


def _or_unknown(shown: VoxelMap) -> VoxelMap:
    """A map whose every value is unknown says so."""
    return shown if np.isfinite(shown.values).any() else replace(shown, label=f"{shown.label}: unknown", note=UNKNOWN)


def score_maps(scores: VoxelScores, ncsnr: np.ndarray) -> dict[str, VoxelMap]:
    """Every map of a subject that no picture changes."""
    maps = variance_maps(scores) | {
        "r": VoxelMap(
            "r",
            "Correlation of predicted and measured responses to the test pictures.",
            *("", "viridis", 0.0, CORRELATION_MAX),
            scores.r,
        ),
        "ncsnr": VoxelMap(
            "ncsnr",
            "Noise-ceiling signal-to-noise ratio: SD of the signal over SD of the noise of one trial.",
            *("", "viridis", 0.0, NCSNR_MAX),
            ncsnr,
        ),
    }
    note = "q: the false discovery rate at which r is above chance; small is significant."
    maps |= {"q": VoxelMap("Significance q", note, "", "cividis", 0.0, Q_MAX, scores.q)}
    return {
        name: _or_unknown(shown) if name in ("ceiling", "ratio", "ncsnr") else shown for name, shown in maps.items()
    }


def response_map(response: np.ndarray) -> VoxelMap:
    """(n_voxels,) z-scored response to one picture."""
    note = "Mean z-scored response to the chosen picture: all that ridge and MLP know of it."
    return VoxelMap("Response to this picture", note, "z", "diverging", -RESPONSE_MAX, RESPONSE_MAX, response)


def weight_map(regressor: str, magnitude: np.ndarray) -> VoxelMap:
    """(n_voxels,) length of the weights that a regressor, by its name on the page, gives to each voxel.

    The scale ends at the 99th percentile.
    """
    note = f"Length of the weights that {regressor} gives to each voxel; the scale ends at the 99th percentile."
    high = float(np.percentile(magnitude, WEIGHT_PERCENTILE))
    return VoxelMap(f"Weights of {regressor}", note, "", "viridis", 0.0, high, magnitude)


def map_payload(voxel_map: VoxelMap) -> dict:
    """A map as JSON can carry it; values as "<f4", NaN included."""
    fields = {name: getattr(voxel_map, name) for name in ("label", "note", "unit", "scale", "low", "high")}
    return fields | {"values": encoded(voxel_map.values, "<f4")}
