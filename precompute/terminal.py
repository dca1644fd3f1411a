"""What commands say of themselves, and how they fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from recon.files import BadFile


def command_line() -> str:
    """As it was typed, for provenance."""
    return "python -m precompute " + " ".join(sys.argv[1:])


@contextmanager
def failing_in_one_sentence() -> Iterator[None]:
    """Ends the command with what a BadFile says, on stderr, and exit code 1."""
    try:
        yield
    except BadFile as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
