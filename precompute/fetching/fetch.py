"""`python -m precompute fetch nsd`, `fetch mindeye2`, `fetch models` and `fetch metrics`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from precompute.terminal import failing_in_one_sentence

app = typer.Typer(no_args_is_help=True, help="Downloads the data of a subject, or the published models.")


class Betas(StrEnum):
    hdf5 = "hdf5"
    nifti = "nii.gz"


@app.command()
def nsd(
    subject: Annotated[list[int], typer.Option(min=1, max=8, help="1 to 8; may be given several times.")] = [1],  # noqa: B006
    sessions: Annotated[int | None, typer.Option(min=1, help="Only the first so many; by default all.")] = None,
    betas: Annotated[Betas, typer.Option("--format", help="Of the betas.")] = Betas.hdf5,
    root: Annotated[Path, typer.Option(help="Folder of the downloaded tree.")] = Path("data/nsd"),
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="You accept NSD's terms of use.")] = False,
):
    """Natural Scenes Dataset: just the files that a subject needs. A rerun resumes."""
    from precompute.fetching.fetch_nsd import fetch_nsd

    with failing_in_one_sentence():
        unverified = fetch_nsd(root, subject, sessions, betas.value, accept_terms)
    print(f"All of it is in {root}.")
    for name in unverified:
        print(f"{name}: its size was compared, its checksum could not be: the server's cannot be computed here")


@app.command()
def mindeye2(
    subject: Annotated[int, typer.Option(min=1, max=8, help="NSD subject.")] = 1,
    root: Annotated[Path, typer.Option(help="Folder of the downloaded tree.")] = Path("data/mindeye2"),
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="You accept NSD's terms of use.")] = False,
):
    """A subject of NSD in MindEye2's files, about 23 GB: betas, trials, images of 224 pixels. A rerun resumes."""
    from precompute.fetching.fetch_mindeye2 import fetch_mindeye2

    with failing_in_one_sentence():
        unverified = fetch_mindeye2(root, subject, accept_terms)
    print(
        f"All of it is in {root}: `python -m precompute import mindeye2 {root} --subject {subject}` makes a subject of it."
    )
    for name in unverified:
        print(f"{name}: its size was compared, its checksum could not be: the server's cannot be computed here")


@app.command()
def models(
    lock: Annotated[
        Path | None,
        typer.Option(help="Where the revisions are written down, or RECON_LOCK; by default assets/models.lock.json."),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="The newest revisions instead of the locked ones.")] = False,
):
    """Published models: VDVAE, Stable Diffusion 1.5, LCM-LoRA, TAESD, CLIP. A rerun resumes."""
    from precompute.fetching.fetch_models import fetch_models

    with failing_in_one_sentence():
        fetch_models(lock, update)


@app.command()
def metrics():
    """Networks that the metrics of the field look through (AlexNet, Inception, EfficientNet, SwAV); into torch.hub's cache."""
    from precompute.evaluation.network_metrics import fetch_weights

    for path in fetch_weights():
        print(path)
