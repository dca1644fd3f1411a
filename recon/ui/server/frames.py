"""One reconstruction after another, whoever asks: on whatever device there is, remembered, and told in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from recon.responses import read_as
from recon.settings import Settings
from recon.ui.server.cache import FrameCache
from recon.ui.server.health import bundle_identity
from recon.ui.server.serve import on_gpu
from recon.ui.server.studio import KEPT, Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame


def read_response(studio: Studio, index: int, settings: Settings) -> np.ndarray:
    """(n_voxels,) of a test picture, as the settings want it read. Raises IndexError and ValueError."""
    return read_as(studio.subject, index, settings)


def layouts(studio: Studio, index: int, settings: Settings) -> Iterator[Frame]:
    """Stage 1: all its frames, or only the last if the same was there lately."""
    from recon.reconstruct import reconstruct_layout

    kept, key = studio.layouts, (index, settings.reading)
    if key in kept:
        kept.move_to_end(key)
        yield kept[key]
        return
    response, picture = read_response(studio, index, settings), studio.picture(index)
    for frame in reconstruct_layout(response, picture, studio.bundle, settings.regressor, settings.components):
        yield frame
    kept[key] = frame
    if len(kept) > KEPT:
        kept.popitem(last=False)


def generator(studio: Studio) -> Callable[[int, Settings], Iterator[Frame]]:
    """(index of a test picture, settings) -> the frames of both stages, as they come.

    Stage 2 begins as soon as what it starts from is there; what is left of stage 1 follows it. What has not been fetched
    is left out. Raises IndexError and ValueError.
    """

    def generate(index: int, settings: Settings) -> Iterator[Frame]:
        from recon.reconstruct import reconstruct_picture

        bundle = studio.bundle
        response = read_response(studio, index, settings)
        if bundle.vdvae is None:
            return
        stage_1 = layouts(studio, index, settings)
        for layout in stage_1:
            yield layout
            if layout.ready:
                break
        if bundle.open_stage_2 is not None:
            studio.stage_2.result()
            truth = bundle.subject.test.labels[index]["captions"]
            yield from reconstruct_picture(layout.images[settings.regressor], response, truth, bundle, settings)
        yield from stage_1

    return on_gpu(generate)


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
    return frame_source(studio, generator(studio), FrameCache())


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
        **vars(settings.lcm),
        "reading": settings.reading,
        "ended": ended,
        "cached": cached,
        **{name: round(times[-1], 3) if times else None for name, times in stages.items()},
        "total_s": round(seconds, 3),
    }
    print(json.dumps(line), flush=True)
