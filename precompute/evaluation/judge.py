"""Scores pictures against the test images that they should show: one score a picture and metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precompute.evaluation.network_metrics import Describe
from precompute.evaluation.protocols import Protocol, compared_pixels, loaded
from recon.metrics import METRICS, correlation_distance, pixel_correlation, ssim, ssim_legacy, two_way_identification

Scores = dict[str, np.ndarray]  # metric -> (n,)
# pictures (n, S, S, 3) uint8 and their labels -> attribute -> (n,) whether it is seen to be right
Find = Callable[[np.ndarray, list[dict]], dict[str, np.ndarray]]
SIMILARITY = "similarity"  # of CLIP embeddings: ranks pictures for the gallery, is no metric of the table
DISTANCES = {"lite0": "lite0_distance"}  # networks by which pictures are both identified and compared
SEEN = "sees "  # before the name of an attribute


class Judge:
    """Holds what the true pictures look like to every metric."""

    def __init__(
        self,
        images: np.ndarray,
        protocol: Protocol,
        describe: dict[str, Describe],
        find: Find | None = None,
        labels: list[dict] | None = None,
    ):
        """images (n, S, S, 3) uint8; `describe`: networks by the name of their metric; `find` sees attributes of `labels`."""
        self.protocol, self.describe, self.find, self.labels = protocol, describe, find, labels
        self.truth = self.features(images)

    def features(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """What the metrics read of pictures (n, S, S, 3): small pictures as "pixels", each network's features."""
        found = loaded(pictures, self.protocol)
        return {"pixels": compared_pixels(found, self.protocol)} | {k: see(found) for k, see in self.describe.items()}

    def scores(self, seen: dict[str, np.ndarray]) -> Scores:
        """Features of n pictures, in the order of the images that they should show -> one score each."""
        small, truth = seen["pixels"], self.truth["pixels"]
        found = {"pixcorr": pixel_correlation(small, truth), "pixels": two_way_identification(small, truth)}
        found |= {"ssim": ssim(small, truth), "ssim_legacy": ssim_legacy(small, truth)}
        for name in self.describe:
            compare = correlation_distance if METRICS[name].direction == "lower" else two_way_identification
            found[name] = compare(seen[name], self.truth[name])
        for name in DISTANCES.keys() & self.describe.keys():
            found[DISTANCES[name]] = correlation_distance(seen[name], self.truth[name])
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
