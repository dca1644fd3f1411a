"""The live path: one brain response -> latents -> layout -> image, frame by frame. The only place where the stages meet.

The page calls `reconstruct`. The evaluation has many responses at once and no need of the steps between: it calls the same
`decoded`, `decode_layouts` and `meanings` in batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from recon.bundle.bundle import Bundle
from recon.settings import REGRESSORS, Settings

if TYPE_CHECKING:
    from recon.decoders.diffusion import Meaning

COARSE = 4  # side of the latent layers after which a small VDVAE's layouts are shown for the first time


@dataclass(frozen=True)
class Shown:
    """The image that a response answered to: read for the ceiling and for the oracles, and for nothing else."""

    image: np.ndarray  # (S, S, 3) uint8, at the VDVAE's size
    captions: Sequence[str]
    embedding: np.ndarray | None = None  # (d,) where CLIP puts it; None: not known


@dataclass(frozen=True)
class Reading:
    """One response, and where it points to in CLIP's space."""

    response: np.ndarray  # (n_voxels,)
    embedding: np.ndarray  # (d,) decoded image embedding


@dataclass(frozen=True)
class Frame:
    """One step of a reconstruction."""

    stage: str  # "vdvae"; "lcm"; or "none": the VDVAE is absent, and this is the only frame
    step: int  # vdvae: side of the finest latent layer used so far, 1, 4, 8, 16 …; lcm: UNet steps run
    images: dict[str, np.ndarray]  # source -> (S, S, 3) uint8
    seconds: float  # of work, for this frame and those of its stage before it
    ready: bool  # vdvae: the layout that stage 2 starts from is there; lcm: this is the last step
    last: bool  # no frame follows
    reading: Reading
    absent: Mapping[str, str] = field(default_factory=dict)  # decoder -> why it is absent, and what to do
    unguided: str = ""  # lcm: why text alone guides it, though an image was to


def reconstruct(
    response: np.ndarray,
    bundle: Bundle,
    settings: Settings,
    *,
    shown: Shown | None = None,
    layout: Frame | None = None,
) -> Iterator[Frame]:
    """Stage 1's frames, then stage 2's, which starts as soon as the layout that it needs is there; then what is left of stage 1.

    response (n_voxels,); `shown`: what was seen, if anything was. `layout`: stage 1's last frame of the same response, if it is
    known from before: then stage 1 does not run. A stage whose decoder is absent yields nothing, and the frames say so.
    Closing the generator stops the work at the next step. Raises ValueError on bad voxels or a far too long prompt.
    """
    response = np.asarray(response)
    embedding = decoded("image", response[None], bundle, settings.regressor, settings.components)[0]
    reading = Reading(response, embedding)
    with closing(_both_stages(reading, bundle, settings, shown, layout)) as frames:
        for frame in frames:
            yield replace(frame, absent=bundle.absent)


def _both_stages(
    reading: Reading, bundle: Bundle, settings: Settings, shown: Shown | None, layout: Frame | None
) -> Iterator[Frame]:
    if bundle.vdvae is None:
        yield Frame("none", 0, {}, 0.0, ready=True, last=True, reading=reading)
        return
    refines = bundle.open_stage_2 is not None
    if layout is not None:
        stage_1 = iter([replace(layout, ready=True, last=True, reading=reading)])
    else:
        stage_1 = in_working_time(_layouts(reading, bundle, settings, shown))
    for first in stage_1:
        yield replace(first, last=first.last and not refines)
        if first.ready and refines:
            start = first.images[settings.regressor]
            for frame in in_working_time(_refined(start, reading, bundle, settings, shown)):
                yield replace(frame, last=frame.last and first.last)
            break
    yield from stage_1


def in_working_time(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Frames with their seconds. What their readers do between two frames is not counted."""
    spent, start = 0.0, time.perf_counter()
    with closing(frames):
        for frame in frames:
            spent += time.perf_counter() - start
            yield replace(frame, seconds=spent)
            start = time.perf_counter()


def _layouts(reading: Reading, bundle: Bundle, settings: Settings, shown: Shown | None) -> Iterator[Frame]:
    """Stage 1: frames whose `last` is of this stage.

    A small VDVAE decodes what both regressors say together, coarse to fine; a slow one first what the chosen regressor says,
    which stage 2 starts from. The ceiling comes last.
    """
    images, decoder, X, drawing = {}, bundle.stage_1, reading.response[None], bundle.recipe.drawing
    finest = decoder.layer_shapes()[: bundle.n_layers][-1][1]
    latents = {name: decoded("latents", X, bundle, name, settings.components) for name in REGRESSORS}
    if decoder.slow:
        for name in sorted(REGRESSORS, key=lambda name: name != settings.regressor):
            images = images | {name: decoder.decode(latents[name], drawing)[0]}
            whole = len(images) == len(REGRESSORS)
            yield Frame("vdvae", finest, images, 0.0, True, whole and shown is None, reading)
    else:
        both = np.concatenate(list(latents.values()))
        same = [0] * len(both)  # as the slow one, which draws each of them alone
        for resolution, pictures in decoder.decode_progressively(both, drawing, same, (COARSE,)):
            images, whole = dict(zip(latents, pictures)), resolution == finest
            yield Frame("vdvae", resolution, images, 0.0, whole, whole and shown is None, reading)
    if shown is not None:
        images = images | {"ceiling": decoder.decode(bundle.own_latents(shown.image[None]), drawing)[0]}
        yield Frame("vdvae", finest, images, 0.0, True, True, reading)


def _refined(
    layout: np.ndarray, reading: Reading, bundle: Bundle, settings: Settings, shown: Shown | None
) -> Iterator[Frame]:
    """Stage 2: a layout (S, S, 3) -> a frame after every denoising step. Without anything shown the oracle has no words."""
    from recon.decoders.diffusion import refine  # imports diffusers, which takes seconds: stage 1 does without

    why = bundle.why_unguided() if settings.image_share else ""
    about = shown or Shown(layout, [""])
    meaning = meanings(reading.response[None], bundle, settings, [about], reading.embedding[None])
    for preview in refine(bundle.stage_2, layout[None], meaning, settings.lcm):
        last = preview.step == settings.lcm.steps
        yield Frame("lcm", preview.step, {"lcm": preview.images[0]}, 0.0, last, last, reading, unguided=why)


def decoded(target: str, X: np.ndarray, bundle: Bundle, regressor: str, components: int | None = None) -> np.ndarray:
    """Responses X (n, n_voxels) -> (n, n_targets) of real spread, by the regressor's first components, or all.

    Raises ValueError on bad voxels.
    """
    return bundle.regressors[target][regressor].rescale(_predicted(target, X, bundle, regressor, components))


def _predicted(target: str, X: np.ndarray, bundle: Bundle, regressor: str, components: int | None) -> np.ndarray:
    """The same as the regressor says it, shrunken."""
    model = bundle.regressors[target][regressor]
    return model.predict(X, None if components is None else min(components, model.n_components))


def decode_layouts(latents: np.ndarray, bundle: Bundle, batch: int = 64) -> np.ndarray:
    """Stage 1 of many: latents (n, n_latents) -> layouts (n, S, S, 3) uint8; what is random is drawn by their rows."""
    spans = [range(k, min(k + batch, len(latents))) for k in range(0, len(latents), batch)]
    drawing = bundle.recipe.drawing
    return np.concatenate([bundle.stage_1.decode(latents[s.start : s.stop], drawing, s) for s in spans])


def meanings(
    X: np.ndarray,
    bundle: Bundle,
    settings: Settings,
    shown: Sequence[Shown] = (),
    embeddings: np.ndarray | None = None,
) -> Meaning:
    """Responses X (n, n_voxels) -> what guides stage 2: text, an image embedding, or both, as the settings want it.

    shown: what was seen, of every response; the oracles alone read it. embeddings (n, d): image embeddings decoded from X, if they
    are known already. Where the bundle has no image adapter, text guides alone, in full.
    """
    from recon.decoders.diffusion import Meaning

    prompts = prompt_embeddings(X, bundle, settings, [one.captions for one in shown], embeddings)
    if not settings.image_share or bundle.why_unguided():
        return Meaning(prompts)
    if settings.text_share < 1:
        empty = bundle.stage_2.embed([""])
        prompts = empty + np.float32(settings.text_share) * (prompts - empty)
    return Meaning(prompts, guide_embeddings(X, bundle, settings, shown, embeddings), settings.image_share)


def guide_embeddings(
    X: np.ndarray,
    bundle: Bundle,
    settings: Settings,
    shown: Sequence[Shown] = (),
    embeddings: np.ndarray | None = None,
) -> np.ndarray:
    """Image embeddings (n, d) from the source that the settings name; arguments as of `meanings`.

    Decoded ones are rescaled as the bundle says: each number to the spread of training images ("gain"), the whole to their mean
    norm ("norm"), or not at all. Raises ValueError if the oracle is asked for an image whose embedding is not known.
    """
    index, how = bundle.captions, (settings.regressor, settings.components)
    if settings.guide == "oracle":
        known = [one.embedding for one in shown if one.embedding is not None]
        if len(known) < len(X):
            raise ValueError("the oracle's image embedding: expected that of the image shown, which is not known here")
        return np.stack(known)
    if settings.guide == "nearest" or bundle.embedding_rescaling == "gain":
        gained = decoded("image", X, bundle, *how) if embeddings is None else embeddings
        return index.embeddings[index.nearest(gained)[0]] if settings.guide == "nearest" else gained
    plain = _predicted("image", X, bundle, *how)
    if bundle.embedding_rescaling == "none":
        return plain
    norm = np.linalg.norm(index.embeddings, axis=1).mean()
    return plain * (norm / np.linalg.norm(plain, axis=1, keepdims=True))


def prompt_embeddings(
    X: np.ndarray,
    bundle: Bundle,
    settings: Settings,
    captions: Sequence[Sequence[str]] | None = None,
    embeddings: np.ndarray | None = None,
) -> np.ndarray:
    """Responses X (n, n_voxels) -> (n, tokens, width) prompt embeddings from the source that the settings name.

    captions: the true ones of every image; the oracle alone reads them. embeddings (n, d): image embeddings decoded from X, if
    they are known already.
    """
    embed, how = bundle.stage_2.embed, (settings.regressor, settings.components)
    if settings.prompt == "decoded":
        return decoded("prompt", X, bundle, *how).reshape(-1, *bundle.stage_2.prompt_shape)
    if settings.prompt == "caption":
        rows, _ = bundle.captions.nearest(decoded("image", X, bundle, *how) if embeddings is None else embeddings)
        return embed([bundle.captions.captions[k] for k in rows])
    if settings.prompt == "oracle":
        return np.stack([embed(list(five) or [""]).mean(0) for five in captions or []])
    return np.repeat(embed([settings.own_prompt if settings.prompt == "own" else ""]), len(X), 0)
