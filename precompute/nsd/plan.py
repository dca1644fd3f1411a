"""All stages of several subjects as one plan: what is done, stale or missing, and what it would take; the rest is run, in order.

python -m precompute run --subjects 1 --subjects 2 --dry-run
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from precompute.evaluation.evaluate import Options
from precompute.nsd.subject_to_bundle import (
    FEATURES,
    bundle_stage,
    encode_stages,
    evaluate_stage,
    features_stage,
    fit_stages,
    guidance_of,
)
from precompute.stage import Stage, make, make_all, state
from precompute.team import team
from recon.files import BadFile

LIMIT = 50  # test images of an evaluation


@dataclass(frozen=True)
class Step:
    """Stages that do not depend on one another, and what they cost together."""

    name: str
    stages: Callable[[], Sequence[Stage]]  # asked for when their turn has come: some need their inputs' shapes
    gigabytes: float  # of the outputs
    hours: float  # on two cores
    apart: bool = False  # each stage by one process of the team


def subject_steps(folder: Path, out: Path) -> list[Step]:
    """From prepared files to an evaluated bundle."""
    cost = {"vdvae": (3.6, 1.9), "clip-text": (2.4, 1.5), "clip-vision": (0.04, 6.6)}
    features = [
        Step(f"features {target}", lambda target=target: [features_stage(folder, target)], *cost[target])
        for target in FEATURES
    ]
    return [
        *features,
        Step("fit", lambda: fit_stages(folder), 0.6, 1, apart=True),
        Step("encode", lambda: encode_stages(folder), 0.02, 0.2),
        Step("bundle", lambda: [bundle_stage(folder, out, guidance_of(out))], 0.8, 0.01),
        Step("evaluate", lambda: [evaluate_stage(folder, out, Options(limit=LIMIT))], 0.1, 12),
    ]


def state_of(step: Step) -> str:
    """The least finished of its stages' states."""
    try:
        states = {state(stage) for stage in step.stages()}
    except BadFile:  # an input whose shape is needed is missing
        return "waits"
    return next(s for s in ("waits", "missing", "stale", "done") if s in states)


def show(steps: Sequence[Step]) -> list[dict]:
    """One line a step: name, state, and what it would take."""
    return [{"stage": s.name, "state": state_of(s), "gigabytes": s.gigabytes, "hours": s.hours} for s in steps]


def run(steps: Sequence[Step]) -> list[dict]:
    """Runs what is not done, in order; returns what was the case before. Raises BadFile where an input is missing."""
    me = team()
    before = me.agreed(show(steps) if me.first else None)
    for step in steps:
        if me.first:
            print(f"{step.name} …", flush=True)
        if step.apart:
            make_all(step.stages(), me)
        else:
            for stage in step.stages():
                make(stage, me)
    return before
