"""All stages of several subjects as one plan: what is done, stale or missing, told by content; what is not done is run, in order.

python -m precompute run --subjects 1 --subjects 2 --dry-run

A stage is done if its outputs are there and its key is the one that `plan.json` in the subject's folder keeps: a digest of the
fingerprints of its inputs, its settings, and the source of the modules that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from precompute.evaluation.evaluate import Options
from precompute.nsd import subject_to_bundle
from precompute.team import team
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import TARGETS
from recon.files import BadFile, fingerprint, load_json, save_json

ROOT = Path(__file__).parents[2]
RECORD = "plan.json"
SHARED = ("recon/files.py", "recon/regressors/standardise.py")  # sources that every stage depends on


@dataclass(frozen=True)
class Stage:
    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    sources: tuple[str, ...]  # files of this repository whose change makes the outputs stale
    run: Callable[[], object]
    gigabytes: float  # of the outputs
    hours: float  # on two cores
    settings: dict = field(default_factory=dict)
    shared: bool = False  # by the processes of a team; the first alone does the others

    def key(self) -> str:
        """Raises FileNotFoundError if an input is missing."""
        code = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in (*SHARED, *self.sources)]
        what = [[fingerprint(path) for path in self.inputs], self.settings, code]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def state(stage: Stage, record: dict[str, str]) -> str:
    """ "done"; "stale": made of other inputs, by other settings or code; "missing"; or "waits" for inputs."""
    if not all(path.exists() for path in stage.inputs):
        return "waits"
    if not all(path.exists() for path in stage.outputs):
        return "missing"
    return "done" if record.get(stage.name) == stage.key() else "stale"


def subject_stages(subject: int, folder: Path, out: Path) -> list[Stage]:
    """From prepared files to an evaluated bundle; `prepare` itself resumes and knows its settings."""
    files = {name: folder / name for name in ("train_voxels.npy", "subject.h5", "train.json", "test.json")}
    small, large = ([folder / f"{split}_{side}.npy" for split in subject_to_bundle.SPLITS] for side in (64, 512))
    made = {t: [folder / f"{t}_{split}.npy" for split in subject_to_bundle.SPLITS] for t in TARGETS}
    seen = {"vdvae": small, "clip-text": [files["train.json"], files["test.json"]], "clip-image": large}
    cost = {"vdvae": (3.6, 1.9), "clip-text": (2.4, 1.5), "clip-image": (0.03, 3.2)}
    stages = [
        Stage(
            f"features {target}",
            tuple(seen[target]),
            tuple(made[subject_to_bundle.FEATURES[target]]),
            (
                "precompute/fitting/features.py",
                "recon/decoders/vdvae.py" if target == "vdvae" else "precompute/fitting/clip.py",
            ),
            lambda target=target: subject_to_bundle.features(folder, target, "float32", 8),
            *cost[target],
            shared=True,
        )
        for target in subject_to_bundle.FEATURES
    ]
    fitted = [folder / f"{t}_{name}.safetensors" for t in TARGETS for name in ("ridge", "mlp")]
    train = [files["train_voxels.npy"], *(made[t][0] for t in TARGETS)]
    engine = (
        "precompute/fitting/fit.py",
        "precompute/fitting/fit_ridge.py",
        "precompute/fitting/range_finder.py",
        "precompute/fitting/dual.py",
        "precompute/fitting/alphas.py",
        "recon/regressors/low_rank.py",
        "precompute/fitting/fit_mlp.py",
        "precompute/fitting/train_network.py",
        "recon/regressors/mlp.py",
    )
    fit = Stage(
        "fit",
        tuple(train),
        tuple(fitted),
        engine,
        lambda: subject_to_bundle.fit_targets(folder, "held-out"),
        0.6,
        1,
        shared=True,
    )
    scores = [folder / "voxel_scores.h5", folder / "response.safetensors"]
    encode = Stage(
        "encode",
        (*small, *made["latents"], files["train_voxels.npy"], files["subject.h5"]),
        tuple(scores),
        (
            "precompute/fitting/encode.py",
            "precompute/fitting/response_model.py",
            "precompute/fitting/encoding.py",
            "precompute/fitting/image_features.py",
        ),
        lambda: subject_to_bundle.encode_voxels(folder),
        0.02,
        0.2,
    )
    bundle = Stage(
        "bundle",
        (*fitted, *scores, files["subject.h5"], files["train.json"], *made["image"]),
        (out / "manifest.json",),
        ("precompute/nsd/subject_to_bundle.py", "recon/bundle/manifest.py"),
        lambda: subject_to_bundle.make_bundle(folder, out),
        0.8,
        0.01,
    )
    options = Options(limit=50)
    evaluate = Stage(
        "evaluate",
        (*bundle.inputs, *large, made["latents"][1]),
        tuple(out / name for name in EVALUATION_FILES),
        (
            "precompute/evaluation/evaluate.py",
            "precompute/evaluation/candidates.py",
            "precompute/evaluation/judge.py",
            "recon/metrics.py",
        ),
        lambda: subject_to_bundle.evaluate_bundle(folder, out, options),
        0.1,
        12,
        {"limit": options.limit, "seeds": options.seeds},
        shared=True,
    )
    return [*stages, fit, encode, bundle, evaluate]


def show(folder: Path, stages: list[Stage]) -> list[dict]:
    """One line a stage: name, state, and what it would take."""
    record = load_json(folder / RECORD) if (folder / RECORD).exists() else {}
    return [{"stage": s.name, "state": state(s, record), "gigabytes": s.gigabytes, "hours": s.hours} for s in stages]


def run(folder: Path, stages: list[Stage]) -> list[dict]:
    """Runs what is not done, in order, and records it; returns what was the case before. Raises BadFile where an input is
    missing."""
    me = team()
    before = me.agreed(show(folder, stages))
    for stage in stages:
        record = load_json(folder / RECORD) if (folder / RECORD).exists() else {}
        now = me.agreed(state(stage, record))
        if now == "done":
            continue
        if now == "waits":
            missing = next(path for path in stage.inputs if not path.exists())
            raise BadFile(f"{stage.name}: {missing} is missing: run `python -m precompute prepare --subject N` first")
        if now == "stale" and me.first:
            for path in stage.outputs:
                path.unlink(missing_ok=True)
                for hidden in path.parent.glob(f".{path.name}.*"):
                    hidden.unlink()
        key = stage.key()
        me.wait()
        if me.first:
            print(f"{stage.name} …", flush=True)
        if stage.shared or me.first:
            stage.run()
        if me.first:
            save_json(folder / RECORD, record | {stage.name: key})
        me.wait()
    return before
