"""What commands say of themselves, and how they fail."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

ADVICE = {
    errno.ENOSPC: "The disk is full: make room and run the same command again; it goes on where it stopped.",
    errno.EACCES: "This user may not do that there: choose another folder, or change its permissions.",
    errno.EROFS: "Nothing can be written there: choose another folder.",
    errno.ENOTDIR: "A folder was expected where a file is: choose another name, or remove the file.",
    errno.EEXIST: "A folder was expected where a file is: choose another name, or remove the file.",
    errno.EISDIR: "A file was expected where a folder is: choose another name, or remove the folder.",
}
TRY = "Run the same command again when that is mended; it goes on where it stopped."


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
    except OSError as error:  # a full disk, a folder that may not be written, a file where a folder is expected
        print(
            f"{error.filename or 'The disk'}: {error.strerror or error}. {ADVICE.get(error.errno, TRY)}",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
