"""The About tab: the method as a figure, the data, what to trust, whom to cite."""

from __future__ import annotations

import json

import gradio as gr
from markupsafe import Markup

from recon.files import BadFile
from recon.share import versions
from recon.ui.html.markup import html, joined
from recon.ui.html.parts import QUIET
from recon.ui.html_block import html_block
from recon.ui.server.serve import describe_device
from recon.ui.server.studio import Studio
from recon.ui.tabs.explore_tab import page_text
from recon.ui.told import without_folders


def data_words(manifest: dict) -> str:
    """Whose data the page shows."""
    if manifest["simulated"]:
        return html(
            "This page shows a <b>simulated subject</b>: its pictures, its visual cortex and its small decoders were made by this "
            "project’s own scripts, because the Natural Scenes Dataset may not be passed on. A simulated brain is kinder than a "
            "real one: its numbers show that the pipeline works, not how well it would do on a person."
        ) + learned_words(manifest)
    return (
        "This page shows a subject of the Natural Scenes Dataset, whose terms allow research use and forbid passing on any of it. "
        "Keep this page private to those who have access to the data."
    )


def learned_words(manifest: dict) -> str:
    """How much the decoders have seen, and how far latents are rescaled; nothing of a bundle that does not say."""
    if not {"n_corpus", "n_train", "rescaling"} <= manifest.keys():
        return ""
    coarse, fine = (f"{float(manifest['rescaling'][k]):g}" for k in ("coarse", "fine"))
    return (
        f" The decoders learned from {int(manifest['n_corpus']):,} drawn scenes, the subject saw {int(manifest['n_train']):,} of "
        "these. No test scene is among them, and no combination of setting, object and light that is kept for testing. "
        "Predicted latents vary less than true ones; they are rescaled by the ratio of the two spreads to the power of "
        f"{coarse} (layers up to 8 × 8) and {fine} (finer ones), chosen on training images that the MLP was not fitted to."
    )


def glossary() -> Markup:
    """The terms that the page explains on a tap, as one list."""
    terms = json.loads(page_text("words.json"))["TERMS"].values()
    return joined(html("<dt>{}</dt><dd>{}</dd>", term["title"], term["words"]) for term in terms)


def version_words(manifest: dict) -> str:
    """What this page runs on: enough to make its pictures again."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{packages}. Bundle {manifest['name']}, version {manifest['version']} of the format."


def about(manifest: dict, device: str) -> Markup:
    """The whole tab; `device`: where models run, as `describe_device` says it."""
    words = f"{version_words(manifest)} {device}"
    return html(page_text("about.html"), data=data_words(manifest), glossary=glossary(), versions=words)


def about_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lays the open `tab` out; on which device models run is told when it is looked at, for they may be opening still."""
    block = html_block(about(studio.manifest, "The models are being opened."))

    def told() -> Markup:
        try:
            return about(studio.manifest, f"Models run on {describe_device(studio.bundle)}.")
        except BadFile as error:
            return about(studio.manifest, without_folders(error))

    tab.select(told, None, block, **QUIET)
