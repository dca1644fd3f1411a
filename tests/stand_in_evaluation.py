"""An evaluation of no subject: made-up scores in the right places, for the page's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from precompute.evaluation.evaluate import Inputs
from recon.bundle.bundle import load_bundle
from recon.bundle.evaluation import GALLERY_KINDS, CurvePoint, Evaluation, Gallery, Paired, Retrieval, Roi, Row
from recon.metrics import METRICS

COMMAND = "pip install -r requirements-eval.txt && python -m precompute fetch metrics"
COMPUTED = ("pixcorr", "ssim", "ssim_legacy", "pixels", "clip_demo")
LEVELS = {  # source -> (stage 1, stage 2) on a scale from chance (0) to perfect (1)
    "ridge": (0.75, 0.68), "mlp": (0.77, 0.7), "ceiling": (0.94, 0.8), "shuffled": (0, 0), "other_image": (0.0, 0.01),
    "mean": (0.1, 0.08), "empty_prompt": (None, 0.5), "nearest_training": (None, 0.55), "oracle": (None, 0.74),
}  # fmt: skip
NOTES = {
    "ceiling": "the picture's own latents; in stage 2 also its true captions: knows the answer",
    "shuffled": "ridge's pictures judged as those of other images, mean of several permutations: chance",
    "other_image": "for each image the response to another test image, drawn at random",
    "mean": "no response: the same layout and prompt for every image",
    "empty_prompt": "ridge's layout, no prompt",
    "nearest_training": "the training picture whose CLIP embedding is nearest to ridge's: not a reconstruction",
    "oracle": "ridge's layout, the true captions as prompt: knows the answer",
}
ATTRIBUTES = ("setting", "light", "object", "colour")
GROUPS = {
    "best": "highest rank of the pixel correlation of the MLP's stage 2, means over seeds",
    "median": "around the median rank of the pixel correlation of the MLP's stage 2, means over seeds",
    "worst": "lowest rank of the pixel correlation of the MLP's stage 2, means over seeds",
    "random": "drawn at random, seed 0",
}


def drawn_scores(metric: str, level: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) scores of pictures; level 0 is chance, 1 perfect."""
    spread = rng.normal(0, 0.12 if level else 0.05, n)
    if METRICS[metric].chance is not None:
        return np.clip(0.5 + 0.55 * level + spread, 0, 1).astype(np.float32)
    return np.clip(0.1 * (level > 0) + 0.85 * level + spread, -1, 1).astype(np.float32)


def made_up_scores(n: int, metrics: tuple[str, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        f"{stage}/{source}/{metric}": drawn_scores(metric, level, n, rng)
        for k, stage in enumerate(("vdvae", "lcm"))
        for source, levels in LEVELS.items()
        for metric in metrics
        if (level := levels[k]) is not None
    }


def spread(values: np.ndarray) -> tuple[float, float, float]:
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    return mean, mean - half, mean + half


def made_up_row(key: str, values: np.ndarray) -> Row:
    stage, source, name = key.split("/")
    metric = METRICS[name]
    sd = 0.0031 if stage == "lcm" and source != "nearest_training" else None
    note = NOTES.get(source, "")
    return Row(stage, source, name, *spread(values), len(values), metric.chance, metric.direction, sd, note)


def made_up_pairs(scores: dict[str, np.ndarray], metrics: tuple[str, ...]) -> list[Paired]:
    pairs = [(s, m, scores[f"{s}/mlp/{m}"] - scores[f"{s}/ridge/{m}"]) for s in ("vdvae", "lcm") for m in metrics]
    return [Paired(stage, m, *spread(d), 0.0001 if k else 0.31, len(d)) for k, (stage, m, d) in enumerate(pairs)]


def made_up_curve(metrics: tuple[str, ...], rng: np.random.Generator) -> list[CurvePoint]:
    return [
        CurvePoint(stage, regressor, k, m, *spread(drawn_scores(m, top * k / (k + 5), 100, rng)), 100)
        for stage, top in (("vdvae", 0.78), ("lcm", 0.7))
        for regressor in ("ridge", "mlp")
        for m in metrics
        for k in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    ]


def made_up_galleries(images: np.ndarray, rows: np.ndarray, k: int, rng: np.random.Generator) -> list[Gallery]:
    """Noisy versions of the (n, S, S, 3) test images stand in for reconstructions."""

    def like(chosen: np.ndarray) -> dict[str, list[np.ndarray]]:
        noise = {kind: rng.normal(0, 40, (len(chosen), *images.shape[1:])) for kind in GALLERY_KINDS}
        return {kind: list(np.clip(images[chosen] + e, 0, 255).astype(np.uint8)) for kind, e in noise.items()}

    chosen = {group: rng.choice(rows, min(k, len(rows)), replace=False) for group in GROUPS}
    return [Gallery(group, GROUPS[group], chosen[group], like(chosen[group])) for group in GROUPS]


def made_up_evaluation(
    images: np.ndarray, simulated: bool = True, protocol: str = "own", metrics: tuple[str, ...] = COMPUTED
) -> Evaluation:
    """images (n, S, S, 3) uint8: the test images."""
    rng, n = np.random.default_rng(0), len(images)
    scores, rows = made_up_scores(n, metrics, rng), np.arange(n, dtype=np.int32)
    shares = {a: 0.9 - 0.1 * k for k, a in enumerate(ATTRIBUTES)}
    by_chance = {a: 0.25 - 0.05 * k for k, a in enumerate(ATTRIBUTES)}
    true_ceiling = 41.0 if simulated else None
    return Evaluation(
        subject="demo" if simulated else "subj01",
        simulated=simulated,
        n_images=n,
        n_unseen=n // 3,
        protocol={"name": protocol, "pixels": 64, "networks": 224},
        settings={"steps": 4, "guidance": 1.0, "strength": 0.8, "resamples": 2000, "shuffles": 10, "curve_images": 100},
        seeds=[0, 1, 2],
        versions={"python": "3.12.0", "numpy": "2.0.0", "torch": "2.8.0"},
        rows=[made_up_row(key, values) for key, values in scores.items()],
        paired=made_up_pairs(scores, metrics),
        bottleneck=made_up_curve(metrics, rng),
        retrieval=[
            Retrieval("ridge", 0.42, 0.36, 0.48, 0.71, 0.66, 0.76, 2.0, 1 / n, 5 / n, (n + 1) / 2, n),
            Retrieval("mlp", 0.47, 0.41, 0.53, 0.77, 0.72, 0.82, 2.0, 1 / n, 5 / n, (n + 1) / 2, n),
        ],
        rois=[
            Roi("V1", 612, 0.301, 0.55, 44.2, 68.1, 540, 575, true_ceiling),
            Roi("EBA", 204, -0.013, 0.08, 8.4, None, 0, 3, true_ceiling),
        ],
        not_computed={m: COMMAND for m in METRICS if m not in metrics},
        notes=["lcm, PixCorr: nearest_training (-0.812) is better than ridge (-0.675)"],
        tables={
            "shares": {"latents": 0.496, "prompt": 0.0, "image": 1.0},
            "latent_r2": {"ridge": {"cv": 0.321, "test": 0.315}, "mlp": {"cv": 0.34, "test": 0.305}},
            "without_rescaling": {name: {m: 0.71 for m in metrics} for name in ("ridge", "mlp")},
            "unseen": {name: {m: 0.64 for m in metrics} for name in ("ridge", "mlp")},
            "captions": {"ridge": shares, "mlp": shares, "shuffled": by_chance},
            "drawn": {"ridge": shares, "mlp": shares, "ceiling": shares, "shuffled": by_chance, "truth": shares},
        },
        images=rows,
        image_scores=scores,
        galleries=made_up_galleries(images, rows, 8, rng),
    )


def corners(images: np.ndarray) -> np.ndarray:
    """Four by four pixels of images of any size, as a network's features."""
    step = images.shape[1] // 4
    return images[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)


def made_up_inputs(folder: Path, rng: np.random.Generator) -> Inputs:
    """Of the bundle in a folder, with made-up embeddings and training images; no network looks."""
    bundle = load_bundle(folder)
    images = np.asarray(bundle.subject.test.images)
    return Inputs(
        bundle=bundle,
        parts={"all": "1"},
        images=images,
        latents=bundle.own_latents(images),
        embeddings=rng.normal(size=(len(images), 6)).astype(np.float32),
        training_images=rng.integers(0, 256, (4, 64, 64, 3), np.uint8),
        training_labels=[{} for _ in range(4)],
        held_out_r2={"ridge": 0.3, "mlp": 0.4},
        describe={},
    )
