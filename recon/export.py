"""What a picture was made with, as JSON, beside the picture or inside its PNG file."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from recon.bundle import Bundle
from recon.reconstruct import Frame
from recon.settings import Settings

PACKAGES = ("torch", "numpy", "diffusers", "transformers", "peft", "gradio", "Pillow")
KEYWORD = "recon"  # of the PNG file's text


def bundle_digest(manifest: dict) -> str:
    """SHA-256 of what the manifest says, the digests of all files among it."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Of Python and the packages that compute; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def export_record(bundle: Bundle, index: int | None, settings: Settings, *frames: Frame) -> dict:
    """All that it takes to make a picture again: for `json.dumps`.

    index: the test image; None for a response from elsewhere. frames: the last one of each stage, for its steps and times.
    """
    manifest = bundle.manifest
    return {
        "subject": manifest["name"],
        "simulated": manifest["simulated"],
        "image": index,
        "settings": asdict(settings) | {"gains": dict(settings.gains)},
        "knows_the_answer": settings.prompt == "oracle",
        "stages": {frame.stage: {"step": frame.step, "seconds": round(frame.seconds, 4)} for frame in frames},
        "bundle": {"version": manifest["version"], "sha256": bundle_digest(manifest)},
        "versions": package_versions(),
    }


def png_with_record(picture: np.ndarray, record: dict) -> bytes:
    """(H, W, 3) uint8 -> a PNG file that carries the record as JSON in a tEXt chunk called `recon`."""
    text = PngInfo()
    text.add_text(KEYWORD, json.dumps(record))  # ASCII, which is all that tEXt may hold
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()
