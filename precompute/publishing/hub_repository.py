"""A repository of the Hugging Face Hub made to hold exactly some files, by the Hub's own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

import typer
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from precompute.fetching.download import readable
from recon.files import BadFile

Files = dict[str, Path | bytes]  # name in the repository -> where it lies here, or what it holds
ADVICE = {
    401: "the Hub does not accept the token: log in with `hf auth login`, or set HF_TOKEN to one that may write",
    402: "the account's plan does not include this: choose other hardware, or change the plan",
    403: "the token may not write there, or the account's storage is full: see the account's settings",
    413: "the Hub refuses files of this size, or the account's storage is full: see the account's settings",
}
PLATFORM_FILES = {".gitattributes"}  # the Hub's own


@contextmanager
def told_in_one_sentence(repo: str) -> Iterator[None]:
    """Turns failures of the Hub, the network and the disk into a BadFile that says what to do."""
    try:
        yield
    except BadFile:
        raise
    except Exception as error:  # the Hub's client raises those of several libraries, which have no common type
        status = _status(error)
        reason = shorten(f"{type(error).__name__}: {error}", 240, placeholder=" …")
        advice = ADVICE.get(status, "run the same command again: what has arrived is not sent twice")
        raise BadFile(f"{repo} could not be published; {advice} ({reason})") from error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error, or what caused it, came with."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status:
            return status
        error = error.__cause__
    return None


def list_files(files: Files) -> str:
    """Sizes and names, one a line, and the total."""
    sizes = {name: len(f) if isinstance(f, bytes) else f.stat().st_size for name, f in sorted(files.items())}
    lines = [f"{readable(size):>8}  {name}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{readable(sum(sizes.values())):>8}  in all, {len(files)} files"])


def check_ordinary(root: Path, files: Files) -> None:
    """Raises BadFile unless each file here lies inside `root` and is reached through no symbolic link below it."""
    for name, path in files.items():
        if isinstance(path, bytes):
            continue
        if not path.is_relative_to(root) or ".." in path.parts:
            raise BadFile(f"expected a file inside {root}, got {path}: nothing else is published")
        below = [path, *path.parents][: len(path.relative_to(root).parts)]
        if any(part.is_symlink() for part in below) or not path.is_file():
            raise BadFile(f"{name} is a symbolic link or no file: put a copy in its place, links are not published")


def ask_to_delete(api: HfApi, repo: str, kind: str, files: Files, yes: bool) -> list[str]:
    """Names in the repository that are not among `files`, once somebody has agreed that they go: by `yes`, or when asked.

    Raises BadFile if the answer is no.
    """
    stale = sorted(set(api.list_repo_files(repo, repo_type=kind)) - files.keys() - PLATFORM_FILES)
    if stale and not yes:
        print("\n".join(f"  deletes  {name}" for name in stale))
        if not _agreed(f"{repo} has {len(stale)} other files, listed above. Delete them?"):
            raise BadFile(f"{repo} was left as it is: its {len(stale)} other files would be deleted; agree by --yes")
    return stale


def _agreed(question: str) -> bool:
    """The answer on the terminal; no where there is none."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False


def make_identical(api: HfApi, repo: str, kind: str, files: Files, stale: list[str]) -> str:
    """One commit that puts `files` into the repository and deletes `stale`. Returns the revision, 40 hexadecimal digits.

    Large files that have arrived before are not sent again, and unchanged ones are left alone.
    """
    operations = [CommitOperationAdd(name, f if isinstance(f, bytes) else str(f)) for name, f in files.items()]
    operations += [CommitOperationDelete(name) for name in stale]
    message = "The page" if kind == "space" else "The bundle"
    return api.create_commit(repo, operations, commit_message=message, repo_type=kind).oid
