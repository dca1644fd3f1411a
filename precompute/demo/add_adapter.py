"""Adds an image adapter to networks of the demo that are trained already, without one.

python -m precompute.demo.add_adapter --networks assets/demo --work data/demo --scenes train --steps 1000 --batch 32
python -m precompute demo --decoders data/demo/networks --work data/subject

The first copies them to `WORK/networks`, with the adapter beside them; the second makes a bundle with all of these.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from precompute.demo.chain import cost, plain
from precompute.demo.taken import PARTS, REPORTS, take
from precompute.demo.train_adapter import extract_both, train_adapter
from precompute.demo.train_unet import Sources, extract_codes, extract_tokens
from precompute.demo.training import Schedule, Weights
from recon.bundle.manifest import ADAPTER
from recon.files import load_json, save_json, whole_file


def join(networks: Path, adapter: Path, out: Path, told: dict, schedule: Schedule) -> None:
    """Copies networks to the folder `out`, with the adapter beside them; `told`: its "cost" and "report", for their provenance."""
    provenance = load_json(networks / "provenance.json")
    provenance["stages"]["image adapter"] = told["cost"]
    provenance["reports"][REPORTS["image adapter"]] = told["report"]
    provenance["settings"]["adapter_schedule"] = plain(schedule)
    take(networks, out, {name: name for name in PARTS}, provenance)
    with whole_file(out / ADAPTER) as copy:
        shutil.copyfile(adapter, copy)
    save_json(out / "provenance.json", provenance)


def main(
    networks: Annotated[Path, typer.Option(help="Folder with the trained networks: diffusion and vision.")],
    work: Annotated[Path, typer.Option(help="Folder with the scenes; what is made lies there, too.")],
    scenes: Annotated[str, typer.Option(help="Learn from these: corpus, or train, the subject's alone.")] = "corpus",
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 1500,
    batch: Annotated[int, typer.Option(help="Images of a step.")] = 32,
) -> None:
    """Trains an adapter for networks that there are; goes on where a run was stopped."""
    diffusion, drawn = networks / "diffusion", work / "scenes" / f"{scenes}.npy"
    codes, ids, seen = (work / f"{name}_{scenes}.npy" for name in ("codes", "tokens", "embeddings"))
    if not codes.exists():
        extract_codes(drawn, diffusion / "vae", codes)
    if not ids.exists():
        extract_tokens(drawn.with_suffix(".json"), diffusion, ids)
    if not seen.exists():
        extract_both(drawn, networks / "vision", seen)
    schedule = Schedule(steps, 1e-3, batch, weight_decay=0.0, average=0.99, save_every=50)
    weights, files = Weights(work / ADAPTER, work), Sources(ids, codes, diffusion, seen)
    start = time.perf_counter()
    report = train_adapter(files, diffusion / "unet", weights, schedule, seed=0)
    told = {"cost": cost(time.perf_counter() - start, " ".join(sys.argv)), "report": report}
    join(networks, weights.out, work / "networks", told, schedule)


if __name__ == "__main__":
    typer.run(main)
