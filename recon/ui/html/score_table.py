"""The Evaluate tab's table of scores, as HTML: reconstructions between their nulls and ceilings, chance within sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from recon.bundle.evaluation import Evaluation, Row
from recon.bundle.published_results import published_beside
from recon.metrics import METRICS, SATURATED, d_prime, is_saturated
from recon.ui.html.number_format import DECODERS, GROUPS, SOURCES, STAGES, in_words, interval, plain, score
from recon.ui.html.panel import ORACLE
from recon.ui.html.tables import cell, chance_cell, computed, head, metric_head, published_of, table

KINDS = {"Nulls": "null", "Ceilings": "ceiling", "Reconstructions": "own"}  # a group's class
KNOWING = {("lcm", "ceiling"), ("lcm", "oracle")}  # drawn from the true captions


def absent_line(not_computed: dict[str, str]) -> str:
    """Which metrics wait for which command; empty if none does."""
    parts = []
    for command in dict.fromkeys(not_computed.values()):
        names = ", ".join(escape(METRICS[m].title) for m, c in not_computed.items() if c == command)
        parts.append(f"{names} (first run <code>{escape(command)}</code>)")
    return f" Not computed: {'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class Columns:
    """Those of the score table: metrics with scores."""

    metrics: list[str]

    @property
    def width(self) -> int:
        return 1 + len(self.metrics)

    def row(self, heading: str, cells: Sequence[str], kind: str = "") -> str:
        """heading and cells are HTML."""
        return f'<tr class="{escape(kind)}">{heading}{"".join(cells)}</tr>'

    def label(self, words: str) -> str:
        return f'<tr class="group"><th scope="rowgroup" colspan="{self.width}">{words}</th></tr>'


def saturation(row: Row) -> str:
    """What stands beside a score that has nowhere left to go."""
    return f" saturated, d′ {plain(d_prime(row.value), 1)}" if is_saturated(row.metric, row.value) else ""


def saturation_note(evaluation: Evaluation) -> str:
    """Why scores are saturated, and what to read instead, if some are."""
    if not any(is_saturated(row.metric, row.value) for row in evaluation.rows):
        return ""
    why = "in a small world of scenes" if evaluation.simulated else "of these images"
    return (
        f" <b>Saturated</b> is identification from {100 * SATURATED:.0f} % on: {why}, nearly every other image is easily told "
        "apart, and the score says little of how alike two pictures are. Its d′, and the first place and the median rank under "
        "Retrieval, still tell methods apart."
    )


def score_row(stage: str, source: str, rows: dict[str, Row], n: int, columns: Columns) -> str:
    """One source of one stage; `rows` by metric."""
    first = next(iter(rows.values()))
    name = f'<span title="{escape(first.note)}">{escape(SOURCES.get(source, source))}</span>'
    name += f" {ORACLE}" if (stage, source) in KNOWING else ""
    cells = [cell("–")] * len(columns.metrics)
    for k, m in enumerate(columns.metrics):
        if m in rows:
            cells[k] = cell(score(m, rows[m].value), interval(m, rows[m].low, rows[m].high) + saturation(rows[m]))
    return columns.row(head(name, f"n = {first.n}" if first.n != n else ""), cells, source)


def stage_body(evaluation: Evaluation, stage: str, columns: Columns) -> str:
    """Its chance levels, then one body a group: reconstructions, nulls, ceilings."""
    found: dict[str, dict[str, Row]] = {}
    for row in evaluation.rows:
        if row.stage == stage:
            found.setdefault(row.source, {})[row.metric] = row
    name = f"{STAGES[stage]}<small>{DECODERS[stage]}</small>"
    title = f'<tr class="name"><th scope="rowgroup" colspan="{columns.width}">{name}</th></tr>'
    chance = [chance_cell(evaluation, stage, m) for m in columns.metrics]
    bodies = [f'<tbody class="stage">{title}{columns.row(head("Chance level"), chance, kind="chance")}</tbody>']
    for group, sources in GROUPS.items():
        rows = [score_row(stage, s, found[s], evaluation.n_images, columns) for s in sources if s in found]
        if rows:
            bodies.append(f'<tbody class="{KINDS[group]}">{columns.label(group)}{"".join(rows)}</tbody>')
    return "".join(bodies)


def seeds_body(evaluation: Evaluation, columns: Columns) -> str:
    """The largest spread of a mean over stage 2's seeds."""
    sds = {m: [r.seed_sd for r in evaluation.rows if r.metric == m and r.seed_sd is not None] for m in columns.metrics}
    if not any(sds.values()):
        return ""
    name = head("Spread over seeds", f"largest SD of a mean over stage 2’s {len(evaluation.seeds)} seeds")
    cells = [cell(score(m, max(sds[m])) if sds[m] else "–") for m in columns.metrics]
    return f'<tbody class="seeds">{columns.row(name, cells)}</tbody>'


def fits_body(evaluation: Evaluation, columns: Columns) -> str:
    """The spread of stage 1's means between fits with other seeds, once for each regressor; empty if it was not measured."""
    rows = []
    for regressor, sds in evaluation.tables.get("refits", {}).items():
        detail = f"SD of a mean of stage 1 over {sds['fits']:.0f} fits with other seeds"
        name = head(f"Spread between fits, {escape(SOURCES[regressor])}", detail)
        rows.append(columns.row(name, [cell(score(m, sds[m])) if m in sds else cell("–") for m in columns.metrics]))
    return f'<tbody class="fits">{"".join(rows)}</tbody>' if rows else ""


def published_body(evaluation: Evaluation, columns: Columns) -> str:
    """What papers report, if it may be compared."""
    rows = []
    for paper in published_beside(evaluation):
        name = head(escape(f"{paper.method}, {paper.year}"), f"{published_of(paper)}, n = {paper.n_images}")
        rows.append(columns.row(name, [cell(score(m, paper.scores.get(m))) for m in columns.metrics]))
    label = columns.label("Published, same protocol and n; without intervals")
    return f'<tbody class="published">{label}{"".join(rows)}</tbody>' if rows else ""


def score_table(evaluation: Evaluation) -> str:
    """Both stages: reconstructions, nulls and ceilings against every metric."""
    columns = Columns(computed(evaluation))
    body = "".join(stage_body(evaluation, stage, columns) for stage in STAGES)
    body += fits_body(evaluation, columns) + seeds_body(evaluation, columns) + published_body(evaluation, columns)
    n = f"n = {evaluation.n_images}"
    about = (
        (
            f"Means over <b>{n}</b> test images, in brackets 95 % bootstrap intervals over images. ↑ higher is better, "
            "↓ lower is better. Chance is what guessing reaches or, where that depends on the pictures, what shuffled responses do."
            " Intervals leave out what another fit or another subject would change; how far fits with other seeds lie apart, the "
            "rows of spread say, if it was measured."
        )
        + saturation_note(evaluation)
        + absent_line(evaluation.not_computed)
    )
    return table("Scores", about, [n, *map(metric_head, columns.metrics)], body, "scores-table")


def row_notes(evaluation: Evaluation) -> str:
    """What each kind of row is."""
    notes = {row.source: row.note for row in evaluation.rows if row.note}
    order = [s for sources in GROUPS.values() for s in sources if s in notes]
    items = "".join(f"<li><b>{escape(SOURCES[s])}</b>: {escape(notes[s])}</li>" for s in order)
    return (
        f'<details class="order"><summary>What the nulls and ceilings are</summary><ul>{items}</ul></details>'
        if items
        else ""
    )


def order_notes(evaluation: Evaluation) -> str:
    """Where ceiling ≥ ridge ≥ nulls, or the same of the MLP, does not hold."""
    if not evaluation.notes:
        return '<p class="order">Ceiling ≥ ridge ≥ every null, and ceiling ≥ MLP ≥ every null, on every metric of both stages.</p>'
    items = "".join(f"<li>{escape(in_words(note))}</li>" for note in evaluation.notes)
    n = len(evaluation.notes)
    return (
        f'<details class="order" open><summary>Expected is ceiling ≥ ridge and MLP ≥ every null. It does not hold in '
        f"{n} case{'s' * (n > 1)}:</summary><ul>{items}</ul></details>"
    )
