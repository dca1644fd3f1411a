"""What a machine may ask of the page: whether it is ready, and what runs here."""

from __future__ import annotations

import platform
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

from recon.files import file_digest
from recon.ui.told import without_folders

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle
    from recon.ui.server.studio import Studio

LIBRARIES = ("gradio", "torch", "diffusers", "transformers", "huggingface_hub")


def bundle_identity(studio: Studio) -> dict:
    """Name, checksum (of the manifest, which holds those of all files) and, if it came from the Hub, revision."""
    from_hub = re.fullmatch("[0-9a-f]{40}", studio.folder.name)
    return {
        "name": studio.manifest["name"],
        "digest": file_digest(studio.folder / "manifest.json"),
        "revision": from_hub and from_hub.group(),
    }


def health(studio: Studio, describe: Callable[[Bundle], str]) -> Callable[[Request], Awaitable[JSONResponse]]:
    """The handler of /healthz: status 200 when both stages can run, 503 before, and for good if the bundle cannot be opened."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    known = {"versions": versions, "bundle": bundle_identity(studio)}

    async def answer(_: Request) -> JSONResponse:
        opened = studio.stage_2.done()
        error = studio.stage_2.exception() if opened else None
        ready = opened and error is None
        device = describe(studio.bundle) if ready else None
        state = {"ready": ready, "device": device, "error": error and without_folders(error)}
        return JSONResponse(state | known, 200 if ready else 503)

    return answer
