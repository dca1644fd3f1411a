"""The demo's stages, one after another: a goal is reached by making whatever it needs that is not done, and no more.

Beside the record of each stage, `.stages/NAME/made.json` keeps how long it took, on which device, by which commit and command.
Both travel with the outputs: what was made on another machine by the same code with the same settings is done here, too.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from precompute.stage import Stage, make, record, state
from precompute.team import ALONE, Team
from recon.files import load_json, save_json


def plain(settings):
    """Dataclasses, tuples and all, as JSON has them."""
    return json.loads(json.dumps(settings, default=asdict))


def staged(name: str, inputs: Iterable[Path], outputs: Iterable[Path], run: Callable, **settings) -> Stage:
    """A stage whose function is given its settings by name."""
    return Stage(name, dict.fromkeys(inputs, "demo"), tuple(outputs), partial(run, **settings), plain(settings))


def reach(goals: Sequence[Stage], stages: Sequence[Stage], command: str) -> None:
    """Makes the goals, and before each whatever of `stages` it needs that is not done; says so on stdout.

    A finished stage does not need its inputs again: weights may have come without the scenes that they learned from.
    """
    makers = {path: stage for stage in stages for path in stage.outputs}
    settled = set()

    def settle(stage: Stage) -> None:
        if stage.name in settled:
            return
        settled.add(stage.name)
        for path in [path for path in stage.inputs if path.exists() and path in makers]:
            settle(makers[path])  # it may be stale
        if state(stage) != "done":
            for path in [path for path in stage.inputs if path in makers]:
                settle(makers[path])
        make_and_tell(stage, command)

    for goal in goals:
        settle(goal)


def make_and_tell(stage: Stage, command: str, me: Team = ALONE) -> dict:
    """Makes one stage, and keeps what it took beside its record; returns its report."""
    if me.first:
        print(f"{stage.name}: {state(stage)}", flush=True)
    start = time.perf_counter()
    report = make(stage, me)
    if me.first and not report["already finished"]:
        save_json(stage.work / "made.json", cost(time.perf_counter() - start, command))
        print(f"{stage.name}: made in {time.perf_counter() - start:.1f} s", flush=True)
    return report


def cost_of(stage: Stage) -> dict | None:
    """Seconds, device, commit and command of a stage that was made; None if that is not known."""
    path = stage.work / "made.json"
    return load_json(path) if path.exists() else None


def report_of(stage: Stage) -> dict | None:
    """What a finished stage reported; None if it is not finished."""
    return record(stage.work).get("report")


def cost(seconds: float, command: str) -> dict:
    """What a provenance keeps of one stage, made on this computer by this commit."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"seconds": round(seconds, 1), "device": device, "commit": _commit(), "command": command}


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
