"""How the page tells of errors."""

from __future__ import annotations

from html import escape

import gradio as gr


def in_one_sentence(error: Exception | str) -> gr.Error:
    """What the page shows of an error: gradio takes its message for HTML, and it may quote what a visitor or a file said."""
    return gr.Error(escape(str(error), quote=False), print_exception=False)
