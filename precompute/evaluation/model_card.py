"""The section of a model card that says how good a bundle is, from its evaluation: for its README, and for the Hub.

python -m precompute card
"""

from __future__ import annotations

from pathlib import Path

from recon.bundle.evaluation import Evaluation, Row, load_evaluation
from recon.files import BadFile, whole_file
from recon.metrics import METRICS, d_prime, is_saturated
from recon.recipes import TRANSDUCTIVE
from recon.settings import REGRESSORS

BEGIN, END = "<!-- evaluation -->", "<!-- /evaluation -->"
STAGES = {"vdvae": "stage 1", "lcm": "stage 2"}
SOURCES = {
    "ridge": "ridge",
    "mlp": "MLP",
    "ridge_image": "ridge, guided by the image embedding alone",
    "ridge_both": "ridge, guided by text and image embedding",
    "mlp_image": "MLP, guided by the image embedding alone",
    "mlp_both": "MLP, guided by text and image embedding",
    "ceiling": "ceiling",
    "shuffled": "shuffled: chance",
    "other_image": "another image's response",
    "mean": "no response",
    "empty_prompt": "no prompt",
    "nearest_training": "nearest training picture",
    "oracle": "oracle: knows the answer",
}
TARGETS = {"latents": "latents", "prompt": "the prompt", "image": "the image embedding"}
NAMES = {"setting": "setting", "light": "light", "colour": "colour", "object": "object"}
KINDS = {"ridge": "ridge", "mlp": "MLP", "ceiling": "ceiling", "shuffled": "shuffled: chance", "truth": "true pictures"}


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _is_share(metric: str) -> bool:
    return METRICS[metric].chance is not None


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if _is_share(row.metric):
        return f"{100 * row.value:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return f"{_number(row.value, 3)} ({_number(row.low, 3)} to {_number(row.high, 3)})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_table(e: Evaluation) -> str:
    found = {(r.stage, r.source, r.metric): r for r in e.rows}
    metrics = [m for m in METRICS if any(key[2] == m for key in found)]
    titles = [METRICS[m].title + (", %" if _is_share(m) else "") for m in metrics]
    kinds = [(s, k) for s in STAGES for k in SOURCES if any(key[:2] == (s, k) for key in found)]
    rows = [[f"{STAGES[s]}, {SOURCES[k]}", *(_cell(found.get((s, k, m))) for m in metrics)] for s, k in kinds]
    chance = ["*chance*", *(f"*{100 * METRICS[m].chance:.0f}*" if _is_share(m) else "" for m in metrics)]
    return _table(["", *titles], [*rows, chance])


def saturation_sentence(e: Evaluation) -> str:
    """Which identification scores of the reconstructions have nowhere left to go, and what to read instead; empty if none has."""
    full = [r for r in e.rows if r.source in REGRESSORS and is_saturated(r.metric, r.value)]
    if not full:
        return ""
    why = "in a small world of scenes" if e.simulated else "of these images"
    told = "; ".join(
        f"{STAGES[r.stage]}, {SOURCES[r.source]}, {METRICS[r.metric].title}: {100 * r.value:.1f} %, d′ {d_prime(r.value):.1f}"
        for r in full
    )
    return f"Saturated, since {why} nearly every other image is easily told apart: {told}. Retrieval tells more."


def combinations_table(e: Evaluation) -> str:
    """Stage 2 of both regressors on combinations that training shows and on those that it never does, apart."""
    whole = {(r.source, r.metric): r.value for r in e.rows if r.stage == "lcm"}
    metrics = [m for m in METRICS if m in e.tables["unseen"]["ridge"]]
    n, rows = e.n_images - e.n_unseen, []
    for name in REGRESSORS:
        unseen = e.tables["unseen"][name]
        seen = {m: (e.n_images * whole[name, m] - e.n_unseen * unseen[m]) / n for m in metrics}
        for scores, where in ((seen, f"seen (n = {n})"), (unseen, f"unseen (n = {e.n_unseen})")):
            cells = [f"{100 * scores[m]:.1f}" if _is_share(m) else _number(scores[m], 3) for m in metrics]
            rows.append([f"{SOURCES[name]}, {where}", *cells])
    return _table(["", *(METRICS[m].title + (", %" if _is_share(m) else "") for m in metrics)], rows)


def share_table(kinds: dict[str, dict[str, float]]) -> str:
    rows = [[KINDS[k], *(f"{100 * shares[a]:.0f} %" for a in NAMES)] for k, shares in kinds.items()]
    return _table(["", *NAMES.values()], rows)


def retrieval_table(e: Evaluation) -> str:
    rows = [
        [SOURCES[r.regressor], f"{100 * r.top1:.1f} %", f"{100 * r.top5:.1f} %", f"{r.median_rank:g}"]
        for r in e.retrieval
    ]
    first = e.retrieval[0]
    chance = ["*chance*", f"*{100 * first.chance_top1:.1f} %*", f"*{100 * first.chance_top5:.1f} %*"]
    return _table(["", "top 1", "top 5", "median rank"], [*rows, [*chance, f"*{first.chance_median_rank:g}*"]])


def roi_table(e: Evaluation) -> str:
    truth = any(r.true_ceiling_median is not None for r in e.rois)

    def percent(value: float | None, factor: float = 1) -> str:
        return "–" if value is None else _number(factor * value, 1)

    rows = []
    for r in e.rois:
        cells = [r.roi, str(r.n_voxels), percent(r.median_r2, 100), percent(r.median_ceiling)]
        cells += [percent(r.true_ceiling_median)] if truth else []
        rows.append([*cells, percent(r.median_ratio), f"{r.n_significant} of {r.n_voxels}"])
    head = [
        "area",
        "voxels",
        "R², %",
        "ceiling, %",
        *(["true ceiling, %"] if truth else []),
        "R² / ceiling, %",
        "q ≤ 0.05",
    ]
    return _table(head, rows)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def paired_sentence(e: Evaluation) -> str:
    def signed(value: float) -> str:
        return f"{value:+.3f}".replace("-", "−")

    parts = [
        f"{STAGES[p.stage]} {METRICS[p.metric].title} {signed(p.difference)} ({signed(p.low)} to {signed(p.high)}, p {_p(p.p)}"
        + (f", {p.ties} of {p.n} equal and left out of the test)" if p.ties else ")")
        for p in e.paired
    ]
    return "MLP minus ridge, same pictures: " + "; ".join(parts) + "."


def shares_sentence(shares: dict[str, float]) -> str:
    """How much of each MLP is a network."""
    told = ", ".join(f"{100 * share:.0f} % for {TARGETS[target]}" for target, share in shares.items())
    return f"The MLP is an average of a network and ridge. The network's share: {told}."


def fits_sentence(fits: dict[str, dict[str, float]]) -> str:
    """How far stage 1's means lie apart between fits with other seeds."""
    told = "; ".join(
        f"{SOURCES[name]} " + ", ".join(f"{METRICS[m].title} {_spread(m, sd)}" for m, sd in sds.items() if m in METRICS)
        for name, sds in fits.items()
    )
    n = next(iter(fits.values()))["fits"]
    return f"Fitted again with {n:.0f} other seeds, stage 1's means spread by (SD over fits): {told}."


def _spread(metric: str, sd: float) -> str:
    return f"{100 * sd:.2f} points" if _is_share(metric) else f"{sd:.4f}"


def _of_seeds(n: int) -> str:
    return "one seed" if n == 1 else f"mean of {n} seeds"


def _combinations(e: Evaluation) -> list[str]:
    if "unseen" not in e.tables:
        return []
    return ["Stage 2 on combinations that training shows and on those that it never does:", combinations_table(e)]


def _contents(e: Evaluation) -> list[str]:
    if "drawn" not in e.tables:
        return []
    return [
        "What stage 2 shows, as a classifier of scenes sees it, is right in so many pictures:",
        share_table(e.tables["drawn"]),
        "What the decoded caption, that of the nearest training picture, says:",
        share_table(e.tables["captions"]),
    ]


def section(e: Evaluation) -> str:
    """Markdown, without the marks around it."""
    lcm, latent = e.settings, e.tables["latent_r2"]
    simulated = "The subject is **simulated**: do not set these beside published numbers. " if e.simulated else ""
    unseen = f", {e.n_unseen} of them combinations that training never shows" if e.n_unseen else ""
    parts = [
        f"{simulated}{e.n_images} test pictures{unseen}, pictures compared at {e.protocol['pixels']}² pixels. In brackets 95 % "
        f"bootstrap intervals over pictures alone: of one fit to one subject, with fixed seeds; another fit may differ by more. "
        f"Stage 2: {lcm['steps']} steps, guidance {lcm['guidance']:g}, strength "
        f"{lcm['strength']:g}, {_of_seeds(len(e.seeds))}. Identification is two-way.",
        score_table(e),
        *filter(None, [saturation_sentence(e)]),
        paired_sentence(e),
        *_combinations(e),
        "Retrieval: the true picture among the test pictures, by the decoded image embedding "
        f"(n = {e.retrieval[0].n}).",
        retrieval_table(e),
    ]
    parts += _contents(e)
    parts += [
        "Voxels, medians by area; R² of the encoding model on averaged test responses, ceiling for the repeats that there are:",
        roi_table(e),
        "Latent R², mean over latents before rescaling: "
        + "; ".join(
            f"{SOURCES[k]} {v['cv']:.3f} on held-out training images, {v['test']:.3f} on test"
            for k, v in latent.items()
        )
        + ".",
    ]
    if any(TRANSDUCTIVE in row.note for row in e.rows):
        names = ", ".join(sorted({SOURCES[row.source] for row in e.rows if TRANSDUCTIVE in row.note}))
        parts.append(f"Stage 1 is that of {e.settings['recipe']}. {TRANSDUCTIVE.capitalize()}: {names}.")
    if "refits" in e.tables:
        parts.append(fits_sentence(e.tables["refits"]))
    if "shares" in e.tables:
        parts.append(shares_sentence(e.tables["shares"]))
    if e.notes:
        parts.append("Not in the order that one would expect: " + "; ".join(e.notes) + ".")
    if e.not_computed:
        parts.append(absent_sentence(e.not_computed))
    return "\n\n".join(parts)


def absent_sentence(not_computed: dict[str, str]) -> str:
    """Which metrics wait for which command."""
    by_command: dict[str, list[str]] = {}
    for metric, command in not_computed.items():
        by_command.setdefault(command, []).append(METRICS[metric].title)
    told = "; ".join(f"{', '.join(titles)} (`{command}`)" for command, titles in by_command.items())
    return f"Not computed: {told}."


def with_section(text: str, content: str) -> str:
    """Markdown with what stands between the two marks replaced. Raises BadFile where they are not both there, once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadFile(
            f"expected the marks {BEGIN} and {END} once each, in this order: add them where the section is to stand"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def write_card(bundle: Path, into: Path) -> None:
    """Writes the section of a bundle's evaluation into a Markdown file that has the marks. Raises BadFile."""
    if not into.exists():
        raise BadFile(f"{into} is missing: name a Markdown file with the marks {BEGIN} and {END}")
    text = with_section(into.read_text(encoding="utf-8"), section(load_evaluation(bundle)))
    with whole_file(into) as part:
        part.write_text(text, encoding="utf-8")
