"""Visitors' files are parsed in a process of its own, whose memory and time are limited.

A file of kilobytes may unpack to gigabytes, or take minutes, and the libraries that read it ask nobody before. Such a file ends the
process that reads it, not the one that serves the page.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from recon.files import BadFile

MEMORY = 250 << 20  # bytes that such a process may hold, code of its libraries apart
SECONDS = 10  # of computing; three times as long by the clock
REFUSED = 3  # exit code: stderr is the sentence for the visitor
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).parents[1]


def run_limited(module: str, path: Path, *arguments: object) -> bytes:
    """What `python -m MODULE PATH ARGUMENTS` writes to stdout. Raises BadFile with its sentence, or if it came to its limits."""
    command = [sys.executable, "-m", module, str(Path(path).absolute()), *map(str, arguments)]
    try:
        # a thread for each core would each take memory of the limit
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ONE_THREAD, capture_output=True, timeout=3 * SECONDS)
    except subprocess.TimeoutExpired:
        raise BadFile(f"{path.name} takes more than {3 * SECONDS} s to read: save it again, smaller") from None
    if done.returncode == REFUSED:
        raise BadFile(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode:
        raise beyond_limits(path)
    return done.stdout


def beyond_limits(path: Path) -> BadFile:
    """What to say of a file that came to the limits: its content may be wrong as well."""
    return BadFile(
        f"{path.name} is damaged, or needs more than {MEMORY >> 20} MB or {SECONDS} s to read: "
        "save it again, smaller and without compression"
    )


def answer_limited(read: Callable[..., None]) -> None:
    """Calls `read(PATH, ARGUMENTS)` of this command line within the limits, which POSIX alone has; ends with what it refuses."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        read(Path(sys.argv[1]), *sys.argv[2:])
    except BadFile as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
