"""The demo subject from nothing to an evaluated bundle; what is done is not done again."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from precompute.demo.chain import cost_of, make_and_tell, reach, report_of, staged
from precompute.demo.decoders import provenance_of, scene_stage
from precompute.demo.demo_evaluation import SHEETS, fits_of, write_evaluation
from precompute.demo.recipe import Settings
from precompute.demo.subject_stages import subject_stages
from precompute.demo.taken import parts_of
from precompute.demo.train_vdvae import N_LAYERS
from precompute.evaluation.evaluate import Options
from precompute.evaluation.network_metrics import OWN, absent_networks
from precompute.evaluation.refits import FILE as REFITS
from precompute.folder_lock import working_in
from precompute.stage import Stage
from precompute.team import ALONE, Team
from recon.bundle.bundle import load_bundle
from recon.bundle.evaluation import EVALUATION_FILES
from recon.bundle.manifest import ADAPTER, FILES, OWN_DECODERS, TARGETS, read_manifest, write_manifest
from recon.decoders.published_models import read_lock
from recon.files import load_json, save_json, whole_file

COPIES = (  # of a bundle: what the app needs, and what the evaluation does
    *(*FILES, *OWN_DECODERS),
    *("samples.jpg", "vision/config.json", "vision/model.safetensors", "checker.safetensors"),
)
REPORTS = {
    f"fit {target}": f"{target}_fit" for target in TARGETS
} | {  # stage -> what its report is called in a provenance
    name: name for name in ("samples", "encode", "response", "rescaling", "strengths", "guidance")
}


def run_demo(
    work: Path, out: Path, settings: Settings, options: Options, command: str, decoders: Path | None = None
) -> dict:
    """Makes what is not done in `work`, then the bundle `out`, and evaluates it. Returns the means of the evaluation.

    `decoders`: a folder of trained networks, a bundle or what `precompute.demo.decoders` filled, to be taken as they are.
    """
    with working_in(work):
        stages = subject_stages(work, settings, decoders)
        last = bundle_stage(work, out, settings, parts_of(decoders))
        reach([last], [*stages, last], command)
        save_json(out / "provenance.json", _provenance([*stages, last], settings, out))
        return evaluate_bundle(work, out, options, command)


def bundle_stage(work: Path, out: Path, settings: Settings, parts: tuple[str, ...]) -> Stage:
    """Makes the bundle, without an evaluation; `parts`: of the networks, with an image adapter or without."""
    adapted = ("guidance.json",) if ADAPTER in parts else ()
    inputs = [work / name for name in (*FILES, *parts, "samples.jpg", "rescaling.json", "strengths.json", *adapted)]
    copies = (*COPIES, ADAPTER) if ADAPTER in parts else COPIES
    content = {"name": "demo", "simulated": True, "n_layers": N_LAYERS, "components": settings.ranks[0]}
    learned = {"n_corpus": settings.n_corpus, "n_train": settings.n_train, "decoders": "own"}
    outputs = [out / name for name in ("manifest.json", *copies)]
    return staged("bundle", inputs, outputs, partial(_write_bundle, work, out, copies), content=content | learned)


def _write_bundle(work: Path, out: Path, copies: tuple[str, ...], content: dict) -> None:
    for name in (*EVALUATION_FILES, ADAPTER):  # of other parts
        (out / name).unlink(missing_ok=True)
    for name in copies:
        with whole_file(out / name) as copy:
            shutil.copyfile(work / name, copy)
    chosen = {"rescaling": load_json(work / "rescaling.json")["chosen"]}
    if ADAPTER in copies:
        chosen["embedding"] = load_json(work / "guidance.json")["chosen"]["embedding"]
    write_manifest(out, content | chosen)
    load_bundle(out).diffusion  # noqa: B018 - opens every part


def _provenance(stages: list[Stage], settings: Settings, out: Path) -> dict:
    """How the bundle was made; notes that were added by hand, and the cost of the evaluation, are kept."""
    told = provenance_of(stages, settings)
    told["reports"] |= {key: report_of(stage) for stage in stages if (key := REPORTS.get(stage.name))}
    earlier = load_json(out / "provenance.json") if (out / "provenance.json").exists() else {}
    kept = {"notes": earlier["notes"]} if "notes" in earlier else {}
    evaluated = {name: cost for name, cost in earlier.get("stages", {}).items() if name == "evaluate"}
    machine = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    machine |= {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    return told | {"stages": told["stages"] | evaluated} | machine | kept


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluate_stage(work: Path, out: Path, options: Options) -> Stage:
    """Makes the evaluation a part of the bundle `out`; its pieces are kept in `work`."""
    scenes = work / "scenes"
    inputs = [scenes / f"{split}{rest}" for split in ("train", "test") for rest in (".npy", ".json")]
    inputs += [out / name for name in (*FILES, *parts_of(out))]
    inputs += [work / REFITS] if (work / REFITS).exists() else []
    fits = fits_of(out)
    settings = asdict(options) | fits | {"absent": sorted(absent_networks(OWN)), "models": read_lock()}
    outputs = tuple(out / name for name in (*EVALUATION_FILES, *SHEETS))
    run = partial(write_evaluation, work, out, options, fits)
    return Stage("evaluate", dict.fromkeys(inputs, "demo"), outputs, run, settings, shared=True)


def evaluate_bundle(work: Path, out: Path, options: Options, command: str, me: Team = ALONE) -> dict:
    """Evaluates the demo's bundle `out`, and makes that a part of it; returns the means.

    `work` keeps what has been computed, and the scenes, which are drawn if they are not there. The processes of a team share
    the pieces of the evaluation. Raises BadFile.
    """
    read_manifest(out)
    provenance = load_json(out / "provenance.json")
    made = provenance["settings"]
    for split in ("train", "test"):
        make_and_tell(scene_stage(work, split, made[f"n_{split}"], made["seed"]), command, me)
    stage = evaluate_stage(work, out, options)
    report = make_and_tell(stage, command, me)
    if me.first and not report["already finished"]:
        provenance["stages"]["evaluate"] = cost_of(stage)
        save_json(out / "provenance.json", provenance)
    return report
