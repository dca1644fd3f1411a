"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from recon.unreadable import BadFile, unreadable


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renames it to `path` when the block ends well, else removes it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")  # keeps the suffix: writers add one where it is missing
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Whatever a parser raises becomes a BadFile, of the file's content or of what keeps it from being read: libraries raise many
    kinds for damaged ones."""
    try:
        yield
    except BadFile:
        raise
    except Exception as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
        content = f"{path} is damaged or incomplete ({reason}): fetch or make it again"
        raise unreadable(path, error, content) from error


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a whole file, hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


def fingerprint(path: Path, blocks: int = 256, size: int = 4096) -> str:
    """Checksum of a file's length and of `blocks` parts of it, the first and the last among them: another one tells that the
    content was made anew, at the cost of a megabyte read. Copies have the same; a change of few rows may go unseen."""
    length, digest = Path(path).stat().st_size, hashlib.sha256()
    digest.update(str(length).encode())
    with open(path, "rb") as f:
        for offset in sorted({int(at) for at in np.linspace(0, max(0, length - size), blocks)}):
            f.seek(offset)
            digest.update(f.read(size))
    return digest.hexdigest()


def save_json(path: Path, content) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def brief(error: Exception, width: int = 300) -> str:
    """What another library's error says, on one line of at most `width` characters."""
    return shorten(str(error), width, placeholder=" …")


def load_json(path: Path):
    """Raises BadFile: missing, or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(
            path, error, f"{path} is not valid JSON ({brief(error, 100)}): fetch or make it again"
        ) from error


def save_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as part:
        np.save(part, array, allow_pickle=False)


def open_array(path: Path) -> np.ndarray:
    """A `.npy` file as a read-only memory map (its header is read, not taken for data). Raises BadFile: missing, or damaged."""
    with parsing(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def open_plain(path: Path) -> np.ndarray:
    """A `.npy` file as a memory map. Raises BadFile for damaged files and arrays of Python objects: unpickling runs code."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for damaged files
        advice = "if it holds Python objects and you trust its source, save it again as np.array(…, dtype=str or float)"
        raise unreadable(path, error, f"{path} is not a whole plain array ({brief(error)}); {advice}") from error


def read_tensors(path: Path, expected_format: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors and the metadata of a safetensors file of the given format. Raises BadFile otherwise."""
    try:
        with safe_open(path, framework="numpy") as f:
            metadata = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}
    except (
        Exception
    ) as error:  # safetensors raises its own untyped error on damaged files, and calls missing what it may not open
        if not Path(path).exists():
            raise BadFile(f"{path} is missing: fit it with `python -m precompute`, or restore it") from None
        content = f"{path} is not a readable safetensors file (truncated or damaged?): {error}"
        raise unreadable(path, error, content) from error
    if metadata.get("format") != expected_format:
        raise BadFile(f"{path}: expected format {expected_format!r}, got {metadata.get('format')!r}")
    return tensors, metadata


def save_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """What `read_tensors` reads. The same content gives the same bytes, whereas safetensors writes metadata in random order."""
    data = save({name: np.ascontiguousarray(values) for name, values in tensors.items()})
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": metadata} | json.loads(data[8:body]), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with whole_file(path) as part, part.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(data)[body:])


def open_h5(path: Path, kind: str, version: int) -> h5py.File:
    """Opens one of our HDF5 files for reading. Raises BadFile if it is missing, damaged, or of another kind or version."""
    try:
        f = h5py.File(path, "r")
    except FileNotFoundError:
        raise BadFile(
            f"{path} is missing: make it with `python -m precompute`, or restore it from the repository"
        ) from None
    except OSError as error:
        content = f"{path} is not a readable HDF5 file (truncated or damaged?): fetch or make it again"
        raise unreadable(path, error, content) from error
    found = f.attrs.get("format"), f.attrs.get("version")
    if found != (kind, version):
        f.close()
        raise BadFile(f"{path}: expected format {kind!r} version {version}, got {found[0]!r} version {found[1]}")
    return f


def array_in(group: h5py.Group, name: str) -> np.ndarray:
    """An array of an HDF5 file, whole. Raises KeyError if there is nothing of the name, BadFile if it is no array."""
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise BadFile(f"{group.file.filename}: expected an array under {name!r}, got a group: fetch or make it again")
    return found[()]


def group_in(group: h5py.Group, name: str) -> h5py.Group:
    """A group of an HDF5 file. Raises KeyError if there is nothing of the name, BadFile if it is no group."""
    found = group[name]
    if not isinstance(found, h5py.Group):
        raise BadFile(f"{group.file.filename}: expected a group {name!r}, got an array: fetch or make it again")
    return found
