"""What is done to a response before it is decoded, and responses that nobody measured.

Repeats are averaged, areas weakened or strengthened; areas are driven alone; an encoding model predicts; noise is added.

Driving areas alone, all other voxels at rest, and decoding that, shows what the decoder takes them to stand for, as Ozcelik &
VanRullen (2023) do with their ROI-optimal stimuli.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from recon.brain.space import check_voxel
from recon.settings import Settings, shown

MAX_STRETCH = 4.0  # of predicted responses

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle
    from recon.bundle.subject import Subject
    from recon.regressors.low_rank import LowRank


def _mask(rois: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in rois:
        raise ValueError(f"ROI: expected one of {', '.join(rois)}, got {shown(name)}")
    return rois[name]


def apply_gains(response: np.ndarray, rois: Mapping[str, np.ndarray], gains: Iterable[tuple[str, float]]) -> np.ndarray:
    """z-scored response (n_voxels,) with the voxels of every named ROI multiplied; in several ROIs, by all their gains.

    rois: name -> (n_voxels,) bool. Raises ValueError on an unknown ROI.
    """
    response = np.array(response, np.float32)
    for name, gain in gains:
        response[_mask(rois, name)] *= np.float32(gain)
    return response


def another_image(index: int, n_images: int) -> int:
    """Another of n_images test images, drawn at random by the image's number: the same one every time; itself if it is alone."""
    other = int(np.random.default_rng((index, 71)).integers(max(n_images - 1, 1)))
    return other + (other >= index) if n_images > 1 else index


def response_to(subject: Subject, index: int, settings: Settings) -> np.ndarray:
    """(n_voxels,) response to a test picture or the null in its place, repeats averaged and areas weighted as the settings say.

    Raises IndexError for a picture, ValueError for an ROI that the subject does not have.
    """
    response = subject.test.response(index, settings.repeats)
    if settings.response == "other":
        response = subject.test.response(another_image(index, len(subject.test.voxels)), settings.repeats)
    elif settings.response == "shuffled":
        response = np.random.default_rng((index, 72)).permutation(response)
    elif settings.response == "none":
        response = np.zeros_like(response)
    return apply_gains(response, subject.geometry.areas, settings.gains)


def optimal_response(rois: Mapping[str, np.ndarray], levels: Mapping[str, float], n_voxels: int) -> np.ndarray:
    """(n_voxels,) float32: voxels of every named ROI at its level (z-score), in several ROIs at their sum, all others at 0.

    Raises ValueError on an unknown ROI or a level that is not finite.
    """
    response = np.zeros(n_voxels, np.float32)
    for name, level in levels.items():
        if not np.isfinite(level):
            raise ValueError(f"level of {name}: expected a finite number, got {level}")
        response[_mask(rois, name)] += np.float32(level)
    return response


def predicted_response(images: np.ndarray, bundle: Bundle) -> np.ndarray:
    """Images (n, S, S, 3) uint8, at the VDVAE's size -> (n, n_voxels): the z-scores that an encoding model expects, without noise.

    The model is linear in the images' latents. It predicts means, which vary less than responses do; they are given the spread
    that a voxel's responses would have if they had no noise. Raises ValueError, saying what to do, if the VDVAE is absent.
    """
    model = bundle.response
    return _with_noiseless_spread(model.predict(bundle.own_latents(images)), model, bundle.subject.ncsnr)


def response_around(voxel: int, level: float, bundle: Bundle) -> np.ndarray:
    """(n_voxels,): z-scores of all voxels, without noise, for what drives one of them most.

    Of all points `level` standard deviations from the mean of the response model's coordinates, which are uncorrelated and of unit
    variance over training images, it is the one at which the model expects most of that voxel: along its column of `up`. Raises
    ValueError if there is no such voxel, or none that the model knows.
    """
    check_voxel(voxel, bundle.subject.geometry.n_voxels)
    model = bundle.response
    weights = model.up[:, voxel]
    length = np.linalg.norm(weights)
    if not length > 0:
        raise ValueError(f"voxel {voxel}: the response model expects the same of it whatever is seen: choose another")
    predicted = model.intercept + (level / length) * (weights @ model.up)
    return _with_noiseless_spread(predicted, model, bundle.subject.ncsnr)


def _with_noiseless_spread(predicted: np.ndarray, model: LowRank, ncsnr: np.ndarray) -> np.ndarray:
    """Predictions (n, n_voxels) with SD √(ncsnr² / (1 + ncsnr²)) over training images, about the same means.

    A z-scored response has variance 1 = signal + noise. Over training images the model's coordinates are uncorrelated and have
    variance 1, so that a voxel's predictions vary by the squares of its column of `up`. Where ncsnr is unknown, as they are. A
    voxel whose predictions hardly vary is not known to the model, and gets at most MAX_STRETCH times their spread.
    """
    ncsnr = np.asarray(ncsnr, float)
    spread, wanted = np.sqrt(np.square(model.up).sum(0)), ncsnr / np.sqrt(1 + ncsnr**2)
    gain = np.where(np.isnan(wanted), 1, np.minimum(wanted / np.maximum(spread, 1e-12), MAX_STRETCH))
    return (model.intercept + (predicted - model.intercept) * gain).astype(np.float32)


def with_noise(response: np.ndarray, ncsnr: np.ndarray, n_repeats: int, seed: int) -> np.ndarray:
    """Adds noise of the measured level to a z-scored response (n_voxels,), as much as the mean of n_repeats responses has.

    A z-scored response has variance 1 = signal + noise, and ncsnr² = signal / noise, so the noise of one repeat has variance
    1 / (1 + ncsnr²). Raises ValueError where the ncsnr of every voxel is unknown; a single unknown one is taken for 0.
    """
    if not np.isfinite(ncsnr).any():
        raise ValueError("noise: nobody knows its level, for no image was shown to this subject twice: choose no noise")
    ncsnr = np.where(np.isfinite(ncsnr), ncsnr, 0)
    noise = np.random.default_rng(seed).standard_normal(len(response))
    return (response + noise / np.sqrt((1 + np.asarray(ncsnr, float) ** 2) * n_repeats)).astype(np.float32)
