"""Bundles of several subjects, made of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py

from recon.bundle.manifest import read_manifest, write_manifest


def copy_as(source: Path, target: Path, name: str) -> Path:
    """A copy of a bundle whose subject is called `name`."""
    shutil.copytree(source, target)
    with h5py.File(target / "subject.h5", "r+") as f:
        f.attrs["name"] = name
    content = {k: v for k, v in read_manifest(source).items() if k not in ("format", "version", "files")}
    write_manifest(target, content | {"name": name})
    return target
