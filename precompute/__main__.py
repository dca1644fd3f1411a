"""`python -m precompute COMMAND`: the offline half."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from precompute import fetch
from recon.files import BadFile

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(fetch.app, name="fetch")


@app.callback()
def main():
    """Everything that is computed before the app can show a subject."""


@app.command()
def demo(
    work: Annotated[Path | None, typer.Option(help="Folder for intermediate files; a rerun resumes there.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the finished bundle.")] = None,
    smoke: Annotated[
        bool, typer.Option(help="Everything at toy size, in about a minute; the pictures are bad.")
    ] = False,
):
    """Simulated subject: draws scenes, simulates a cortex, trains the decoders, fits, scores, writes the bundle."""
    from precompute.demo.pipeline import SMOKE, Settings, run_demo

    work = work or Path("data/demo-smoke" if smoke else "data/demo")
    out = out or (work / "bundle" if smoke else Path("assets/demo"))
    command = "python -m precompute " + " ".join(sys.argv[1:])
    try:
        evaluation = run_demo(work, out, SMOKE if smoke else Settings(), command)
    except BadFile as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print(json.dumps(evaluation, indent=1))


class Recipe(str, Enum):
    session = "session"
    brain_diffuser = "brain-diffuser"


class Export(str, Enum):
    brain_diffuser = "brain-diffuser"


@app.command()
def prepare(
    subject: Annotated[int, typer.Option(min=1, max=8, help="NSD subject.")],
    sessions: Annotated[
        int | None, typer.Option(help="Use the first N sessions; all of the subject's if absent.")
    ] = None,
    recipe: Annotated[Recipe | None, typer.Option(help="How voxels are standardised.")] = None,
    nsd: Annotated[Path, typer.Option(help="Folder of the raw files.")] = Path("data/nsd"),
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared subject; a rerun resumes there.")] = None,
    brain_diffuser: Annotated[
        Path | None, typer.Option(help="Read this folder of Brain-Diffuser's, not betas.")
    ] = None,
    export: Annotated[Export | None, typer.Option(help="Write Brain-Diffuser's files as well.")] = None,
    export_to: Annotated[Path | None, typer.Option(help="Where to; by default OUT/brain-diffuser.")] = None,
):
    """Natural Scenes Dataset: raw betas, stimuli and captions become a subject."""
    from precompute.prepare import prepare as run
    from precompute.prepare_job import choose_settings

    out = out or Path(f"data/nsd-prepared/subj{subject:02d}")
    try:
        settings = choose_settings(subject, sessions, recipe and recipe.value, brain_diffuser)
        report = run(nsd, out, settings, brain_diffuser, (export_to or out / "brain-diffuser") if export else None)
    except BadFile as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    app()
