"""One process at a time works in a folder; a second one says who does."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from recon.files import BadFile

LOCK = ".working.json"  # {"host", "process", "started"} of the owner


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Holds the folder for this process while the block runs; blocks may be nested.

    Raises BadFile if another process that is alive holds it, or one of another host, of which nobody here can tell. What a
    process that died has left is taken over.
    """
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = _take(path)
    try:
        yield
    finally:
        if mine:
            path.unlink(missing_ok=True)


def _take(path: Path) -> bool:
    """Makes the lock file; False if this process holds it already."""
    me = _identity(os.getpid())
    with _guarded(path.parent):
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # nobody, or one who was killed while he wrote
            owner = None
        if owner == me:
            return False
        if owner and _may_be_alive(owner):
            raise BadFile(
                f"{path.parent} is being worked in by process {owner['process']} on {owner['host']}: wait for it, or, if "
                f"it is gone, remove {path}"
            )
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as f:
            json.dump(me, f)
    return True


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """One process at a time looks who the owner is and takes his place."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _identity(process: int) -> dict:
    """Numbers of processes are used again; together with the time of the start they are not."""
    return {"host": socket.gethostname(), "process": process, "started": psutil.Process(process).create_time()}


def _may_be_alive(owner: dict) -> bool:
    if owner["host"] != socket.gethostname():
        return True
    try:
        return _identity(owner["process"]) == owner
    except psutil.NoSuchProcess:
        return False
