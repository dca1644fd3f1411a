"""Fetching and locating the published models, from a local server that plays the public ones. No outside network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from stand_ins import Tap, kill_ten_times, noise, point_hub_at, put_repository, tree

from precompute.fetching import download
from precompute.fetching.fetch_models import fetch_models
from recon.decoders import published_models as models
from recon.files import BadFile, load_json

ROOT = Path(__file__).parents[3]
WEIGHTS = noise("weights", 3_000_000)
UNWANTED = {"README.md": b"read me", "pytorch_model.bin": b"a duplicate", "safety_checker/model.safetensors": b"no"}
URL = "/very-deep-vaes-assets/imagenet64-iter-1600000-model-ema.th"


def repository_files(model: models.Model) -> dict[str, bytes]:
    names = [pattern.replace("*", "vocab") for pattern in model.files]
    wanted = {name: noise(name, 500_000 if name.endswith("safetensors") else 300) for name in names}
    return wanted | {k: v for k, v in UNWANTED.items() if k not in wanted}


def repositories() -> dict[str, dict[str, bytes]]:
    """Source -> the files of its repository, of which two models may have a part each."""
    found: dict[str, dict[str, bytes]] = {}
    for model in models.MODELS.values():
        if not model.is_single_file:
            found[model.source] = found.get(model.source, {}) | repository_files(model)
    return found


@pytest.fixture
def hub(shelf, tmp_path, monkeypatch):
    """All models, behind a tap, in the place of the public servers; cache, models folder and lock below tmp_path."""
    shelf.put(URL, WEIGHTS, Content_MD5=base64.b64encode(hashlib.md5(WEIGHTS).digest()).decode())
    for source, files in repositories().items():
        put_repository(shelf, source, files)
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
    assert list(entries) == ["vdvae", "diffusion", "lcm_lora", "preview", "clip", "ip_adapter", "image_encoder"]
    assert entries["vdvae"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    for name, model in models.MODELS.items():
        path = models.locate(name, lock)
        if model.is_single_file:
            assert path.read_bytes() == WEIGHTS
        else:
            files = {n: c for n, c in repositories()[model.source].items() if n not in UNWANTED}
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
    code = f"from recon.decoders.published_models import locate; print(locate('clip', {str(lock)!r}))"
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


@pytest.mark.slow
def test_killed_ten_times_the_models_are_those_of_an_uninterrupted_fetch(hub, shelf, tmp_path):
    shelf.put(URL, WEIGHTS[:1_000_000])  # small enough for some kills to fall on the files of the Hub
    fetch_models(tmp_path / "whole.json")
    hub.rate = 6e6
    env = {"HF_ENDPOINT": hub.url(), "HF_HOME": str(tmp_path / "hf2"), "RECON_MODELS": str(tmp_path / "killed")}
    env |= {"VDVAE_URL": models.MODELS["vdvae"].source}
    arguments = ["models", "--lock", str(tmp_path / "killed.json")]
    inside = kill_ten_times(arguments, env, [hub], tmp_path, 800_000)
    assert {Path(name).suffix for name in inside} == {".part", ".incomplete"} and len(inside) > 3, inside
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert tree(tmp_path / "killed") == tree(tmp_path / "models")
    for repo in (tmp_path / "hf" / "hub").glob("models--*"):
        assert tree(tmp_path / "hf2" / "hub" / repo.name / "snapshots") == tree(repo / "snapshots")
