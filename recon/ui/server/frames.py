"""One reconstruction after another, whoever asks: on whatever device there is, remembered, and told in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from recon.responses import response_to
from recon.settings import Settings
from recon.ui.server.cache import FrameCache
from recon.ui.server.health import bundle_identity
from recon.ui.server.serve import on_gpu
from recon.ui.server.studio import Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame, Shown


@cache
def live(studio: Studio) -> Callable[..., Iterator[Frame]]:
    """`reconstruct` with the subject's bundle, on whatever device there is: (response, settings, shown, layout) -> frames."""

    def run(
        response: np.ndarray, settings: Settings, shown: Shown | None = None, layout: Frame | None = None
    ) -> Iterator[Frame]:
        from recon.reconstruct import reconstruct  # imports torch

        yield from reconstruct(response, studio.bundle, settings, shown=shown, layout=layout)

    return on_gpu(run)


def shown_image(studio: Studio, index: int) -> Shown:
    """Test image `index` as `reconstruct` takes it."""
    from recon.reconstruct import Shown

    embeddings = studio.bundle.captions.test_embeddings
    own = None if embeddings is None else embeddings[index]
    return Shown(studio.picture(index), studio.subject.test.labels[index]["captions"], own)


def generator(studio: Studio) -> Callable[[int, Settings], Iterator[Frame]]:
    """(index of a test image, settings) -> the frames of both stages, as they come.

    Stage 1 does not run again for an image whose layouts were finished lately. Raises IndexError and ValueError.
    """
    run, layouts = live(studio), studio.layouts

    def generate(index: int, settings: Settings) -> Iterator[Frame]:
        key, newest = (index, settings.reading), None
        response, known = response_to(studio.subject, index, settings), layouts.get(key)
        for frame in run(response, settings, shown_image(studio, index), known and known[0]):
            newest = frame if frame.stage == "vdvae" else newest
            yield frame
        if newest is not None:
            layouts.put(key, [newest])

    return generate


def frame_source(
    studio: Studio, generate: Callable[[int, Settings], Iterator[Frame]], cache: FrameCache
) -> Callable[[int, Settings], Iterator[Frame]]:
    """`generate`, whose finished reconstructions are kept in `cache` and whose every run is logged."""
    digest = bundle_identity(studio)["digest"]

    def frames(index: int, settings: Settings) -> Iterator[Frame]:
        key, shown, ended, start = (digest, index, settings), [], "left", time.perf_counter()
        kept = cache.get(key)
        try:
            for frame in kept or generate(index, settings):
                shown.append(frame)
                yield frame
            ended = "finished"
            if not kept:
                cache.put(key, shown)
        except Exception:
            ended = "failed"
            raise
        finally:
            log_reconstruction(index, settings, shown, time.perf_counter() - start, bool(kept), ended)

    return frames


@cache
def frames_of(studio: Studio) -> Callable[[int, Settings], Iterator[Frame]]:
    """The one source of a subject's reconstructions, for the page and for scripts."""
    return frame_source(studio, generator(studio), studio.finished)


def remembered(studio: Studio, index: int, settings: Settings) -> tuple[Frame, ...] | None:
    """A reconstruction that was finished lately; nothing is computed for it."""
    return studio.finished.get((bundle_identity(studio)["digest"], index, settings))


def log_reconstruction(
    index: int, settings: Settings, shown: list[Frame], seconds: float, cached: bool, ended: str
) -> None:
    """One line of JSON on stdout: what was asked for, how long each stage took. No prompt, nothing of who asked.

    `ended` is "finished", "left" (its reader went away or wished for something else) or "failed".
    """
    stages = {f"{stage}_s": [f.seconds for f in shown if f.stage == stage] for stage in ("vdvae", "lcm")}
    line = {
        "event": "reconstruction",
        "picture": index,
        "regressor": settings.regressor,
        "prompt": settings.prompt,
        "balance": settings.balance,
        "image_scale": settings.image_scale,
        "guide": settings.guide,
        **vars(settings.lcm),
        "reading": settings.reading,
        "ended": ended,
        "cached": cached,
        **{name: round(times[-1], 3) if times else None for name, times in stages.items()},
        "total_s": round(seconds, 3),
    }
    print(json.dumps(line), flush=True)
