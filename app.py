"""The page: opens a bundle and lays out the tabs.

python app.py                              http://127.0.0.1:7860
GRADIO_SERVER_PORT=8000 RECON_BUNDLE=assets/demo python app.py
RECON_BUNDLE=hub:USER/NAME@REVISION python app.py
"""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one picture is too small to share among busy cores

import sys
from pathlib import Path

from recon.ui.quick import import_gradio

import_gradio()

import gradio as gr

from recon.files import BadFile
from recon.hub import locate_bundle
from recon.ui.about import about_tab
from recon.ui.brain import PLOTLY
from recon.ui.brain_to_image import brain_to_image_tab
from recon.ui.compare import compare_tab
from recon.ui.evaluate import evaluate_tab
from recon.ui.explore import PAGE, explore_tab
from recon.ui.image_to_brain import image_to_brain_tab
from recon.ui.own_data import own_data_tab
from recon.ui.panel import header
from recon.ui.serve import describe_device, serve
from recon.ui.studio import Studio, open_studio

HERE = Path(__file__).parent
STYLES = ("page.css", "tabs.css", "evaluate.css", "brain/brain.css")


def build(studio: Studio) -> gr.Blocks:
    with gr.Blocks(title="Brain → Image", fill_width=True, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        top = gr.HTML(header(studio.manifest, {}, ""), apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Explore", id="explore"):
                picker = explore_tab(studio, demo)
            with gr.Tab("Compare", id="compare") as compare:
                compare_tab(studio, compare, picker)
            with gr.Tab("Brain → image", id="brain-to-image"):
                brain_to_image_tab(studio)
            with gr.Tab("Image → brain", id="image-to-brain") as image_to_brain:
                image_to_brain_tab(studio, image_to_brain)
            with gr.Tab("Your data", id="your-data"):
                own_data_tab(studio)
            with gr.Tab("Evaluate", id="evaluate") as evaluate:
                evaluate_tab(studio, evaluate)
            with gr.Tab("About", id="about"):
                about_tab(studio)

        def complete() -> str:
            return header(studio.manifest, studio.bundle.absent, describe_device(studio.bundle))

        demo.load(complete, None, top, api_visibility="private")
    return demo.queue(max_size=32)


def main() -> None:
    try:
        studio, open_models = open_studio(
            locate_bundle(os.environ.get("RECON_BUNDLE") or str(HERE / "assets" / "demo"))
        )
    except BadFile as error:
        sys.exit(str(error))
    gr.set_static_paths([PLOTLY])
    serve(
        build(studio),
        studio,
        open_models,
        server_port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        share=False,
        ssr_mode=False,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        head=f"<script>{(PAGE / 'theme.js').read_text(encoding='utf-8')}</script>",
        css_paths=[PAGE / name for name in STYLES],
        footer_links=[],
        favicon_path=PAGE / "icon.svg",
    )


if __name__ == "__main__":
    main()
