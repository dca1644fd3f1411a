"""Fetching: from a local S3 and a local HTTP server that play the public ones. No outside network."""

import base64
import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import boto3
import huggingface_hub
import pytest
from moto.server import ThreadedMotoServer
from stand_ins import Shelf, Tap, put_repository
from typer.testing import CliRunner

from precompute import download, fetch_nsd
from precompute.__main__ import app
from precompute.fetch_models import fetch_models
from recon import models
from recon.files import BadFile, load_json, save_json

ROOT = Path(__file__).parents[1]
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


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


@pytest.fixture(scope="module")
def bucket():
    """A miniature bucket, on a server of the same protocol: name -> content. Optional: one transform of eight exists."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
    client.create_bucket(Bucket=fetch_nsd.BUCKET, ACL="public-read")
    names = [*fetch_nsd.required_keys(1, 2, "hdf5"), fetch_nsd.optional_keys(1)[0], *DECOYS]
    content = {name: noise(name, 3000) for name in names} | {STIMULI: noise(STIMULI, 2 * PART + 12345)}
    for name in set(names) - {STIMULI}:
        client.put_object(Bucket=fetch_nsd.BUCKET, Key=name, Body=content[name], ACL="public-read")
    put_in_parts(client, STIMULI, content[STIMULI])
    yield client, port, content
    server.stop()


def put_in_parts(client, key: str, content: bytes) -> None:
    at = {"Bucket": fetch_nsd.BUCKET, "Key": key}
    at["UploadId"] = client.create_multipart_upload(ACL="public-read", **at)["UploadId"]
    pieces = [content[i : i + PART] for i in range(0, len(content), PART)]
    tags = [client.upload_part(PartNumber=n, Body=piece, **at)["ETag"] for n, piece in enumerate(pieces, 1)]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **at)


@pytest.fixture
def shelf():
    server = Shelf()
    yield server
    server.shutdown()


@pytest.fixture
def s3(bucket, shelf, monkeypatch):
    """The bucket, behind a tap, and the captions; both in the place of the public servers."""
    put_repository(shelf, fetch_nsd.CAPTIONS_REPO, {fetch_nsd.CAPTIONS: noise("captions", 5000)}, "datasets")
    tap = Tap(bucket[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", tap.url())
    point_hub_at(shelf.url(), monkeypatch)
    return tap


def point_hub_at(url: str, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


def fetch(root: Path, **kwargs) -> list[str]:
    return fetch_nsd.fetch_nsd(root, (1,), sessions=2, accept_terms=True, **kwargs)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


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


WEIGHTS = noise("weights", 3_000_000)
UNWANTED = {"README.md": b"read me", "pytorch_model.bin": b"a duplicate", "safety_checker/model.safetensors": b"no"}
URL = "/very-deep-vaes-assets/imagenet64-iter-1600000-model-ema.th"


def repository_files(model: models.Model) -> dict[str, bytes]:
    names = [pattern.replace("*", "vocab") for pattern in model.files]
    wanted = {name: noise(name, 200_000 if name.endswith("safetensors") else 300) for name in names}
    return wanted | {k: v for k, v in UNWANTED.items() if k not in wanted}


@pytest.fixture
def hub(shelf, tmp_path, monkeypatch):
    """All models, behind a tap, in the place of the public servers; cache, models folder and lock below tmp_path."""
    shelf.put(URL, WEIGHTS, Content_MD5=base64.b64encode(hashlib.md5(WEIGHTS).digest()).decode())
    for model in models.MODELS.values():
        if not model.is_single_file:
            put_repository(shelf, model.source, repository_files(model))
    tap = Tap(shelf.server_port)
    point_hub_at(tap.url(), monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("RECON_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(models.MODELS, "vdvae", replace(models.MODELS["vdvae"], source=tap.url(URL)))
    return tap


def test_just_the_needed_files_of_the_models_come_and_their_revisions_are_written_down(hub, tmp_path):
    lock = tmp_path / "lock.json"
    fetch_models(lock)
    entries = load_json(lock)
    assert list(entries) == ["vdvae", "diffusion", "lcm_lora", "preview", "clip"]
    assert entries["vdvae"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    for name, model in models.MODELS.items():
        path = models.locate(name, lock)
        if model.is_single_file:
            assert path.read_bytes() == WEIGHTS
        else:
            files = {n: c for n, c in repository_files(model).items() if n not in UNWANTED}
            assert tree(path) == files
            assert path.name == entries[name]["revision"]


def test_the_lock_pins_the_revisions_until_an_update(hub, shelf, tmp_path):
    lock = tmp_path / "lock.json"
    fetch_models(lock)
    old = load_json(lock)
    new = put_repository(shelf, models.MODELS["preview"].source, {n: b"new" for n in models.MODELS["preview"].files})
    shutil.rmtree(tmp_path / "hf")
    fetch_models(lock)
    assert load_json(lock) == old
    assert models.locate("preview", lock).name == old["preview"]["revision"] != new
    fetch_models(lock, update=True)
    assert load_json(lock) == old | {"preview": load_json(lock)["preview"]}
    assert models.locate("preview", lock).name == new


def test_models_that_are_there_are_not_asked_for_again(hub, tmp_path):
    fetch_models(tmp_path / "lock.json")
    sent = hub.sent
    fetch_models(tmp_path / "lock.json")
    assert hub.sent == sent


def test_without_a_network_exactly_the_locked_files_are_found(hub, tmp_path):
    lock = tmp_path / "lock.json"
    fetch_models(lock)
    code = f"from recon.models import locate; print(locate('clip', {str(lock)!r}))"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert Path(out.stdout.strip()) == models.locate("clip", lock)


@pytest.mark.parametrize("name", ["vdvae", "diffusion"])
def test_a_missing_model_is_one_sentence_with_the_command_that_fetches_it(hub, tmp_path, name):
    lock = tmp_path / "lock.json"
    sentence = f"^The model '{name}' [^\n]*`python -m precompute fetch models`$"
    with pytest.raises(BadFile, match=sentence):  # no lock
        models.locate(name, lock)
    fetch_models(lock)
    path = models.locate(name, lock)
    file = path if path.is_file() else (path / "unet/config.json").resolve()
    content = file.read_bytes()
    file.write_bytes(content[:-1])  # a truncated file
    with pytest.raises(BadFile, match=sentence):
        models.locate(name, lock)
    shutil.rmtree(tmp_path / ("models" if path.is_file() else "hf"))  # no files
    with pytest.raises(BadFile, match=sentence):
        models.locate(name, lock)


def test_the_checkpoint_goes_on_where_it_broke_off(hub, tmp_path):
    hub.cut_after(1_500_000)
    with pytest.raises(BadFile, match="model-ema.th could not be fetched .* run the same command again to resume"):
        fetch_models(tmp_path / "lock.json")
    (part,) = (tmp_path / "models").glob(".*.part")
    rest, sent = len(WEIGHTS) - part.stat().st_size, hub.sent
    assert 1_400_000 < rest < 2_000_000
    path = models.models_folder() / URL.rsplit("/", 1)[-1]
    download.obtain(download.http_remote(models.MODELS["vdvae"].source), path, lambda n: None)
    assert rest <= hub.sent - sent < rest + 2000
    assert path.read_bytes() == WEIGHTS


def test_a_checkpoint_that_changed_on_the_server_begins_anew(shelf, tmp_path):
    shelf.put("/file", WEIGHTS)
    remote = download.http_remote(shelf.url("/file"))
    download.partial(remote, tmp_path / "file").write_bytes(WEIGHTS[:1000])
    other = noise("other", len(WEIGHTS))
    shelf.put("/file", other)
    assert not download.obtain(remote, tmp_path / "file", lambda n: None)  # the server tells no checksum
    assert (tmp_path / "file").read_bytes() == other


@pytest.mark.parametrize(
    "headers, sentence",
    [
        ({"Claimed_Length": "3001000"}, "broke off after 3,000,000 of 3,001,000 bytes"),
        ({"Claimed_Length": "2999000"}, "came damaged .has 3,000,000 bytes, expected 2,999,000. and was deleted"),
        ({"Content_MD5": base64.b64encode(b"0" * 16).decode()}, "came damaged .has another checksum. and was deleted"),
    ],
    ids=["too short", "too long", "wrong checksum"],
)
def test_a_checkpoint_other_than_announced_is_refused(hub, shelf, tmp_path, headers, sentence):
    shelf.put(URL, WEIGHTS, **headers)
    with pytest.raises(BadFile, match=f"model-ema.th {sentence}"):
        fetch_models(tmp_path / "lock.json")
    assert not (tmp_path / "lock.json").exists()


def test_an_update_replaces_a_checkpoint_of_the_same_size(hub, shelf, tmp_path):
    fetch_models(tmp_path / "lock.json")
    other = noise("other", len(WEIGHTS))
    shelf.put(URL, other)
    fetch_models(tmp_path / "lock.json", update=True)
    assert models.locate("vdvae", tmp_path / "lock.json").read_bytes() == other


@pytest.mark.parametrize("other", [noise("other", len(WEIGHTS)), WEIGHTS + b"1"], ids=["content", "size"])
def test_a_checkpoint_other_than_locked_is_refused(hub, shelf, tmp_path, other):
    lock = tmp_path / "lock.json"
    fetch_models(lock)
    shutil.rmtree(tmp_path / "models")
    shelf.put(URL, other)
    with pytest.raises(BadFile, match="another checksum|--update accepts it"):
        fetch_models(lock)
    fetch_models(lock, update=True)
    assert models.locate("vdvae", lock).read_bytes() == other


def test_what_does_not_exist_is_named(hub, shelf, tmp_path):
    del shelf.files[URL]
    with pytest.raises(BadFile, match="^[^\n]*model-ema.th could not be fetched .HTTPError: 404[^\n]*$"):
        fetch_models(tmp_path / "lock.json")
    shelf.put(URL, WEIGHTS)
    model = models.MODELS["diffusion"]
    files = repository_files(model)
    put_repository(shelf, model.source, {n: c for n, c in files.items() if n != "vae/config.json"})
    with pytest.raises(BadFile, match="dreamshaper-7 has no vae/config.json at revision [0-9a-f]{40}"):
        fetch_models(tmp_path / "lock.json")
    del shelf.files[f"/api/models/{model.source}"]
    with pytest.raises(BadFile, match="^Lykon/dreamshaper-7 could not be fetched [^\n]*404[^\n]*$"):
        fetch_models(tmp_path / "lock.json")
    assert list(load_json(tmp_path / "lock.json")) == ["vdvae"]  # what had come is written down


def test_weights_of_the_hub_with_a_wrong_checksum_are_deleted(hub, shelf, tmp_path):
    source = models.MODELS["lcm_lora"].source
    path = next(p for p in shelf.files if source in p and p.endswith("weights.safetensors"))
    content, headers = shelf.files[path]
    shelf.files[path] = (b"\0" * len(content), headers)
    with pytest.raises(BadFile, match="pytorch_lora_weights.safetensors came damaged"):
        fetch_models(tmp_path / "lock.json")
    shelf.files[path] = (content, headers)
    fetch_models(tmp_path / "lock.json")
    assert (
        models.locate("lcm_lora", tmp_path / "lock.json") / "pytorch_lora_weights.safetensors"
    ).read_bytes() == content


def test_a_disk_too_small_for_the_models_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(BadFile, match="3.00MB are still to be fetched, but only 1.00MB are free"):
        fetch_models(tmp_path / "lock.json")


RUN = """
import dataclasses, sys
from recon import models
models.MODELS["vdvae"] = dataclasses.replace(models.MODELS["vdvae"], source=sys.argv.pop(1))
from precompute.__main__ import app
app()
"""


def start(arguments: list[str], env: dict[str, str]) -> subprocess.Popen:
    url = env.get("VDVAE_URL", "")
    return subprocess.Popen(
        [sys.executable, "-c", RUN, url, "fetch", *arguments], cwd=ROOT, env=os.environ | env, stderr=subprocess.DEVNULL
    )


def kill_ten_times(arguments: list[str], env: dict[str, str], taps: list[Tap], folder: Path, most: int) -> int:
    """Kills the command ten times, each after a random number of bytes below `most`; how often inside of a file."""
    rng, inside = random.Random(0), 0
    for _ in range(10):
        target = sum(tap.sent for tap in taps) + rng.randrange(most)
        process = start(arguments, env)
        while sum(tap.sent for tap in taps) < target and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9, "finished before it was killed: slow the tap down"
        inside += any(p.stat().st_size for pattern in (".*.part", "*.incomplete") for p in folder.rglob(pattern))
    for tap in taps:
        tap.rate = None
    assert start(arguments, env).wait() == 0
    return inside


@pytest.mark.slow
def test_killed_ten_times_the_data_are_those_of_an_uninterrupted_fetch(s3, shelf, tmp_path):
    fetch(tmp_path / "whole")
    hub = Tap(shelf.server_port)
    s3.rate = hub.rate = 6e6
    env = {"AWS_ENDPOINT_URL_S3": s3.url(), "HF_ENDPOINT": hub.url(), "HF_HOME": str(tmp_path / "hf")}
    arguments = ["nsd", "--sessions", "2", "--accept-terms", "--root", str(tmp_path / "killed")]
    assert kill_ten_times(arguments, env, [s3, hub], tmp_path / "killed", 1_500_000) > 3
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_killed_ten_times_the_models_are_those_of_an_uninterrupted_fetch(hub, tmp_path):
    fetch_models(tmp_path / "whole.json")
    hub.rate = 6e6
    env = {"HF_ENDPOINT": hub.url(), "HF_HOME": str(tmp_path / "hf2"), "RECON_MODELS": str(tmp_path / "killed")}
    env |= {"VDVAE_URL": models.MODELS["vdvae"].source}
    arguments = ["models", "--lock", str(tmp_path / "killed.json")]
    assert kill_ten_times(arguments, env, [hub], tmp_path, 400_000) > 3
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert tree(tmp_path / "killed") == tree(tmp_path / "models")
    for repo in (tmp_path / "hf" / "hub").glob("models--*"):
        assert tree(tmp_path / "hf2" / "hub" / repo.name / "snapshots") == tree(repo / "snapshots")
