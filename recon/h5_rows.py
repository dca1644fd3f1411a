"""`python -m recon.h5_rows FILE.h5 BYTES`: the dataset of a visitor's file, as .npy on stdout, if it has at most so many bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile
from recon.limited import answer_limited

NAMES = ("betas", "voxels")  # of a dataset, where a file holds several


def find_dataset(f: h5py.File, max_bytes: int) -> h5py.Dataset:
    """The only dataset at the top, or the one named "betas" or "voxels"; the file's own bytes, neither linked nor computed."""
    own = [k for k in f if isinstance(f.get(k, getlink=True), h5py.HardLink)]
    datasets = {k: item for k in own if isinstance(item := f[k], h5py.Dataset)}
    chosen = list(datasets) if len(datasets) == 1 else [k for k in NAMES if k in datasets][:1]
    if not chosen:
        raise BadFile(f"expected one dataset, or one named {' or '.join(NAMES)}, got {len(datasets)}: name yours so")
    found = datasets[chosen[0]]
    if found.external or found.is_virtual:
        raise BadFile(f"expected the values in the file itself, but {chosen[0]!r} refers to other files: copy them in")
    if found.dtype.kind not in "fiu":
        raise BadFile(f"expected real numbers, got values of type {found.dtype}: convert them to float32")
    if found.shape is None or found.size * found.dtype.itemsize > max_bytes:
        raise BadFile(f"expected at most {max_bytes // 10**6} MB, got an array of shape {found.shape}: send fewer rows")
    return found


def write_rows(path: Path, max_bytes: str) -> None:
    try:
        f = h5py.File(path, "r")
    except OSError as error:
        raise BadFile(f"{path.name} is not a whole HDF5 file: save it again") from error
    with f:
        np.save(sys.stdout.buffer, find_dataset(f, int(max_bytes))[()], allow_pickle=False)


if __name__ == "__main__":
    answer_limited(write_rows)
