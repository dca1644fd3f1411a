"""What commands say of themselves, and how they fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from recon.unreadable import unreadable


def command_line() -> str:
    """As it was typed, for provenance."""
    return "python -m precompute " + " ".join(sys.argv[1:])


@contextmanager
def failing_in_one_sentence() -> Iterator[None]:
    """Ends the command with one line on stderr and exit code 1: of a file or data that is not as expected, or of the system."""
    try:
        yield
    except (ValueError, IndexError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise typer.Exit(1) from None
    except OSError as error:
        where = error.filename or "a file or an address"
        told = unreadable(where, error, f"{where} cannot be used: {error}")
        print(" ".join(str(told).split()), file=sys.stderr)
        raise typer.Exit(1) from None
