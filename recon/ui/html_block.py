"""Where HTML stands on the page."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup, escape

from recon.ui.html.markup import NOTHING


def html_block(value: Markup = NOTHING) -> gr.HTML:
    """A place for HTML that was made with `recon.ui.html.markup`; it begins with `value`, which is text if it is not such."""
    return gr.HTML(str(escape(value)), apply_default_css=False)
