"""The live path: one brain response -> latents -> layout -> picture, step by step. The only place where the stages meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import wraps

import numpy as np

from recon.bundle.bundle import Bundle
from recon.settings import REGRESSORS, Settings

COARSE = 4  # side of the latent layers after which a small VDVAE's pictures are shown for the first time


@dataclass(frozen=True)
class Frame:
    """One step of a reconstruction."""

    stage: str  # "vdvae" or "lcm"
    step: int  # vdvae: side of the finest latent layer used so far, 1, 4, 8, 16 …; lcm: UNet steps run
    images: dict[str, np.ndarray]  # source -> (S, S, 3) uint8
    seconds: float  # worked for this one and those of the stage before it
    ready: bool  # stage 1: what stage 2 starts from is there; stage 2: the last step
    last: bool  # of its stage


def in_working_time(stage: Callable[..., Iterator[Frame]]) -> Callable[..., Iterator[Frame]]:
    """Gives the frames of a stage their seconds: readers, who may turn to something else between two of them, do not count."""

    @wraps(stage)
    def timed(*args) -> Iterator[Frame]:
        spent, start = 0.0, time.perf_counter()
        with closing(stage(*args)) as frames:
            for frame in frames:
                spent += time.perf_counter() - start
                yield replace(frame, seconds=spent)
                start = time.perf_counter()

    return timed


def decoded(
    target: str, voxels: np.ndarray, bundle: Bundle, regressor: str, components: int | None = None
) -> np.ndarray:
    """(n, n_voxels) betas -> (n, n_targets) numbers of real spread, by the regressor's first components, or all.

    Raises ValueError on bad voxels.
    """
    model = bundle.regressors[target][regressor]
    kept = None if components is None else min(components, model.n_components)
    return model.rescale(model.predict(voxels, kept))


def own_latents(images: np.ndarray, bundle: Bundle) -> np.ndarray:
    """The pictures' own latents: what a perfect regressor would say. images (n, S, S, 3) uint8 at the VDVAE's size."""
    return bundle.vdvae.encode(images, bundle.n_layers)


def decode_caption(
    voxels: np.ndarray, bundle: Bundle, regressor: str, components: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(n, n_voxels) betas -> rows of the nearest training captions and their cosines, (n,) both."""
    return bundle.captions.nearest(decoded("image", voxels, bundle, regressor, components))


def decoded_rank(
    voxels: np.ndarray, index: int, bundle: Bundle, regressor: str, components: int | None = None
) -> float | None:
    """Rank of test image `index` among all by the embedding decoded from (n_voxels,) betas: 1 is best, (n + 1) / 2 chance.

    None if the bundle does not say where CLIP puts its test images.
    """
    if bundle.captions.test_embeddings is None:
        return None
    return bundle.captions.rank(decoded("image", voxels[None], bundle, regressor, components)[0], index)


def prompt_embeddings(
    voxels: np.ndarray, captions: Sequence[Sequence[str]], bundle: Bundle, settings: Settings
) -> np.ndarray:
    """(n, tokens, width) prompt embeddings from the chosen source; `captions`, the true ones, are read by the oracle alone."""
    embed = bundle.diffusion.embed
    if settings.prompt == "decoded":
        prompt = decoded("prompt", voxels, bundle, settings.regressor, settings.components)
        return prompt.reshape(-1, *bundle.diffusion.prompt_shape)
    if settings.prompt == "caption":
        rows, _ = decode_caption(voxels, bundle, settings.regressor, settings.components)
        return embed([bundle.captions.captions[k] for k in rows])
    if settings.prompt == "oracle":
        return np.stack([embed(five).mean(0) for five in captions])
    return np.repeat(embed([settings.own_prompt if settings.prompt == "own" else ""]), len(voxels), 0)


@in_working_time
def reconstruct_layout(
    voxels: np.ndarray, image: np.ndarray | None, bundle: Bundle, regressor: str, components: int | None = None
) -> Iterator[Frame]:
    """Stage 1: voxels (n_voxels,) and the picture shown (S, S, 3), for the ceiling alone, if there was one -> frames.

    A small VDVAE decodes what both regressors say together, coarse to fine; a slow one `regressor`'s, which stage 2 starts from,
    before the other's. The ceiling comes last. Raises ValueError on bad voxels.
    """
    images = {}
    response, decoder = np.asarray(voxels)[None], bundle.vdvae
    finest = decoder.layer_shapes()[: bundle.n_layers][-1][1]
    latents = {name: decoded("latents", response, bundle, name, components) for name in REGRESSORS}

    def frame(resolution: int, ready: bool, last: bool) -> Frame:
        return Frame("vdvae", resolution, images, 0, ready, last and image is None)

    if decoder.slow:
        for name in sorted(REGRESSORS, key=lambda name: name != regressor):
            images = images | {name: decoder.decode(latents[name])[0]}
            yield frame(finest, True, len(images) == len(REGRESSORS))
    else:
        both = np.concatenate(list(latents.values()))
        for resolution, pictures in decoder.decode_progressively(both, coarse=(COARSE,)):
            images = dict(zip(latents, pictures))
            yield frame(resolution, resolution == finest, resolution == finest)
    if image is not None:
        images = images | {"ceiling": decoder.decode(own_latents(image[None], bundle))[0]}
        yield Frame("vdvae", finest, images, 0, True, True)


@in_working_time
def reconstruct_picture(
    layout: np.ndarray, voxels: np.ndarray, captions: Sequence[str], bundle: Bundle, settings: Settings
) -> Iterator[Frame]:
    """Stage 2: stage 1's picture (S, S, 3) and the same voxels (n_voxels,) -> a frame after every denoising step.

    `captions` are the true ones, for the oracle. Closing the generator stops the work at the next step. Raises ValueError on
    bad voxels or a far too long prompt.
    """
    from recon.decoders.diffusion import refine  # imports diffusers, which takes seconds: stage 1 does without

    prompt = prompt_embeddings(np.asarray(voxels)[None], [captions], bundle, settings)
    for preview in refine(bundle.diffusion, layout[None], prompt, settings.lcm):
        last = preview.step == settings.lcm.steps
        yield Frame("lcm", preview.step, {"lcm": preview.images[0]}, 0, last, last)


def predicted_response(images: np.ndarray, bundle: Bundle) -> np.ndarray:
    """What the subject would have answered to pictures (n, S, S, 3) uint8 at the VDVAE's size: (n, n_voxels) z-scores, no noise.

    Of a linear model of their latents: least-squares means, which vary less than responses do.
    """
    return bundle.response.predict(own_latents(images, bundle))


def with_noise(response: np.ndarray, ncsnr: np.ndarray, n_repeats: int, seed: int) -> np.ndarray:
    """Adds noise of the measured level to (n_voxels,) z-scored responses, as of the mean of n_repeats.

    z-scored responses have variance 1 = signal + noise, and ncsnr² = signal / noise: noise has 1 / (1 + ncsnr²), one repeat.
    """
    noise = np.random.default_rng(seed).standard_normal(len(response))
    return (response + noise / np.sqrt((1 + np.asarray(ncsnr, float) ** 2) * n_repeats)).astype(np.float32)
