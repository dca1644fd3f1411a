"""Reads a visitor's HDF5 file in a process of its own, whose memory and time are limited.

A chunk of a few kilobytes may inflate to gigabytes, whatever shape the dataset says it has, and HDF5 asks nobody before. So that
such a file does not end the page's process, `python -m recon.h5_rows FILE.h5 BYTES` reads it and writes it as .npy to stdout.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile

MEMORY = 200 << 20  # bytes that the process may hold, its libraries apart
SECONDS = 10  # of computing; twice as long by the clock
REFUSED = 3  # exit code: stderr is the sentence for the visitor
NAMES = ("betas", "voxels")  # of a dataset, where a file holds several
ROOT = Path(__file__).parents[1]


def h5_to_npy(path: Path, max_bytes: int) -> io.BytesIO:
    """The dataset of an HDF5 file as a .npy file in memory, whose header is still to be checked.

    Raises BadFile: no such dataset, more than `max_bytes`, damaged, or more memory or time needed than such a file may take.
    """
    command = [sys.executable, "-m", "recon.h5_rows", str(Path(path).absolute()), str(max_bytes)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=2 * SECONDS)
    except subprocess.TimeoutExpired:
        raise BadFile(
            f"{path.name} takes more than {2 * SECONDS} s to read: save it again without compression"
        ) from None
    if done.returncode == REFUSED:
        raise BadFile(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode:
        raise BadFile(
            f"{path.name} is not a whole HDF5 file, or inflates to more than {MEMORY >> 20} MB: "
            "save it again, without compression"
        )
    return io.BytesIO(done.stdout)


def find_dataset(f: h5py.File, max_bytes: int) -> h5py.Dataset:
    """The only dataset at the top, or the one named "betas" or "voxels"; the file's own bytes, neither linked nor computed."""
    names = [k for k in f if isinstance(f.get(k, getlink=True), h5py.HardLink) and isinstance(f[k], h5py.Dataset)]
    chosen = names if len(names) == 1 else [k for k in NAMES if k in names][:1]
    if not chosen:
        raise BadFile(f"expected one dataset, or one named {' or '.join(NAMES)}, got {len(names)}: name yours so")
    found = f[chosen[0]]
    if found.external or found.is_virtual:
        raise BadFile(f"expected the values in the file itself, but {chosen[0]!r} refers to other files: copy them in")
    if found.shape is None or found.size * found.dtype.itemsize > max_bytes:
        raise BadFile(f"expected at most {max_bytes // 10**6} MB, got an array of shape {found.shape}: send fewer rows")
    if found.dtype.kind not in "fiu":
        raise BadFile(f"expected real numbers, got values of type {found.dtype}: convert them to float32")
    return found


def limit_this_process() -> None:
    """Allocations beyond MEMORY fail from here on, and SECONDS of computing end it. POSIX only."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def main(path: str, max_bytes: str) -> None:
    limit_this_process()
    try:
        with h5py.File(path, "r") as f:
            np.save(sys.stdout.buffer, find_dataset(f, int(max_bytes))[()], allow_pickle=False)
    except BadFile as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])
