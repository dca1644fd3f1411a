"""Fetching MindEye2's files of one subject from local servers that play the Hub and NSD's bucket."""

import pytest
from published import serve_bucket
from stand_ins import noise, point_hub_at, put_repository, tree
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.fetching import fetch_mindeye2, fetch_nsd
from precompute.fetching.download import partial

WANTED = {
    "betas_all_subj02_fp32_renorm.hdf5": 4000,
    "coco_images_224_float16.hdf5": 9000,
    "wds/subj02/train/0.tar": 500,
    "wds/subj02/train/1.tar": 600,
    "wds/subj02/new_test/0.tar": 700,
}
DECOYS = ("betas_all_subj01_fp32_renorm.hdf5", "wds/subj01/train/0.tar", "wds/subj02/test/0.tar", "human_trials.tar")


@pytest.fixture
def servers(shelf, monkeypatch):
    """Both of them; returns the repository's files."""
    server, url, client = serve_bucket()
    for key in fetch_nsd.place_keys(2):
        client.put_object(Bucket=fetch_nsd.BUCKET, Key=key, Body=noise(key, 300), ACL="public-read")
    content = {name: noise(name, size) for name, size in WANTED.items()} | {name: noise(name, 400) for name in DECOYS}
    put_repository(shelf, fetch_mindeye2.REPOSITORY, content, "datasets")
    put_repository(shelf, fetch_nsd.CAPTIONS_REPO, {fetch_nsd.CAPTIONS: noise("captions", 5000)}, "datasets")
    point_hub_at(shelf.url(), monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    yield content
    server.stop()


def run(root, *options):
    return CliRunner().invoke(app, ["fetch", "mindeye2", "--subject", "2", "--root", str(root), *options])


def test_just_the_files_of_the_subject_come_and_their_size_is_told_first(servers, tmp_path):
    root = tmp_path / "mindeye2"
    refused = run(root)
    assert refused.exit_code == 1 and "--accept-terms" in refused.stderr and not root.exists()
    assert "will not distribute this dataset" in refused.stdout and "24.0kB in all" in refused.stdout
    result = run(root, "--accept-terms")
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    assert f"import mindeye2 {root} --subject 2" in result.stdout
    got = tree(root)
    assert {name: got[name] for name in WANTED} == {name: servers[name] for name in WANTED}
    places = set(fetch_nsd.place_keys(2))
    assert set(got) == WANTED.keys() | places | {fetch_nsd.CAPTIONS, fetch_nsd.MANIFEST}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert run(root, "--accept-terms").exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_a_damaged_file_is_fetched_anew_and_one_that_broke_off_goes_on(servers, tmp_path):
    root = tmp_path / "mindeye2"
    assert run(root, "--accept-terms").exit_code == 0
    betas = root / "betas_all_subj02_fp32_renorm.hdf5"
    betas.unlink()
    remote = next(r for r in fetch_nsd.hub_remotes(fetch_mindeye2.REPOSITORY, (betas.name,), None)[0])
    part = partial(remote, betas)
    part.write_bytes(servers[betas.name][:1500])
    result = run(root, "--accept-terms")
    assert result.exit_code == 0 and "2.5kB to fetch" in result.stdout.replace("2.50kB", "2.5kB")
    assert betas.read_bytes() == servers[betas.name]
