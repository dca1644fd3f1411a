"""What leaves the page: a panel as PNG and JSON, and the endpoint for scripts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import gradio as gr
import numpy as np

from recon.responses import response_to
from recon.settings import LCMSettings, Settings, in_range, shown
from recon.share import png_with_record, record
from recon.ui.controls import read_settings
from recon.ui.html.parts import REGRESSOR_NAMES, TITLES
from recon.ui.server.frames import frames_of, remembered
from recon.ui.server.received import lent_file
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

if TYPE_CHECKING:
    from recon.reconstruct import Frame
    from recon.ui.server.library import Library

Regressor = Literal["ridge", "mlp"]
Prompt = Literal["decoded", "caption", "own", "none", "oracle"]
Guide = Literal["decoded", "nearest", "oracle"]
Response = Literal["own", "other", "shuffled", "none"]
Frames = Callable[[int, Settings], Iterator["Frame"]]


def so_far(frames: Frames, index: int, settings: Settings) -> Iterator[tuple[Frame, dict, dict[str, float]]]:
    """Both stages, run or found again: after every frame it, pictures by source, "lcm" that of stage 2, and seconds by stage."""
    images, seconds, unguided = {}, {}, ""
    for frame in frames(index, settings):
        if frame.stage == "none":
            raise ValueError(f"no decoder is there to make an image: {frame.absent['vdvae']}")
        images, seconds = images | frame.images, seconds | {frame.stage: frame.seconds}
        unguided = unguided or frame.unguided
        yield replace(frame, unguided=unguided), images, seconds


def record_of(studio: Studio, index: int | None, settings: Settings, seconds: dict[str, float], frame: Frame) -> dict:
    """The record of a reconstruction; it says so if an image was to guide stage 2 and could not."""
    return record(studio.manifest, index, settings, seconds) | ({"unguided": frame.unguided} if frame.unguided else {})


def base64_png(picture: np.ndarray, content: dict) -> str:
    return base64.b64encode(png_with_record(picture, content)).decode("ascii")


def panel_files(studio: Studio, wish: dict) -> list[dict] | None:
    """The panel that a wish shows, as files for the browser to save: name, type, base64.

    None if it is not remembered, or no wish: whatever computes has to wait for its turn, and this does not.
    """
    try:
        return _files_of(studio, wish["index"], read_settings(wish["settings"], wish["reading"]))
    except (Forgotten, ValueError, TypeError, KeyError, AttributeError):
        return None


def npy_bytes(array: np.ndarray) -> bytes:
    """The array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def response_file(studio: Studio, wish: dict) -> dict | None:
    """The response that a wish decodes, as a file for the browser to save: name, type, base64; None if it is no wish."""
    try:
        index, settings = wish["index"], read_settings(wish["settings"], wish["reading"])
        content = npy_bytes(response_to(studio.subject, index, settings))
    except (IndexError, ValueError, TypeError, KeyError, AttributeError):
        return None
    name = f"{studio.manifest['name']}_picture{index}_response.npy"
    return {"name": name, "type": "application/octet-stream", "data": base64.b64encode(content).decode()}


class Forgotten(Exception):
    """A reconstruction that is not remembered, or was not finished."""


@lru_cache(maxsize=8)
def _files_of(studio: Studio, index: int, settings: Settings) -> list[dict]:
    """Raises Forgotten."""
    from recon.compare import labelled_row

    frames = remembered(studio, index, settings)
    if frames is None:
        raise Forgotten
    *_, (last, images, seconds) = so_far(lambda *_: iter(frames), index, settings)
    content = record_of(studio, index, settings, seconds, last)
    names = TITLES | {"lcm": f"{REGRESSOR_NAMES[settings.regressor]} → VDVAE → LCM"}
    shown = {"Original": studio.subject.test.images[index]}
    shown |= {names[source]: images[source] for source in ("ridge", "mlp", "lcm", "ceiling") if source in images}
    stem = f"{studio.manifest['name']}_picture{index}"
    files = {
        f"{stem}.png": ("image/png", png_with_record(labelled_row(shown), content)),
        f"{stem}.json": ("application/json", json.dumps(content, indent=1, ensure_ascii=False).encode()),
    }
    return [{"name": n, "type": t, "data": base64.b64encode(d).decode("ascii")} for n, (t, d) in files.items()]


def named(library: Library, subject: object) -> str:
    """The subject that is asked for, or the first. Raises ValueError for one that is not there."""
    if subject is None:
        return library.names[0]
    if not isinstance(subject, str) or subject not in library.names:
        raise ValueError(f"subject: expected one of {', '.join(library.names)}, got {shown(subject)}")
    return subject


def areas(gains: object) -> tuple[tuple[str, float], ...]:
    """Areas and their gains. Raises ValueError for anything but an object, or nothing."""
    if gains is None:
        return ()
    if not isinstance(gains, dict):
        raise ValueError(f"gains: expected areas and numbers, {{name: gain}}, got {shown(gains)}")
    return tuple(gains.items())


def within(studio: Studio, index: object, settings: Settings) -> int:
    """The index of a test image, if the subject has it, and as many repeats and components as the settings name.

    Raises ValueError otherwise: a record must not say of more than there is.
    """
    in_range("index", index, 0, studio.n_pictures - 1, whole=True)
    for name, most in (
        ("repeats", int(studio.subject.test.n_repeats.max())),
        ("components", studio.manifest["components"]),
    ):
        if getattr(settings, name) is not None:
            in_range(name, getattr(settings, name), 1, most, whole=True)
    return int(index)


def add_endpoint(library: Library) -> None:
    """The endpoint `/reconstruct`, inside open gr.Blocks; a client that leaves ends its work at the next step."""

    def reconstruct(
        index: int,
        regressor: Regressor = "mlp",
        steps: int = 4,
        guidance: float = 1.0,
        strength: float = 0.8,
        seed: int = 0,
        prompt: Prompt = "decoded",
        own_prompt: str = "",
        components: int | None = None,
        repeats: int | None = None,
        gains: dict | None = None,
        subject: str | None = None,
        balance: float = 0.0,
        image_scale: float = 0.8,
        guide: Guide = "decoded",
        response: Response = "own",
    ) -> Iterator[dict]:
        """Reconstructs one test picture: `stage`, `step`, `seconds` of the stage, and `png`, base64, after every step of either
        stage; the last one, finished, also has `image`, a PNG file, and `record`: all settings, seconds, versions, checksums."""
        try:
            studio = library.studio(named(library, subject))
            lcm = LCMSettings(steps, guidance, strength, seed)
            reading = repeats, components, areas(gains)
            settings = Settings(regressor, prompt, own_prompt, lcm, *reading, balance, image_scale, guide, response)
            index = within(studio, index, settings)
            for frame, images, seconds in so_far(frames_of(studio), index, settings):
                picture = images["lcm" if "lcm" in images else regressor]
                step = {"stage": frame.stage, "step": frame.step, "seconds": round(seconds[frame.stage], 3)}
                yield step | {"png": base64_png(picture, {})}
        except ValueError as error:
            raise in_one_sentence(error) from error
        content = record_of(studio, index, settings, seconds, frame)
        png = png_with_record(picture, content)
        name = f"{studio.manifest['name']}_picture{index}.png"
        encoded = base64.b64encode(png).decode("ascii")
        yield step | {"png": encoded, "image": lent_file(name, png), "record": content}

    gr.api(reconstruct, api_name="reconstruct", concurrency_id="reconstruct", concurrency_limit=1)
