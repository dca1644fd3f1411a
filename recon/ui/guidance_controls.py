"""The controls of what stage 2's meaning comes from: the decoded text, the decoded image embedding, or both."""

from __future__ import annotations

from typing import Any

import gradio as gr

from recon.settings import MAX_IMAGE_SCALE, MEANINGS, Settings
from recon.ui.html.markup import html
from recon.ui.html_block import html_block

GUIDE_CHOICES = [("Decoded", "decoded"), ("Nearest", "nearest"), ("⚠ Oracle: knows the answer", "oracle")]
HELP = {
    "meaning": "What tells stage 2 what to draw: presets of the slider beside.",
    "balance": "0 is text alone, 0.5 text and image in full, 1 the image embedding alone.",
    "image_scale": "How strongly the image embedding counts.",
    "guide": "Whose embedding: decoded from the brain, the nearest training image's, or, as oracle, the shown image's own.",
}
SAME = "value => value"


def guidance_controls(no_adapter: str) -> tuple[dict[str, Any], gr.Radio]:
    """Controls by name, and the presets; without an adapter they rest, and the page says why and what to do."""
    defaults, off = Settings(), {"interactive": not no_adapter}
    title = "Text or image: what stage 2 follows" + (" · no image adapter, text alone" if no_adapter else "")
    with gr.Accordion(title, open=False), gr.Row(elem_classes="controls guidance"):
        presets = gr.Radio(
            list(MEANINGS.items()),
            value=defaults.balance,
            label="Meaning from",
            info=HELP["meaning"],
            elem_classes="meaning",
            **off,
        )
        balance = gr.Slider(
            0, 1, defaults.balance, step=0.05, label="Text ↔ image", info=HELP["balance"], buttons=[], **off
        )
        scale = gr.Slider(
            0,
            MAX_IMAGE_SCALE,
            defaults.image_scale,
            step=0.05,
            label="Image scale",
            info=HELP["image_scale"],
            buttons=[],
            **off,
        )
        guide = gr.Radio(
            GUIDE_CHOICES,
            value=defaults.guide,
            label="Image embedding",
            info=HELP["guide"],
            elem_classes="guide",
            **off,
        )
        if no_adapter:
            html_block(html('<p class="small unguided">Text alone guides stage 2. {}</p>', no_adapter))
    balance.change(None, balance, presets, js=SAME)
    return {"balance": balance, "image_scale": scale, "guide": guide}, presets
