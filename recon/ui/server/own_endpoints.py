"""The endpoints for what a program brings itself: a response, decoded; an image, through the encoding model and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import gradio as gr
import numpy as np
from gradio import FileData

from recon.settings import LCMSettings, Settings, in_range
from recon.share import png_with_record
from recon.ui.server.endpoint import Regressor, named, npy_bytes, record_of, so_far
from recon.ui.server.frames import live
from recon.ui.server.received import lent_file, received, sent_by_client
from recon.ui.server.studio import STAGE_1_SIZE, Studio
from recon.ui.told import in_one_sentence

if TYPE_CHECKING:
    from recon.ui.server.library import Library

Scale = Literal["z-scored", "raw"]


def decoded_files(studio: Studio, response: np.ndarray, settings: Settings, about: dict) -> Iterator[dict]:
    """A response (n_voxels,), decoded: after every step what is done, at the end images and record. Raises ValueError."""

    def frames(_: object, settings: Settings) -> Iterator:
        yield from live(studio)(response, settings)

    for frame, images, seconds in so_far(frames, None, settings):  # noqa: B007 - the last ones
        step = {"stage": frame.stage, "step": frame.step, "seconds": round(seconds[frame.stage], 3)}
        yield step
    content = record_of(studio, None, settings, seconds, frame) | about
    captions = studio.bundle.captions
    (row,), (cosine,) = captions.nearest(frame.reading.embedding[None])
    names = {"image": "lcm", "layout": settings.regressor}
    shown = {name: images[source] for name, source in names.items() if source in images}
    files = {name: lent_file(f"{name}.png", png_with_record(image, content)) for name, image in shown.items()}
    yield step | files | {"caption": captions.captions[row], "cosine": float(cosine), "record": content}


def chosen_response(studio: Studio, file: FileData, row: int, scale: str) -> np.ndarray:
    """(n_voxels,) of a file that a program sent, which is deleted. Raises ValueError, or gr.Error, for a bad one."""
    from recon.uploads import read_responses, to_scale

    with received(sent_by_client(file)) as path:
        responses = to_scale(read_responses(path, studio.subject.geometry.n_voxels), scale)
    in_range("row", row, 0, len(responses) - 1, whole=True)
    return responses[int(row)]


def response_to_own(studio: Studio, file: FileData) -> tuple[np.ndarray, list[str]]:
    """(n_voxels,) that the encoding model predicts for an image which a program sent, and what of it was cut off."""
    from recon.responses import predicted_response
    from recon.uploaded_images import read_image

    with received(sent_by_client(file)) as path:
        squares = read_image(path, (STAGE_1_SIZE,))
    return predicted_response(squares.images[0][None], studio.bundle)[0], squares.notes


def add_own_endpoints(library: Library) -> None:
    """The endpoints `/decode_response` and `/image_to_brain`, inside open gr.Blocks."""

    def decode_response(
        file: FileData,
        row: int = 0,
        scale: Scale = "z-scored",
        regressor: Regressor = "mlp",
        seed: int = 0,
        subject: str | None = None,
    ) -> Iterator[dict]:
        """Decodes a response of yours: row `row` of a .npy or HDF5 `file`, (n_voxels,) or (n, n_voxels). The last answer has
        `image` and `layout`, PNG files, `caption`, the nearest one in training, its `cosine`, and `record`."""
        try:
            studio = library.studio(named(library, subject))
            settings = Settings(regressor, lcm=LCMSettings(seed=seed))
            response = chosen_response(studio, file, row, scale)
            about = {"response": "uploaded", "row": row, "scale": scale}
            yield from decoded_files(studio, response, settings, about)
        except ValueError as error:
            raise in_one_sentence(error) from error

    def image_to_brain(
        file: FileData, regressor: Regressor = "mlp", seed: int = 0, subject: str | None = None
    ) -> Iterator[dict]:
        """Predicts the response to an image of yours, a PNG, JPEG or WebP `file`, and decodes it. The last answer is that of
        /decode_response, and `response`: the predicted one, a .npy file; `notes`: what was cut off the image."""
        try:
            studio = library.studio(named(library, subject))
            settings = Settings(regressor, lcm=LCMSettings(seed=seed))
            response, notes = response_to_own(studio, file)
            about = {"response": "predicted by the encoding model, not measured", "picture": "uploaded"}
            for answer in decoded_files(studio, response, settings, about):
                yield answer
        except ValueError as error:
            raise in_one_sentence(error) from error
        yield answer | {"response": lent_file("response.npy", npy_bytes(response)), "notes": notes}

    for endpoint in (decode_response, image_to_brain):
        gr.api(endpoint, concurrency_id="reconstruct", concurrency_limit=1)
