"""Scores both stages on the test images beside nulls and ceilings: `python -m precompute evaluate`.

Scores are computed piece by piece (a stage, a source, a seed) and kept in `OUT/evaluation/KEY`; a rerun computes what is missing.
The key digests the settings, the parts of the bundle and the code. `precompute.evaluation.summary` makes the tables of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from precompute.evaluation.candidates import GUIDED, LAYOUTS, NULL, STAGE_2, Candidates
from precompute.evaluation.judge import Find, Judge, Scores, taken
from precompute.evaluation.network_metrics import Describe
from precompute.evaluation.protocols import PUBLISHED_PROTOCOLS, Protocol
from precompute.stage import code_of
from precompute.team import ALONE, Team
from recon.bundle.bundle import Bundle
from recon.bundle.manifest import ADAPTER, CHOICES, DECODERS, FILES, read_manifest
from recon.decoders.diffusion import Diffusion
from recon.decoders.published_models import read_lock
from recon.files import BadFile, file_digest, open_array, save_array, whole_file
from recon.reconstruct import decode_layouts
from recon.settings import REGRESSORS, LCMSettings

SESSIONS_FOR = {982: 37, 1000: 40}  # test images -> sessions that hold just these, of subjects 1, 2, 5 and 7
N_SHUFFLES, N_CURVE = 5, 100  # permutations; test images of the bottleneck curve
Pieces = dict[str, dict[str, np.ndarray]]  # name of the piece -> "SOURCE/METRIC" -> (n,)


@dataclass(frozen=True)
class Options:
    limit: int | None = None  # so many test images, drawn at random; all if None
    seeds: int = 3  # runs of stage 2
    protocol: str = "own"  # or one of PUBLISHED_PROTOCOLS
    lcm: LCMSettings = LCMSettings()


@dataclass(frozen=True)
class Inputs:
    """What is evaluated, and against what."""

    bundle: Bundle
    parts: dict[str, str]  # file of the bundle -> digest
    images: np.ndarray  # (n, S, S, 3) uint8 test pictures, as large as they are
    latents: np.ndarray  # (n, n_latents) their own
    embeddings: np.ndarray  # (n, d) where CLIP puts them
    training_images: np.ndarray  # (n_train, S, S, 3) uint8
    training_labels: list[dict]
    held_out_r2: dict[str, float]  # regressor -> mean over latents, of held-out training images
    describe: dict[str, Describe]  # networks that are there
    not_computed: dict[str, str] = field(default_factory=dict)  # metric -> the command to run first
    find: Find | None = None
    shares: dict[str, float] = field(default_factory=dict)  # target -> the network's in the MLP's average with ridge
    refits: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # regressor -> metric -> SD over fits of stage 1's mean


def digest_parts(folder: Path, decoders: str) -> dict[str, str]:
    """SHA-256 of what the evaluation depends on: files in `folder`, and revisions of published models."""
    manifest = read_manifest(folder)
    names = [n for n in (*FILES, *DECODERS[decoders], ADAPTER) if n in manifest["files"]]
    own = {name: file_digest(folder / name) for name in names}
    own |= {name: manifest.get(name, choices[0]) for name, choices in CHOICES.items()}
    return own if decoders == "own" else own | {"models": json.dumps(read_lock(), sort_keys=True)}


def held_out_r2(report: dict) -> dict[str, float]:
    """Regressor -> mean R² over latents, of the training images that `fit` held out and reported on."""
    return {name: report[name]["validation_r2_mean"] for name in REGRESSORS}


def shares_of_network(reports: dict[str, dict]) -> dict[str, float]:
    """Target -> the network's share in the MLP, from what `fit` reported of each target; 0 is ridge under another name."""
    return {target: report["mlp"]["share_of_network"] for target, report in reports.items()}


def choose_protocol(inputs: Inputs, options: Options) -> Protocol:
    """Raises BadFile if there are not as many test images as the protocol is defined for."""
    if options.protocol == "own":
        return Protocol("own", inputs.bundle.vdvae.cfg.image_size)
    protocol, n = PUBLISHED_PROTOCOLS[options.protocol], len(inputs.images)
    if n != protocol.n_images or options.limit:
        raise BadFile(
            f"protocol {protocol.name}: expected all of {protocol.n_images} test images, got {options.limit or n} of {n}: "
            f"prepare the subject with `--sessions {SESSIONS_FOR[protocol.n_images]}`, and evaluate without --limit"
        )
    return protocol


def choose_rows(n: int, limit: int | None) -> np.ndarray:
    """All test images, or `limit` of them at random; at least 2. Raises BadFile."""
    if limit is not None and not 2 <= limit <= n:
        raise BadFile(f"--limit: expected 2 to {n} test images, got {limit}")
    return np.arange(n) if limit is None else np.sort(np.random.default_rng((0, 53)).choice(n, limit, replace=False))


def wrong_partners(n: int) -> list[np.ndarray]:
    """N_SHUFFLES ways to give each of n images another image's response: cyclic shifts of random orders."""
    rng, partners = np.random.default_rng((0, 50)), []
    for _ in range(N_SHUFFLES):
        order = rng.permutation(n)
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        partners.append(other)
    return partners


def random_partners(n: int) -> np.ndarray:
    """(n,) for each of n images another one, at random."""
    other = np.random.default_rng((0, 54)).integers(0, n - 1, n)
    return other + (other >= np.arange(n))


def component_counts(rank: int) -> list[int]:
    """1, 2, 4, … rank."""
    return [k for k in (2**e for e in range(rank.bit_length())) if k < rank] + [rank]


class Store:
    """Arrays that are made once, in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            save_array(path, make())
        return np.asarray(open_array(path))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def __contains__(self, name: str) -> bool:
        """Whether these scores are there."""
        return self._path(name).exists()

    def scores(self, name: str, make: Callable[[], Scores]) -> Scores:
        path = self._path(name)
        if not path.exists():
            with whole_file(path) as part:
                np.savez(part, **make())
        with np.load(path, allow_pickle=False) as f:
            return dict(f)


def with_source(source: str, scores: Scores) -> Scores:
    return {f"{source}/{name}": values for name, values in scores.items()}


def null_scores(judge: Judge, seen: dict[str, np.ndarray]) -> Scores:
    """ "shuffled" and "other_image": the same pictures, judged as those of other images."""
    n = len(seen["pixels"])
    runs = [judge.scores(taken(seen, other)) for other in wrong_partners(n)]
    shuffled = {name: np.mean([run[name] for run in runs], 0) for name in runs[0]}
    return with_source("shuffled", shuffled) | with_source("other_image", judge.scores(taken(seen, random_partners(n))))


@dataclass(frozen=True)
class Work:
    """An evaluation under way."""

    inputs: Inputs
    options: Options
    protocol: Protocol
    test: Candidates
    judge: Judge
    store: Store
    machine: dict  # as `machine_of`

    def layouts(self, source: str) -> np.ndarray:
        return self.store.array(f"layouts_{source}", lambda: self.test.layouts(source))

    def _with_nulls(self, source: str, pictures: np.ndarray) -> Scores:
        seen = self.judge.features(pictures)
        nulls = null_scores(self.judge, seen) if source == NULL else {}
        return with_source(source, self.judge.scores(seen)) | nulls

    def stage_1(self, source: str) -> Scores:
        return self._with_nulls(source, self.layouts(source))

    def stage_2(self, source: str, run: int) -> Scores:
        layout, prompt = STAGE_2[source] if source in STAGE_2 else (GUIDED[source].regressor, source)
        return self._with_nulls(
            source, self.test.refined(self.layouts(layout), self.test.meaning(prompt), run, self.options.lcm)
        )

    def nearest_training(self) -> Scores:
        pictures = self.inputs.training_images[self.test.nearest_training()]
        return with_source("nearest_training", self.judge.score(pictures))

    def without_rescaling(self, regressor: str) -> Scores:
        latents = self.inputs.bundle.regressors["latents"][regressor].predict(self.test.X)
        return with_source(regressor, self.judge.score(decode_layouts(latents, self.inputs.bundle)))

    def curve_point(self, regressor: str, components: int, judge: Judge, some: Candidates) -> Scores:
        """Both stages with `components` components of latents and prompt; "vdvae" and "lcm" stand for the source."""
        layouts, meaning = some.layouts(regressor, components), some.meaning(regressor, components)
        pictures = some.refined(layouts, meaning, 0, self.options.lcm)
        return with_source("vdvae", judge.score(layouts)) | with_source("lcm", judge.score(pictures))

    def curve(self) -> dict[str, Callable[[], Scores]]:
        """On N_CURVE images, drawn from those evaluated, with the first seed."""
        n = len(self.test.rows)
        chosen = np.sort(np.random.default_rng((0, 55)).choice(n, min(N_CURVE, n), replace=False))
        some, labels = self.test.subset(chosen), [self.judge.labels[k] for k in chosen]
        rank = self.inputs.bundle.regressors["latents"]["ridge"].n_components
        judge = Judge(self.inputs.images[some.rows], self.judge.protocol, self.judge.describe, self.judge.find, labels)
        return {
            f"curve.{name}.{k}": lambda name=name, k=k: self.curve_point(name, k, judge, some)
            for name in REGRESSORS
            for k in component_counts(rank)
        }

    def plan(self) -> dict[str, Callable[[], Scores]]:
        """Name of each piece -> what computes it, in order."""
        plan = {f"vdvae.{s}": lambda s=s: self.stage_1(s) for s in LAYOUTS}
        plan |= {f"raw.{name}": lambda name=name: self.without_rescaling(name) for name in REGRESSORS}
        plan["lcm.nearest_training.0"] = self.nearest_training
        guided = () if self.inputs.bundle.why_unguided() else GUIDED
        for run in range(self.options.seeds):
            plan |= {f"lcm.{s}.{run}": lambda s=s, run=run: self.stage_2(s, run) for s in (*STAGE_2, *guided)}
        return plan | self.curve()


def machine_of(diffusion: Diffusion) -> dict:
    """What stage 2's pictures depend on besides files and settings: device, dtype, side in pixels, and autoencoder."""
    pipe = diffusion.pipe
    dtype = str(pipe.unet.dtype).removeprefix("torch.")
    return {
        "device": pipe.unet.device.type,
        "dtype": dtype,
        "side": diffusion.size,
        "autoencoder": type(pipe.vae).__name__,
    }


def begin(inputs: Inputs, out: Path, options: Options) -> Work:
    """Raises BadFile where a decoder is absent, or the options do not fit the subject."""
    bundle, absent = inputs.bundle, list(inputs.bundle.absent.values())
    if absent:
        raise BadFile(absent[0])
    if options.seeds < 1:
        raise BadFile(f"--seeds: expected at least 1, got {options.seeds}")
    protocol, rows = choose_protocol(inputs, options), choose_rows(len(inputs.images), options.limit)
    trials = bundle.subject.test
    labels = [trials.labels[k] for k in rows]
    captions = [e["captions"] for e in labels]
    test = Candidates(bundle, rows, trials.averaged()[rows], captions, np.asarray(inputs.latents[rows], np.float32))
    judge = Judge(inputs.images[rows], protocol, inputs.describe, inputs.find, labels)
    # more runs of stage 2 reuse those that there are
    how = {"limit": options.limit, "protocol": asdict(protocol), "lcm": asdict(options.lcm)}
    how |= {"parts": inputs.parts, "networks": sorted(inputs.describe), "attributes": inputs.find is not None}
    machine = machine_of(bundle.diffusion)
    how |= {"code": code_of(compute), "machine": machine}
    key = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:16]
    return Work(inputs, options, protocol, test, judge, Store(out / "evaluation" / key), machine)


def compute(work: Work, me: Team = ALONE) -> Pieces:
    """Every piece, those that are kept from an earlier run not again. The processes of a team share those that are missing: each is
    made by one of them, whole, so that it does not depend on their number."""
    for source in LAYOUTS[me.rank :: me.size]:
        work.layouts(source)
    me.wait()  # several pieces need the same layouts
    plan = work.plan()
    missing = me.agreed([name for name in plan if name not in work.store])
    bar = tqdm(missing[me.rank :: me.size], "evaluate", unit="piece", disable=not me.first)
    for name in bar:
        bar.set_postfix_str(name)
        work.store.scores(name, plan[name])
    me.wait()
    return {name: work.store.scores(name, make) for name, make in plan.items()}
