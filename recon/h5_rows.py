"""`python -m recon.h5_rows FILE.h5 BYTES`: the dataset of a visitor's file, as .npy on stdout, if it has at most so many bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

from recon.limited import answer_limited, beyond_limits
from recon.unreadable import BadFile, unreadable

NAMES = ("betas", "voxels")  # of a dataset, where a file holds several
INFLATED = "filter returned failure"  # HDF5's words where inflating fails, also for want of memory
MATLAB = "MATLAB_class"  # attribute of what MATLAB v7.3 writes
KINDS = {
    "cell": "cell array",
    "struct": "structure",
    "char": "character array",
    "logical": "logical array",
    "table": "table",
}


def find_dataset(f: h5py.File, max_bytes: int) -> h5py.Dataset:
    """The only dataset, in a group or not, or the one named "betas" or "voxels"; the file's own bytes, neither linked nor
    computed."""
    found = _datasets(f)
    named = [[item for path, item in found.items() if path.rsplit("/")[-1] == name] for name in NAMES]
    numbers = [item for item in found.values() if item.dtype.kind in "fiu"]
    chosen = next((some for some in (list(found.values()), *named, numbers) if len(some) == 1), None)
    if not chosen:
        there = f" ({', '.join(list(found)[:4])})" if found else ""
        raise BadFile(
            f"expected one dataset, or one named {' or '.join(NAMES)}, got {len(found)}{there}: name yours so"
        )
    _check(chosen[0], max_bytes)
    return chosen[0]


def _datasets(f: h5py.File) -> dict[str, h5py.Dataset]:
    """Path -> dataset, in the file's groups too; no link to elsewhere is followed, MATLAB's hidden groups are left out."""
    found = {}

    def look(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and not path.startswith("#"):
            found[path] = item

    f.visititems(look)
    return found


def _check(found: h5py.Dataset, max_bytes: int) -> None:
    """Raises BadFile unless these are real numbers in the file itself, not too many."""
    name = (found.name or "").lstrip("/")
    kind = found.attrs.get(MATLAB, b"")
    kind = KINDS.get(kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind))
    if h5py.check_ref_dtype(found.dtype):
        kind = kind or "cell array"
    if kind:
        raise BadFile(f"{name!r} is a MATLAB {kind}: save a numeric matrix")
    if found.external or found.is_virtual:
        raise BadFile(f"expected the values in the file itself, but {name!r} refers to other files: copy them in")
    if found.dtype.kind not in "fiu":
        raise BadFile(f"expected real numbers, got values of type {found.dtype}: convert them to float32")
    if found.shape is None or found.size * found.dtype.itemsize > max_bytes:
        raise BadFile(f"expected at most {max_bytes // 10**6} MB, got an array of shape {found.shape}: send fewer rows")


def write_rows(path: Path, max_bytes: str) -> None:
    """The dataset as .npy; MATLAB stores axes reversed, which only a square matrix does not show: that is turned back."""
    try:
        with h5py.File(path, "r") as f:
            found = find_dataset(f, int(max_bytes))
            reversed_axes = MATLAB in found.attrs and found.shape[:1] == found.shape[1:]
            np.save(sys.stdout.buffer, found[()].T if reversed_axes else found[()], allow_pickle=False)
    except (BadFile, MemoryError):
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        if INFLATED in str(error):
            raise beyond_limits(path) from error
        told = unreadable(path, error, f"{path.name} is not a whole HDF5 file: save it again")
        raise BadFile(str(told).replace(str(path), path.name)) from error


if __name__ == "__main__":
    answer_limited(write_rows)
