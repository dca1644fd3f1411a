"""Why a file cannot be read, told apart: somebody else holds it, rights, locks or a filter are missing, or its content is wrong."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import h5py

RIGHTS = (errno.EACCES, errno.EPERM)
HELD = (errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EDEADLK)
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
FILTERS = {  # numbers that The HDF Group has registered -> names
    307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd",
    32017: "sz", 32026: "blosc2",
}  # fmt: skip


class BadFile(ValueError):
    """A file that is missing, damaged, of another version, or that disagrees with its neighbours."""


def unreadable(path: Path, error: BaseException, content: str) -> BadFile:
    """What to say of an error that reading a file raised; `content`: the sentence if it is the content that is wrong.

    Only there may deleting be advised: any other file is whole, and may be the only one.
    """
    said, number = str(error), _number(path, error)
    if isinstance(error, MemoryError):
        return BadFile(f"{path} needs more memory than there is to be read: close other programs")
    if "already open for write" in said:
        return BadFile(f"{path} is open in a program that writes it, or that died: wait, or run `h5clear -s {path}`")
    if filters := _missing_filters(path, said):
        return BadFile(
            f"{path} is compressed by the HDF5 filter {filters}, which is not installed here: install it and set "
            "HDF5_PLUGIN_PATH, or save the file again with gzip"
        )
    if number in RIGHTS:
        return BadFile(f"{path} may not be used by this user: ask its owner for the right to (chmod)")
    if number in HELD:
        return BadFile(f"{path} is held by another program: wait for it, or close it")
    if number in NO_LOCKS:
        return BadFile(f"{path} lies on a disk without file locks: set HDF5_USE_FILE_LOCKING=FALSE")
    if number == errno.ENOENT:
        return BadFile(f"{path} is missing")
    if number == errno.EISDIR:
        return BadFile(f"{path} is a folder, expected a file")
    if number:
        return BadFile(f"{path} cannot be read now ({os.strerror(number)}): see to the disk, and try again")
    return BadFile(content)


def _number(path: Path, error: BaseException) -> int | None:
    """The system's number of an error, also of one that a library has put into words or into another error."""
    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, OSError) and one.errno:
            return one.errno
    if found := re.search(r"errno = (\d+)", str(error)):
        return int(found[1])
    try:  # safetensors calls everything missing that it may not open
        with open(path, "rb") as f:
            f.read(1)
    except OSError as failed:
        return failed.errno
    return None


def _missing_filters(path: Path, said: str) -> str:
    """Names of the filters that an HDF5 file needs and this computer lacks, if that is what was said; "" otherwise."""
    if not re.search("filter|plugin", said):
        return ""
    absent: set[str] = set()

    def look(_: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            pipeline = item.id.get_create_plist()
            numbers = [pipeline.get_filter(k)[0] for k in range(pipeline.get_nfilters())]
            absent.update(f"{n} ({FILTERS.get(n, 'unknown')})" for n in numbers if not h5py.h5z.filter_avail(n))

    try:
        with h5py.File(path, "r") as f:
            f.visititems(look)
    except OSError:
        return ""
    return ", ".join(sorted(absent))
