"""Bundles that lie in a repository of the Hugging Face Hub, at a pinned revision."""

from __future__ import annotations

import re
from pathlib import Path

from recon.bundle.manifest import KNOWN, read_manifest
from recon.files import BadFile

REFERENCE = re.compile(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


def locate_bundle(name: str) -> Path:
    """The folder of a bundle: `name` itself, or where `hub:USER/NAME@REVISION` lies in the Hugging Face cache.

    Downloads what is missing there of a bundle's files, and no others, and asks no network if nothing is. Raises BadFile: a
    reference without a whole revision (branches move), or a failed download.
    """
    if not name.startswith("hub:"):
        return Path(name)
    match = REFERENCE.fullmatch(name)
    if not match:
        raise BadFile(
            f"bundle {name}: expected hub:USER/NAME@REVISION with a revision of 40 hexadecimal digits, which "
            "`python -m precompute publish bundle` prints"
        )
    return _cached(*match.groups()) or _download(*match.groups())


def _cached(repo: str, revision: str) -> Path | None:
    """The snapshot in the cache, if it has all files of the manifest."""
    from huggingface_hub import try_to_load_from_cache  # slow to import; folders do without

    manifest = try_to_load_from_cache(repo, "manifest.json", revision=revision)
    if not isinstance(manifest, str):
        return None
    folder = Path(manifest).parent
    whole = all((folder / name).exists() for name in read_manifest(folder)["files"])
    return folder if whole else None


def _download(repo: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(KNOWN)))
    except Exception as error:  # the Hub's client raises those of several libraries, which have no common type
        reason = str(error).strip().split("\n")[0]
        raise BadFile(
            f"bundle {repo} at {revision[:8]} could not be fetched ({type(error).__name__}: {reason}): "
            "check the name, the network and, for a private repository, HF_TOKEN"
        ) from error
