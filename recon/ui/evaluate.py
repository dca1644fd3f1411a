"""The Evaluate tab: how good the reconstructions are, against what."""

from __future__ import annotations

from functools import cache
from html import escape

import gradio as gr

from recon.evaluation import Evaluation, load_evaluation
from recon.files import BadFile
from recon.manifest import is_evaluated
from recon.metrics import METRICS
from recon.ui.charts import bottleneck, distribution
from recon.ui.gallery import gallery_table
from recon.ui.score_table import order_notes, row_notes, score_table
from recon.ui.scores import STAGES
from recon.ui.studio import Studio
from recon.ui.tables import computed, side_tables

CURRENT = "(...values) => [Number(document.querySelector('.view')?.dataset.index ?? 0), ...values.slice(1)]"  # Explore's picture
GROUPS = [("Random", "random"), ("Best", "best"), ("Median", "median"), ("Worst", "worst")]
LCM = ("steps", "guidance", "strength")  # stage 2's settings among the evaluation's
HOW_TO_READ = (
    "A <b>reconstruction</b> is made from test responses that no fit has seen. Stage 1 is the layout, stage 2 the picture "
    "drawn from it.",
    "A <b>null</b> shows how far one gets without the right response. A score that does not clearly beat every null says "
    "little about the brain: stage 2 draws plausible pictures from anything, and skies are above grounds in most photographs.",
    "A <b>ceiling</b> is what these decoders could draw with perfect regressors. What is missing above it, no better "
    "regressor can add. Whatever <b>knows the answer</b> was given the true captions: it is no reconstruction.",
    "<b>Two-way identification</b> is how often a picture is more like its own original than like another test image; "
    "guessing gives 50 %. It nears 100 % long before pictures look alike.",
    "An <b>interval</b> says how far a mean would move with other test images of the same kind. It says nothing about other "
    "people.",
)


def missing(studio: Studio) -> str:
    """What is shown of a bundle that has not been evaluated."""
    subject = (
        "--demo"
        if studio.manifest["simulated"]
        else f"--subject {studio.manifest['name'].removeprefix('subj').lstrip('0')}"
    )
    return f"This subject has not been evaluated: run <code>python -m precompute evaluate {escape(subject)}</code>."


def listed(values: dict) -> str:
    return ", ".join(f"{escape(str(k)).replace('_', ' ')} {escape(str(v))}" for k, v in values.items() if v is not None)


def introduction(evaluation: Evaluation) -> str:
    """Of whom, on what, how; and how to read it."""
    unseen = f", {evaluation.n_unseen} of them combinations that training never shows" if evaluation.n_unseen else ""
    kind = (
        "a <b>simulated</b> subject, never to be set beside published numbers"
        if evaluation.simulated
        else "one subject"
    )
    protocol, settings = evaluation.protocol, evaluation.settings
    others = {k: v for k, v in settings.items() if k not in LCM}
    return (
        f'<section class="panel introduction"><p><b>{escape(evaluation.subject)}</b>: {kind}. '
        f"<b>n = {evaluation.n_images}</b> test images{unseen}. Protocol “{escape(str(protocol['name']))}”: pixels compared at "
        f"{protocol['pixels']}², networks look at {protocol['networks']}². Stage 2: "
        f"{listed({k: settings[k] for k in LCM if k in settings})}, seeds {', '.join(map(str, evaluation.seeds))}.</p>"
        f"<details><summary>How to read this</summary><ul>{''.join(f'<li>{line}</li>' for line in HOW_TO_READ)}</ul>"
        f'<p class="small">Settings: {listed(others)}. Made with {listed(evaluation.versions)}.</p></details></section>'
    )


def notice(words: str) -> None:
    gr.HTML(f'<section class="panel not-evaluated">{words}</section>', apply_default_css=False)


def evaluate_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lays the open `tab` out and wires it."""
    if not is_evaluated(studio.manifest):
        return notice(missing(studio))
    try:
        evaluation = load_evaluation(studio.folder)
    except BadFile as error:
        return notice(escape(str(error)))
    with gr.Column(elem_classes="evaluate"):
        gr.HTML(introduction(evaluation), apply_default_css=False)
        gr.HTML(score_table(evaluation) + order_notes(evaluation) + row_notes(evaluation), apply_default_css=False)
        with gr.Row(elem_classes="downloads"):
            gr.DownloadButton("Table as CSV", studio.folder / "evaluation.csv", size="sm")
            gr.DownloadButton("Everything as JSON", studio.folder / "evaluation.json", size="sm")
        choices, charts = chart_controls(evaluation)
        group, pictures = gallery_controls()
        gr.HTML(side_tables(evaluation), apply_default_css=False)
    wire(studio, evaluation, tab, choices, charts, group, pictures)


def chart_controls(evaluation: Evaluation) -> tuple[list, list]:
    """Picture, metric and stage; distribution and bottleneck curve."""
    metrics = computed(evaluation)
    with gr.Row(elem_classes="controls evaluate-controls"):
        metric = gr.Radio(
            [(METRICS[m].title, m) for m in metrics], value=metrics[0], label="Metric", elem_classes="metric"
        )
        stage = gr.Radio(
            [(name, key) for key, name in STAGES.items()], value="lcm", label="Stage", elem_classes="stage"
        )
        picture = gr.Number(0, label="Picture", precision=0, elem_classes="seed")
    with gr.Row(elem_classes="charts"):
        first = gr.HTML(distribution(evaluation, "lcm", metrics[0], 0), apply_default_css=False)
        second = gr.HTML(bottleneck(evaluation, metrics[0]), apply_default_css=False)
    return [picture, metric, stage], [first, second]


def gallery_controls() -> tuple[gr.Radio, gr.HTML]:
    with gr.Row(elem_classes="controls evaluate-controls"):
        group = gr.Radio(GROUPS, value=GROUPS[0][1], label="Gallery", elem_classes="group")
    return group, gr.HTML(apply_default_css=False)


def wire(studio: Studio, evaluation: Evaluation, tab: gr.Tab, choices: list, charts: list, group, pictures) -> None:
    """Choices redraw what they are about; opening the tab takes over Explore's picture and brings the gallery."""
    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def drawn(picture: int | None, metric: str, stage: str) -> tuple[str, str]:
        return distribution(evaluation, stage, metric, picture), bottleneck(evaluation, metric)

    @cache
    def shown(name: str) -> str:
        return gallery_table(evaluation, name, studio.subject.test.images)

    def opened(picture: int, metric: str, stage: str, name: str) -> tuple:
        return picture, distribution(evaluation, stage, metric, picture), shown(name)

    for choice in choices:
        choice.input(drawn, choices, charts, **quiet)
    group.input(shown, group, pictures, **quiet)
    tab.select(opened, [*choices, group], [choices[0], charts[0], pictures], js=CURRENT, **quiet)
