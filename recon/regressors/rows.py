"""Reading from arrays that lie in files far larger than memory."""

from __future__ import annotations

from mmap import mmap

import numpy as np

Rows = slice | np.ndarray  # without a step, or numbers of rows


def read_rows(array: np.ndarray, rows: Rows = slice(None)) -> np.ndarray:
    """array[rows] as float32, a copy; of a memory-mapped file, or of columns of one, they are read, not mapped: mapped pages
    count as memory used."""
    file = array.base if isinstance(array.base, np.memmap) else array
    if not (isinstance(file, np.memmap) and isinstance(file.base, mmap) and array[:1].flags.c_contiguous):
        return np.array(array[rows], np.float32)
    numbers = np.arange(len(array))[rows]
    block, first = np.empty((len(numbers), *array.shape[1:]), array.dtype), array.ctypes.data - file.ctypes.data
    whole = isinstance(rows, slice) and array.flags.c_contiguous
    with open(file.filename, "rb") as f:
        for piece, row in zip([block] if whole else block, numbers):
            f.seek(file.offset + first + int(row) * array.strides[0])
            f.readinto(piece)
    return block.astype(np.float32, copy=False)
