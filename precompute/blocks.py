"""`.npy` files filled block by block of rows; a run that was killed goes on after the last finished block."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from precompute.team import team
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


def _create(part: Path, rows: Rows) -> None:
    """An empty `.npy` file of the whole size."""
    np.lib.format.open_memmap(part, "w+", np.dtype(rows.dtype), rows.shape)


def _write(part: Path, start: int, values: np.ndarray) -> None:
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
            _create(part, rows)
    for start, stop in tqdm(blocks[len(notes) :], title, total=len(blocks), initial=len(notes)):
        arrays, note = make(start, stop)
        for part, values in zip(unfinished, arrays):
            _write(part, start, values)
        notes.append(note)
        save_json(log, notes)
    for part, rows in zip(unfinished, files):
        if part.exists():
            part.replace(rows.path)
    return notes


def write_rows(rows: Rows, batch: int, make: Callable[[slice], np.ndarray], work: Path) -> None:
    """Fills a file of two dimensions with make(slice), `batch` rows at a time; goes on after a kill at any moment.

    The processes of a team share the batches. What has been written lies in `work`, a folder on the same disk, until it is whole;
    a second file there holds a byte a row, 1 where it counts, so that another number of processes may go on. What `work` holds
    must be of the same rows: a stage sees to that.
    """
    part, marks = (work / f"{rows.path.name}.{kind}" for kind in ("unfinished", "rows"))
    me = team()
    if me.first and not (rows.path.exists() or (part.exists() and marks.exists())):
        work.mkdir(parents=True, exist_ok=True)
        marks.unlink(missing_ok=True)
        rows.path.parent.mkdir(parents=True, exist_ok=True)
        _create(part, rows)
        marks.write_bytes(bytes(rows.shape[0]))
    me.wait()
    if not rows.path.exists():
        todo = _pending(np.fromfile(marks, np.uint8), batch)[me.rank :: me.size]
        total, mine = rows.shape[0], sum(stop - start for start, stop in todo)
        how = {"desc": rows.path.stem, "unit": "image", "mininterval": 2, "disable": not me.first}
        with tqdm(total=total, initial=total - mine, **how) as bar:
            for start, stop in todo:
                _write(part, start, make(slice(start, stop)))
                _mark(marks, start, stop)
                bar.update(stop - start)
    me.wait()
    if me.first and not rows.path.exists():
        part.replace(rows.path)
        marks.unlink()
    me.wait()


def _pending(done: np.ndarray, batch: int) -> list[Span]:
    """done (n,) 0 or 1 -> the batches of which rows are missing, without what is there at either end."""
    found = []
    for start, stop in spans(len(done), batch):
        missing = start + np.flatnonzero(done[start:stop] == 0)
        if len(missing):
            found.append((int(missing[0]), int(missing[-1]) + 1))
    return found


def _mark(marks: Path, start: int, stop: int) -> None:
    with open(marks, "r+b") as f:
        f.seek(start)
        f.write(bytes([1]) * (stop - start))
        f.flush()
        os.fsync(f.fileno())
