"""What `python -m precompute evaluate` found of a subject, as a bundle carries it.

evaluation.json     everything but what follows          evaluation.csv     its rows again, for people and spreadsheets
image_scores.h5     STAGE/SOURCE/METRIC (n,) float32, and `images` (n,): which test images, in the same order
gallery.h5          best, median, worst and random pictures, WebP
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from recon.files import BadFile, array_in, brief, group_in, load_json, open_h5, save_json, whole_file
from recon.metrics import METRICS
from recon.unreadable import unreadable

VERSION = 1
EVALUATION_FILES = ("evaluation.json", "evaluation.csv", "image_scores.h5", "gallery.h5")
GALLERY_KINDS = ("ridge_layout", "mlp_layout", "ridge", "mlp", "ceiling", "nearest_training")
STAGES = ("vdvae", "lcm")


@dataclass(frozen=True)
class Row:
    """Mean over n test images of one metric of one kind of picture, with a 95 % bootstrap interval over images."""

    stage: str  # "vdvae" or "lcm"
    source: str  # "ridge", "mlp", "ceiling", "shuffled" …
    metric: str  # of recon.metrics.METRICS
    value: float
    low: float
    high: float
    n: int
    chance: float | None
    direction: str  # which is better, "higher" or "lower"
    seed_sd: float | None  # of the mean, over stage 2's seeds
    note: str


@dataclass(frozen=True)
class Paired:
    """MLP minus ridge on the same images; p of Wilcoxon's signed-rank test, which leaves out images where both are equal."""

    stage: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    ties: int | None = None  # images where both are equal; older files do not say


@dataclass(frozen=True)
class CurvePoint:
    """A regressor cut down to its first components, of latents and prompt alike."""

    stage: str
    regressor: str
    components: int
    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Retrieval:
    """Rank of the true image among n test images by the decoded image embedding."""

    regressor: str
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    top5_low: float
    top5_high: float
    median_rank: float
    chance_top1: float
    chance_top5: float
    chance_median_rank: float
    n: int


@dataclass(frozen=True)
class Roi:
    """Voxels of one area: medians; ceilings and ratio in percent; counts of voxels."""

    roi: str
    n_voxels: int
    median_r2: float
    median_r: float
    median_ceiling: float | None  # None: unknown, no image was shown twice
    median_ratio: float | None  # R² over the ceiling, where the ceiling is at least 10 %
    n_ceiling_10: int
    n_significant: int  # q ≤ 0.05
    true_ceiling_median: float | None  # a simulated subject's


@dataclass(frozen=True)
class Gallery:
    """Some test images and what was made of them."""

    group: str  # "best", "median", "worst", "random"
    rule: str
    images: np.ndarray  # (k,) indices of test images
    pictures: dict[str, list[np.ndarray]]  # of GALLERY_KINDS -> k pictures (S, S, 3) uint8


LISTS = {"rows": Row, "paired": Paired, "bottleneck": CurvePoint, "retrieval": Retrieval, "rois": Roi}


@dataclass(frozen=True)
class Evaluation:
    subject: str
    simulated: bool
    n_images: int
    n_unseen: int
    protocol: dict  # name, sizes in pixels
    settings: dict  # stage 2's, limit, resamples
    seeds: list[int]
    versions: dict[str, str]
    rows: list[Row]
    paired: list[Paired]
    bottleneck: list[CurvePoint]
    retrieval: list[Retrieval]
    rois: list[Roi]
    not_computed: dict[str, str]  # metric -> the command to run first
    notes: list[str]
    tables: dict  # latent R², scores without rescaling, unseen combinations, what captions and a classifier get right
    machine: dict = field(default_factory=dict)  # stage 2's device, dtype, side and autoencoder; older files do not say
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # (n,) which test images
    image_scores: dict[str, np.ndarray] = field(default_factory=dict)  # "STAGE/SOURCE/METRIC" -> (n,) float32
    galleries: list[Gallery] = field(default_factory=list)

    def find(self, stage: str, source: str, metric: str) -> Row:
        """The row of that name. Raises KeyError."""
        for row in self.rows:
            if (row.stage, row.source, row.metric) == (stage, source, metric):
                return row
        raise KeyError(f"no row {stage}, {source}, {metric}")


KNOWN = {"stage": STAGES, "metric": tuple(METRICS), "regressor": ("ridge", "mlp"), "direction": ("higher", "lower")}
OUTSIDE_JSON = ("images", "image_scores", "galleries")


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Writes EVALUATION_FILES into `folder`, the JSON file last."""
    _save_scores(folder / "image_scores.h5", evaluation)
    _save_galleries(folder / "gallery.h5", evaluation.galleries)
    _save_csv(folder / "evaluation.csv", evaluation.rows)
    inside = {f.name: getattr(evaluation, f.name) for f in fields(Evaluation) if f.name not in OUTSIDE_JSON}
    content = inside | {name: [asdict(row) for row in inside[name]] for name in LISTS}
    save_json(folder / "evaluation.json", {"format": "recon-evaluation", "version": VERSION} | content)


def _save_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    with whole_file(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _save_scores(path: Path, evaluation: Evaluation) -> None:
    with whole_file(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(format="recon-image-scores", version=VERSION)
        f["images"] = evaluation.images
        for name, values in evaluation.image_scores.items():
            f[name] = np.asarray(values, np.float32)


def _save_galleries(path: Path, galleries: list[Gallery]) -> None:
    with whole_file(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(format="recon-gallery", version=VERSION)
        for gallery in galleries:
            group = f.create_group(gallery.group)
            group.attrs["rule"] = gallery.rule
            group["images"] = gallery.images
            for kind, pictures in gallery.pictures.items():
                files = group.create_dataset(kind, (len(pictures),), h5py.vlen_dtype(np.uint8))
                for k, picture in enumerate(pictures):
                    files[k] = np.frombuffer(_webp(picture), np.uint8)


def _webp(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "webp", quality=90, method=6)
    return buffer.getvalue()


def load_evaluation(folder: Path) -> Evaluation:
    """Reads what `save_evaluation` wrote. Raises BadFile for anything else."""
    path = folder / "evaluation.json"
    try:
        content = load_json(path)
        if (content.pop("format"), content.pop("version")) != ("recon-evaluation", VERSION):
            raise ValueError(f"not an evaluation of version {VERSION}")
        content |= {name: [_checked(kind, row) for row in content[name]] for name, kind in LISTS.items()}
        images, scores = _load_scores(folder / "image_scores.h5")
        galleries = _load_galleries(folder / "gallery.h5")
        evaluation = Evaluation(**content, images=images, image_scores=scores, galleries=galleries)
        _check_types(evaluation)
        return evaluation
    except BadFile as error:
        raise BadFile(f"{error}: run `python -m precompute evaluate`") from error
    except Exception as error:  # json, h5py and Pillow raise many kinds for damaged files
        content = f"{path} is missing, damaged or incomplete ({brief(error)}): run `python -m precompute evaluate`"
        raise unreadable(path, error, content) from error


def read_shares(folder: Path) -> dict[str, float]:
    """Target -> the network's share of its MLP, without reading the rest; empty if no evaluation in `folder` tells it."""
    path = folder / "evaluation.json"
    content = load_json(path) if path.exists() else {}
    tables = content.get("tables") if isinstance(content, dict) else None
    shares = tables.get("shares") if isinstance(tables, dict) else None
    return shares if isinstance(shares, dict) and _is_table("shares", shares) else {}


def _checked(kind, row: dict):
    """Raises ValueError where a number is not one."""
    made = kind(**row)
    for f in fields(kind):
        value = getattr(made, f.name)
        if f.type in ("float", "int") and not _is_number(value):
            raise ValueError(f"{kind.__name__}.{f.name}: expected a number, got {value!r}")
        if f.type in ("float | None", "int | None") and not (value is None or _is_number(value)):
            raise ValueError(f"{kind.__name__}.{f.name}: expected a number or null, got {value!r}")
        if f.type == "str" and not isinstance(value, str):
            raise ValueError(f"{kind.__name__}.{f.name}: expected a string, got {value!r}")
        if f.name in KNOWN and value not in KNOWN[f.name]:
            raise ValueError(f"{kind.__name__}.{f.name}: expected one of {', '.join(KNOWN[f.name])}, got {value!r}")
    return made


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_network_size(networks) -> bool:
    """One side in pixels for all networks, or one for each metric that differs."""
    if isinstance(networks, dict):
        return networks.keys() <= METRICS.keys() and all(map(_is_number, networks.values()))
    return _is_number(networks)


def _is_table(name: str, table: dict) -> bool:
    """Whether it has the same numbers in every row; of regressors and known columns, where the page names them.

    The network's shares have no rows: a number for a target.
    """
    if name == "shares":
        return table.keys() <= {"latents", "prompt", "image"} and all(map(_is_number, table.values()))
    rows = list(table.values())
    known = {"latent_r2": ("cv", "test"), "refits": ("fits", *METRICS)} | dict.fromkeys(
        ("unseen", "without_rescaling"), METRICS
    )
    columns = known.get(name)
    named = columns is None or (table.keys() <= {"ridge", "mlp"} and rows[0].keys() <= set(columns))
    return named and all(row.keys() == rows[0].keys() and all(map(_is_number, row.values())) for row in rows)


def _check_types(evaluation: Evaluation) -> None:
    """Whether what stands beside the rows is of its type. Raises ValueError."""
    e = evaluation
    fit = {
        "subject": isinstance(e.subject, str),
        "simulated": isinstance(e.simulated, bool),
        "n_images": type(e.n_images) is int,
        "n_unseen": type(e.n_unseen) is int,
        "protocol": isinstance(e.protocol.get("name"), str)
        and _is_number(e.protocol.get("pixels"))
        and _is_network_size(e.protocol.get("networks")),
        "settings": all(v is None or isinstance(v, (str, int, float)) for v in e.settings.values()),
        "seeds": isinstance(e.seeds, list) and all(type(seed) is int for seed in e.seeds),
        "versions": all(isinstance(v, str) for v in e.versions.values()),
        "not_computed": e.not_computed.keys() <= METRICS.keys()
        and all(isinstance(v, str) for v in e.not_computed.values()),
        "notes": isinstance(e.notes, list) and all(isinstance(note, str) for note in e.notes),
        "machine": all(isinstance(v, (str, int, float)) for v in e.machine.values()),
        "tables": all(_is_table(name, table) for name, table in e.tables.items()),
    }
    wrong = [name for name, is_right in fit.items() if not is_right]
    if wrong:
        raise ValueError(f"{wrong[0]}: not of the type that an evaluation has")


def _load_scores(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with open_h5(path, "recon-image-scores", VERSION) as f:
        names = []
        f.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return array_in(f, "images"), {name: array_in(f, name) for name in names if name != "images"}


def _load_galleries(path: Path) -> list[Gallery]:
    with open_h5(path, "recon-gallery", VERSION) as f:
        return [
            Gallery(
                name,
                str(g.attrs["rule"]),
                array_in(g, "images"),
                {kind: _pictures(array_in(g, kind)) for kind in GALLERY_KINDS},
            )
            for name, g in ((name, group_in(f, name)) for name in f)
        ]


def _pictures(files: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(file.tobytes())).convert("RGB")) for file in files]
