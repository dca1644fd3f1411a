"""Somebody's own responses of the open subject: read without trusting the file, and normalised.

The statistics stored with a subject's regressors are the mean and SD (ddof 1) of each voxel over the averaged training responses
(`recon.regression.Standardiser`). Those responses were z-scored before, by each session's training trials, whose statistics do not
travel. So z-scores can be used as they are; raw betas have to be z-scored by their own mean and SD first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile
from recon.regression import Standardiser

MAX_BYTES = 64 << 20
SUFFIXES = (".npy", ".h5", ".hdf5")
NAMES = ("betas", "voxels")  # of the dataset to read where an HDF5 file holds several
MIN_ROWS = 10  # of raw betas
MAX_OBJECTS = 1000  # in an HDF5 file
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
NORMALISATIONS = {
    "as is": "already z-scored like the subject",
    "raw": "raw betas: z-scored over these rows, then given the subject's stored mean and SD",
}


def read_responses(path: Path, n_voxels: int) -> np.ndarray:
    """(n, n_voxels) float32 from a `.npy` or HDF5 file of shape (n_voxels,) or (n, n_voxels).

    Of an HDF5 file, its only dataset of one or two axes, or the one called "betas" or "voxels", lying in the file itself:
    links are not followed. Nothing is ever unpickled, and the shape is checked before any number is read. Raises BadFile
    for anything else: what was expected, what came, what to do.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise BadFile(f"{path.name}: expected a file named {', '.join(SUFFIXES)}: save the responses as one of these")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise BadFile(f"{path.name}: expected 1 byte to {MAX_BYTES >> 20} MB, got {size} bytes: split it")
    read = _read_npy if path.suffix.lower() == ".npy" else _read_h5
    values = read(path, lambda shape, dtype: _check(path.name, shape, dtype, n_voxels))
    rows = np.asarray(values, np.float64).reshape(-1, n_voxels)
    return _finite(path.name, rows)


Check = Callable[[tuple[int, ...], np.dtype], None]


def _check(name: str, shape: tuple[int, ...], dtype: np.dtype, n_voxels: int) -> None:
    if dtype.kind not in "fiu":
        raise BadFile(f"{name}: expected real numbers, got {dtype}: save it as float32")
    if len(shape) not in (1, 2) or shape[-1] != n_voxels or shape[0] == 0:
        raise BadFile(
            f"{name}: expected shape ({n_voxels},) or (n, {n_voxels}), one number a voxel of the open subject, got {shape}"
        )
    if np.prod(shape, dtype=object) * dtype.itemsize > MAX_BYTES:
        raise BadFile(f"{name}: expected at most {MAX_BYTES >> 20} MB of numbers, got shape {shape}: split it")


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    bad = ~np.isfinite(rows)
    if bad.any():
        row, voxel = np.argwhere(bad)[0]
        raise BadFile(
            f"{name}: expected finite float32 numbers, got NaN or infinity in {bad.sum()} places "
            f"(first: row {row}, voxel {voxel}): remove or fill them"
        )
    return rows


def _read_npy(path: Path, check: Check) -> np.ndarray:
    try:
        with open(path, "rb") as f:
            version = np.lib.format.read_magic(f)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](f)
            expected = path.stat().st_size - f.tell()
    except Exception as error:  # NumPy raises many kinds on damaged headers
        raise BadFile(
            f"{path.name}: expected a NumPy array file, got another or a damaged one: save it with numpy.save"
        ) from error
    if dtype.hasobject:
        raise BadFile(
            f"{path.name}: expected real numbers, got pickled Python objects, which are never opened: save it as float32"
        )
    check(shape, dtype)
    if expected != np.prod(shape, dtype=object) * dtype.itemsize:
        raise BadFile(
            f"{path.name}: expected as many bytes as its header says, got {expected} (truncated?): save it again"
        )
    return np.load(path, allow_pickle=False)


def _read_h5(path: Path, check: Check) -> np.ndarray:
    with open(path, "rb") as f:
        magic = f.read(len(HDF5_MAGIC))
    try:
        if magic != HDF5_MAGIC:
            raise OSError("not HDF5")
        with h5py.File(path, "r") as f:
            dataset = _choose(path.name, _datasets(f))
            check(dataset.shape, dataset.dtype)
            return dataset[()]
    except BadFile:
        raise
    except Exception as error:  # h5py raises many kinds on damaged files
        raise BadFile(f"{path.name}: expected an HDF5 file, got another or a damaged one: save it again") from error


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Those of one or two axes that lie in the file itself, at any depth: neither links nor storage elsewhere."""
    found, groups, seen = {}, [(group, 0)], 0
    while groups:
        parent, depth = groups.pop()
        for name in parent:
            seen += 1
            if seen > MAX_OBJECTS or depth > 8:
                raise OSError("too many objects")
            if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
                continue
            item = parent[name]
            if isinstance(item, h5py.Group):
                groups.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset) and item.ndim in (1, 2) and _is_inside(item):
                found[item.name.lstrip("/")] = item
    return found


def _is_inside(dataset: h5py.Dataset) -> bool:
    """Whether its numbers lie in its own file, so that reading them opens no other."""
    return not dataset.is_virtual and not dataset.external


def _choose(name: str, found: dict[str, h5py.Dataset]) -> h5py.Dataset:
    named = [found[wanted] for wanted in NAMES if wanted in found]
    if len(named) == 1 or len(found) == 1:
        return named[0] if named else next(iter(found.values()))
    there = ", ".join(sorted(found)[:5]) or "none"
    raise BadFile(
        f"{name}: expected one dataset of one or two axes inside the file, or one called {' or '.join(NAMES)}, "
        f"got {there}: keep one (links to other places are not followed)"
    )


def normalise(values: np.ndarray, how: str, stored: Standardiser) -> np.ndarray:
    """(n, n_voxels) responses -> (n, n_voxels) z-scored like the subject's, float32; what "as is" and "raw" say.

    "raw": every voxel is z-scored over the rows given, then gets the mean and SD that `stored` holds of it, those of the
    subject's training responses. Rows then depend on one another, and must be of many different pictures. Raises ValueError
    for fewer than MIN_ROWS of them, or another `how`.
    """
    if how not in NORMALISATIONS:
        raise ValueError(f"normalisation: expected one of {', '.join(NORMALISATIONS)}, got {how!r}")
    if how == "as is":
        return np.asarray(values, np.float32)
    if len(values) < MIN_ROWS:
        raise ValueError(
            f"raw responses: expected at least {MIN_ROWS} rows, whose mean and SD z-score them, got {len(values)}: "
            "z-score them yourself and choose “as is”"
        )
    return Standardiser.fit(values)(values) * stored.sd + stored.mean
