"""What the page shows as a link, and as a record beside a downloaded picture."""

from __future__ import annotations

import io
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from urllib.parse import parse_qsl, urlencode

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from recon.recipes import TRANSDUCTIVE, recipe_of
from recon.settings import LCMSettings, Settings, shown

PACKAGES = ("torch", "diffusers", "transformers", "gradio", "numpy")
LCM = {"steps": int, "guidance": float, "strength": float, "seed": int}
NUMBERS = {"repeats": int, "components": int, "balance": float, "image_scale": float}
WORDS = ("regressor", "prompt", "own_prompt", "guide", "response")
RECORD = "recon"  # name of the PNG's text chunk


def to_query(subject: str, index: int, settings: Settings) -> str:
    """A URL's query that brings back subject, picture and everything that differs from the defaults."""
    default, values = Settings(), {"subject": subject, "picture": index}
    for name in LCM:
        if getattr(settings.lcm, name) != getattr(default.lcm, name):
            values[name] = getattr(settings.lcm, name)
    for name in (*WORDS, *NUMBERS):
        if getattr(settings, name) != getattr(default, name):
            values[name] = getattr(settings, name)
    if settings.prompt != "own":
        values.pop("own_prompt", None)  # typed, but not in use
    gains = ",".join(f"{roi}*{gain:g}" for roi, gain in settings.gains)
    return urlencode(values | ({"gains": gains} if gains else {}))


def from_query(query: str, n_images: int) -> tuple[str | None, int, Settings]:
    """The reverse: subject (None: not said), picture, settings. Raises ValueError, saying what is wrong with the link."""
    try:
        values = dict(parse_qsl(query.lstrip("?"), max_num_fields=32))
        index = int(values.get("picture", 0))
        lcm = {name: kind(values[name]) for name, kind in LCM.items() if name in values}
        numbers = {name: kind(values[name]) for name, kind in NUMBERS.items() if name in values}
        pairs = [part.rsplit("*", 1) for part in values.get("gains", "").split(",") if part]
        gains = tuple((roi, float(gain)) for roi, gain in pairs)
    except ValueError:
        raise ValueError("this link cannot be read: a number in it is not one") from None
    if not 0 <= index < n_images:
        raise ValueError(f"this link names picture {shown(index)}: this subject has pictures 0 to {n_images - 1}")
    words = {name: values[name] for name in WORDS if name in values}
    return values.get("subject"), index, Settings(lcm=LCMSettings(**lcm), gains=gains, **numbers, **words)


def versions() -> dict[str, str]:
    """Of Python and of the packages that pictures depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def subject_of(query: str) -> str | None:
    """The subject that a link names, if it can be read and names one."""
    try:
        return dict(parse_qsl(query.lstrip("?"), max_num_fields=32)).get("subject")
    except ValueError:
        return None


def record(manifest: dict, index: int | None, settings: Settings, seconds: dict[str, float]) -> dict:
    """All that is needed to make a picture again; `seconds` by stage; index None where no test picture was shown."""
    owed = {"transductive": TRANSDUCTIVE} if settings.regressor in recipe_of(manifest).transductive else {}
    return owed | {
        "subject": manifest["name"],
        "simulated": manifest["simulated"],
        "picture": index,
        "settings": asdict(settings),
        "seconds": {k: round(v, 3) for k, v in seconds.items()},
        "files": {name: entry["sha256"] for name, entry in manifest["files"].items()},
        "versions": versions(),
    }


def png_with_record(picture: np.ndarray, content: dict) -> bytes:
    """(h, w, 3) uint8 as PNG, with the record as JSON in a text chunk named "recon"."""
    info, buffer = PngInfo(), io.BytesIO()
    info.add_itxt(RECORD, json.dumps(content, ensure_ascii=False))
    Image.fromarray(picture).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
