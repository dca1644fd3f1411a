"""The Evaluate tab's tables beside that of the scores, as HTML: every number with its n and its chance level within sight."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from recon.bundle.evaluation import Evaluation, Paired
from recon.bundle.published_results import PUBLISHED, Published
from recon.metrics import METRICS
from recon.ui.html.markup import html, joined
from recon.ui.html.number_format import (
    ARROWS,
    SOURCES,
    STAGES,
    chance_level,
    interval,
    p_value,
    percent,
    plain,
    score,
    title,
)
from recon.ui.html.panel import REGRESSOR_NAMES
from recon.ui.html.parts import TARGET_NAMES

ALPHA = 0.05


def cell(value: str, detail: str = "") -> Markup:
    return html("<td><b>{}</b>{}</td>", value, html("<small>{}</small>", detail) if detail else "")


def head(name: str, detail: str = "", scope: str = "row") -> Markup:
    return html('<th scope="{}">{}{}</th>', scope, name, html("<small>{}</small>", detail) if detail else "")


def table(title: str, about: str, columns: Sequence[str], body: Markup, kind: str = "") -> Markup:
    """A panel with one table that scrolls in itself; `about` says n and chance."""
    heads = joined(head(name, scope="col") for name in columns)
    return html(
        '<section class="panel result {}"><h2>{}</h2><p class="about">{}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead><tr>{}</tr></thead>'
        "{}</table></div></section>",
        kind,
        title,
        about,
        title,
        heads,
        body,
    )


def chance_cell(evaluation: Evaluation, stage: str, metric: str) -> Markup:
    found = chance_level(evaluation, stage, metric)
    return cell("–") if found is None else cell(score(metric, found[0]), "" if found[1] == "chance" else found[1])


def chance_row(cells: Markup) -> Markup:
    return html('<tr class="chance">{}{}</tr>', head("Chance level"), cells)


def lines(rows: Sequence[Sequence[str]]) -> Markup:
    """Rows of cells, the first of each a heading -> a table's body."""
    made = (html("<tr>{}{}</tr>", head(first), joined(cell(c) for c in rest)) for first, *rest in rows)
    return html("<tbody>{}</tbody>", joined(made))


def computed(evaluation: Evaluation) -> list[str]:
    """The metrics that there are, in the order of METRICS."""
    there = {row.metric for row in evaluation.rows}
    return [name for name in METRICS if name in there]


def metric_head(name: str) -> Markup:
    arrow, words = ARROWS[METRICS[name].direction]
    return html(
        '{} <span class="arrow" role="img" aria-label="{}" title="{}">{}</span>', title(name), words, words, arrow
    )


def paired_table(evaluation: Evaluation) -> Markup:
    """MLP minus ridge on the same images."""
    pairs = evaluation.paired
    rows = []
    for pair in pairs:
        m, name = pair.metric, html("{} · {}", STAGES[pair.stage], metric_head(pair.metric))
        verdict = "no difference shown"
        if pair.p < ALPHA / len(pairs):
            verdict = "MLP better" if (pair.difference > 0) == (METRICS[m].direction == "higher") else "Ridge better"
        about = cell(score(m, pair.difference, True), interval(m, pair.low, pair.high, True))
        rows.append(
            html(
                "<tr>{}{}{}{}{}</tr>",
                head(name),
                about,
                cell(p_value(pair.p)),
                cell(verdict),
                cell(str(pair.n), ties(pair)),
            )
        )
    about = (
        f"MLP minus ridge on the same images, 95 % interval; Wilcoxon’s signed-rank test, two-sided. Chance: 0. "
        f"Of {len(pairs)} tests, a difference counts where p < {ALPHA} / {len(pairs)} (Bonferroni)."
    )
    columns = ("MLP − ridge", "difference", "p, uncorrected", "verdict", "n")
    return table("Ridge against MLP", about, columns, html("<tbody>{}</tbody>", joined(rows)))


def ties(pair: Paired) -> str:
    return f"{pair.ties} equal, left out of the test" if pair.ties else ""


def retrieval_table(evaluation: Evaluation) -> Markup:
    """The true image among all test images."""
    found = evaluation.retrieval
    rows = [
        html(
            "<tr>{}{}{}{}{}</tr>",
            head(SOURCES[r.regressor]),
            cell(percent(r.top1), between(r.top1_low, r.top1_high)),
            cell(percent(r.top5), between(r.top5_low, r.top5_high)),
            cell(plain(r.median_rank, 1)),
            cell(str(r.n)),
        )
        for r in found
    ]
    if found:
        f = found[0]
        chance = (
            cell(percent(f.chance_top1, 2)) + cell(percent(f.chance_top5, 2)) + cell(plain(f.chance_median_rank, 1))
        )
        rows.append(chance_row(chance + cell(str(f.n))))
    about = "Rank of the true image among the n test images, by the image embedding that is decoded from the responses."
    columns = ("Decoded by", "first", "among the first five", "median rank", "n")
    return table("Retrieval", about, columns, html("<tbody>{}</tbody>", joined(rows)))


def between(low: float, high: float) -> str:
    """Shares as an interval in percent."""
    return f"[{plain(100 * low, 1)}, {plain(100 * high, 1)}]"


def roi_table(evaluation: Evaluation) -> Markup:
    """Voxel scores by area; the true ceiling where the subject is simulated."""
    true = any(r.true_ceiling_median is not None for r in evaluation.rois)
    rows = []
    for r in evaluation.rois:
        medians = [
            percent(r.median_r2),
            plain(r.median_r),
            plain(r.median_ceiling, 1, " %") if r.median_ceiling is not None else "unknown",
        ]
        medians += [plain(r.true_ceiling_median, 1, " %")] * true + [plain(r.median_ratio, 0, " %")]
        rows.append([r.roi, str(r.n_voxels), *medians, f"{r.n_ceiling_10}", f"{r.n_significant}"])
    about = (
        f"Medians over each area’s voxels, of an encoding model scored on n = {evaluation.n_images} test images; R² is not "
        "clipped. Chance: R² and r of 0; significant: permutation test, false discovery rate 5 %. R² / ceiling: of voxels "
        "with a ceiling of at least 10 %."
    )
    columns = ["Area", "n voxels", "R²", "r", "noise ceiling", *["true ceiling"] * true]
    columns += ["R² / ceiling", "voxels with ceiling ≥ 10 %", "significant voxels"]
    return table("Voxels by area", about, columns, lines(rows))


def attribute_table(title: str, shares: dict[str, dict[str, float]], n: int, about: str) -> Markup:
    """One row a source, one column an attribute."""
    names = {s: html("{} <small>chance</small>" if s == "shuffled" else "{}", SOURCES.get(s, s)) for s in shares}
    rows = [[names[s], *map(percent, values.values())] for s, values in shares.items()]
    attributes = (name.capitalize() for name in next(iter(shares.values())))
    return table(title, f"{about} n = {n} test images.", ["Right about", *attributes], lines(rows))


def means_table(
    title: str, evaluation: Evaluation, stage: str, means: dict[str, dict[str, float]], about: str
) -> Markup:
    """One row a regressor, one column a metric."""
    metrics = [m for m in METRICS if m in next(iter(means.values()))]
    rows = [[REGRESSOR_NAMES[name], *(score(m, values[m]) for m in metrics)] for name, values in means.items()]
    chance = chance_row(joined(chance_cell(evaluation, stage, m) for m in metrics))
    return table(
        title, about, ["Regressor", *map(metric_head, metrics)], lines(rows) + html("<tbody>{}</tbody>", chance)
    )


def latent_table(values: dict[str, dict[str, float]], n: int) -> Markup:
    rows = [[REGRESSOR_NAMES[name], plain(v["cv"], 3), plain(v["test"], 3)] for name, v in values.items()]
    about = f"Mean R² over stage 1’s latents, before rescaling. Chance: 0. Test: n = {n} images; both should agree."
    columns = ("Regressor", "held-out training images", "test images")
    return table("Latents", about, columns, lines(rows) + html("<tbody>{}</tbody>", chance_row(2 * cell("0"))))


def published_of(paper: Published) -> str:
    """Which stage, and whose."""
    return f"{STAGES[paper.stage].lower()}, subject{'s' * (',' in paper.subjects)} {paper.subjects}"


def published_table(evaluation: Evaluation) -> Markup:
    """Every published row, whatever its protocol; ours is not among them."""
    metrics = [m for m in METRICS if any(m in paper.scores for paper in PUBLISHED)]
    rows = []
    for paper in PUBLISHED:
        name = head(f"{paper.method}, {paper.year}", published_of(paper))
        cells = [cell(paper.protocol), cell("–" if paper.n_images is None else str(paper.n_images))]
        rows.append(
            html("<tr>{}{}{}</tr>", name, joined(cells), joined(cell(score(m, paper.scores.get(m))) for m in metrics))
        )
    about = (
        "What papers report of the same data, without intervals. Scores compare only under one protocol and one n: here "
        f"“{evaluation.protocol['name']}” and n = {evaluation.n_images}. Rows of both stand in the table of scores."
    )
    columns = ("Published", "protocol", "n", *map(metric_head, metrics))
    return table("Published results", about, columns, html("<tbody>{}</tbody>", joined(rows)))


def shares_table(shares: dict[str, float]) -> Markup:
    """How much of each MLP is a network."""
    rows = [[TARGET_NAMES[target], percent(share)] for target, share in shares.items()]
    about = (
        "The MLP is an average of a network and ridge, with the share that predicts held-out training images best. "
        "At 0 % it is ridge under another name."
    )
    return table("The network’s share of the MLP", about, ("Predicts", "share"), lines(rows))


def side_tables(evaluation: Evaluation) -> Markup:
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
        about = (
            f"Stage 2 on n = {evaluation.n_unseen} test images whose combination of contents never occurs in training."
        )
        made.append(means_table("Unseen combinations", evaluation, "lcm", extra["unseen"], about))
    if "without_rescaling" in extra:
        about = f"Stage 1 without giving predicted latents the spread of true ones; n = {n} test images."
        made.append(means_table("Without rescaling", evaluation, "vdvae", extra["without_rescaling"], about))
    if "latent_r2" in extra:
        made.append(latent_table(extra["latent_r2"], n))
    if "shares" in extra:
        made.append(shares_table(extra["shares"]))
    if not evaluation.simulated:
        made.append(published_table(evaluation))
    return html('<div class="side-tables">{}</div>', joined(made))
