"""`.npy` files filled block by block of rows; a run that was killed goes on after the last finished block."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recon.files import load_json, save_json

Span = tuple[int, int]  # rows start to stop - 1


@dataclass(frozen=True)
class Rows:
    """A `.npy` file to be filled."""

    path: Path
    shape: tuple[int, ...]
    dtype: str


def spans(n_rows: int, size: int) -> list[Span]:
    return [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Temporary files of whole_file, for files of that name, that a killed run left."""
    for part in Path(folder).glob(f".*.part.{name}"):
        part.unlink()


def create(part: Path, rows: Rows) -> None:
    """An empty `.npy` file of the whole size."""
    np.lib.format.open_memmap(part, "w+", np.dtype(rows.dtype), rows.shape)


def write(part: Path, start: int, values: np.ndarray) -> None:
    """Puts rows into a `.npy` file, from row `start` on.

    Plain writes: on a full disk they raise OSError where a memory map would kill the process, and they need no memory.
    """
    layout = np.load(part, mmap_mode="r", allow_pickle=False)
    if values.shape[1:] != layout.shape[1:]:
        raise ValueError(f"{part}: expected rows of shape {layout.shape[1:]}, got {values.shape[1:]}")
    with open(part, "r+b") as f:
        f.seek(layout.offset + start * layout.strides[0])
        f.write(np.ascontiguousarray(values, layout.dtype).data)
        f.flush()
        os.fsync(f.fileno())


def fill(
    files: Sequence[Rows],
    blocks: Sequence[Span],
    make: Callable[[int, int], tuple[Sequence[np.ndarray], object]],
    parts: Path,
    title: str,
) -> list:
    """Fills all `files` together and moves them into place; returns the note of every block.

    make(start, stop) -> one array of stop - start rows for each file, and a note for JSON; called once for each block over
    all runs. `parts` (a folder on the files' disk, the caller removes it) holds unfinished files, and the notes of finished
    blocks: as long as it stays, a finished call is not repeated either.
    """
    log = parts / f"{files[0].path.name}.json"
    unfinished = [parts / rows.path.name for rows in files]
    notes = load_json(log) if log.exists() else []
    if not notes:
        parts.mkdir(parents=True, exist_ok=True)
        for part, rows in zip(unfinished, files):
            create(part, rows)
    for start, stop in tqdm(blocks[len(notes) :], title, total=len(blocks), initial=len(notes)):
        arrays, note = make(start, stop)
        for part, values in zip(unfinished, arrays):
            write(part, start, values)
        notes.append(note)
        save_json(log, notes)
    for part, rows in zip(unfinished, files):
        if part.exists():
            part.replace(rows.path)
    return notes
