"""One subject on the page: its data at once, everything slow as soon as it has been opened."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import check_files, is_evaluated, read_manifest
from recon.bundle.subject import Subject, load_subject
from recon.images import area_average
from recon.ui.html.image_scores import ImageScores, read_image_scores, read_n_seeds
from recon.ui.html.parts import THUMBNAIL, thumbnail_sheet
from recon.ui.server.cache import FrameCache

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle

STAGE_1_SIZE = 64  # pixels of a VDVAE's pictures
LAYOUT_BYTES = 4 << 20  # of stage 1's last frames that are remembered: a hundred images


@dataclass(frozen=True, eq=False)  # eq: one is itself alone, so that what is made of it can be cached
class Studio:
    """What the handlers need of one subject.

    `bundle` waits for stage 1; `stage_2` ends when the bundle's diffusion model has been opened too.
    """

    folder: Path
    manifest: dict
    subject: Subject
    opening: Future[Bundle]
    stage_2: Future[None]
    image_scores: ImageScores = field(default_factory=dict)  # empty if the bundle has not been evaluated
    n_seeds: int = 0  # of stage 2, over which they are means
    layouts: FrameCache = field(default_factory=lambda: FrameCache(LAYOUT_BYTES))  # stage 1's last frames
    finished: FrameCache = field(default_factory=FrameCache)  # whole reconstructions

    @property
    def n_pictures(self) -> int:
        return len(self.subject.test.labels)

    def picture(self, index: int) -> np.ndarray:
        """(S, S, 3) uint8: a test picture at the VDVAE's size."""
        return area_average(self.subject.test.images[index, None], STAGE_1_SIZE)[0]

    @cached_property
    def thumbnails(self) -> str:
        """All test pictures in one, as a data URI."""
        return thumbnail_sheet(area_average(self.subject.test.images, THUMBNAIL))

    @property
    def bundle(self) -> Bundle:
        """Waits until it is open. Raises BadFile if it cannot be."""
        return self.opening.result()


def open_studio(folder: Path, like: Studio | None = None) -> tuple[Studio, Callable[[], None]]:
    """A studio whose bundle is not open yet, and what opens it, with the decoders of another one if they are the same.

    Raises BadFile for a bad manifest or subject.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest, ("subject.h5", *(EVALUATION_FILES if is_evaluated(manifest) else ())))
    subject = load_subject(folder / "subject.h5")
    opening, stage_2 = Future(), Future()

    def open_all() -> None:
        try:
            from recon.bundle.bundle import load_bundle  # imports torch

            bundle = load_bundle(folder, None if like is None or like.opening.exception() else like.bundle)
            opening.set_result(bundle)
            bundle.diffusion  # noqa: B018 - imports diffusers, reads the weights
            stage_2.set_result(None)
        except Exception as error:  # told to whoever waits
            for future in (opening, stage_2):
                if not future.done():
                    future.set_exception(error)

    scores = read_image_scores(folder, len(subject.test.labels))
    n_seeds = read_n_seeds(folder) if scores else 0
    studio = Studio(folder, manifest, subject, opening, stage_2, scores, n_seeds)
    return studio, open_all
