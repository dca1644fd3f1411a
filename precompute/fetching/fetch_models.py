"""The published models, at revisions that are written down in the lock file when first fetched and kept from then on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache

from precompute.fetching.download import (
    check_space,
    http_remote,
    obtain,
    one_sentence,
    present,
    progress_bar,
    readable,
)
from precompute.folder_lock import working_in
from recon.decoders.published_models import MODELS, Model, locate, locked, write_lock
from recon.environment import lock_file, models_folder
from recon.files import BadFile, file_digest

HUB_FAILURES = (Exception,)  # the Hub's client raises those of several libraries, which have no common type


def fetch_models(lock: Path | None = None, update: bool = False) -> None:
    """Fetches every model that `locate` does not find, at the locked revision, or with `update` all at the newest.

    Prints the total first. Raises BadFile when the network or the disk fails, or something does not exist.
    """
    with working_in(models_folder()):
        wanted = [model for model in MODELS.values() if update or not is_complete(model, lock)]
        for model in wanted:
            print(f"{model.name}: {model.purpose}, {model.source}")
            entry = None if update else locked(model.name, lock)
            fetch = fetch_file if model.is_single_file else fetch_repository
            write_lock(model.name, fetch(model, entry), lock)
    print(
        f"{len(wanted)} of {len(MODELS)} models fetched, the others were there; revisions are in {lock or lock_file()}"
    )


def is_complete(model: Model, lock: Path | None) -> bool:
    """Whether all of the model is on disk as locked; a single file is read for its checksum."""
    try:
        path = locate(model.name, lock)
    except BadFile:
        return False
    return not model.is_single_file or file_digest(path) == locked(model.name, lock)["sha256"]


def fetch_file(model: Model, entry: dict | None) -> dict:
    """Fetches a single file; with a lock entry, only exactly that file will do. Returns the lock entry."""
    remote = http_remote(model.source, entry and entry["sha256"])
    if entry and entry["files"] != {remote.name: remote.size}:
        raise BadFile(f"{model.source} is {remote.size:,} bytes long, locked is {entry['files']}; --update accepts it")
    path = models_folder() / remote.name
    there = present(remote, path)
    print(f"{readable(remote.size)} in all, {readable(there)} are there already")
    check_space(path.parent, remote.size - there)
    with progress_bar(remote.size, there) as bar:
        obtain(remote, path, bar.update)
    return {
        "source": model.source,
        "etag": remote.etag,
        "sha256": file_digest(path),
        "files": {remote.name: remote.size},
    }


def fetch_repository(model: Model, entry: dict | None) -> dict:
    """Fetches the needed files of a Hub repository at the locked, or else the newest, revision. Returns the lock entry."""
    with one_sentence(model.source, HUB_FAILURES):
        info = HfApi().model_info(model.source, revision=entry and entry["revision"], files_metadata=True)
    files = needed_files(model, info)
    total, there = sum(f.size for f in files), sum(f.size for f in files if is_cached(model.source, f, info.sha))
    print(f"{readable(total)} in all, {readable(there)} are there already")
    check_space(Path(constants.HF_HUB_CACHE), total - there)
    with one_sentence(model.source, HUB_FAILURES):
        folder = snapshot_download(model.source, revision=info.sha, allow_patterns=list(model.files))
    for file in files:
        check_content(Path(folder) / file.rfilename, file, model.source)
    return {"source": model.source, "revision": info.sha, "files": {f.rfilename: f.size for f in files}}


def needed_files(model: Model, info) -> list:
    """The files of the repository that the model needs. Raises BadFile if one that is needed by name is missing."""
    names = [f.rfilename for f in info.siblings]
    missing = [name for name in model.files if "*" not in name and name not in names]
    if missing:
        raise BadFile(f"{model.source} has no {' and no '.join(missing)} at revision {info.sha}")
    return [f for f in info.siblings if any(fnmatchcase(f.rfilename, pattern) for pattern in model.files)]


def is_cached(repo: str, file, revision: str) -> bool:
    return isinstance(try_to_load_from_cache(repo, file.rfilename, revision=revision), str)


def check_content(path: Path, file, repo: str) -> None:
    """Compares a large file with the SHA-256 that the Hub tells; deletes it and raises BadFile where it differs."""
    if file.lfs and file_digest(path) != file.lfs.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise BadFile(
            f"{repo}: {file.rfilename} came damaged (another checksum) and was deleted; run the command again"
        )
