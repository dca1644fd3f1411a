"""Files of the Natural Scenes Dataset that a subject needs, from its public bucket, in a tree like the bucket's."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from huggingface_hub import HfApi, hf_hub_url
from tqdm import tqdm

from precompute.fetching.download import (
    CHUNK,
    TIMEOUT,
    Remote,
    check_space,
    free_space,
    http_reader,
    obtain,
    one_sentence,
    present,
    progress_bar,
    readable,
    size_of,
)
from precompute.folder_lock import working_in
from recon.files import BadFile, load_json, save_json

BUCKET = "natural-scenes-dataset"
SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)  # of subjects 1 to 8
ROIS = ("prf-visualrois", "floc-faces", "floc-places", "floc-bodies", "floc-words", "streams")
CAPTIONS_REPO, CAPTIONS = "pscotti/naturalscenesdataset", "COCO_73k_annots_curated.npy"
MANIFEST = ".fetched.json"  # {name: {"size", "etag", "verified", "revision" of the captions}}, beside the data
TERMS = (
    "The Natural Scenes Dataset is for research use; who uses it agrees that they "
    '"will not distribute this dataset or its components".\n'
    "Terms and conditions: https://cvnlab.slite.page/p/IB6BSeW_7o/Terms-and-Conditions"
)


def place_keys(subject: int) -> list[str]:
    """Keys of the bucket that say where the voxels of `subject` (1 to 8) are, and how reliable."""
    space = f"subj{subject:02d}/func1pt8mm"
    return [
        *(f"nsddata/ppdata/{space}/roi/{roi}.nii.gz" for roi in ("nsdgeneral", *ROIS)),
        *(f"nsddata/freesurfer/subj{subject:02d}/label/{roi}.mgz.ctab" for roi in ROIS),
        f"nsddata_betas/ppdata/{space}/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz",
    ]


def required_keys(subject: int, n_sessions: int, betas: str) -> list[str]:
    """Keys of the bucket that `subject` (1 to 8) cannot do without; `betas` is "hdf5" or "nii.gz"."""
    estimates = f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    return [
        "nsddata/experiments/nsd/nsd_expdesign.mat",
        *place_keys(subject),
        *(f"{estimates}/betas_session{session:02d}.{betas}" for session in range(1, n_sessions + 1)),
        "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    ]


def optional_keys(subject: int) -> list[str]:
    """Transforms to the cortical surface: one view of the brain more, where they exist."""
    names = [f"func1pt8-to-layerB{depth}" for depth in (1, 2, 3)] + ["white-to-fsaverage"]
    return [f"nsddata/ppdata/subj{subject:02d}/transforms/{h}.{name}.mgz" for h in ("lh", "rh") for name in names]


def open_bucket():
    """An S3 client that needs no account."""
    config = Config(signature_version=UNSIGNED, connect_timeout=TIMEOUT, read_timeout=TIMEOUT)
    with one_sentence(BUCKET):
        return boto3.client("s3", config=config)


def s3_remote(client, key: str) -> Remote | None:
    """An object of the bucket as the server describes it; None where there is none."""
    with one_sentence(key):
        try:
            head = client.head_object(Bucket=BUCKET, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        etag = head["ETag"].strip('"')
        part_size = _part_size(client, key, head["ContentLength"], etag)

    def read(offset: int):
        whole = client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={offset}-", IfMatch=head["ETag"])
        return offset, whole["Body"].iter_chunks(CHUNK)

    md5 = etag if part_size or "-" not in etag else None
    return Remote(key, head["ContentLength"], etag, read, md5, part_size)


def _part_size(client, key: str, size: int, etag: str) -> int | None:
    """Bytes of every part but the last of an object uploaded in parts; None if not so uploaded, or in uneven parts."""
    if "-" not in etag:
        return None
    first = client.head_object(Bucket=BUCKET, Key=key, PartNumber=1)["ContentLength"]
    return first if -(-size // first) == int(etag.rsplit("-", 1)[1]) else None


def captions_remote(revision: str | None) -> tuple[Remote, str]:
    """The captions of all pictures at that, or else the newest, revision of their repository; and the revision."""
    (captions,), revision = hub_remotes(CAPTIONS_REPO, (CAPTIONS,), revision)
    return captions, revision


def hub_remotes(repo: str, wanted: Sequence[str], revision: str | None) -> tuple[list[Remote], str]:
    """Files of a data set on the Hub, by names or patterns, each of which must fit one; and their revision."""
    with one_sentence(repo, (Exception,)):  # the Hub's client raises those of several libraries
        info = HfApi().dataset_info(repo, revision=revision, files_metadata=True)
    remotes = {}
    for pattern in wanted:
        found = [file for file in info.siblings if fnmatchcase(file.rfilename, pattern)]
        if not found:
            raise BadFile(f"{repo} has no {pattern} at revision {info.sha}")
        remotes |= {file.rfilename: _hub_remote(repo, file, info.sha) for file in found}
    return list(remotes.values()), info.sha


def _hub_remote(repo: str, file, revision: str) -> Remote:
    sha256 = file.lfs.sha256 if file.lfs else None
    url = hf_hub_url(repo, file.rfilename, repo_type="dataset", revision=revision)
    return Remote(file.rfilename, file.size, sha256 or file.blob_id, http_reader(url), sha256=sha256)


def list_files(subjects: Sequence[int], sessions: int | None, betas: str) -> list[Remote]:
    """Everything of the bucket that the subjects need, each file once. Raises BadFile if a required one is missing."""
    wanted = {}
    for subject in subjects:
        n_sessions = SESSIONS[subject - 1] if sessions is None else sessions
        if not 1 <= n_sessions <= SESSIONS[subject - 1]:
            raise BadFile(f"subject {subject} has sessions 1 to {SESSIONS[subject - 1]}, {n_sessions} were asked for")
        wanted |= dict.fromkeys(required_keys(subject, n_sessions, betas), True)
        wanted |= dict.fromkeys(optional_keys(subject), False)
    return bucket_remotes(wanted)


def bucket_remotes(wanted: dict[str, bool]) -> list[Remote]:
    """Objects of the bucket: key -> whether it is needed. Raises BadFile if a needed one is missing."""
    client = open_bucket()
    remotes = {key: s3_remote(client, key) for key in tqdm(wanted, desc="listing", unit=" files")}
    missing = [key for key, needed in wanted.items() if needed and remotes[key] is None]
    if missing:
        raise BadFile(f"s3://{BUCKET} has no {' and no '.join(missing)}: nothing was fetched")
    return [remote for remote in remotes.values() if remote]


def fetch_nsd(
    root: Path,
    subjects: Sequence[int] = (1,),
    sessions: int | None = None,
    betas: str = "hdf5",
    accept_terms: bool = False,
) -> list[str]:
    """Fetches what is not yet below `root`; prints terms and totals first. Returns the files without known checksum.

    Raises BadFile, before anything is fetched, when the terms are not accepted, a file does not exist or the disk is
    too small; later, when the network or the disk fails: then the next call goes on where this one stopped.
    """
    print(TERMS)
    remotes = list_files(subjects, sessions, betas)
    captions, revision = captions_remote(known_revision(root, CAPTIONS))
    return fetch_all(root, [*remotes, captions], {captions.name: revision}, accept_terms)


def known_revision(root: Path, name: str) -> str | None:
    """The revision of its repository at which a file below `root` was fetched, if it was."""
    done = load_json(root / MANIFEST) if (root / MANIFEST).exists() else {}
    return done.get(name, {}).get("revision")


def fetch_all(root: Path, remotes: Sequence[Remote], revisions: dict[str, str], accepted: bool) -> list[str]:
    """Fetches what is not yet below `root`, and prints totals first; returns the files without known checksum.

    revisions: those of repositories, by names of files, to be written down. Raises BadFile as `fetch_nsd` does.
    """
    total, there = sum(r.size for r in remotes), sum(present(r, root / r.name) for r in remotes)
    print(f"{len(remotes)} files, {readable(total)} in all; {readable(there)} are in {root} already")
    print(f"{readable(total - there)} to fetch, {readable(free_space(root))} free")
    if not accepted:
        raise BadFile("Nothing was fetched: run again with --accept-terms if you accept the terms of use above")
    check_space(root, total - there)
    with working_in(root), progress_bar(total, there) as bar:
        done = load_json(root / MANIFEST) if (root / MANIFEST).exists() else {}  # another process may have added to it
        for remote in remotes:
            bar.set_postfix_str(Path(remote.name).name)
            extra = {"revision": revisions[remote.name]} if remote.name in revisions else {}
            _fetch(remote, root, done, extra, bar)
    return [remote.name for remote in remotes if not done[remote.name]["verified"]]


def _fetch(remote: Remote, root: Path, done: dict, extra: dict, bar: tqdm) -> None:
    """One file, unless the manifest knows it; what was fetched is written down in the manifest."""
    known = done.get(remote.name, {})
    if known.get("etag") == remote.etag and size_of(root / remote.name) == remote.size:
        return
    verified = obtain(remote, root / remote.name, bar.update)
    done[remote.name] = {"size": remote.size, "etag": remote.etag, "verified": verified} | extra
    save_json(root / MANIFEST, done)
