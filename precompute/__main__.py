"""`python -m precompute COMMAND`: the offline half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from precompute.evaluation import check
from precompute.fetching import fetch
from precompute.importing import import_commands
from precompute.nsd import commands
from precompute.publishing import publish
from precompute.terminal import command_line, failing_in_one_sentence

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(check.app, name="check")
app.add_typer(fetch.app, name="fetch")
app.add_typer(import_commands.app, name="import")
app.add_typer(publish.app, name="publish")


@app.callback()
def main():
    """Everything that is computed before the app can show a subject."""


@app.command()
def demo(
    work: Annotated[Path | None, typer.Option(help="Folder for intermediate files; a rerun resumes there.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the finished bundle.")] = None,
    decoders: Annotated[
        Path | None, typer.Option(help="A bundle, or a work folder, whose trained networks are taken as they are.")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Everything at toy size, in about a minute; the images are bad.")] = False,
):
    """Simulated subject: draws scenes, simulates a cortex, trains the decoders, fits, scores, writes the bundle."""
    from precompute.demo.pipeline import run_demo
    from precompute.demo.recipe import SMOKE, Settings
    from precompute.evaluation.evaluate import Options

    work = work or Path("data/demo-smoke" if smoke else "data/demo")
    out = out or (work / "bundle" if smoke else Path("assets/demo"))
    settings, options = (SMOKE, Options(limit=8, seeds=1)) if smoke else (Settings(), Options())
    with failing_in_one_sentence():
        evaluation = run_demo(work, out, settings, options, command_line(), decoders)
    print(json.dumps(evaluation, indent=1))


@app.command()
def second_subject(
    work: Annotated[
        Path, typer.Option(help="Folder of its files, as a lab would have them, and of what is made of them.")
    ] = Path("data/second-subject"),
    lender: Annotated[Path, typer.Option(help="The bundle whose decoders it uses.")] = Path("assets/demo"),
    out: Annotated[Path, typer.Option(help="Folder of its bundle.")] = Path("data/bundles/demo-2"),
    train: Annotated[int, typer.Option(min=20, help="Training images.")] = 1500,
    test: Annotated[int, typer.Option(min=10, help="Test images.")] = 100,
):
    """Another simulated subject, small, through `import arrays` and with the demo's decoders."""
    from precompute.demo.second_subject import make_second_subject

    with failing_in_one_sentence():
        report = make_second_subject(work, lender, out, train, test)
    print(json.dumps(report, indent=1, ensure_ascii=False))


for command in (
    commands.prepare,
    commands.features,
    commands.fit,
    commands.encode,
    commands.bundle,
    commands.evaluate,
    commands.refits,
    commands.card,
    commands.run,
):
    app.command()(command)


if __name__ == "__main__":
    app()
