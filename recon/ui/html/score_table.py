"""The Evaluate tab's table of scores, as HTML: reconstructions between their nulls and ceilings, chance within sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from recon.bundle.evaluation import Evaluation, Row
from recon.bundle.published_results import published_beside
from recon.metrics import METRICS, SATURATED, d_prime, is_saturated
from recon.recipes import TRANSDUCTIVE
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.number_format import DECODERS, GROUPS, SOURCES, STAGES, in_words, interval, plain, score
from recon.ui.html.panel import ORACLE
from recon.ui.html.tables import cell, chance_cell, computed, head, metric_head, published_of, table

KINDS = {"Nulls": "null", "Ceilings": "ceiling"}  # a group's class; of others "own"
KNOWING = {("lcm", "ceiling"), ("lcm", "oracle")}  # drawn from the true captions


def absent_line(not_computed: dict[str, str]) -> Markup:
    """Which metrics wait for which command; empty if none does."""
    parts = []
    for command in dict.fromkeys(not_computed.values()):
        names = ", ".join(METRICS[m].title for m, c in not_computed.items() if c == command)
        parts.append(html("{} (first run <code>{}</code>)", names, command))
    return html(" Not computed: {}.", joined(parts, "; ")) if parts else NOTHING


@dataclass(frozen=True)
class Columns:
    """Those of the score table: metrics with scores."""

    metrics: list[str]

    @property
    def width(self) -> int:
        return 1 + len(self.metrics)

    def row(self, heading: str, cells: Sequence[str], kind: str = "") -> Markup:
        return html('<tr class="{}">{}{}</tr>', kind, heading, joined(cells))

    def label(self, words: str) -> Markup:
        return html('<tr class="group"><th scope="rowgroup" colspan="{}">{}</th></tr>', self.width, words)


def saturation(row: Row) -> str:
    """What stands beside a score that has nowhere left to go."""
    return f" saturated, d′ {plain(d_prime(row.value), 1)}" if is_saturated(row.metric, row.value) else ""


def saturation_note(evaluation: Evaluation) -> Markup:
    """Why scores are saturated, and what to read instead, if some are."""
    if not any(is_saturated(row.metric, row.value) for row in evaluation.rows):
        return NOTHING
    why = "in a small world of scenes" if evaluation.simulated else "of these images"
    return html(
        " <b>Saturated</b> is identification from {:.0f} % on: {}, nearly every other image is easily told "
        "apart, and the score says little of how alike two pictures are. Its d′, and the first place and the median rank under "
        "Retrieval, still tell methods apart.",
        100 * SATURATED,
        why,
    )


def score_row(stage: str, source: str, rows: dict[str, Row], n: int, columns: Columns) -> str:
    """One source of one stage; `rows` by metric."""
    first = next(iter(rows.values()))
    name = html('<span title="{}">{}</span>', first.note, SOURCES.get(source, source))
    name += html(" {}", ORACLE) if (stage, source) in KNOWING else ""
    name += html(" <small>transductive</small>") if TRANSDUCTIVE in first.note else ""
    cells = [cell("–")] * len(columns.metrics)
    for k, m in enumerate(columns.metrics):
        if m in rows:
            cells[k] = cell(score(m, rows[m].value), interval(m, rows[m].low, rows[m].high) + saturation(rows[m]))
    return columns.row(head(name, f"n = {first.n}" if first.n != n else ""), cells, source)


def stage_body(evaluation: Evaluation, stage: str, columns: Columns) -> Markup:
    """Its chance levels, then one body a group: reconstructions, nulls, ceilings."""
    found: dict[str, dict[str, Row]] = {}
    for row in evaluation.rows:
        if row.stage == stage:
            found.setdefault(row.source, {})[row.metric] = row
    name = html("{}<small>{}</small>", STAGES[stage], DECODERS[stage])
    title = html('<tr class="name"><th scope="rowgroup" colspan="{}">{}</th></tr>', columns.width, name)
    chance = [chance_cell(evaluation, stage, m) for m in columns.metrics]
    bodies = [
        html('<tbody class="stage">{}{}</tbody>', title, columns.row(head("Chance level"), chance, kind="chance"))
    ]
    for group, sources in GROUPS.items():
        rows = [score_row(stage, s, found[s], evaluation.n_images, columns) for s in sources if s in found]
        if rows:
            bodies.append(
                html('<tbody class="{}">{}{}</tbody>', KINDS.get(group, "own"), columns.label(group), joined(rows))
            )
    return joined(bodies)


def seeds_body(evaluation: Evaluation, columns: Columns) -> Markup:
    """The largest spread of a mean over stage 2's seeds."""
    sds = {m: [r.seed_sd for r in evaluation.rows if r.metric == m and r.seed_sd is not None] for m in columns.metrics}
    if not any(sds.values()):
        return NOTHING
    name = head("Spread over seeds", f"largest SD of a mean over stage 2’s {len(evaluation.seeds)} seeds")
    cells = [cell(score(m, max(sds[m])) if sds[m] else "–") for m in columns.metrics]
    return html('<tbody class="seeds">{}</tbody>', columns.row(name, cells))


def fits_body(evaluation: Evaluation, columns: Columns) -> Markup:
    """The spread of stage 1's means between fits with other seeds, once for each regressor; empty if it was not measured."""
    rows = []
    for regressor, sds in evaluation.tables.get("refits", {}).items():
        detail = f"SD of a mean of stage 1 over {sds['fits']:.0f} fits with other seeds"
        name = head(f"Spread between fits, {SOURCES[regressor]}", detail)
        rows.append(columns.row(name, [cell(score(m, sds[m])) if m in sds else cell("–") for m in columns.metrics]))
    return html('<tbody class="fits">{}</tbody>', joined(rows)) if rows else NOTHING


def published_body(evaluation: Evaluation, columns: Columns) -> Markup:
    """What papers report, if it may be compared."""
    rows = []
    for paper in published_beside(evaluation):
        name = head(f"{paper.method}, {paper.year}", f"{published_of(paper)}, n = {paper.n_images}")
        rows.append(columns.row(name, [cell(score(m, paper.scores.get(m))) for m in columns.metrics]))
    label = columns.label("Published, same protocol and n; without intervals")
    return html('<tbody class="published">{}{}</tbody>', label, joined(rows)) if rows else NOTHING


def score_table(evaluation: Evaluation) -> Markup:
    """Both stages: reconstructions, nulls and ceilings against every metric."""
    columns = Columns(computed(evaluation))
    body = joined(stage_body(evaluation, stage, columns) for stage in STAGES)
    body += fits_body(evaluation, columns) + seeds_body(evaluation, columns) + published_body(evaluation, columns)
    n = f"n = {evaluation.n_images}"
    about = (
        (
            html(
                "Means over <b>{}</b> test images, in brackets 95 % bootstrap intervals over images. ↑ higher is better, "
                "↓ lower is better. Chance is what guessing reaches or, where that depends on the pictures, what shuffled "
                "responses do. Intervals leave out what another fit or another subject would change; how far fits with other "
                "seeds lie apart, the rows of spread say, if it was measured.",
                n,
            )
        )
        + saturation_note(evaluation)
        + absent_line(evaluation.not_computed)
    )
    return table("Scores", about, [n, *map(metric_head, columns.metrics)], body, "scores-table")


def row_notes(evaluation: Evaluation) -> Markup:
    """What each kind of row is."""
    notes = {row.source: row.note for row in evaluation.rows if row.note}
    order = [s for sources in GROUPS.values() for s in sources if s in notes]
    items = joined(html("<li><b>{}</b>: {}</li>", SOURCES[s], notes[s]) for s in order)
    return (
        html('<details class="order"><summary>What the nulls and ceilings are</summary><ul>{}</ul></details>', items)
        if items
        else NOTHING
    )


def order_notes(evaluation: Evaluation) -> Markup:
    """Where ceiling ≥ ridge ≥ nulls, or the same of the MLP, does not hold."""
    if not evaluation.notes:
        return html(
            '<p class="order">Ceiling ≥ ridge ≥ every null, and ceiling ≥ MLP ≥ every null, on every metric of both stages.</p>'
        )
    items = joined(html("<li>{}</li>", in_words(note)) for note in evaluation.notes)
    n = len(evaluation.notes)
    return html(
        '<details class="order" open><summary>Expected is ceiling ≥ ridge and MLP ≥ every null. It does not hold in '
        "{} case{}:</summary><ul>{}</ul></details>",
        n,
        "s" * (n > 1),
        items,
    )
