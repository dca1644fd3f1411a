"""The Evaluate tab's tables, as HTML: every number with its interval, its n and its chance level within sight."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from recon.evaluation import Evaluation, Row
from recon.metrics import METRICS
from recon.published import published_beside
from recon.ui.panel import ORACLE, REGRESSOR_NAMES
from recon.ui.scores import (
    ARROWS,
    DECODERS,
    GROUPS,
    SOURCES,
    STAGES,
    chance_of,
    interval,
    p_value,
    percent,
    plain,
    score,
    title,
)

KINDS = {"Nulls": "null", "Ceilings": "ceiling", "Reconstructions": "own"}  # a group's class
ALPHA = 0.05


def cell(value: str, detail: str = "") -> str:
    return f"<td><b>{value}</b>{f'<small>{detail}</small>' if detail else ''}</td>"


def head(name: str, detail: str = "", scope: str = "row") -> str:
    """name and detail are HTML."""
    return f'<th scope="{scope}">{name}{f"<small>{detail}</small>" if detail else ""}</th>'


def table(title: str, about: str, columns: Sequence[str], body: str, kind: str = "") -> str:
    """A panel with one table that scrolls in itself; `about` says n and chance; `columns` and `body` are HTML."""
    heads = "".join(head(name, scope="col") for name in columns)
    return (
        f'<section class="panel result {kind}"><h3>{escape(title)}</h3><p class="about">{about}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table><thead><tr>{heads}</tr></thead>'
        f"{body}</table></div></section>"
    )


def lines(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of each a heading -> a table's body."""
    made = (f"<tr>{head(first)}{''.join(cell(c) for c in rest)}</tr>" for first, *rest in rows)
    return f"<tbody>{''.join(made)}</tbody>"


# --- the scores -------------------------------------------------------------------------------------------------------


def computed(evaluation: Evaluation) -> list[str]:
    """The metrics that there are, in the order of METRICS."""
    there = {row.metric for row in evaluation.rows}
    return [name for name in METRICS if name in there]


def metric_head(name: str) -> str:
    arrow, words = ARROWS[METRICS[name].direction]
    return f'{escape(title(name))} <span class="arrow" role="img" aria-label="{words}" title="{words}">{arrow}</span>'


def absent_heads(not_computed: dict[str, str]) -> list[str]:
    """One column for all metrics that wait for the same command."""
    return [
        f'<span class="absent">{" · ".join(escape(METRICS[m].title) for m, c in not_computed.items() if c == command)}'
        f"<small>not computed: first run <code>{escape(command)}</code></small></span>"
        for command in dict.fromkeys(not_computed.values())
    ]


def score_row(source: str, rows: dict[str, Row], metrics: list[str], n: int, n_absent: int) -> str:
    """One source of one stage; `rows` by metric."""
    first = next(iter(rows.values()))
    name = escape(SOURCES.get(source, source)) + (f" {ORACLE}" if source == "oracle" else "")
    detail = escape(first.note) + (f" (n = {first.n})" if first.n != n else "")
    cells = [
        cell(score(m, rows[m].value), interval(m, rows[m].low, rows[m].high)) if m in rows else cell("–")
        for m in metrics
    ]
    return f'<tr class="{escape(source)}">{head(name, detail)}{"".join(cells)}{"<td><small>not computed</small></td>" * n_absent}</tr>'


def stage_body(evaluation: Evaluation, stage: str, metrics: list[str], n_absent: int) -> str:
    """One body a group: reconstructions, nulls, ceilings."""
    found: dict[str, dict[str, Row]] = {}
    for row in evaluation.rows:
        if row.stage == stage:
            found.setdefault(row.source, {})[row.metric] = row
    width = 1 + len(metrics) + n_absent
    bodies = [
        f'<tbody class="stage"><tr><th scope="rowgroup" colspan="{width}">{STAGES[stage]}<small>{DECODERS[stage]}</small></th></tr></tbody>'
    ]
    for group, sources in GROUPS.items():
        rows = [score_row(s, found[s], metrics, evaluation.n_images, n_absent) for s in sources if s in found]
        if rows:
            label = f'<tr class="group"><th scope="rowgroup" colspan="{width}">{group}</th></tr>'
            bodies.append(f'<tbody class="{KINDS[group]}">{label}{"".join(rows)}</tbody>')
    return "".join(bodies)


def seeds_body(evaluation: Evaluation, metrics: list[str], n_absent: int) -> str:
    """The largest spread of a mean over stage 2's seeds."""
    sds = {m: [r.seed_sd for r in evaluation.rows if r.metric == m and r.seed_sd is not None] for m in metrics}
    if not any(sds.values()):
        return ""
    name = head("Spread over seeds", f"largest SD of a mean over stage 2’s {len(evaluation.seeds)} seeds")
    cells = "".join(cell(score(m, max(sds[m])) if sds[m] else "–") for m in metrics)
    return f'<tbody class="seeds"><tr>{name}{cells}{"<td></td>" * n_absent}</tr></tbody>'


def published_body(evaluation: Evaluation, metrics: list[str], n_absent: int) -> str:
    """What papers report, if it may be compared."""
    rows = []
    for paper in published_beside(evaluation):
        about = (
            f"{STAGES[paper['stage']].lower()}, subject{'s' * (',' in paper['subjects'])} {paper['subjects']}, n = 982"
        )
        cells = "".join(cell(score(m, paper["scores"].get(m))) for m in metrics)
        rows.append(
            f"<tr>{head(escape(paper['method'] + ' ' + str(paper['year'])), about)}{cells}{'<td></td>' * n_absent}</tr>"
        )
    label = f'<tr class="group"><th scope="rowgroup" colspan="{1 + len(metrics) + n_absent}">Published, same protocol; no intervals given</th></tr>'
    return f'<tbody class="published">{label}{"".join(rows)}</tbody>' if rows else ""


def score_table(evaluation: Evaluation) -> str:
    """Both stages: reconstructions, nulls and ceilings against every metric."""
    metrics = computed(evaluation)
    absent = absent_heads(evaluation.not_computed)
    chance = "".join(cell(chance_of(m)) for m in metrics) + "<td></td>" * len(absent)
    body = f'<tbody class="chance"><tr>{head("Chance level", "what guessing reaches")}{chance}</tr></tbody>'
    body += "".join(stage_body(evaluation, stage, metrics, len(absent)) for stage in STAGES)
    body += seeds_body(evaluation, metrics, len(absent)) + published_body(evaluation, metrics, len(absent))
    n = f"n = {evaluation.n_images}"
    about = f"Means over <b>{n}</b> test images, with 95 % bootstrap intervals over images. ↑ higher is better, ↓ lower is better."
    return table("Scores", about, [n, *map(metric_head, metrics), *absent], body, "scores-table")


def order_notes(evaluation: Evaluation) -> str:
    """Where ceiling ≥ ridge ≥ nulls does not hold."""
    if not evaluation.notes:
        return '<p class="order">Ceiling ≥ ridge ≥ every null, on every metric of both stages.</p>'
    items = "".join(f"<li>{escape(note).replace('(-', '(−')}</li>" for note in evaluation.notes)
    return (
        f'<details class="order" open><summary>Expected is ceiling ≥ ridge ≥ every null. It does not hold in '
        f"{len(evaluation.notes)} case{'s' * (len(evaluation.notes) > 1)}:</summary><ul>{items}</ul></details>"
    )


# --- tables beside the scores -----------------------------------------------------------------------------------------


def paired_table(evaluation: Evaluation) -> str:
    """MLP minus ridge on the same images."""
    pairs = evaluation.paired
    rows = []
    for pair in pairs:
        m, name = pair.metric, f"{STAGES[pair.stage]} · {metric_head(pair.metric)}"
        verdict = "no difference shown"
        if pair.p < ALPHA / len(pairs):
            verdict = "MLP better" if (pair.difference > 0) == (METRICS[m].direction == "higher") else "Ridge better"
        about = cell(score(m, pair.difference, True), interval(m, pair.low, pair.high, True))
        rows.append(f"<tr>{head(name)}{about}{cell(p_value(pair.p))}{cell(verdict)}{cell(str(pair.n))}</tr>")
    about = (
        f"MLP minus ridge on the same images, 95 % interval; Wilcoxon’s signed-rank test, two-sided. Chance: 0. Of {len(pairs)} tests, "
        f"a difference counts where p &lt; {ALPHA} / {len(pairs)} (Bonferroni)."
    )
    columns = ("MLP − ridge", "difference", "p, uncorrected", "verdict", "n")
    return table("Ridge against MLP", about, columns, f"<tbody>{''.join(rows)}</tbody>")


def retrieval_table(evaluation: Evaluation) -> str:
    """The true image among all test images."""
    found = evaluation.retrieval
    rows = [
        f"<tr>{head(SOURCES[r.regressor])}{cell(percent(r.top1), between(r.top1_low, r.top1_high))}"
        f"{cell(percent(r.top5), between(r.top5_low, r.top5_high))}{cell(plain(r.median_rank, 1))}{cell(str(r.n))}</tr>"
        for r in found
    ]
    if found:
        f = found[0]
        chance = (
            cell(percent(f.chance_top1, 2)) + cell(percent(f.chance_top5, 2)) + cell(plain(f.chance_median_rank, 1))
        )
        rows.append(f'<tr class="chance">{head("Chance level")}{chance}{cell(str(f.n))}</tr>')
    about = "Rank of the true image among the n test images, by the image embedding that is decoded from the responses."
    columns = ("Decoded by", "first", "among the first five", "median rank", "n")
    return table("Retrieval", about, columns, f"<tbody>{''.join(rows)}</tbody>")


def between(low: float, high: float) -> str:
    """Shares as an interval in percent."""
    return f"[{plain(100 * low, 1)}, {plain(100 * high, 1)}]"


def roi_table(evaluation: Evaluation) -> str:
    """Voxel scores by area; the true ceiling where the subject is simulated."""
    true = any(r.true_ceiling_median is not None for r in evaluation.rois)
    rows = []
    for r in evaluation.rois:
        medians = [percent(r.median_r2), plain(r.median_r), plain(r.median_ceiling, 1, " %")]
        medians += [plain(r.true_ceiling_median, 1, " %")] * true + [plain(r.median_ratio, 0, " %")]
        rows.append([escape(r.roi), str(r.n_voxels), *medians, f"{r.n_ceiling_10}", f"{r.n_significant}"])
    about = (
        "Medians over each area’s voxels, of an encoding model scored on the test images; R² is not clipped. Chance: R² and r at 0; "
        "significant: permutation test, false discovery rate 5 %. R² / ceiling only over voxels whose ceiling is at least 10 %."
    )
    columns = ["Area", "n voxels", "R²", "r", "noise ceiling", *["true ceiling"] * true]
    columns += ["R² / ceiling", "voxels with ceiling ≥ 10 %", "significant voxels"]
    return table("Voxels by area", about, columns, lines(rows))


def attribute_table(title: str, shares: dict[str, dict[str, float]], n: int, about: str) -> str:
    """One row a source, one column an attribute."""
    attributes = list(next(iter(shares.values())))
    rows = [
        [escape(SOURCES[s]) + " <small>chance</small>" * (s == "shuffled"), *map(percent, v.values())]
        for s, v in shares.items()
    ]
    return table(title, f"{about} n = {n} test images.", ["Right about", *map(str.capitalize, attributes)], lines(rows))


def means_table(title: str, means: dict[str, dict[str, float]], n: int, about: str) -> str:
    """One row a regressor, one column a metric."""
    metrics = [m for m in METRICS if m in next(iter(means.values()))]
    rows = [[REGRESSOR_NAMES[name], *(score(m, values[m]) for m in metrics)] for name, values in means.items()]
    rows.append(["Chance level", *map(chance_of, metrics)])
    return table(title, f"{about} n = {n} test images.", ["Regressor", *map(metric_head, metrics)], lines(rows))


def latent_table(values: dict[str, dict[str, float]], n: int) -> str:
    rows = [[REGRESSOR_NAMES[name], plain(v["cv"], 3), plain(v["test"], 3)] for name, v in values.items()]
    about = f"Mean R² over stage 1’s latents, before rescaling. Chance: 0. Test: n = {n} images; both should agree."
    columns = ("Regressor", "held-out training images", "test images")
    return table("Latents", about, columns, lines([*rows, ["Chance level", "0", "0"]]))


def side_tables(evaluation: Evaluation) -> str:
    """All tables beside the scores that this evaluation has."""
    n, extra = evaluation.n_images, evaluation.tables
    made = [retrieval_table(evaluation), paired_table(evaluation), roi_table(evaluation)]
    if "captions" in extra:
        about = "Caption of the training picture nearest to the decoded image embedding."
        made.append(attribute_table("Decoded captions", extra["captions"], n, about))
    if "drawn" in extra:
        about = "What a classifier sees in stage 2’s pictures; how far to trust it, the true pictures show."
        made.append(attribute_table("What stage 2 draws", extra["drawn"], n, about))
    if "unseen" in extra:
        about = "Stage 2 on test images whose combination of contents never occurs in training."
        made.append(means_table("Unseen combinations", extra["unseen"], evaluation.n_unseen, about))
    if "without_rescaling" in extra:
        about = "Stage 1 without giving predicted latents the spread of true ones."
        made.append(means_table("Without rescaling", extra["without_rescaling"], n, about))
    if "latent_r2" in extra:
        made.append(latent_table(extra["latent_r2"], n))
    return f'<div class="side-tables">{"".join(made)}</div>'
