"""What visitors send lies in a folder of this process alone, and is deleted once it has been read.

What was sent and never read goes within an hour, the folder when the process ends, and that of a process that was killed when the
next one starts.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.ui.html.parts import QUIET
from recon.ui.told import in_one_sentence

UPLOADING = {"concurrency_id": "uploads", "concurrency_limit": 1, **QUIET}  # apart from reconstructions
FOLDER = "GRADIO_TEMP_DIR"  # the variable by which gradio knows it
HOUR = 3600  # seconds


def claim_folder() -> None:
    """Makes a folder that only this user may read, for gradio to keep uploads in; deletes those that killed pages have left."""
    parent = Path(os.environ.get(FOLDER) or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("recon-uploads-*"):
        found = re.fullmatch(r"recon-uploads-(\d+)-\w+", left.name)
        if found and not _runs(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    os.environ[FOLDER] = tempfile.mkdtemp(prefix=f"recon-uploads-{os.getpid()}-", dir=parent)


def _runs(process: int) -> bool:
    """Whether it is another process, and alive."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return process != os.getpid()


def release_folder() -> None:
    """Deletes the folder and all that is in it."""
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def _forget_old() -> None:
    """Deletes what lies in the folder for an hour: what was sent in part, or never read."""
    for path in Path(os.environ[FOLDER]).rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > HOUR:
                path.unlink()
        except FileNotFoundError:  # another visitor's, read meanwhile
            pass


@contextmanager
def received(upload: str | None) -> Iterator[Path]:
    """The path of a file that a visitor sent, which is deleted afterwards; a ValueError meanwhile is told on the page."""
    if upload is None:
        raise in_one_sentence("Choose a file first.")
    path = Path(upload)
    try:
        yield path
    except ValueError as error:
        raise in_one_sentence(error) from error
    finally:
        path.unlink(missing_ok=True)
        _forget_old()
