"""The page: opens a bundle and lays out the tabs.

python app.py                              http://127.0.0.1:7860
GRADIO_SERVER_PORT=8000 RECON_BUNDLE=assets/demo python app.py
RECON_BUNDLE=hub:USER/NAME@REVISION python app.py
RECON_BUNDLE=data/bundles python app.py    all bundles in a folder, to choose from
"""

from __future__ import annotations

import sys
from pathlib import Path

from recon.environment import bundles
from recon.ui.server.quick_import import import_gradio
from recon.ui.server.startup import begin

begin()  # what gradio reads when it is imported
import_gradio()

import gradio as gr

from recon.files import BadFile
from recon.share import subject_of
from recon.ui.brain_panel import PLOTLY
from recon.ui.html.markup import html
from recon.ui.html.panel import header
from recon.ui.html.parts import QUIET
from recon.ui.html_block import html_block
from recon.ui.server.endpoint import add_endpoint
from recon.ui.server.library import Library, find_bundles
from recon.ui.server.log import never_fail_by_logging
from recon.ui.server.own_endpoints import add_own_endpoints
from recon.ui.server.serve import serve
from recon.ui.server.studio import Studio
from recon.ui.server.turns import PLACES, take_turns
from recon.ui.tabs.about_tab import about_tab
from recon.ui.tabs.brain_to_image_tab import brain_to_image_tab
from recon.ui.tabs.compare_tab import compare_tab
from recon.ui.tabs.evaluate_tab import evaluate_tab
from recon.ui.tabs.explore_tab import explore_tab
from recon.ui.tabs.image_to_brain_tab import image_to_brain_tab
from recon.ui.tabs.your_data_tab import own_data_tab
from recon.ui.theme import PAGE, STYLES, head, theme

HERE = Path(__file__).parent
TITLE = "Brain → Image: see a picture drawn again from brain activity"
QUERY = "() => window.location.search"
LEAVE = """(name) => {
    const url = new URL(window.location);
    const kept = [...url.searchParams].filter(([key]) => key.startsWith("__"));
    url.search = new URLSearchParams([...kept, ["subject", name]]);
    history.replaceState(null, "", url);
    document.dispatchEvent(new Event("leaving"));
}"""  # the address: of the subject alone, and what a host adds to it


def subject_page(studio: Studio) -> None:
    """All tabs of one subject, inside open gr.Blocks."""
    top = html_block(header(studio.manifest, {}))
    with gr.Tabs():
        with gr.Tab("Explore", id="explore"):
            picker = explore_tab(studio, top.load)
        with gr.Tab("Compare", id="compare") as compare:
            compare_tab(studio, compare, picker)
        with gr.Tab("Brain → image", id="brain-to-image") as brain_to_image:
            brain_to_image_tab(studio, brain_to_image)
        with gr.Tab("Image → brain", id="image-to-brain") as image_to_brain:
            image_to_brain_tab(studio, image_to_brain)
        with gr.Tab("Your data", id="your-data"):
            own_data_tab(studio)
        with gr.Tab("Evaluate", id="evaluate") as evaluate:
            evaluate_tab(studio, evaluate)
        with gr.Tab("About", id="about") as about:
            about_tab(studio, about)

    def complete() -> str:
        return header(studio.manifest, studio.bundle.absent)

    top.load(complete, None, top, **QUIET)


def build(library: Library) -> gr.Blocks:
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        if len(library.names) == 1:
            subject_page(library.first)
        else:
            choose_subject(library, demo)
        add_endpoint(library)
        add_own_endpoints(library)
    demo.queue(max_size=PLACES)
    take_turns(demo._queue)
    return demo


def choose_subject(library: Library, demo: gr.Blocks) -> None:
    """A choice of subjects over the page of the one chosen: first the one that the address names."""
    chosen = gr.Radio(library.names, label="Subject", show_label=False, elem_classes="subject")

    @gr.render(chosen, triggers=[chosen.change], queue=False, show_progress="hidden")
    def show(name: str) -> None:
        try:
            subject_page(library.data(name))
            library.studio(name)  # its models open while the browser lays the page out
        except BadFile as error:
            html_block(html('<p class="banner absent">{}</p>', str(error)))

    for render in demo.fns.values():  # or all components would be copied whenever the state of any event changes
        render.show_progress_on = []

    def named(query: str) -> str:
        name = subject_of(query)
        return name if name in library.names else library.names[0]

    chosen.input(None, chosen, js=LEAVE)
    query = gr.Textbox(visible=False)
    demo.load(named, query, chosen, js=QUERY, queue=False, **QUIET)


def main() -> None:
    never_fail_by_logging()
    try:
        show(Library(find_bundles(bundles())))
    except BadFile as error:
        sys.exit(str(error))


def show(library: Library) -> None:
    """Serves the page until it is ended."""
    demo = build(library)
    gr.set_static_paths([PLOTLY])
    serve(
        demo,
        library,
        share=False,
        ssr_mode=False,
        theme=theme(),
        head=head(),
        css_paths=[PAGE / name for name in STYLES],
        footer_links=["api"],
        favicon_path=PAGE / "icon.svg",
    )


if __name__ == "__main__":
    main()
