"""From the scores of single pictures to an evaluation: means with intervals, tests, curves, galleries."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from precompute.evaluation.candidates import NOTES, NULL, SEED_STEP, STAGE_2, nearest_training
from precompute.evaluation.evaluate import (
    N_CURVE,
    N_SHUFFLES,
    Inputs,
    Options,
    Pieces,
    Work,
    begin,
    compute,
    wrong_partners,
)
from precompute.evaluation.judge import SEEN, SIMILARITY
from precompute.evaluation.protocols import resized
from precompute.evaluation.uncertainty import RESAMPLES, interval, paired_p
from precompute.fitting.encode import roi_table
from precompute.team import ALONE, Team
from recon.bundle.evaluation import (
    EVALUATION_FILES,
    CurvePoint,
    Evaluation,
    Gallery,
    Paired,
    Retrieval,
    Row,
    save_evaluation,
)
from recon.bundle.manifest import CHOICES, rewrite_manifest
from recon.files import whole_file
from recon.metrics import METRICS, retrieval_ranks
from recon.recipes import TRANSDUCTIVE, Recipe
from recon.reconstruct import decoded
from recon.regressors.standardise import r2_per_target
from recon.settings import REGRESSORS

LIBRARIES = ("numpy", "scipy", "torch", "diffusers", "transformers", "scikit-image", "torchvision")
NULLS = ("shuffled", "other_image", "mean", "empty_prompt", "nearest_training")
LAYOUT_OF = dict.fromkeys(
    ("shuffled", "other_image", "mean", "empty_prompt", "oracle"), NULL
)  # of rows; others name theirs
ATTRIBUTES = ("setting", "light", "object", "colour")
GROUP, PICTURE_SIDE = 8, 192  # pictures of a gallery's group; the largest side
RULE = "rank of {} of the MLP's stage 2, means over seeds"

Runs = dict[str, list[np.ndarray]]  # "STAGE/SOURCE/METRIC" -> one (n,) for each run


def collect(pieces: Pieces) -> Runs:
    """Scores of pieces STAGE.SOURCE[.RUN], all runs of a row together."""
    runs = {}
    for name, scores in pieces.items():
        stage = name.split(".")[0]
        if stage in ("vdvae", "lcm"):
            for key, values in scores.items():
                runs.setdefault(f"{stage}/{key}", []).append(values)
    return runs


def make_row(key: str, runs: list[np.ndarray]) -> Row:
    stage, source, name = key.split("/")
    metric, scores = METRICS[name], np.mean(runs, 0)
    low, high = interval(scores)
    sd = float(np.std([run.mean() for run in runs], ddof=1)) if len(runs) > 1 else None
    shown = float(scores.mean())
    return Row(
        stage, source, name, shown, low, high, len(scores), metric.chance, metric.direction, sd, NOTES.get(source, "")
    )


def marked(row: Row, recipe: Recipe) -> Row:
    """The same, whose note says so if its layouts were made by a regressor whose gains are transductive."""
    made_by = LAYOUT_OF.get(row.source, row.source.split("_")[0])
    if made_by not in recipe.transductive:
        return row
    return replace(row, note="; ".join(filter(None, [row.note, TRANSDUCTIVE])))


def paired_tests(scores: dict[str, np.ndarray]) -> list[Paired]:
    tests = []
    for key, ridge in scores.items():
        stage, source, metric = key.split("/")
        if source == "ridge":
            mlp = scores[f"{stage}/mlp/{metric}"]
            low, high = interval(mlp - ridge)
            difference = float((mlp - ridge).mean())
            ties = int((mlp == ridge).sum())
            tests.append(Paired(stage, metric, difference, low, high, paired_p(mlp, ridge), len(ridge), ties))
    return tests


def curve_points(pieces: Pieces) -> list[CurvePoint]:
    points = []
    for name, scores in pieces.items():
        if name.startswith("curve."):
            _, regressor, components = name.split(".")
            for key, values in scores.items():
                stage, metric = key.split("/")
                if metric in METRICS:
                    value = float(values.mean())
                    points.append(
                        CurvePoint(stage, regressor, int(components), metric, value, *interval(values), len(values))
                    )
    return points


def retrieval(work: Work) -> list[Retrieval]:
    """The true image among all test images that are evaluated."""
    captions, truth, n = work.inputs.bundle.captions, work.inputs.embeddings[work.test.rows], len(work.test.rows)
    found = []
    for name in REGRESSORS:
        ranks = retrieval_ranks(
            decoded("image", work.test.X, work.inputs.bundle, name), truth, captions.embeddings.mean(0)
        )
        first, five = (ranks <= 1).astype(np.float32), (ranks <= 5).astype(np.float32)
        median, shares = float(np.median(ranks)), (1 / n, min(5, n) / n)
        tops = (float(first.mean()), *interval(first), float(five.mean()), *interval(five))
        found.append(Retrieval(name, *tops, median, *shares, (n + 1) / 2, n))
    return found


def order_notes(rows: list[Row]) -> list[str]:
    """Where ceiling ≥ ridge ≥ nulls, or ceiling ≥ MLP ≥ nulls, does not hold."""
    value = {(r.stage, r.source, r.metric): r.value for r in rows}
    notes = []
    for stage, source, metric in value:
        if source not in REGRESSORS:
            continue
        sign = 1 if METRICS[metric].direction == "higher" else -1
        pairs = [("ceiling", source)] + [(source, null) for null in NULLS]
        for better, worse in pairs:
            a, b = value.get((stage, better, metric)), value.get((stage, worse, metric))
            if a is not None and b is not None and sign * (a - b) < 0:
                notes.append(f"{stage}, {METRICS[metric].title}: {worse} ({b:.3f}) is better than {better} ({a:.3f})")
    return notes


# --- tables beside the rows -------------------------------------------------------------------------------------------


def _means(scores: dict[str, np.ndarray], source: str, rows=slice(None)) -> dict[str, float]:
    prefix = f"{source}/"
    named = {key.removeprefix(prefix): values for key, values in scores.items() if key.startswith(prefix)}
    return {name: float(values[rows].mean()) for name, values in named.items() if name in METRICS}


def latent_r2(work: Work) -> dict:
    """Before rescaling: of held-out training images, and of test images, means over latents."""
    regressors, table = work.inputs.bundle.regressors["latents"], {}
    for name, model in regressors.items():
        test = r2_per_target(work.test.latents, model.predict(work.test.X))
        table[name] = {"cv": work.inputs.held_out_r2[name], "test": float(np.nanmean(test))}
    return table


def caption_table(work: Work) -> dict:
    """In what share of test images the nearest training picture has the right attributes; "shuffled": ridge's for others."""
    training, labels = work.inputs.training_labels, work.judge.labels

    def right(rows) -> dict[str, float]:
        return {a: float(np.mean([training[k][a] == e[a] for k, e in zip(rows, labels)])) for a in ATTRIBUTES}

    found = {name: nearest_training(work.test.X, work.inputs.bundle, name) for name in REGRESSORS}
    runs = [right(found["ridge"][other]) for other in wrong_partners(len(labels))]
    shuffled = {a: float(np.mean([run[a] for run in runs])) for a in ATTRIBUTES}
    return {name: right(rows) for name, rows in found.items()} | {"shuffled": shuffled}


def drawn_table(work: Work, scores: dict[str, np.ndarray]) -> dict:
    """In what share of stage 2's pictures a classifier sees the right attributes; "truth": of the true pictures."""
    truth = work.judge.find(work.judge.truth["pixels"], work.judge.labels)
    sources = ("ridge", "mlp", "ceiling", "shuffled")
    table = {s: {a: float(scores[f"lcm/{s}/{SEEN}{a}"].mean()) for a in ATTRIBUTES} for s in sources}
    return table | {"truth": {a: float(truth[a].mean()) for a in ATTRIBUTES}}


def tables(work: Work, pieces: Pieces, scores: dict[str, np.ndarray], unseen: np.ndarray) -> dict:
    """What stands beside the rows; attributes where the subject's labels have some."""
    found = {"latent_r2": latent_r2(work)}
    found["without_rescaling"] = {name: _means(pieces[f"raw.{name}"], name) for name in REGRESSORS}
    found |= {"shares": work.inputs.shares} if work.inputs.shares else {}
    found |= {"refits": work.inputs.refits} if work.inputs.refits else {}
    if unseen.any():
        found["unseen"] = {name: _means(scores, f"lcm/{name}", unseen) for name in REGRESSORS}
    if work.judge.find:
        found |= {"captions": caption_table(work), "drawn": drawn_table(work, scores)}
    return found


# --- galleries --------------------------------------------------------------------------------------------------------


def order_of(scores: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Images from the worst to the best, and the rule."""
    rank = rankdata(scores["lcm/mlp/pixcorr"])
    similarity = scores.get(f"lcm/mlp/{SIMILARITY}")
    if similarity is None:
        return np.argsort(rank, kind="stable"), RULE.format("the pixel correlation")
    rule = RULE.format("the pixel correlation plus rank of the correlation of CLIP embeddings")
    return np.argsort(rank + rankdata(similarity), kind="stable"), rule


def choose(order: np.ndarray, rule: str) -> dict[str, tuple[np.ndarray, str]]:
    """Group -> which images, and why."""
    n, k = len(order), min(GROUP, len(order))
    middle = (n - k) // 2
    drawn = np.random.default_rng((0, 52)).choice(n, k, replace=False)
    return {
        "best": (order[::-1][:k], f"highest {rule}"),
        "median": (order[middle : middle + k], f"around the median {rule}"),
        "worst": (order[:k], f"lowest {rule}"),
        "random": (np.sort(drawn), "drawn at random, seed 0"),
    }


def make_gallery(work: Work, group: str, chosen: np.ndarray, rule: str) -> Gallery:
    some = work.test.subset(chosen)
    layouts = {name: work.layouts(name)[chosen] for name in (*REGRESSORS, "ceiling")}
    pictures = {f"{name}_layout": layouts[name] for name in REGRESSORS}
    for name in (*REGRESSORS, "ceiling"):
        pictures[name] = some.refined(layouts[name], some.meaning(STAGE_2[name][1]), 0, work.options.lcm)
    pictures["nearest_training"] = np.asarray(work.inputs.training_images[some.nearest_training()])
    small = {k: list(resized(v, min(v.shape[1], PICTURE_SIDE))) for k, v in pictures.items()}
    return Gallery(group, rule, some.rows, small)


# --- all of it --------------------------------------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def summarise(work: Work, pieces: Pieces) -> Evaluation:
    """All that a bundle carries of an evaluation."""
    runs = collect(pieces)
    every = {key: np.mean(values, 0) for key, values in runs.items()}
    scores = {key: values for key, values in every.items() if key.split("/")[2] in METRICS}
    rows = [marked(make_row(key, runs[key]), work.inputs.bundle.recipe) for key in scores]
    unseen = np.array([bool(e.get("unseen")) for e in work.judge.labels])
    subject, options = work.inputs.bundle.subject, work.options
    settings = {"steps": options.lcm.steps, "guidance": options.lcm.guidance, "strength": options.lcm.strength}
    settings |= {"limit": options.limit, "resamples": RESAMPLES, "shuffles": N_SHUFFLES}
    settings |= {"curve_images": min(N_CURVE, len(unseen)), "curve_seed": 0, "seed_step": SEED_STEP}
    settings |= {"recipe": work.inputs.bundle.manifest.get("recipe", CHOICES["recipe"][0])}
    order, rule = order_of(every)
    return Evaluation(
        subject=subject.name,
        simulated=subject.simulated,
        n_images=len(unseen),
        n_unseen=int(unseen.sum()),
        protocol=work.protocol.summary(),
        settings=settings,
        seeds=list(range(options.seeds)),
        versions=_versions(),
        machine=work.machine,
        rows=rows,
        paired=paired_tests(scores),
        bottleneck=curve_points(pieces),
        retrieval=retrieval(work),
        rois=roi_table(work.inputs.bundle.scores, subject.geometry.rois),
        not_computed=work.inputs.not_computed,
        notes=order_notes(rows),
        tables=tables(work, pieces, every, unseen),
        images=work.test.rows.astype(np.int32),
        image_scores=scores,
        galleries=[make_gallery(work, group, *how) for group, how in choose(order, rule).items()],
    )


def evaluate(inputs: Inputs, out: Path, options: Options, me: Team = ALONE) -> Evaluation:
    """Writes the evaluation's files into `out`; what an earlier run has computed is not computed again.

    The processes of a team share the pieces; all of them get the evaluation.
    """
    work = begin(inputs, out, options)
    evaluation = summarise(work, compute(work, me))
    if me.first:
        save_evaluation(out, evaluation)
    return evaluation


def detach(bundle: Path) -> None:
    """Makes the bundle one without an evaluation: it is about to get another one."""
    for name in EVALUATION_FILES:
        (bundle / name).unlink(missing_ok=True)
    rewrite_manifest(bundle)


def attach(folder: Path, bundle: Path) -> None:
    """Makes the evaluation in `folder` a part of the bundle."""
    for name in EVALUATION_FILES:
        with whole_file(bundle / name) as copy:
            shutil.copyfile(folder / name, copy)
    rewrite_manifest(bundle)


def overview(evaluation: Evaluation) -> dict:
    """What a command prints: the means, where the order is not as expected, and what was not computed."""
    means = {}
    for row in evaluation.rows:
        means.setdefault(f"{row.stage} {row.source}", {})[row.metric] = round(row.value, 4)
    about = {"subject": evaluation.subject, "n": evaluation.n_images, "protocol": evaluation.protocol["name"]}
    return about | {"rows": means, "notes": evaluation.notes, "not computed": evaluation.not_computed}
