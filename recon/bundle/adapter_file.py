"""Where the image adapter of a bundle's diffusion model lies: in the bundle, or among the published models."""

from __future__ import annotations

from pathlib import Path

from recon.bundle.manifest import ADAPTER
from recon.decoders.published_models import locate
from recon.files import BadFile

PUBLISHED = {  # what a manifest may name -> its file in the repository
    "base": "models/ip-adapter_sd15.safetensors",
    "light": "models/ip-adapter_sd15_light.safetensors",
}


def find_adapter(folder: Path, manifest: dict) -> tuple[Path | None, str]:
    """The adapter's file; or None, and why there is none and what to do."""
    if manifest["decoders"] == "own":
        if ADAPTER in manifest.get("files", ()):
            return folder / ADAPTER, ""
        return None, "This bundle has no image adapter: one is trained by `python -m precompute demo`"
    try:
        return locate("ip_adapter") / PUBLISHED[manifest.get("adapter", "base")], ""
    except BadFile as error:
        return None, str(error)
