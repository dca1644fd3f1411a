"""How the page tells of errors: gradio takes messages for HTML, and they may quote what a visitor or a file said."""

from __future__ import annotations

from html import escape

import gradio as gr


def as_text(said: object) -> str:
    """What a message of the page shows as it was said; quotes stay, for scripts read the same messages."""
    return escape(str(said), quote=False)


def in_one_sentence(error: Exception | str) -> gr.Error:
    """What the page shows of an error."""
    return gr.Error(as_text(error), print_exception=False)
