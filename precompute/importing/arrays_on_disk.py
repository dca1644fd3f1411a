"""Arrays in `.npy` and HDF5 files, opened anew for every part that is read, so that no more than that part is in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile, open_plain


def open_dataset(path: Path, *names: str) -> Callable[[], np.ndarray | h5py.Dataset]:
    """What opens the array of a `.npy` file, or the dataset of an HDF5 file that has one of the names or is the only one.

    Raises BadFile: damaged, pickled, not numbers, or no such dataset.
    """
    open_it = (lambda: open_plain(path)) if path.suffix == ".npy" else _h5(path, names)
    if (array := open_it()).dtype.kind not in "fiu":
        raise BadFile(f"{path}: expected real numbers, got values of type {array.dtype}: convert them to float32")
    return open_it


def _h5(path: Path, names: tuple[str, ...]) -> Callable[[], h5py.Dataset]:
    try:
        file = h5py.File(path, "r")
        there = [key for key in file if isinstance(file[key], h5py.Dataset)]
    except (OSError, KeyError, RuntimeError) as error:
        raise BadFile(
            f"{path} is not a readable HDF5 file ({error}): close what writes it, or save it again"
        ) from error
    chosen = next((name for name in names if name in there), there[0] if len(there) == 1 else None)
    if chosen is None:
        raise BadFile(
            f"{path}: expected one dataset, or one named {' or '.join(names)}, got {', '.join(there) or 'none'}"
        )
    return lambda: file[chosen]
