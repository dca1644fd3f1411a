"""What is known of one voxel, or of one area: for whoever clicks it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.bundle import Bundle
from recon.pictures import area_average
from recon.reconstruct import predicted_response

N_PICTURES = 5  # that a voxel likes best, and least


@dataclass(frozen=True)
class VoxelReport:
    voxel: int
    rois: list[str]  # that it belongs to
    r2: float  # of the encoding model on averaged test trials
    r: float
    noise_ceiling: float  # percent
    r2_over_ceiling: float  # percent; NaN where the ceiling is under 10 %
    ncsnr: float
    measured: np.ndarray  # (n_test,) z-scores, mean over repeats
    predicted: np.ndarray | None  # (n_test,) by the response model; None: not asked for
    best: np.ndarray  # (N_PICTURES,) test images of the highest measured responses, highest first
    worst: np.ndarray  # (N_PICTURES,) of the lowest, lowest first


def predicted_tests(bundle: Bundle) -> np.ndarray:
    """(n_test, n_voxels) float32: the response model's answers to all test pictures. Slow: every picture is encoded.

    Needs the VDVAE.
    """
    return predicted_response(area_average(bundle.subject.test.images, bundle.vdvae.cfg.image_size), bundle)


def inspect_voxel(bundle: Bundle, voxel: int, predicted: np.ndarray | None = None) -> VoxelReport:
    """`predicted`: what `predicted_tests` said, once it has. Raises IndexError for a voxel that does not exist."""
    subject, scores = bundle.subject, bundle.scores
    n = subject.geometry.n_voxels
    if not 0 <= voxel < n:
        raise IndexError(f"voxel {voxel} does not exist: this subject has voxels 0 to {n - 1}")
    measured = np.nanmean(subject.test.voxels[:, :, voxel], axis=1, dtype=np.float32)
    order = np.argsort(measured, kind="stable")
    return VoxelReport(
        voxel=voxel,
        rois=[name for name, mask in subject.geometry.rois.items() if mask[voxel]],
        r2=float(scores.r2[voxel]),
        r=float(scores.r[voxel]),
        noise_ceiling=float(scores.noise_ceiling[voxel]),
        r2_over_ceiling=float(scores.r2_over_ceiling[voxel]),
        ncsnr=float(subject.ncsnr[voxel]),
        measured=measured,
        predicted=None if predicted is None else predicted[:, voxel],
        best=order[::-1][:N_PICTURES],
        worst=order[:N_PICTURES],
    )


@dataclass(frozen=True)
class RoiStatistics:
    """Medians over the voxels of an area; NaN where there is none."""

    name: str
    n_voxels: int
    r2: float
    r: float
    noise_ceiling: float  # percent
    r2_over_ceiling: float  # percent; of voxels whose ceiling is at least 10 %
    n_ceiling_10: int  # how many these are
    ncsnr: float


def roi_statistics(bundle: Bundle, name: str) -> RoiStatistics:
    """Raises ValueError for an unknown ROI."""
    rois, scores = bundle.subject.geometry.rois, bundle.scores
    if name not in rois:
        raise ValueError(f"ROI: expected one of {', '.join(rois)}, got {name!r}")
    mask = rois[name]
    ratio = scores.r2_over_ceiling[mask]
    ratio = ratio[np.isfinite(ratio)]
    return RoiStatistics(
        name=name,
        n_voxels=int(mask.sum()),
        r2=_median(scores.r2[mask]),
        r=_median(scores.r[mask]),
        noise_ceiling=_median(scores.noise_ceiling[mask]),
        r2_over_ceiling=_median(ratio),
        n_ceiling_10=len(ratio),
        ncsnr=_median(bundle.subject.ncsnr[mask]),
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
