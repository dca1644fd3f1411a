"""The About tab: the method as a figure, the data, what to trust, whom to cite."""

from __future__ import annotations

from html import escape
from string import Template

import gradio as gr

from recon.share import versions
from recon.ui.server.studio import Studio
from recon.ui.tabs.explore_tab import page_text


def data_words(manifest: dict) -> str:
    if manifest["simulated"]:
        return (
            "This page shows a <b>simulated subject</b>: its pictures, its visual cortex and its small decoders were made by this "
            "project’s own scripts, because the Natural Scenes Dataset may not be passed on. A simulated brain is kinder than a "
            "real one: its numbers show that the pipeline works, not how well it would do on a person."
        )
    return (
        "This page shows a subject of the Natural Scenes Dataset, whose terms allow research use and forbid passing on any of it. "
        "Keep this page private to those who have access to the data."
    )


def version_words(manifest: dict) -> str:
    """What this page runs on: enough to make its pictures again."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{packages}. Bundle {escape(manifest['name'])}, version {manifest['version']} of the format."


def about_tab(studio: Studio) -> None:
    """Lays the tab out, inside an open gr.Tab."""
    words = Template(page_text("about.html")).substitute(
        data=data_words(studio.manifest), versions=version_words(studio.manifest)
    )
    gr.HTML(words, apply_default_css=False)
