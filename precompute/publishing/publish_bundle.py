"""A bundle in a repository of the Hugging Face Hub: private unless its subject is simulated."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from precompute.publishing.hub_repository import (
    Files,
    ask_to_delete,
    check_ordinary,
    list_files,
    make_identical,
    told_in_one_sentence,
)
from recon.bundle.manifest import check_files, read_manifest
from recon.files import BadFile


def bundle_files(folder: Path, manifest: dict) -> Files:
    """What a page reads of a bundle, by name. Raises BadFile if a file is missing, damaged or a link to another."""
    files = {name: folder / name for name in ("manifest.json", *manifest["files"])}
    check_files(folder, manifest)
    check_ordinary(folder, files)
    return files


def model_card(manifest: dict) -> str:
    """README.md of a bundle's repository."""
    subject = "simulated" if manifest["simulated"] else "real"
    return f"""---
license: {"mit" if manifest["simulated"] else "other"}
tags:
  - fmri
  - brain-decoding
---

# Bundle of {manifest["name"]}

A {subject} subject of the Brain → Image explorer: test responses, regressors, voxel scores and captions
(`{manifest["format"]}`, version {manifest["version"]}; decoders: {manifest["decoders"]}).
`manifest.json` holds the size and SHA-256 of each file.
{"" if manifest["simulated"] else PRIVATE}
Open it with `RECON_BUNDLE=hub:USER/NAME@REVISION python app.py`.
"""


PRIVATE = """
The data behind it may be used for research by those who have accepted its terms, and may not be redistributed: this
repository has to stay private.
"""


def publish_bundle(folder: Path, repo: str, public: bool, dry_run: bool, yes: bool = False) -> str | None:
    """Uploads a bundle to a model repository. Returns `hub:USER/NAME@REVISION`, or None after a dry run.

    yes: other files in the repository are deleted without a question.
    Raises BadFile: a bad bundle, a real subject that would be public, a no to that question, or a failure of the Hub.
    """
    manifest = read_manifest(folder)
    if public and not manifest["simulated"]:
        raise BadFile(f"{manifest['name']} is a real subject, whose data may not be redistributed: leave out --public")
    files = bundle_files(folder, manifest) | {"README.md": model_card(manifest).encode()}
    print(list_files(files))
    if dry_run:
        return None
    with told_in_one_sentence(repo):
        api, private = HfApi(), not (public or manifest["simulated"])
        api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise BadFile(f"{repo} is public and {manifest['name']} a real subject: make it private, or name another")
        stale = ask_to_delete(api, repo, "model", files, yes)
        revision = make_identical(api, repo, "model", files, stale)
    return f"hub:{repo}@{revision}"
