"""The pictures that are judged: reconstructions, nulls and ceilings, from the test images' responses.

Nulls are made by ridge, so that they stand beside it. Test captions enter two of them, "ceiling" and "oracle", which say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon.bundle.bundle import Bundle
from recon.decoders.diffusion import Meaning, refine_all
from recon.reconstruct import decode_layouts, decoded, meanings, prompt_embeddings
from recon.settings import MEANINGS, REGRESSORS, LCMSettings, Settings

NULL = "ridge"  # what the nulls are made by
LAYOUTS = (*REGRESSORS, "ceiling", "mean")
STAGE_2 = {  # source -> where the layout and the prompt come from
    "ridge": ("ridge", "ridge"),
    "mlp": ("mlp", "mlp"),
    "ceiling": ("ceiling", "oracle"),
    "mean": ("mean", "mean"),
    "empty_prompt": (NULL, "none"),
    "oracle": (NULL, "oracle"),
}
GUIDED = {  # with an image adapter: source -> by what it is made; text guides alone in all others
    f"{name}_{meaning}": Settings(name, balance=MEANINGS[preset])
    for name in REGRESSORS
    for meaning, preset in (("image", "Image only"), ("both", "Both"))
}
NOTES = {
    "ceiling": "the picture's own latents; in stage 2 also its true captions: knows the answer",
    "shuffled": "ridge's pictures judged as those of other images, mean of several permutations: chance",
    "other_image": "for each image the response to another test image, drawn at random",
    "mean": "no response: ridge's intercept, the same layout and prompt for every image",
    "empty_prompt": "ridge's layout, no prompt",
    "nearest_training": "the training picture whose CLIP embedding is nearest to ridge's: a real picture, not a reconstruction",
    "oracle": "ridge's layout, the true captions as prompt: knows the answer",
} | {name: f"guided by the decoded image embedding, scale {s.image_share:g}" for name, s in GUIDED.items()}
SEED_STEP = 10_000  # image k of run s has the seed s · SEED_STEP + k


@dataclass(frozen=True)
class Candidates:
    """Some test images of a bundle."""

    bundle: Bundle
    rows: np.ndarray  # (n,) which
    X: np.ndarray  # (n, n_voxels) averaged responses
    captions: Sequence[Sequence[str]]
    latents: np.ndarray  # (n, n_latents) the pictures' own

    def subset(self, chosen: np.ndarray) -> Candidates:
        captions = [self.captions[k] for k in chosen]
        return replace(self, rows=self.rows[chosen], X=self.X[chosen], captions=captions, latents=self.latents[chosen])

    def _decoded(self, target: str, source: str, components: int | None) -> np.ndarray:
        """(n, n_targets): of a regressor, or its answer to no response, which is one for all."""
        if source != "mean":
            return decoded(target, self.X, self.bundle, source, components)
        rescale, intercept = (getattr(self.bundle.regressors[target][NULL], k) for k in ("rescale", "intercept"))
        return np.repeat(rescale(intercept)[None], len(self.X), 0)

    def layouts(self, source: str, components: int | None = None) -> np.ndarray:
        """Stage 1's pictures (n, S, S, 3) from one of LAYOUTS."""
        latents = self.latents if source == "ceiling" else self._decoded("latents", source, components)
        if source == "mean":
            return np.repeat(decode_layouts(latents[:1], self.bundle), len(latents), 0)
        return decode_layouts(latents, self.bundle)

    def meaning(self, source: str, components: int | None = None) -> Meaning:
        """Of one of GUIDED; or text alone, from a regressor, "mean", "none" or "oracle", which alone reads captions."""
        if source in GUIDED:
            return meanings(self.X, self.bundle, GUIDED[source])
        if source in ("oracle", "none"):
            return Meaning(prompt_embeddings(self.X, self.bundle, Settings(prompt=source), self.captions))
        prompts = self._decoded("prompt", source, components)
        return Meaning(prompts.reshape(-1, *self.bundle.diffusion.prompt_shape))

    def refined(self, layouts: np.ndarray, meaning: Meaning, run: int, settings: LCMSettings) -> np.ndarray:
        """Stage 2's last pictures (n, S, S, 3); an image's seed depends on the run and the image alone."""
        return refine_all(self.bundle.diffusion, layouts, meaning, settings, seeds=run * SEED_STEP + self.rows)

    def nearest_training(self) -> np.ndarray:
        """(n,) rows of the training pictures whose CLIP embedding is nearest to the decoded one."""
        return nearest_training(self.X, self.bundle, NULL)


def nearest_training(X: np.ndarray, bundle: Bundle, regressor: str) -> np.ndarray:
    """Responses X (n, n_voxels) -> (n,) rows of the training images whose CLIP embedding is nearest to the decoded one."""
    return bundle.captions.nearest(decoded("image", X, bundle, regressor))[0]
