"""Fetching NSD from local servers that play the public ones. No outside network."""

import errno
import shutil
from pathlib import Path

import pytest
from published import serve_bucket
from stand_ins import Tap, kill_ten_times, noise, occupy, point_hub_at, put_repository, tree
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.fetching import download, fetch_nsd
from precompute.folder_lock import LOCK
from recon.files import BadFile, load_json, save_json

STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
DECOYS = [
    "nsddata/ppdata/subj02/func1pt8mm/roi/nsdgeneral.nii.gz",
    "nsddata/ppdata/subj01/func1pt8mm/roi/lh.prf-visualrois.nii.gz",
    "nsddata/ppdata/subj01/func1mm/roi/nsdgeneral.nii.gz",
    f"{BETAS}/betas_session01.nii.gz",
    f"{BETAS}/betas_session03.hdf5",
    f"{BETAS}/R2.nii.gz",
]
PART = 5 << 20  # the smallest that S3 takes


@pytest.fixture(scope="module")
def bucket():
    """A miniature bucket, on a server of the same protocol: name -> content. Optional: one transform of eight exists."""
    server, _, client = serve_bucket()
    names = [*fetch_nsd.required_keys(1, 2, "hdf5"), fetch_nsd.optional_keys(1)[0], *DECOYS]
    content = {name: noise(name, 3000) for name in names} | {STIMULI: noise(STIMULI, 2 * PART + 12345)}
    for name in set(names) - {STIMULI}:
        client.put_object(Bucket=fetch_nsd.BUCKET, Key=name, Body=content[name], ACL="public-read")
    put_in_parts(client, STIMULI, content[STIMULI])
    yield client, server.get_host_and_port()[1], content
    server.stop()


def put_in_parts(client, key: str, content: bytes) -> None:
    at = {"Bucket": fetch_nsd.BUCKET, "Key": key}
    at["UploadId"] = client.create_multipart_upload(ACL="public-read", **at)["UploadId"]
    pieces = [content[i : i + PART] for i in range(0, len(content), PART)]
    tags = [client.upload_part(PartNumber=n, Body=piece, **at)["ETag"] for n, piece in enumerate(pieces, 1)]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **at)


@pytest.fixture
def s3(bucket, shelf, monkeypatch):
    """The bucket, behind a tap, and the captions; both in the place of the public servers."""
    put_repository(shelf, fetch_nsd.CAPTIONS_REPO, {fetch_nsd.CAPTIONS: noise("captions", 5000)}, "datasets")
    tap = Tap(bucket[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", tap.url())
    point_hub_at(shelf.url(), monkeypatch)
    return tap


def fetch(root: Path, **kwargs) -> list[str]:
    return fetch_nsd.fetch_nsd(root, (1,), sessions=2, accept_terms=True, **kwargs)


def expected_names(content) -> set[str]:
    return set(content) - set(DECOYS) | {fetch_nsd.CAPTIONS, fetch_nsd.MANIFEST}


def test_just_the_files_of_the_subject_come(bucket, s3, tmp_path, capsys):
    assert fetch(tmp_path) == []  # every checksum, those of files uploaded in parts too, was compared
    got = tree(tmp_path)
    assert set(got) == expected_names(bucket[2])
    assert all(got[name] == content for name, content in bucket[2].items() if name in got)
    out = capsys.readouterr().out
    assert "will not distribute this dataset or its components" in out and "10.6MB in all" in out


def test_a_finished_tree_is_not_downloaded_again(s3, tmp_path):
    fetch(tmp_path)
    before, sent = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}, s3.sent
    fetch(tmp_path)
    assert s3.sent - sent < 30_000  # listing only
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_nifti_betas_are_fetched_on_demand():
    keys = fetch_nsd.required_keys(4, fetch_nsd.SESSIONS[3], "nii.gz")
    betas = [key for key in keys if "betas_session" in key]
    assert len(betas) == 30
    assert betas[-1].endswith("subj04/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session30.nii.gz")


def test_nothing_comes_unless_the_terms_are_accepted(s3, tmp_path):
    result = CliRunner().invoke(app, ["fetch", "nsd", "--sessions", "2", "--root", str(tmp_path / "nsd")])
    assert result.exit_code == 1 and "--accept-terms" in result.stderr and "Terms-and-Conditions" in result.stdout
    assert not (tmp_path / "nsd").exists()


def test_more_sessions_than_the_subject_has_are_refused(s3, tmp_path):
    with pytest.raises(BadFile, match="subject 3 has sessions 1 to 32, 40 were asked for"):
        fetch_nsd.fetch_nsd(tmp_path, (3,), sessions=40, accept_terms=True)


def test_after_an_interruption_only_the_rest_is_downloaded(bucket, s3, tmp_path):
    s3.cut_after(6 * 1000 * 1000)
    with pytest.raises(
        BadFile, match=r"(?s)^[^\n]*nsd_stimuli.hdf5 could not be fetched[^\n]*run the same command again"
    ):
        fetch(tmp_path)
    (part,) = tmp_path.rglob(".nsd_stimuli.hdf5.*.part")
    rest, sent = len(bucket[2][STIMULI]) - part.stat().st_size, s3.sent
    assert 4_000_000 < rest < 7_000_000
    fetch(tmp_path)
    assert rest <= s3.sent - sent < rest + 100_000
    assert (tmp_path / STIMULI).read_bytes() == bucket[2][STIMULI] and not part.exists()


@pytest.mark.parametrize("name", [STIMULI, f"{BETAS}/ncsnr.nii.gz"], ids=["in parts", "in one part"])
def test_a_wrong_checksum_deletes_the_file_and_names_it(bucket, s3, tmp_path, name):
    remote = fetch_nsd.s3_remote(fetch_nsd.open_bucket(), name)
    part = download.partial(remote, tmp_path / name)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 1000)
    with pytest.raises(BadFile, match=f"{name} came damaged .has another checksum. and was deleted"):
        fetch(tmp_path)
    assert not part.exists() and not (tmp_path / name).exists()
    fetch(tmp_path)
    assert (tmp_path / name).read_bytes() == bucket[2][name]


def test_a_file_of_the_wrong_size_is_fetched_again(bucket, s3, tmp_path):
    fetch(tmp_path)
    with open(tmp_path / STIMULI, "ab") as f:
        f.write(b"more")
    fetch(tmp_path)
    assert (tmp_path / STIMULI).read_bytes() == bucket[2][STIMULI]


def test_a_whole_file_that_the_manifest_does_not_know_is_kept_if_its_checksum_is_right(s3, tmp_path):
    fetch(tmp_path)
    manifest = load_json(tmp_path / fetch_nsd.MANIFEST)
    save_json(tmp_path / fetch_nsd.MANIFEST, {k: v for k, v in manifest.items() if k != STIMULI})
    sent = s3.sent
    fetch(tmp_path)
    assert s3.sent - sent < 30_000
    assert load_json(tmp_path / fetch_nsd.MANIFEST) == manifest


def test_an_unknowable_checksum_is_reported_and_not_fatal(bucket, s3, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_nsd, "_part_size", lambda *_: None)
    assert fetch(tmp_path) == [STIMULI]


def test_a_missing_file_is_named_before_anything_is_fetched(bucket, s3, tmp_path):
    client, _, content = bucket
    key = f"{BETAS}/ncsnr.nii.gz"
    client.delete_object(Bucket=fetch_nsd.BUCKET, Key=key)
    try:
        with pytest.raises(BadFile, match=f"has no {key}: nothing was fetched"):
            fetch(tmp_path)
    finally:
        client.put_object(Bucket=fetch_nsd.BUCKET, Key=key, Body=content[key], ACL="public-read")
    assert tree(tmp_path) == {}


def test_a_disk_too_small_is_refused_before_anything_is_fetched(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(BadFile, match="10.6MB are still to be fetched, but only 1.00MB are free"):
        fetch(tmp_path)
    assert tree(tmp_path) == {}


class FullDisk:
    """A file on a disk with room for so many bytes more."""

    def __init__(self, file, room: int):
        self.file, self.room = file, room

    def write(self, data: bytes) -> None:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_disk_that_fills_up_keeps_what_came(bucket, s3, tmp_path, monkeypatch):
    def open_on_full_disk(path, mode):
        file = open(path, mode)
        return FullDisk(file, 3 << 20) if "stimuli" in str(path) and mode == "ab" else file

    with monkeypatch.context() as patch:
        patch.setattr(download, "open", open_on_full_disk, raising=False)
        with pytest.raises(BadFile, match="nsd_stimuli.hdf5: the disk is full; free some space"):
            fetch(tmp_path)
    (part,) = tmp_path.rglob(".nsd_stimuli.hdf5.*.part")
    assert part.stat().st_size == 3 << 20
    sent = s3.sent
    fetch(tmp_path)
    assert s3.sent - sent < len(bucket[2][STIMULI]) - (3 << 20) + 100_000


def test_an_unreachable_server_is_one_sentence(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = CliRunner().invoke(app, ["fetch", "nsd", "--accept-terms", "--root", str(tmp_path)])
    assert result.exit_code == 1
    assert "nsd_expdesign.mat could not be fetched (EndpointConnectionError" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_killed_ten_times_the_data_are_those_of_an_uninterrupted_fetch(s3, shelf, tmp_path):
    fetch(tmp_path / "whole")
    hub = Tap(shelf.server_port)
    s3.rate = hub.rate = 6e6
    env = {"AWS_ENDPOINT_URL_S3": s3.url(), "HF_ENDPOINT": hub.url(), "HF_HOME": str(tmp_path / "hf")}
    arguments = ["nsd", "--sessions", "2", "--accept-terms", "--root", str(tmp_path / "killed")]
    inside = kill_ten_times(arguments, env, [s3, hub], tmp_path / "killed", 1_500_000)
    assert len(inside) > 3, inside
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_two_downloads_never_write_in_one_folder(s3, tmp_path):
    other = occupy(tmp_path)
    with pytest.raises(BadFile, match=f"is being worked in by process {other}"):
        fetch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_what_another_download_has_written_down_is_kept(s3, tmp_path, monkeypatch):
    def meanwhile(folder, needed):
        save_json(tmp_path / fetch_nsd.MANIFEST, {"another file": {"size": 1, "etag": "x", "verified": True}})

    monkeypatch.setattr(fetch_nsd, "check_space", meanwhile)
    fetch(tmp_path)
    assert "another file" in load_json(tmp_path / fetch_nsd.MANIFEST)
