"""Publishing a Space and a bundle with the real client, to a local server that plays the Hub. No outside network."""

import errno
import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import huggingface_hub
import pytest
import typer
from conftest import write_tiny_bundle
from hub_stand_in import TOKEN, Hub
from huggingface_hub import RepoCard
from stand_ins import point_hub_at

from precompute.publishing.publish_bundle import publish_bundle
from precompute.publishing.publish_space import Space, publish_space, space_card, space_files
from recon.bundle.bundle import load_bundle
from recon.bundle.hub import locate_bundle
from recon.bundle.manifest import write_manifest
from recon.decoders.published_models import MODELS
from recon.files import BadFile, file_digest, load_json, save_json

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("publish") / "bundle")


@pytest.fixture
def real(tiny, tmp_path):
    """The tiny bundle, said to be of a real subject."""
    folder = tmp_path / "real"
    folder.mkdir()
    for path in tiny.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            target = folder / path.relative_to(tiny)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    write_manifest(folder, load_json(tiny / "manifest.json") | {"simulated": False})
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = Hub()
    point_hub_at(server.url(), monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()


def publish(tiny, **changes):
    return publish_space(Space("me/page", str(tiny), **changes), dry_run=False, poll=0)


def front_matter() -> dict:
    return RepoCard((ROOT / "README.md").read_text(encoding="utf-8")).data.to_dict()


def test_front_matter_requirements_and_installed_versions_agree():
    front = front_matter()
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    assert f"gradio=={front['sdk_version']}" in requirements and version("gradio") == front["sdk_version"]
    assert (ROOT / front["app_file"]).exists() and front["sdk"] == "gradio" and front["license"] == "mit"
    low, high = re.search(r'>=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()
    assert int(low) <= int(front["python_version"].split(".")[1]) < int(high)
    assert len(front["short_description"]) <= 60


def test_front_matter_names_the_published_models_and_preloads_files_that_the_page_asks_for():
    front = front_matter()
    assert front["models"] == list(dict.fromkeys(m.source for m in MODELS.values() if not m.is_single_file))
    needed = {m.source: [f for n in MODELS.values() if n.source == m.source for f in n.files] for m in MODELS.values()}
    for line in front["preload_from_hub"]:
        repo, files = line.split(" ")
        assert set(files.split(",")) <= set(needed[repo])


def test_a_space_holds_what_the_page_needs_and_nothing_else(hub, tiny, capsys):
    assert publish(tiny, hardware="cpu-basic") == hub.url("/spaces/me/page")
    files = hub.repositories["spaces/me/page"]
    assert {
        "app.py",
        "requirements.txt",
        "LICENSE",
        "README.md",
        "recon/ui/server/serve.py",
        "assets/page/page.css",
    } < set(files)
    assert files["assets/bundle/subject.h5"] == (tiny / "subject.h5").read_bytes()
    allowed = ("recon/", "assets/page/", "assets/bundle/", "app.py", "requirements.txt", "LICENSE", "README.md")
    assert all(name.startswith(allowed) for name in files)
    assert hub.settings["variables"] == {"RECON_BUNDLE": "assets/bundle"}
    assert hub.settings["hardware"] == {"flavor": "cpu-basic"}
    printed = capsys.readouterr().out
    assert "assets/bundle/subject.h5" in printed and f"{len(files)} files" in printed
    assert printed.split()[-3:] == ["BUILDING", "APP_STARTING", "RUNNING"]


def test_a_space_lacks_no_module_and_no_file_of_the_page_but_screenshots(tiny):
    files, _ = space_files(str(tiny))
    for folder in ("recon", "assets/page"):
        here = {p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix not in (".webp", ".pyc")}
        assert {str(p.relative_to(ROOT)) for p in here} == {n for n in files if n.startswith(folder)}


def test_an_update_removes_what_is_gone_and_sends_no_large_file_twice(hub, tiny):
    publish(tiny)
    hub.store("spaces/me/page", hub.repositories["spaces/me/page"] | {"old.py": b"", ".gitattributes": b""})
    hub.asked.clear()
    publish(tiny, yes=True)
    assert "old.py" not in hub.repositories["spaces/me/page"]
    assert ".gitattributes" in hub.repositories["spaces/me/page"]
    assert not [path for method, path in hub.asked if method == "PUT"]


def listed_in_manifest(folder: Path, name: str) -> None:
    """Makes the manifest name one more file, with its true size and digest where there is one."""
    content, path = load_json(folder / "manifest.json"), folder / name
    entry = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    save_json(folder / "manifest.json", content | {"files": content["files"] | {name: entry}})


@pytest.mark.parametrize("name", ["ABSOLUTE", "../secret", "diffusion/../../secret", "secret", "README.md", ".env"])
def test_no_file_but_those_of_a_bundle_is_published_whatever_its_manifest_names(hub, tiny, tmp_path, name):
    folder = tmp_path / "from elsewhere"
    shutil.copytree(tiny, folder)
    name = str(tmp_path / "secret") if name == "ABSOLUTE" else name
    for path in (tmp_path / "secret", folder / name):
        path.write_text("hf_do_not_tell")
    listed_in_manifest(folder, name)
    for send in (lambda: publish(folder), lambda: publish_bundle(folder, "me/bundle", public=True, dry_run=False)):
        with pytest.raises(BadFile, match="the manifest lists .*, which is no file of a bundle"):
            send()
    assert not hub.asked


def link_a_file(folder: Path) -> None:
    (folder / "captions.h5").rename(folder.parent / "captions.h5")
    (folder / "captions.h5").symlink_to(folder.parent / "captions.h5")


def link_a_folder(folder: Path) -> None:
    (folder / "diffusion").rename(folder.parent / "diffusion")
    (folder / "diffusion").symlink_to(folder.parent / "diffusion")


def link_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


@pytest.mark.parametrize("link", [link_a_file, link_a_folder, link_the_manifest], ids=lambda f: f.__name__)
def test_symbolic_links_in_a_bundle_are_not_published(hub, tiny, tmp_path, link):
    folder = tmp_path / "from elsewhere"
    shutil.copytree(tiny, folder)
    link(folder)
    with pytest.raises(BadFile, match="is a symbolic link or no file: put a copy in its place"):
        publish_bundle(folder, "me/bundle", public=True, dry_run=False)
    assert not hub.asked


@pytest.fixture
def checkout(tmp_path):
    """A small git checkout with a page's source."""
    root = tmp_path / "checkout"
    (root / "recon").mkdir(parents=True)
    (root / "recon" / "a.py").write_text("x = 1")
    shutil.copy(ROOT / "README.md", root)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def test_only_tracked_source_files_are_published(tiny, checkout):
    (checkout / "recon" / "my_keys.py").write_text("TOKEN = 'hf_do_not_tell'")
    (checkout / "app.py").write_text("not added")
    files, _ = space_files(str(tiny), checkout)
    assert {name for name in files if not name.startswith("assets/bundle/")} == {"recon/a.py", "README.md"}


def test_a_tracked_source_file_that_is_a_link_is_not_published(tiny, checkout, tmp_path):
    (tmp_path / "secret").write_text("hf_do_not_tell")
    (checkout / "recon" / "a.py").unlink()
    (checkout / "recon" / "a.py").symlink_to(tmp_path / "secret")
    with pytest.raises(BadFile, match="recon/a.py is a symbolic link"):
        space_files(str(tiny), checkout)


def test_source_that_git_does_not_know_is_not_published(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(BadFile, match="expected .* to be a git checkout"):
        space_files(str(tiny), tmp_path)


@pytest.mark.parametrize("answer", [False, None])
def test_files_of_a_repository_that_is_there_are_not_deleted_without_a_yes(hub, tiny, capsys, monkeypatch, answer):
    def confirm(_):
        if answer is None:
            raise typer.Abort  # nobody is there to answer
        return answer

    monkeypatch.setattr(typer, "confirm", confirm)
    hub.create("spaces/me/page", private=False)
    hub.store("spaces/me/page", {"thesis.tex": b"years of work"})
    with pytest.raises(BadFile, match="me/page was left as it is: its 1 other files would be deleted; agree by --yes"):
        publish(tiny, secrets=("HF_TOKEN",))
    assert hub.repositories["spaces/me/page"] == {"thesis.tex": b"years of work"} and not hub.settings["secrets"]
    assert "thesis.tex" in capsys.readouterr().out
    hub.create("models/me/bundle", private=False)
    hub.store("models/me/bundle", {"weights.bin": b"more work"})
    with pytest.raises(BadFile, match="me/bundle was left as it is"):
        publish_bundle(tiny, "me/bundle", public=True, dry_run=False)
    assert hub.repositories["models/me/bundle"] == {"weights.bin": b"more work"}
    monkeypatch.setattr(typer, "confirm", lambda _: True)
    publish(tiny)
    assert "thesis.tex" not in hub.repositories["spaces/me/page"]


def test_of_a_bundle_on_the_hub_only_known_names_are_downloaded(hub, tiny):
    publish_bundle(tiny, "me/bundle", public=True, dry_run=False)
    files = hub.repositories["models/me/bundle"] | {"pipeline.py": b"import os", "diffusion/evil.py": b"import os"}
    folder = locate_bundle(f"hub:me/bundle@{hub.store('models/me/bundle', files)}")
    here = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert here == {"manifest.json", *load_json(tiny / "manifest.json")["files"]}


def test_a_dry_run_lists_and_asks_the_hub_nothing(hub, tiny, capsys):
    assert publish_space(Space("me/page", str(tiny)), dry_run=True) is None
    assert "app.py" in capsys.readouterr().out and not hub.asked


def test_secrets_come_from_the_environment_and_are_not_printed(hub, tiny, capsys, monkeypatch):
    with pytest.raises(BadFile, match="secret KEY_OF_MINE: expected its value in the environment variable"):
        publish(tiny, secrets=("KEY_OF_MINE",))
    monkeypatch.setenv("KEY_OF_MINE", "do not tell")
    publish(tiny, secrets=("KEY_OF_MINE",))
    assert hub.settings["secrets"] == {"KEY_OF_MINE": "do not tell"}
    assert "do not tell" not in capsys.readouterr().out


def test_a_refused_token_is_one_sentence(hub, tiny, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(BadFile, match="me/page could not be published; the Hub does not accept the token: log in"):
        publish(tiny)


def test_a_full_account_is_one_sentence_and_leaves_the_space_as_it_was(hub, tiny):
    hub.create("spaces/me/page", private=False)
    hub.quota = 1000
    with pytest.raises(BadFile, match="me/page could not be published; the Hub refuses files of this size"):
        publish(tiny)
    assert hub.repositories["spaces/me/page"] == {}


def test_an_interrupted_upload_changes_nothing_and_a_rerun_sends_the_rest(hub, tiny, monkeypatch):
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda _: None)  # between the client's retries
    hub.uploads_left = 3
    with pytest.raises(BadFile, match="run the same command again: what has arrived is not sent twice"):
        publish(tiny)
    assert hub.repositories["spaces/me/page"] == {} and len(hub.large) == 3
    hub.uploads_left = 10**6
    hub.asked.clear()
    publish(tiny)
    sent = [path for method, path in hub.asked if method == "PUT"]
    assert len(sent) == len(hub.large) - 3 and "app.py" in hub.repositories["spaces/me/page"]


def test_a_failed_build_prints_its_log(hub, tiny, capsys):
    hub.stages = ["BUILDING", "BUILD_ERROR"]
    hub.build_log = "ERROR: no matching distribution for torch\n"
    with pytest.raises(BadFile, match="me/page does not run: it ended in BUILD_ERROR; its log is above"):
        publish(tiny)
    assert "no matching distribution for torch" in capsys.readouterr().out


def test_a_real_subject_goes_to_a_private_space_only(hub, real):
    with pytest.raises(BadFile, match="is a real subject, whose data may not be redistributed: add --private"):
        publish(real)
    hub.create("spaces/me/page", private=False)
    with pytest.raises(BadFile, match="me/page is there and public: make it private"):
        publish(real, private=True)
    assert hub.repositories["spaces/me/page"] == {}


def test_a_simulated_bundle_is_public_and_opens_by_its_pinned_revision(hub, tiny, capsys):
    reference = publish_bundle(tiny, "me/bundle", public=False, dry_run=False)
    assert hub.private["models/me/bundle"] is False
    assert re.fullmatch("hub:me/bundle@[0-9a-f]{40}", reference)
    folder = locate_bundle(reference)
    assert json.loads((folder / "manifest.json").read_text()) == load_json(tiny / "manifest.json")
    assert (folder / "subject.h5").read_bytes() == (tiny / "subject.h5").read_bytes()
    hub.asked.clear()
    assert locate_bundle(reference) == folder and not hub.asked  # cached: no network


def test_a_bundle_of_which_a_part_is_missing_in_the_cache_is_completed(hub, tiny):
    reference = publish_bundle(tiny, "me/bundle", public=False, dry_run=False)
    folder = locate_bundle(reference)
    (folder / "captions.h5").unlink()
    assert (locate_bundle(reference) / "captions.h5").read_bytes() == (tiny / "captions.h5").read_bytes()


def test_a_real_subject_is_private_and_cannot_be_made_public(hub, real):
    with pytest.raises(BadFile, match="tiny is a real subject, .*: leave out --public$"):
        publish_bundle(real, "me/bundle", public=True, dry_run=False)
    assert not hub.asked
    publish_bundle(real, "me/bundle", public=False, dry_run=False)
    assert hub.private["models/me/bundle"] is True
    assert b"has to stay private" in hub.repositories["models/me/bundle"]["README.md"].replace(b"\n", b" ")


def test_a_real_subject_is_not_put_into_a_public_repository_that_is_there_already(hub, real):
    hub.create("models/me/bundle", private=False)
    with pytest.raises(BadFile, match="me/bundle is public and tiny a real subject"):
        publish_bundle(real, "me/bundle", public=False, dry_run=False)
    assert hub.repositories["models/me/bundle"] == {}


def test_a_space_of_a_bundle_on_the_hub_uploads_none(hub, tiny):
    reference = publish_bundle(tiny, "me/bundle", public=False, dry_run=False)
    publish(reference)
    assert not [name for name in hub.repositories["spaces/me/page"] if name.startswith("assets/bundle")]
    assert hub.settings["variables"] == {"RECON_BUNDLE": reference}


@pytest.mark.parametrize("name", ["hub:me/bundle", "hub:me/bundle@main", "hub:me/bundle@0123abc"])
def test_a_reference_without_a_whole_revision_is_refused(name):
    with pytest.raises(BadFile, match="expected hub:USER/NAME@REVISION with a revision of 40 hexadecimal digits"):
        locate_bundle(name)


def test_a_bundle_that_the_hub_does_not_have_is_one_sentence(hub):
    with pytest.raises(BadFile, match="^bundle me/none at 00000000 could not be fetched [^\n]*: check the name"):
        locate_bundle("hub:me/none@" + "0" * 40)


def test_a_full_disk_is_one_sentence_and_the_bundle_comes_when_there_is_room(hub, tiny, monkeypatch):
    reference = publish_bundle(tiny, "me/bundle", public=False, dry_run=False)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(
            BadFile, match="^bundle me/bundle at [0-9a-f]{8} could not be fetched [^\n]*No space left on device"
        ):
            locate_bundle(reference)
    assert load_bundle(locate_bundle(reference)).manifest["name"] == load_bundle(tiny).manifest["name"]


def test_a_bundle_of_published_decoders_that_were_not_fetched_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_LOCK", str(tmp_path / "none.json"))
    with pytest.raises(BadFile, match="fetch it with `python -m precompute fetch models`"):
        space_card((ROOT / "README.md").read_text(encoding="utf-8"), published=True)


def test_a_space_with_its_own_decoders_preloads_none(tiny):
    files, _ = space_files(str(tiny))
    card = RepoCard(files["README.md"].decode())
    assert "preload_from_hub" not in card.data and card.data["sdk_version"] == version("gradio")
