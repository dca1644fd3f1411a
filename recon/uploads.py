"""Responses that visitors bring: none is trusted, all are checked, and refused in one sentence."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recon import h5_rows
from recon.files import BadFile
from recon.limited import run_limited
from recon.regressors.standardise import Standardiser
from recon.settings import shown

MAX_BYTES, MAX_ROWS = 64_000_000, 1000
SUFFIXES = (".npy", ".h5", ".hdf5")
SCALES = {
    "z-scored": "already z-scored, as this subject's responses are",
    "raw": "raw: z-score each voxel over the rows of this file (at least 10)",
}
MIN_ROWS = 10  # of raw responses
TYPICAL = 0.02, 3.0  # size of z-scored responses, root mean square over voxels: 0.4 to 1.1 in a subject's own
Z_SCORES = "z-scores"
MAX_VALUE, MAX_Z = 1e9, 1000.0  # of numbers at all, of z-scores; those of a scan are below 100


def read_responses(path: Path, n_voxels: int, tell: Callable[[str], object] = lambda note: None) -> np.ndarray:
    """A `.npy` or HDF5 file of shape (n_voxels,) or (n, n_voxels) -> (n, n_voxels) float32, finite.

    One of shape (n_voxels, n) is turned, which is told by `tell`: there is no doubt what it means, but where n is n_voxels too.
    Nothing in the file is executed, and no link in it followed; it is left where it is. Raises BadFile, saying what was expected
    and what came.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise BadFile(
            f"expected a file ending in {', '.join(SUFFIXES)}, got {path.name!r}: save your responses as one of these"
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadFile(f"expected at most {MAX_BYTES // 10**6} MB, got {size / 1e6:.0f} MB: send fewer rows")
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as f:
            values = _read_npy(f, path.name, n_voxels)
    else:
        rows = io.BytesIO(run_limited(h5_rows.__name__, path, MAX_BYTES))
        values = _read_npy(rows, path.name, n_voxels)
    if is_turned(values.shape, n_voxels):
        tell(f"The file holds {values.shape[0]} rows of {values.shape[1]}: it was turned, so that a row is a response.")
        values = values.T
    return _checked(values)


def keep_nameless(values: np.ndarray) -> np.memmap:
    """A read-only copy on disk, in a file without a name: it is gone when nothing refers to it, however the process ends."""
    with tempfile.TemporaryFile() as f:
        f.write(memoryview(np.ascontiguousarray(values)).cast("B"))
        f.flush()
        return np.memmap(f, values.dtype, "r", shape=values.shape)


def _checked(values: np.ndarray) -> np.ndarray:
    values = values[None] if values.ndim == 1 else values
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise BadFile(f"expected finite numbers, got NaN or infinity in {bad} places: remove or fill them first")
    if (largest := _largest(values)) > MAX_VALUE:
        raise BadFile(f"expected numbers up to {MAX_VALUE:g}, got {largest:.3g}: are these responses?")
    return values.astype(np.float32, copy=False)


def _largest(values: np.ndarray) -> float:
    """The largest magnitude; without a copy, and right for the lowest integer too."""
    return max(float(values.max()), -float(values.min()))


def is_turned(shape: tuple[int, ...], n_voxels: int) -> bool:
    """Whether voxels are the first axis of two, and not the second."""
    return len(shape) == 2 and shape[0] == n_voxels != shape[1]


def _check_header(shape: tuple[int, ...], dtype: np.dtype, n_voxels: int) -> None:
    """Before anything is read."""
    shape = shape[::-1] if is_turned(shape, n_voxels) else shape
    if dtype.kind not in "fiu":
        raise BadFile(f"expected real numbers, got values of type {dtype}: convert them to float32")
    if len(shape) not in (1, 2) or 0 in shape:
        raise BadFile(f"expected an array of shape (n_voxels,) or (n, n_voxels), got {shape}")
    if len(shape) == 2 and shape[0] > MAX_ROWS:
        raise BadFile(f"expected at most {MAX_ROWS} rows, got {shape[0]}: send fewer")
    if int(np.prod(shape, dtype=object)) * max(dtype.itemsize, 4) > MAX_BYTES:  # as float32 too
        raise BadFile(f"expected at most {MAX_BYTES // 10**6} MB, got an array of shape {shape}: send fewer rows")
    if shape[-1] != n_voxels:
        raise BadFile(f"expected {n_voxels} voxels in a row, as this subject has, got {shape[-1]}: choose its voxels")


def _read_npy(f: BinaryIO, name: str, n_voxels: int) -> np.ndarray:
    """The array of an open .npy file called `name`, once its header has been checked."""
    try:
        version = np.lib.format.read_magic(f)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(f)
        _check_header(shape, dtype, n_voxels)
        f.seek(0)
        return np.load(f, allow_pickle=False)
    except BadFile:
        raise
    except Exception as error:  # numpy raises many kinds
        raise BadFile(
            f"{name} is not a whole .npy file of numbers: save it with numpy.save ({type(error).__name__})"
        ) from None


def to_scale(values: np.ndarray, scale: str) -> np.ndarray:
    """(n, n_voxels) -> z-scores as the regressors were fitted to. `scale`: of SCALES.

    Statistics of raw responses are of the file's own rows: those of the subject's sessions say nothing about another scan.
    Raises ValueError on an unknown scale, on fewer than 10 raw rows, or where numbers that are called z-scores are none: they would
    be decoded to one colour, or to the mean image.
    """
    if not isinstance(scale, str) or scale not in SCALES:
        raise ValueError(f"scale: expected one of {', '.join(SCALES)}, got {shown(scale)}")
    if scale == "z-scored":
        _check_z(values)
        if (largest := _largest(values)) > MAX_Z:
            raise ValueError(f"z-scored responses: expected numbers up to {MAX_Z:g}, got {largest:.3g}: are they raw?")
        return values
    if len(values) < MIN_ROWS:
        raise ValueError(f"raw responses: expected at least {MIN_ROWS} rows to z-score over, got {len(values)}")
    return Standardiser.fit(values)(values)


def look(values: np.ndarray) -> tuple[float, str]:
    """The size of responses (n, n_voxels), the root mean square over voxels, and what numbers of that size look like.

    The size is that of the largest response if it is too large for z-scores, else that of the typical one.
    """
    sizes = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=1))
    low, high = TYPICAL
    if sizes.max() > high:
        whole = (values == np.rint(values)).all()
        return sizes.max(), "betas × 300" if whole else "betas, or a voxel that is far off"
    size = np.median(sizes)
    return size, Z_SCORES if size >= low else "another unit, or zeros"


def what_it_looks_like(values: np.ndarray) -> str:
    """What the page thinks of a file's responses (n, n_voxels), and what to do about it, in two sentences."""
    (n, n_voxels), (size, guess) = values.shape, look(values)
    advice = "" if guess == Z_SCORES else ": choose raw" if n >= MIN_ROWS else ": z-score them, or send 10 raw rows"
    responses = "one response" if n == 1 else f"{n:,} responses"
    return f"Read: {responses} of {n_voxels:,} voxels. Their size is {size:.3g}, which looks like {guess}{advice}."


def _check_z(values: np.ndarray) -> None:
    """Raises ValueError unless the size of the numbers is that of z-scores, saying what they look like."""
    size, guess = look(values)
    if guess != Z_SCORES:
        raise ValueError(
            f"expected z-scores, of size about 1, got size {size:.3g}, which looks like {guess}: choose raw, or z-score them"
        )
