"""Gradio's theme in the page's own design: its variables are those of `tokens.css`, and the head that every page begins with."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from markupsafe import Markup

from recon.ui.html.markup import joined, script

PAGE = Path(__file__).parents[2] / "assets" / "page"
STYLES = ("tokens.css", "page.css", "tabs.css", "evaluate.css", "brain/brain.css")
SCRIPTS = ("theme", "make", "address", "lightbox", "explain")  # of the whole page, before any component
VARIABLES = {
    "body_background_fill": "ground",
    "background_fill_primary": "ground",
    "background_fill_secondary": "panel",
    "body_text_color": "text",
    "body_text_color_subdued": "soft",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent": "accent",
    "color_accent_soft": "accent-fill",
    "link_text_color": "accent-text",
    "link_text_color_hover": "accent-text",
    "link_text_color_visited": "accent-text",
    "block_info_text_color": "soft",
    "block_title_text_color": "text",
    "block_label_text_color": "text",
    "input_background_fill": "panel",
    "input_border_color": "edge",
    "input_border_color_focus": "focus",
    "input_placeholder_color": "soft",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "edge",
    "checkbox_label_text_color_selected": "on-accent",
    "slider_color": "accent",
    "loader_color": "accent",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-hover",
    "button_primary_text_color": "on-accent",
    "button_primary_border_color": "accent",
    "button_secondary_background_fill": "raised",
    "button_secondary_background_fill_hover": "raised",
    "button_secondary_text_color": "text",
    "button_secondary_border_color": "edge",
}


def theme() -> gr.themes.Base:
    """Light and dark alike: what they are, the page's own variables say."""
    base = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    values = {name: f"var(--{token})" for name, token in VARIABLES.items()}
    dark = {f"{name}_dark": value for name, value in values.items() if hasattr(base, f"{name}_dark")}
    return base.set(**values, **dark, block_background_fill="transparent", block_border_width="0px", layout_gap="12px")


def head() -> Markup:
    """The scripts of the whole page, and the words that they say."""
    words = script("const WORDS = " + (PAGE / "words.json").read_text(encoding="utf-8"))
    return joined([words, *(script((PAGE / f"{name}.js").read_text(encoding="utf-8")) for name in SCRIPTS)])
