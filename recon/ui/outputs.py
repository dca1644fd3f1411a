"""What leaves the page: a panel as PNG and JSON, and the endpoint for scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import gradio as gr

from recon.settings import LCMSettings, Settings
from recon.share import png_with_record, record
from recon.ui.controls import read_settings
from recon.ui.parts import REGRESSOR_NAMES, TITLES
from recon.ui.studio import Studio

if TYPE_CHECKING:
    from recon.reconstruct import Frame

Frames = Callable[[int, Settings], Iterator["Frame"]]


def finished(frames: Frames, index: int, settings: Settings) -> tuple[dict, dict[str, float]]:
    """Runs, or finds again, both stages: pictures by source, "lcm" that of stage 2, and seconds by stage."""
    images, seconds = {}, {}
    for frame in frames(index, settings):
        images |= frame.images
        seconds[frame.stage] = frame.seconds
    if not images:
        raise ValueError("no decoder is there to make a picture: `python -m precompute fetch models` gets them")
    return images, seconds


def panel_files(studio: Studio, frames: Frames, wish: dict) -> list[dict]:
    """The panel that a wish shows, as files for the browser to save: name, type, base64."""
    from recon.compare import labelled_row

    index, settings = wish["index"], read_settings(wish["settings"], wish["reading"])
    images, seconds = finished(frames, index, settings)
    content = record(studio.manifest, index, settings, seconds)
    names = TITLES | {"lcm": f"{REGRESSOR_NAMES[settings.regressor]} → VDVAE → LCM"}
    shown = {"Original": studio.subject.test.images[index]}
    shown |= {names[source]: images[source] for source in ("ridge", "mlp", "lcm", "ceiling") if source in images}
    stem = f"{studio.manifest['name']}_picture{index}"
    files = {
        f"{stem}.png": ("image/png", png_with_record(labelled_row(shown), content)),
        f"{stem}.json": ("application/json", json.dumps(content, indent=1, ensure_ascii=False).encode()),
    }
    return [{"name": n, "type": t, "data": base64.b64encode(d).decode("ascii")} for n, (t, d) in files.items()]


def add_endpoint(studio: Studio, frames: Frames) -> None:
    """The endpoint `/reconstruct`, inside open gr.Blocks."""

    def reconstruct(
        index: int,
        regressor: str = "mlp",
        steps: int = 4,
        guidance: float = 1.0,
        strength: float = 0.8,
        seed: int = 0,
        prompt: str = "decoded",
        own_prompt: str = "",
        components: int | None = None,
        repeats: int | None = None,
        gains: dict | None = None,
    ) -> dict:
        """Reconstructs one test picture. Returns `png`, base64, and `record`: all settings, seconds, versions, checksums."""
        try:
            lcm = LCMSettings(steps, guidance, strength, seed)
            settings = Settings(regressor, prompt, own_prompt, lcm, repeats, components, tuple((gains or {}).items()))
            images, seconds = finished(frames, index, settings)
        except (IndexError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        content = record(studio.manifest, index, settings, seconds)
        picture = images.get("lcm", images[regressor])
        return {"png": base64.b64encode(png_with_record(picture, content)).decode("ascii"), "record": content}

    gr.api(reconstruct, api_name="reconstruct", concurrency_id="reconstruct", concurrency_limit=1)
