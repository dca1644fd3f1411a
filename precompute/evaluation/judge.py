"""Scores pictures against the test images that they should show: one score a picture and metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from precompute.evaluation.network_metrics import Describe
from recon.images import area_average
from recon.metrics import METRICS, correlation_distance, pixel_correlation, ssim, ssim_legacy, two_way_identification

Scores = dict[str, np.ndarray]  # metric -> (n,)
# pictures (n, S, S, 3) uint8 and their labels -> attribute -> (n,) whether it is seen to be right
Find = Callable[[np.ndarray, list[dict]], dict[str, np.ndarray]]
SIMILARITY = "similarity"  # of CLIP embeddings: ranks pictures for the gallery, is no metric of the table
SEEN = "sees "  # before the name of an attribute


@dataclass(frozen=True)
class Protocol:
    """At which size pictures are compared, in pixels; networks have their own."""

    name: str
    pixels: int
    n_images: int | None = None  # the number of test images that it is defined for


BRAIN_DIFFUSER = Protocol("brain-diffuser", 425, 982)


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, side, side, 3) uint8: block means where they fit, else bilinear, antialiased."""
    if images.shape[1] == side:
        return images
    if images.shape[1] % side == 0:
        return area_average(images, side)
    parts = []
    for k in range(0, len(images), 64):
        pixels = torch.tensor(images[k : k + 64]).permute(0, 3, 1, 2).float()
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        parts.append(pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


class Judge:
    """Holds what the true pictures look like to every metric."""

    def __init__(
        self,
        images: np.ndarray,
        side: int,
        describe: dict[str, Describe],
        find: Find | None = None,
        labels: list[dict] | None = None,
    ):
        """images (n, S, S, 3) uint8; `describe`: networks by the name of their metric; `find` sees attributes of `labels`."""
        self.side, self.describe, self.find, self.labels = side, describe, find, labels
        self.truth = self.features(images)

    def features(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """What the metrics read of pictures (n, S, S, 3): small pictures as "pixels", each network's features."""
        return {"pixels": resized(pictures, self.side)} | {k: see(pictures) for k, see in self.describe.items()}

    def scores(self, seen: dict[str, np.ndarray]) -> Scores:
        """Features of n pictures, in the order of the images that they should show -> one score each."""
        small, truth = seen["pixels"], self.truth["pixels"]
        found = {"pixcorr": pixel_correlation(small, truth), "pixels": two_way_identification(small, truth)}
        found |= {"ssim": ssim(small, truth), "ssim_legacy": ssim_legacy(small, truth)}
        for name in self.describe:
            compare = correlation_distance if METRICS[name].direction == "lower" else two_way_identification
            found[name] = compare(seen[name], self.truth[name])
        for name in {"clip_demo", "clip"} & self.describe.keys():
            found[SIMILARITY] = pixel_correlation(seen[name], self.truth[name])
        if self.find:
            found |= {SEEN + name: right for name, right in self.find(small, self.labels).items()}
        return {name: np.asarray(values, np.float32) for name, values in found.items()}

    def score(self, pictures: np.ndarray) -> Scores:
        return self.scores(self.features(pictures))


def taken(seen: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The features of other images' pictures."""
    return {name: values[rows] for name, values in seen.items()}
