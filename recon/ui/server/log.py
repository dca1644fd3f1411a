"""The log goes to stdout, and never fails what it tells of."""

from __future__ import annotations

import os
import sys
from typing import TextIO


class Unfailing:
    """A text stream whose writes never raise: of a pipe that nobody reads, a full disk or a closed file they are dropped."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: closed, or a letter that the encoding lacks
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def never_fail_by_logging() -> None:
    """From here on nobody's `print`, gradio's and diffusers' neither, raises an error in a request."""
    sys.stdout, sys.stderr = (Unfailing(stream or open(os.devnull, "w")) for stream in (sys.stdout, sys.stderr))
