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

from precompute import nsd
from precompute.evaluate import Options
from recon.evaluation import EVALUATION_FILES
from recon.files import BadFile, fingerprint, load_json, save_json
from recon.manifest import TARGETS
from recon.team import team

ROOT = Path(__file__).parents[1]
RECORD = "plan.json"
SHARED = ("recon/files.py", "recon/regression.py")  # sources that every stage depends on


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
    small, large = ([folder / f"{split}_{side}.npy" for split in nsd.SPLITS] for side in (64, 512))
    made = {t: [folder / f"{t}_{split}.npy" for split in nsd.SPLITS] for t in TARGETS}
    seen = {"vdvae": small, "clip-text": [files["train.json"], files["test.json"]], "clip-image": large}
    cost = {"vdvae": (3.6, 1.9), "clip-text": (2.4, 1.5), "clip-image": (0.03, 3.2)}
    stages = [
        Stage(
            f"features {target}",
            tuple(seen[target]),
            tuple(made[nsd.FEATURES[target]]),
            ("precompute/features.py", "recon/vdvae.py" if target == "vdvae" else "recon/clip.py"),
            lambda target=target: nsd.features(folder, target, "float32", 8),
            *cost[target],
            shared=True,
        )
        for target in nsd.FEATURES
    ]
    fitted = [folder / f"{t}_{name}.safetensors" for t in TARGETS for name in ("ridge", "mlp")]
    train = [files["train_voxels.npy"], *(made[t][0] for t in TARGETS)]
    engine = (
        "precompute/fit.py",
        "recon/ridge.py",
        "recon/range_finder.py",
        "recon/dual.py",
        "recon/alphas.py",
        "recon/mlp.py",
        "recon/network.py",
    )
    fit = Stage(
        "fit",
        tuple(train),
        tuple(fitted),
        engine,
        lambda: nsd.fit_targets(folder, "held-out"),
        0.6,
        1,
        shared=True,
    )
    scores = [folder / "voxel_scores.h5", folder / "response.safetensors"]
    encode = Stage(
        "encode",
        (*small, *made["latents"], files["train_voxels.npy"], files["subject.h5"]),
        tuple(scores),
        ("precompute/encode.py", "precompute/response.py", "recon/encoding.py", "recon/image_features.py"),
        lambda: nsd.encode_voxels(folder),
        0.02,
        0.2,
    )
    bundle = Stage(
        "bundle",
        (*fitted, *scores, files["subject.h5"], files["train.json"], *made["image"]),
        (out / "manifest.json",),
        ("precompute/nsd.py", "recon/manifest.py"),
        lambda: nsd.make_bundle(folder, out),
        0.8,
        0.01,
    )
    options = Options(limit=50)
    evaluate = Stage(
        "evaluate",
        (*bundle.inputs, *large, made["latents"][1]),
        tuple(out / name for name in EVALUATION_FILES),
        ("precompute/evaluate.py", "precompute/candidates.py", "precompute/judge.py", "recon/metrics.py"),
        lambda: nsd.evaluate_bundle(folder, out, options),
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
