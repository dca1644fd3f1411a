"""Picture -> brain: the encoding model, small enough to travel, and the noise of a measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save_file

from recon.files import BadFile, read_tensors, whole_file
from recon.image_features import PatchDictionary, image_statistics

if TYPE_CHECKING:
    from recon.vdvae import VDVAE

FORMAT = "recon-response-1"
PATCHES = ("mean", "whiten", "centroids")


def packed(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, r) -> int8 with one float32 scale a row, (n,): half the size of float16, errors of 0.4 % of a row's largest."""
    largest = np.abs(matrix).max(1)
    scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def unpacked(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The reverse of `packed`, float32."""
    return values * scale[:, None]


@dataclass(frozen=True)
class ResponseModel:
    """A low-rank linear map: (features · down - offset) · up + intercept.

    Features are a picture's leading VDVAE latents, its image statistics and its patch dictionary's answers, side by side.
    """

    n_layers: int  # whose latents are read
    down: np.ndarray  # (n_features, r) float32; coordinates have unit variance over training pictures
    offset: np.ndarray  # (r,) float32
    up: np.ndarray  # (r, n_voxels) float32, rows orthogonal
    intercept: np.ndarray  # (n_voxels,) float32
    patches: PatchDictionary
    test: np.ndarray | None = None  # (n_test, r) float32: coordinates of the test pictures

    def coordinates(self, latents: np.ndarray, images: np.ndarray) -> np.ndarray:
        """latents (n, n_latents) and pictures (n, 64, 64, 3) uint8 -> (n, r) float32."""
        described = np.hstack([image_statistics(images), self.patches.describe(images)])
        n_latents = latents.shape[1]
        return latents @ self.down[:n_latents] + described @ self.down[n_latents:] - self.offset

    def respond(self, coordinates: np.ndarray) -> np.ndarray:
        """(n, r) -> (n, n_voxels) float32 z-scored responses."""
        return coordinates @ self.up + self.intercept

    def predict(self, image: np.ndarray, vdvae: VDVAE) -> np.ndarray:
        """(64, 64, 3) uint8 -> (n_voxels,) float32: the z-scored response expected, free of noise.

        Raises ValueError on a picture of another size or dtype.
        """
        latents = vdvae.encode(image[None], self.n_layers)
        return self.respond(self.coordinates(latents, image[None]))[0]

    def test_responses(self) -> np.ndarray:
        """(n_test, n_voxels) float32: what is predicted for the test pictures."""
        return self.respond(self.test)

    def with_test(self, latents: np.ndarray, images: np.ndarray) -> ResponseModel:
        """The same, with the coordinates of test pictures."""
        return replace(self, test=self.coordinates(latents, images))

    def save(self, path: Path) -> None:
        """`down` in int8, all else but small vectors in float16."""
        tensors = {"up": self.up, "test": self.test}
        tensors |= {f"patches.{name}": getattr(self.patches, name).numpy() for name in PATCHES}
        tensors = {name: value.astype(np.float16) for name, value in tensors.items()}
        tensors["down"], tensors["scale"] = packed(self.down)
        tensors |= {"offset": self.offset.astype(np.float32), "intercept": self.intercept.astype(np.float32)}
        tensors = {
            name: np.ascontiguousarray(value) for name, value in tensors.items()
        }  # what save_file takes for granted
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"format": FORMAT, "n_layers": str(self.n_layers)})

    @classmethod
    def load(cls, path: Path) -> ResponseModel:
        """Raises BadFile if the file is missing, damaged, or its parts do not fit together."""
        tensors, metadata = read_tensors(path, FORMAT)
        try:
            t = {name: tensors[name].astype(np.float32) for name in ("offset", "up", "intercept", "test")}
            t["down"] = unpacked(tensors["down"], tensors["scale"])
            patches = PatchDictionary(
                *(torch.as_tensor(tensors[f"patches.{name}"].astype(np.float32)) for name in PATCHES)
            )
            n_layers = int(metadata["n_layers"])
        except (KeyError, ValueError) as error:
            raise BadFile(f"{path} is incomplete ({error}): make it with `python -m precompute encode`") from error
        ranks = {len(t["offset"]), len(t["up"]), t["down"].shape[1], t["test"].shape[1]}
        if len(ranks) != 1 or t["up"].shape[1] != len(t["intercept"]):
            raise BadFile(f"{path}: its parts do not fit together: make it with `python -m precompute encode`")
        return cls(n_layers, patches=patches, **t)


def add_noise(response: np.ndarray, ncsnr: np.ndarray, n_repeats: int, rng: np.random.Generator) -> np.ndarray:
    """(n_voxels,) a noise-free response -> what a measurement, the average of n_repeats trials, might give; float32.

    Trials are z-scored: their variance is 1 = signal + noise, and ncsnr² = signal / noise, so that the noise of an average
    has variance 1 / (1 + ncsnr²) / n_repeats (Allen et al. 2022). Independent between voxels, which real noise is not.
    Raises ValueError for less than one repeat.
    """
    if n_repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {n_repeats}")
    sd = np.sqrt(1 / (1 + ncsnr.astype(np.float64) ** 2) / n_repeats)
    return (response + sd * rng.standard_normal(len(response))).astype(np.float32)
