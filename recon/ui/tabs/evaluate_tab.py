"""The Evaluate tab: how good the reconstructions are, against what."""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from recon.bundle.evaluation import Evaluation, load_evaluation
from recon.bundle.manifest import is_evaluated
from recon.files import BadFile
from recon.metrics import METRICS
from recon.recipes import TRANSDUCTIVE
from recon.settings import shown
from recon.ui.decode import data_link
from recon.ui.html.charts import bottleneck, distribution
from recon.ui.html.gallery import gallery_table
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.number_format import STAGES
from recon.ui.html.parts import CURRENT, QUIET
from recon.ui.html.score_table import order_notes, row_notes, score_table
from recon.ui.html.tables import computed, side_tables
from recon.ui.html_block import html_block
from recon.ui.server.studio import Studio

TAKE_PICTURE = f"(_, ...others) => [({CURRENT})(), ...others]"
HELP = {
    "metric": "What both charts show.",
    "stage": "Of the distribution: the layout, or the picture drawn from it.",
    "picture": "Marked in the distribution; opening this tab takes Explore’s.",
    "group": "By a fixed rule, told under the pictures, or drawn at random.",
}
GROUPS = [("Random", "random"), ("Best", "best"), ("Median", "median"), ("Worst", "worst")]
LCM = ("steps", "guidance", "strength")  # stage 2's settings among the evaluation's
HOW_TO_READ = (
    html(
        "A <b>reconstruction</b> is made from test responses that no fit has seen. Stage 1 is the layout, stage 2 the picture "
        "drawn from it."
    ),
    html(
        "A <b>null</b> shows how far one gets without the right response. A score that does not clearly beat every null says "
        "little about the brain: stage 2 draws plausible pictures from anything, and skies are above grounds in most photographs."
    ),
    html(
        "A <b>ceiling</b> is what these decoders could draw with perfect regressors. What is missing above it, no better "
        "regressor can add. Whatever <b>knows the answer</b> was given the true captions: it is no reconstruction."
    ),
    html(
        "<b>Two-way identification</b> is how often a picture is more like its own original than like another test image; "
        "guessing gives 50 %. It nears 100 % long before pictures look alike."
    ),
    html(
        "An <b>interval</b> says how far a mean would move with other test images of the same kind. It leaves out all other "
        "chance: everything is of one fit to one person, with fixed seeds, and a regressor that is fitted again, or another "
        "person, may differ by more than the interval is wide."
    ),
)


def missing(studio: Studio) -> Markup:
    """What is shown of a bundle that has not been evaluated."""
    name = studio.manifest["name"].removeprefix("NSD ")
    nsd = re.fullmatch(r"subj0([1-8])", name)
    subject = "--demo" if studio.manifest["simulated"] else f"--subject {nsd[1] if nsd else name}"
    return html("This subject has not been evaluated: run <code>python -m precompute evaluate {}</code>.", subject)


def listed(values: dict) -> str:
    return ", ".join(f"{str(k).replace('_', ' ')} {v}" for k, v in values.items() if v is not None)


def network_sides(networks: int | dict[str, int]) -> str:
    """The sizes of what networks look at: one for all, or for each metric that differs from 224²."""
    if isinstance(networks, int):
        return f"{networks}²"
    return "224² (" + ", ".join(f"{METRICS[m].title} {side}²" for m, side in networks.items()) + ")"


def introduction(evaluation: Evaluation) -> Markup:
    """Of whom, on what, how; and how to read it."""
    unseen = f", {evaluation.n_unseen} of them combinations that training never shows" if evaluation.n_unseen else ""
    kind = (
        html("a <b>simulated</b> subject, never to be set beside published numbers")
        if evaluation.simulated
        else "one subject"
    )
    protocol, settings = evaluation.protocol, evaluation.settings
    others = {k: v for k, v in settings.items() if k not in LCM}
    owed = any(TRANSDUCTIVE in row.note for row in evaluation.rows)
    recipe = html(" Rows marked so are <b>{}</b>.", TRANSDUCTIVE) if owed else NOTHING
    made_on = f"Stage 2 ran on {listed(evaluation.machine)}. " if evaluation.machine else ""
    return html(
        '<section class="panel introduction"><p><b>{}</b>: {}. '
        "<b>n = {}</b> test images{}. Protocol “{}”: pixels compared at "
        "{}², networks look at {}. Stage 2: "
        "{}, seeds {}.{}</p>"
        "<details><summary>How to read this</summary><ul>{}</ul>"
        '<p class="small">Settings: {}. {}Made with {}.</p></details></section>',
        evaluation.subject,
        kind,
        evaluation.n_images,
        unseen,
        str(protocol["name"]),
        protocol["pixels"],
        network_sides(protocol["networks"]),
        listed({k: settings[k] for k in LCM if k in settings}),
        ", ".join(map(str, evaluation.seeds)),
        recipe,
        joined(html("<li>{}</li>", line) for line in HOW_TO_READ),
        listed(others),
        made_on,
        listed(evaluation.versions),
    )


def notice(words: object) -> Markup:
    return html('<section class="panel not-evaluated">{}</section>', words)


@cache
def evaluation_of(studio: Studio) -> Evaluation:
    """Read once, when it is first wanted. Raises BadFile."""
    return load_evaluation(studio.folder)


@cache
def gallery_of(studio: Studio, group: str) -> Markup:
    return gallery_table(evaluation_of(studio), group, studio.subject.test.images)


def charts(studio: Studio, picture: int | None, metric: str, stage: str) -> tuple[str, str]:
    """Distribution, with a word on a number that no evaluated picture has, and bottleneck curve."""
    evaluation = evaluation_of(studio)
    return unmarked(evaluation, picture) + distribution(evaluation, stage, metric, picture), bottleneck(
        evaluation, metric
    )


def unmarked(evaluation: Evaluation, picture: int | None) -> Markup:
    """Why no picture is marked in the distribution, if none is."""
    if picture is None or picture in evaluation.images:
        return NOTHING
    known = f"expected one of {len(evaluation.images)} from {evaluation.images.min()} to {evaluation.images.max()}"
    return html('<p class="banner unmarked" role="alert">Picture {} was not evaluated: {}.</p>', shown(picture), known)


def saves(folder: Path) -> Markup:
    """Links that save the evaluation's files, which the page itself carries."""
    kinds = {
        "evaluation.csv": ("text/csv", "Table as CSV"),
        "evaluation.json": ("application/json", "Everything as JSON"),
    }
    links = (data_link(name, kind, (folder / name).read_bytes(), text) for name, (kind, text) in kinds.items())
    return html('<p class="saves">{}</p>', joined(links))


def opened(studio: Studio, picture: int, metric: str | None, stage: str, group: str) -> list:
    """Values of picture, metric, both charts, gallery, introduction, table and the other tables: all of them when the tab is
    first opened, so that no metric is chosen; later of those that depend on Explore's picture."""
    try:
        evaluation = evaluation_of(studio)
    except BadFile as error:
        return [gr.skip()] * 5 + [notice(error)] + [gr.skip()] * 2
    if metric is not None:
        return [picture, gr.skip(), charts(studio, picture, metric, stage)[0]] + [gr.skip()] * 5
    metrics = computed(evaluation)
    choices = gr.update(choices=[(METRICS[m].title, m) for m in metrics], value=metrics[0])
    scores = score_table(evaluation) + order_notes(evaluation) + row_notes(evaluation) + saves(studio.folder)
    drawn = [*charts(studio, picture, metrics[0], stage), gallery_of(studio, group)]
    return [picture, choices, *drawn, introduction(evaluation), scores, side_tables(evaluation)]


def evaluate_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lays the open `tab` out and wires it; it is filled when it is opened."""
    if not is_evaluated(studio.manifest):
        html_block(notice(missing(studio)))
        return
    with gr.Column(elem_classes="evaluate"):
        about, table = html_block(), html_block()
        with gr.Row(elem_classes="controls evaluate-controls"):
            metric = gr.Radio([], label="Metric", info=HELP["metric"], elem_classes="metric")
            stages = [(name, key) for key, name in STAGES.items()]
            stage = gr.Radio(stages, value="lcm", label="Stage", info=HELP["stage"], elem_classes="stage")
            picture = gr.Number(0, label="Picture", precision=0, info=HELP["picture"], elem_classes="seed")
        with gr.Row(elem_classes="charts"):
            drawn = [html_block(), html_block()]
        with gr.Row(elem_classes="controls evaluate-controls"):
            group = gr.Radio(GROUPS, value=GROUPS[0][1], label="Gallery", info=HELP["group"], elem_classes="group")
        gallery, others = html_block(), html_block()

    quiet = {"queue": False, **QUIET}
    choices = [picture, metric, stage]
    for choice in choices:
        choice.input(partial(charts, studio), choices, drawn, **quiet)
    group.input(partial(gallery_of, studio), group, gallery, **quiet)
    everything = [picture, metric, *drawn, gallery, about, table, others]
    tab.select(partial(opened, studio), [*choices, group], everything, js=TAKE_PICTURE, **quiet)
