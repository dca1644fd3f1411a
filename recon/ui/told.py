"""How the page tells of errors: gradio takes messages for HTML, and they may quote what a visitor or a file said."""

from __future__ import annotations

import re
from html import escape

import gradio as gr

FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+")  # of a path from the root on, up to its last name


def without_folders(said: object) -> str:
    """What strangers may read of a message: files by their names, without where on this computer they lie."""
    return FOLDERS.sub("", str(said))


def as_text(said: object) -> str:
    """What a message of the page shows as it was said; quotes stay, for scripts read the same messages."""
    return escape(without_folders(said), quote=False)


def in_one_sentence(error: Exception | str) -> gr.Error:
    """What the page shows of an error."""
    return gr.Error(as_text(error), print_exception=False)
