"""`.npy` files filled block by block of rows; a run that was killed goes on after the last finished block."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recon.files import BadFile, load_json, save_json

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


def write_rows(
    out: Path, shape: tuple[int, int], dtype: str, batch: int, source: dict, rows: Callable[[slice], np.ndarray]
) -> None:
    """Fills `out` (.npy) of this shape and dtype with rows(slice), `batch` at a time; goes on after a kill at any moment.

    What has been written lies in a hidden file beside `out` until it is whole; a second one says how many rows of it count,
    and `source` (JSON) what they come from, and stays. Raises BadFile if rows of another source are there.
    """
    part, mark = (out.with_name(f".{out.name}.{kind}") for kind in ("unfinished", "progress.json"))
    wanted = json.loads(json.dumps({"shape": shape, "dtype": dtype, "source": source}))
    found = load_json(mark) if mark.exists() else wanted | {"rows": 0}
    done = found.pop("rows")
    if found != wanted:
        raise BadFile(f"{out} was begun as {found}, now {wanted} is asked for: remove it and {mark} to begin anew")
    if out.exists():
        return
    remove_leftovers(out.parent, mark.name)
    if not (mark.exists() and part.exists()):
        done = 0
        mark.unlink(missing_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        _create(part, Rows(out, shape, dtype))
    with tqdm(total=shape[0], initial=done, desc=out.stem, unit="image", mininterval=2) as bar:
        for k in range(done, shape[0], batch):
            span = slice(k, min(k + batch, shape[0]))
            _write(part, k, rows(span))
            save_json(mark, wanted | {"rows": span.stop})
            bar.update(span.stop - span.start)
    part.replace(out)
