"""What visitors send lies in a folder of this process alone, and is deleted once it has been read.

What was sent and never read goes within an hour, the folder when the process ends (`recon.ui.server.startup`).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from recon.environment import TEMPORARY
from recon.ui.html.parts import QUIET
from recon.ui.told import in_one_sentence

UPLOADING = {"concurrency_id": "uploads", "concurrency_limit": 1, **QUIET}  # apart from reconstructions
HOUR = 3600  # seconds
GONE = "This file is no longer here, as they are deleted within an hour: choose the file again."


@dataclass
class Brought:
    """What a visitor brought to a tab last; Gradio keeps one for each browser tab."""

    content: object = None
    decoded: tuple = ()  # with which choices it was decoded last

    def while_it_stays(self, frames: Generator) -> Iterator:
        """Frames, until the visitor brings something else: its results must not stand under the new one's name."""
        content = self.content
        with closing(frames):
            for frame in frames:
                if self.content is not content:
                    return
                yield frame


def _forget_old() -> None:
    """Deletes what lies in the folder for an hour: what was sent in part, or never read."""
    for path in Path(os.environ[TEMPORARY]).rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > HOUR:
                path.unlink()
        except FileNotFoundError:  # another visitor's, read meanwhile
            pass


def sent_by_client(file: object) -> str:
    """The path of a file that a program has sent before: gradio looks at what components get, not at what an endpoint gets.

    Raises ValueError for any other file of this computer, which would be read and deleted.
    """
    path = Path(file["path"]) if isinstance(file, dict) and isinstance(file.get("path"), str) else None
    if path is None or "\0" in str(path) or not path.resolve().is_relative_to(Path(os.environ[TEMPORARY]).resolve()):
        raise ValueError("file: expected one that was uploaded before (in Python: handle_file), got another")
    return str(path)


def lent_file(name: str, content: bytes) -> dict:
    """A file for a program to fetch, within the hour, as gradio tells of files."""
    _forget_old()
    folder = Path(os.environ[TEMPORARY]) / secrets.token_hex(16)
    folder.mkdir()
    (folder / name).write_bytes(content)
    return {"path": str(folder / name), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


@contextmanager
def received(upload: str | None) -> Iterator[Path]:
    """The path of a file that a visitor sent, which is deleted afterwards; a ValueError meanwhile is told on the page."""
    if upload is None:
        raise in_one_sentence("Choose a file first.")
    path = Path(upload)
    if not path.is_file():
        raise in_one_sentence(GONE)
    try:
        yield path
    except ValueError as error:
        raise in_one_sentence(error) from error
    finally:
        path.unlink(missing_ok=True)
        _forget_old()
