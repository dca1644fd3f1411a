"""How alike two pictures are, and how well pictures are told apart: the metrics of the field, one score a picture.

Definitions are those of Brain-Diffuser's scripts (Ozcelik & VanRullen 2023). They computed SSIM with a version of scikit-image that
took the columns of a grey picture for its channels, and so averaged a one-dimensional SSIM over columns; later papers give the
true, two-dimensional one. Both are here, under two names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from recon.images import area_average

BLOCK = 16  # pictures compared at a time
GREY = np.array([0.2125, 0.7154, 0.0721], np.float32)  # scikit-image's rgb2gray
SIGMA, TRUNCATE, K1, K2 = 1.5, 3.5, 0.01, 0.03  # Wang et al. (2004)
BORDER = int(TRUNCATE * SIGMA + 0.5)  # pixels whose window leaves the picture: not averaged


@dataclass(frozen=True)
class Metric:
    title: str
    direction: str = "higher"  # which values are better
    chance: float | None = None  # where it does not depend on the pictures


SATURATED = 0.99  # two-way identification from which on it no longer tells methods apart


def d_prime(share: float) -> float:
    """Two-way identification as the distance of two normal distributions of unit SD: √2 Φ⁻¹(share); infinite at 1.

    (Two-alternative forced choice, Green & Swets 1966.) 0 at chance.
    """
    return float("inf") if share >= 1 else 2**0.5 * NormalDist().inv_cdf(share)


def is_saturated(metric: str, value: float) -> bool:
    """Whether nearly every other image is told apart, so that the score has nowhere left to go."""
    return METRICS[metric].chance is not None and value >= SATURATED


METRICS = {
    "pixcorr": Metric("PixCorr"),
    "ssim": Metric("SSIM"),
    "ssim_legacy": Metric("SSIM, per column (legacy)"),
    "pixels": Metric("Identification, pixels", chance=0.5),
    "clip_demo": Metric("Identification, the demo's own CLIP", chance=0.5),
    "lite0": Metric("EfficientNet-Lite0", chance=0.5),
    "lite0_distance": Metric("EfficientNet-Lite0 distance", "lower"),
    "alexnet2": Metric("AlexNet(2)", chance=0.5),
    "alexnet5": Metric("AlexNet(5)", chance=0.5),
    "inception": Metric("Inception", chance=0.5),
    "clip": Metric("CLIP ViT-L/14", chance=0.5),
    "effnet": Metric("EffNet-B1 distance", "lower"),
    "swav": Metric("SwAV distance", "lower"),
}


def _centred_rows(images: np.ndarray) -> np.ndarray:
    """(n, …) -> (n, d) float32 rows of mean 0 and length 1; a constant picture becomes 0."""
    rows = np.asarray(images, np.float32).reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def _by_blocks(compare: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """What `compare` says of rows of the arrays, BLOCK rows at a time: pictures of 425² pixels take gigabytes as real numbers."""
    starts = range(0, max(len(arrays[0]), 1), BLOCK)
    return np.concatenate([compare(*(array[k : k + BLOCK] for array in arrays)) for k in starts])


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if np.shape(a) != np.shape(b):
        raise ValueError(f"expected pictures of one shape, got {np.shape(a)} and {np.shape(b)}")


def pixel_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation over all pixels and colours (or features) of pairs (n, …): (n,), in [-1, 1]."""
    _check_shapes(a, b)
    return _by_blocks(lambda x, y: (_centred_rows(x) * _centred_rows(y)).sum(1), a, b)


def correlation_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - Pearson correlation of pairs of features (n, …): (n,), in [0, 2]."""
    return 1 - pixel_correlation(a, b)


def grey(images: np.ndarray) -> np.ndarray:
    """(n, h, w, 3) uint8 -> (n, h, w) float32 in [0, 1]."""
    return images.astype(np.float32) @ (GREY / 255)


def similarity(picture: np.ndarray, original: np.ndarray) -> float:
    """Pixel correlation of two pictures (S, S, 3) uint8 of any sizes, at the smaller one."""
    return float(pixel_correlation(*at_smaller_size(picture, original))[0])


def at_smaller_size(*pictures: np.ndarray) -> list[np.ndarray]:
    """Pictures (S, S, 3) uint8 of any sizes -> each (1, s, s, 3) of the smallest size."""
    side = min(map(len, pictures))
    return [area_average(picture[None], side) for picture in pictures]


def _ssim(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """SSIM of grey pictures (n, h, w) in [0, 1] with a Gaussian window over `axes`; mean over all whole windows."""
    from scipy.ndimage import gaussian_filter  # slow to import, and the page does without

    a, b = a.astype(np.float64), b.astype(np.float64)
    sigma = [SIGMA if axis in axes else 0 for axis in range(3)]
    mean_a, mean_b, aa, bb, ab = (gaussian_filter(x, sigma, truncate=TRUNCATE) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = K1**2, K2**2  # for a data range of 1
    similar = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    inside = tuple(slice(BORDER, -BORDER) if axis in axes else slice(None) for axis in range(3))
    return similar[inside].mean((1, 2))


def _ssim_of_pairs(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    _check_shapes(a, b)
    if min(a.shape[k] for k in axes) <= 2 * BORDER:
        raise ValueError(f"expected pictures of more than {2 * BORDER} pixels a side, got {a.shape[1:3]}")
    return _by_blocks(lambda x, y: _ssim(grey(x), grey(y), axes), a, b)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of the grey versions of pairs (n, h, w, 3) uint8: (n,), at most 1.

    Gaussian window of SD 1.5 pixels, population covariance. Raises ValueError for shapes that differ or are too small.
    """
    return _ssim_of_pairs(a, b, (1, 2))


def ssim_legacy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As `ssim`, but with a window along columns alone: what Brain-Diffuser's table gives."""
    return _ssim_of_pairs(a, b, (1,))


def two_way_identification(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """For each prediction, the share of the other n - 1 truths that correlate less with it than its own; chance 0.5.

    (n, …) pictures or features. Ties count half. Raises ValueError for fewer than two.
    """
    if len(predicted) != len(truth) or len(truth) < 2:
        raise ValueError(f"expected the same number of at least 2 rows, got {len(predicted)} and {len(truth)}")
    rows = _centred_rows(truth)
    r = _by_blocks(lambda some: _centred_rows(some) @ rows.T, predicted)
    own = np.diag(r)[:, None]
    beaten = (r < own).sum(1) + 0.5 * ((r == own).sum(1) - 1)
    return beaten / (len(truth) - 1)


def retrieval_ranks(predicted: np.ndarray, truth: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rank, from 1, of each row's own truth among all n by cosine to the prediction, about `centre`; ties count half.

    (n, d) both, centre (d,): the mean of training embeddings, which says what all pictures share.
    """
    ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted - centre, truth - centre))
    similarity = ours @ theirs.T
    own = np.diag(similarity)[:, None]
    return 1 + (similarity > own).sum(1) + 0.5 * ((similarity == own).sum(1) - 1)


def percentile(value: float, distribution: np.ndarray) -> float:
    """Share of `distribution` (n,) below `value`, in percent, 0 to 100; equal ones count half, NaN are left out.

    50 is the median whichever way is better. NaN if there is nothing to compare with.
    """
    known = np.asarray(distribution)[np.isfinite(distribution)]
    if not len(known) or not np.isfinite(value):
        return float("nan")
    return float(100 * ((known < value).mean() + 0.5 * (known == value).mean()))
