"""`python -m precompute publish space` and `python -m precompute publish bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precompute.terminal import failing_in_one_sentence

app = typer.Typer(no_args_is_help=True, help="Puts the page, or a subject's bundle, on the Hugging Face Hub.")
Repository = Annotated[str, typer.Option(help="USER/NAME.")]
Yes = Annotated[bool, typer.Option("--yes", help="Delete the repository's other files without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list the files and their sizes.")]


@app.command()
def space(
    repo: Repository,
    bundle: Annotated[
        str, typer.Option(help="Folder of the bundle it shows, or hub:USER/NAME@REVISION.")
    ] = "assets/demo",
    hardware: Annotated[
        str | None, typer.Option(help="cpu-basic, zero-a10g, t4-small …; by default what the Space has.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only for you and your organisation.")] = False,
    secret: Annotated[
        list[str], typer.Option(help="Environment variable that the Space gets as a secret; may be repeated.")
    ] = [],  # noqa: B006
    yes: Yes = False,
    dry_run: DryRun = False,
):
    """Creates or updates a Space of this page, and waits until it runs."""
    from precompute.publishing.publish_space import Space, publish_space

    with failing_in_one_sentence():
        address = publish_space(Space(repo, bundle, hardware, private, tuple(secret), yes), dry_run)
    if address:
        print(address)


@app.command()
def bundle(
    repo: Repository,
    subject: Annotated[int | None, typer.Option(min=1, max=8, help="NSD subject.")] = None,
    folder: Annotated[Path | None, typer.Option("--bundle", help="Folder of the bundle.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="For everybody; simulated subjects are in any case.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
):
    """Uploads a subject's bundle, privately unless it is simulated, and prints the reference that opens it."""
    from precompute.publishing.publish_bundle import publish_bundle

    if (subject is None) == (folder is None):
        raise typer.BadParameter("expected either --subject or --bundle")
    with failing_in_one_sentence():
        reference = publish_bundle(folder or Path(f"data/bundles/subj{subject:02d}"), repo, public, dry_run, yes)
    if reference:
        print(f"RECON_BUNDLE={reference}")
