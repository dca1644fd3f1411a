"""Downloads that may be interrupted at any moment: partial files under stable names, continued, verified, renamed."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import requests
from botocore.exceptions import BotoCoreError, ClientError
from tqdm import tqdm

from recon.files import BadFile, file_digest

CHUNK = 1 << 18  # bytes read at once
TIMEOUT = 60  # seconds without a byte
FAILURES = (OSError, BotoCoreError, ClientError)  # those of requests are OSErrors


@dataclass(frozen=True)
class Remote:
    """A file on a server: its size in bytes, what identifies this version of it, its known checksums, its content.

    `read(offset)` -> (start, chunks): the bytes from `start` on, which is `offset`, or 0 where the server begins anew.
    `md5` is hexadecimal; with `part_size` it is S3's `<md5 of the parts' md5s>-<number of parts>`.
    """

    name: str
    size: int
    etag: str
    read: Callable[[int], tuple[int, Iterable[bytes]]]
    md5: str | None = None
    part_size: int | None = None
    sha256: str | None = None


@contextmanager
def one_sentence(what: str, failures: tuple[type[Exception], ...] = FAILURES) -> Iterator[None]:
    """Turns failures of network and disk into a BadFile that says what was fetched, what happened, what to do."""
    try:
        yield
    except failures as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise BadFile(
                f"{what}: the disk is full; free some space and run the same command again to resume"
            ) from error
        reason = shorten(f"{type(error).__name__}: {error}", 240, placeholder=" …")
        raise BadFile(f"{what} could not be fetched ({reason}); run the same command again to resume") from error


def http_remote(url: str, sha256: str | None = None) -> Remote:
    """The file at a URL, as the server's headers describe it."""
    name = url.rsplit("/", 1)[-1]
    with one_sentence(url):
        headers = {"Accept-Encoding": "identity"}
        response = requests.head(url, headers=headers, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
    size, md5 = response.headers.get("Content-Length"), response.headers.get("Content-MD5")
    if size is None:
        raise BadFile(f"{url}: expected the server to tell the file's size, got no Content-Length")
    etag = response.headers.get("ETag", size)
    return Remote(name, int(size), etag, http_reader(url, etag), md5 and base64.b64decode(md5).hex(), None, sha256)


def http_reader(url: str, etag: str | None = None) -> Callable[[int], tuple[int, Iterable[bytes]]]:
    """`Remote.read` over HTTP; with an ETag the server begins anew if the file is another one by now."""

    def read(offset: int) -> tuple[int, Iterable[bytes]]:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": etag} if etag else {})
        response = requests.get(url, headers=headers, timeout=TIMEOUT, stream=True)
        response.raise_for_status()
        return offset if response.status_code == 206 else 0, response.iter_content(CHUNK)

    return read


def size_of(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0


def partial(remote: Remote, path: Path) -> Path:
    """Where the file grows: beside `path`, under a name that only this version of it has."""
    return path.with_name(f".{path.name}.{re.sub(r'[^0-9A-Za-z-]', '', remote.etag)}.part")


def present(remote: Remote, path: Path) -> int:
    """Bytes of the file that are on disk already."""
    return remote.size if size_of(path) == remote.size else min(size_of(partial(remote, path)), remote.size)


def md5_digest(path: Path, part_size: int | None = None) -> str:
    """MD5 of a file, or S3's digest of a file uploaded in parts of `part_size` bytes."""
    if part_size is None:
        return file_digest(path, "md5")
    digests = []
    with open(path, "rb") as f:
        while f.tell() < size_of(path):
            digests.append(_md5_of(f, part_size).digest())
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def _md5_of(f, n_bytes: int):
    digest = hashlib.md5()
    while n_bytes and (chunk := f.read(min(CHUNK, n_bytes))):
        digest.update(chunk)
        n_bytes -= len(chunk)
    return digest


def agrees(remote: Remote, path: Path) -> bool | None:
    """Whether the file on disk has the checksums that the server, or the lock, tells; None where it tells none."""
    verdicts = []
    if remote.md5:
        verdicts.append(md5_digest(path, remote.part_size) == remote.md5)
    if remote.sha256:
        verdicts.append(file_digest(path) == remote.sha256)
    return all(verdicts) if verdicts else None


def obtain(remote: Remote, path: Path, advance: Callable[[int], object]) -> bool:
    """Makes `path` the remote file, from what is on disk already; calls `advance` with every number of bytes received.

    Returns whether a checksum was compared. Raises BadFile when the network or the disk fails (what came stays, and
    the next call goes on from there) or when what came is not what was announced (it is deleted).
    """
    if size_of(path) == remote.size and agrees(remote, path):
        return True
    part = partial(remote, path)
    with one_sentence(remote.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in set(path.parent.glob(f".{path.name}.*.part")) - {part}:
            old.unlink()
        if size_of(part) < remote.size:
            _receive(remote, part, advance)
    verified = _verify(remote, part)
    part.replace(path)
    return verified


def _receive(remote: Remote, part: Path, advance: Callable[[int], object]) -> None:
    """Appends the missing bytes to the partial file and flushes it to disk."""
    with open(part, "ab") as f:
        have = f.tell()
        start, chunks = remote.read(have)
        f.truncate(start)
        advance(start - have)
        for chunk in chunks:
            f.write(chunk)
            advance(len(chunk))
        f.flush()
        os.fsync(f.fileno())


def _verify(remote: Remote, part: Path) -> bool:
    got = size_of(part)
    if got < remote.size:
        raise BadFile(f"{remote.name} broke off after {got:,} of {remote.size:,} bytes; run the same command again")
    verified = agrees(remote, part) if got == remote.size else None
    if got > remote.size or verified is False:
        part.unlink()
        fault = f"has {got:,} bytes, expected {remote.size:,}" if got > remote.size else "has another checksum"
        raise BadFile(f"{remote.name} came damaged ({fault}) and was deleted; run the same command again")
    return bool(verified)


def check_space(folder: Path, needed: int) -> None:
    """Raises BadFile where the disk of `folder`, which need not exist yet, has less than `needed` bytes free."""
    free = free_space(folder)
    if free < needed:
        raise BadFile(f"{folder}: {readable(needed)} are still to be fetched, but only {readable(free)} are free there")


def free_space(folder: Path) -> int:
    folder = Path(folder).absolute()
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def readable(n_bytes: int) -> str:
    return tqdm.format_sizeof(n_bytes, "B")


def progress_bar(total: int, initial: int) -> tqdm:
    """Bytes received, of all the bytes there are to fetch."""
    return tqdm(total=total, initial=initial, unit="B", unit_scale=True, unit_divisor=1000)
