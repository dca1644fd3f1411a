"""MindEye2's files of one subject of NSD, from the Hub, and where its voxels are, from NSD's bucket."""

from __future__ import annotations

from pathlib import Path

from precompute.fetching.fetch_nsd import (
    CAPTIONS,
    TERMS,
    bucket_remotes,
    captions_remote,
    fetch_all,
    hub_remotes,
    known_revision,
    place_keys,
)
from precompute.importing.mindeye2 import IMAGES, betas_name

REPOSITORY = "pscotti/mindeyev2"


def wanted_files(subject: int) -> tuple[str, ...]:
    """Names and patterns: all trials of the subject are in `train` and `new_test`."""
    trials = (f"wds/subj{subject:02d}/{split}/*.tar" for split in ("train", "new_test"))
    return betas_name(subject), IMAGES, *trials


def fetch_mindeye2(root: Path, subject: int = 1, accept_terms: bool = False) -> list[str]:
    """Fetches what is not yet below `root`; prints terms and totals first. Returns the files without known checksum.

    Raises BadFile, before anything is fetched, when the terms are not accepted, a file does not exist or the disk is too small;
    later, when the network or the disk fails: then the next call goes on where this one stopped.
    """
    print(TERMS)
    files, revision = hub_remotes(REPOSITORY, wanted_files(subject), known_revision(root, IMAGES))
    captions, of_captions = captions_remote(known_revision(root, CAPTIONS))
    places = bucket_remotes(dict.fromkeys(place_keys(subject), True))
    revisions = {file.name: revision for file in files} | {captions.name: of_captions}
    return fetch_all(root, [*files, captions, *places], revisions, accept_terms)
