"""The live path: one brain response -> latents -> pictures, coarse to fine. The only place where the stages meet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recon.bundle import Bundle

STAGES = ("ridge", "mlp", "ceiling")


@dataclass(frozen=True)
class Frame:
    """One step of a reconstruction: a picture for each source at a resolution of latents."""

    stage: str  # "vdvae"
    step: int  # side of the finest latent layer used so far: 1, 4, 8, 16 …
    images: dict[str, np.ndarray]  # source -> (64, 64, 3) uint8
    seconds: float  # since the voxels arrived
    last: bool


def decoded_latents(voxels: np.ndarray, bundle: Bundle, regressor: str) -> np.ndarray:
    """(n, n_voxels) betas -> (n, n_latents) latents of real spread. Raises ValueError on bad voxels."""
    model = bundle.regressors[regressor]
    return model.rescale(model.predict(voxels))


def own_latents(images: np.ndarray, bundle: Bundle) -> np.ndarray:
    """The pictures' own latents: what a perfect regressor would say. images (n, S, S, 3) uint8 at the VDVAE's size."""
    return bundle.vdvae.encode(images, bundle.n_layers)


def reconstruct(voxels: np.ndarray, image: np.ndarray, bundle: Bundle) -> Iterator[Frame]:
    """voxels (n_voxels,) and the picture that was shown (S, S, 3), for the ceiling alone -> frames, coarse to fine.

    All sources are decoded together: each step is one batch. Raises ValueError on bad voxels.
    """
    start = time.perf_counter()
    response = np.asarray(voxels)[None]
    latents = [decoded_latents(response, bundle, name) for name in ("ridge", "mlp")]
    latents = np.concatenate([*latents, own_latents(image[None], bundle)])
    n_given = bundle.vdvae.layer_shapes()[: bundle.n_layers]
    for resolution, pictures in bundle.vdvae.decode_progressively(latents):
        yield Frame(
            stage="vdvae",
            step=resolution,
            images=dict(zip(STAGES, pictures)),
            seconds=time.perf_counter() - start,
            last=resolution == n_given[-1][1],
        )
