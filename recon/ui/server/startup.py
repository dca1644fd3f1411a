"""What has to be done before gradio is imported, and undone at the end: variables, and a private folder for what visitors send."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile

from recon.environment import TEMPORARY, settle, temporary_folder
from recon.unreadable import BadFile


def begin() -> None:
    """Settles the environment and claims the private folder; ends the program with one sentence where it cannot."""
    try:
        settle()
        claim_folder()
    except BadFile as error:
        sys.exit(str(error))
    atexit.register(release_folder)


def claim_folder() -> None:
    """Makes a folder that only this user may read, for gradio to keep uploads in; deletes those that killed pages have left.

    Gradio's own is the same for all users of a computer: the first of them owns it.
    """
    parent = temporary_folder()
    for left in parent.glob("recon-uploads-*"):
        found = re.fullmatch(r"recon-uploads-(\d+)-\w+", left.name)
        if found and not _runs(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    os.environ[TEMPORARY] = tempfile.mkdtemp(prefix=f"recon-uploads-{os.getpid()}-", dir=parent)


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
    """Deletes this process's folder and all that is in it."""
    if f"-{os.getpid()}-" in os.environ[TEMPORARY]:
        shutil.rmtree(os.environ[TEMPORARY], ignore_errors=True)
