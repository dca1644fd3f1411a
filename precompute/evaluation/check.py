"""`python -m precompute check bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precompute.terminal import failing_in_one_sentence

app = typer.Typer(no_args_is_help=True, help="Tells what would be wrong with what has been computed.")


@app.callback()
def main():
    """Tells what would be wrong with what has been computed."""


@app.command()
def bundle(folder: Annotated[Path, typer.Argument(help="Of the bundle.")] = Path("assets/demo")):
    """Shares, repeats, gains, constant targets, protocol and device of a bundle: a line for each that is wrong."""
    from precompute.evaluation.check_bundle import check_bundle

    with failing_in_one_sentence():
        lines = check_bundle(folder)
    print("\n".join(lines) or "Nothing was found to be wrong.")
