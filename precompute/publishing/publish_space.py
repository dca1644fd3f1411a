"""The page as a Hugging Face Space: the files that it needs, its front matter, its hardware, its build."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, RepoCard, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError

from precompute.publishing.hub_repository import (
    Files,
    ask_to_delete,
    check_ordinary,
    list_files,
    make_identical,
    told_in_one_sentence,
)
from precompute.publishing.publish_bundle import bundle_files
from recon.bundle.hub import REFERENCE
from recon.bundle.manifest import read_manifest
from recon.decoders.published_models import MODELS, locate, locked
from recon.environment import ROOT, lock_file
from recon.files import BadFile

CODE = ("app.py", "README.md", "requirements.txt", "LICENSE", "recon/**/*.py")
PAGE = tuple(f"assets/page/**/*.{kind}" for kind in ("html", "js", "css", "json", "svg", "jpg"))
DECODERS = ("diffusion", "lcm_lora", "preview", "ip_adapter")  # published ones that the page reads from the Hub
BUILDING = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
PATIENCE = 1800  # seconds; installing torch alone takes minutes


@dataclass(frozen=True)
class Space:
    """What is wanted. `bundle` is a folder, or `hub:USER/NAME@REVISION`; `secrets` names environment variables.

    yes: other files in the Space are deleted without a question.
    """

    repo: str
    bundle: str
    hardware: str | None = None
    private: bool = False
    secrets: tuple[str, ...] = ()
    yes: bool = False


def space_card(text: str, published: bool) -> str:
    """README.md of the Space: preloads the published decoders at the locked revisions, if the bundle needs them at all."""
    card = RepoCard(text)
    card.data.pop("preload_from_hub")
    if published:
        card.data["preload_from_hub"] = [preload(name) for name in DECODERS]
    return str(card)


def preload(name: str) -> str:
    """A line of `preload_from_hub`: repository, files, revision. Raises BadFile for a model that has not been fetched."""
    locate(name)
    entry = locked(name)
    return f"{MODELS[name].source} {','.join(entry['files'])} {entry['revision']}"


def read_any_manifest(bundle: str) -> tuple[Path, dict]:
    """Folder and manifest of a bundle here or on the Hub, of which only the manifest is downloaded."""
    match = REFERENCE.fullmatch(bundle)
    if match:
        bundle = Path(hf_hub_download(match[1], "manifest.json", revision=match[2])).parent
    return Path(bundle), read_manifest(Path(bundle))


def source_files(root: Path) -> Files:
    """The page's own source, of what git tracks: notes and keys that lie beside it stay here. Raises BadFile without git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadFile(
            f"expected {root} to be a git checkout, of which tracked files are published: clone it"
        ) from error
    tracked = set(listed.split("\0"))
    wanted = {p.relative_to(root).as_posix(): p for pattern in (*CODE, *PAGE) for p in root.glob(pattern)}
    files = {name: path for name, path in wanted.items() if name in tracked}
    check_ordinary(root, files)
    return files


def space_files(bundle: str, root: Path = ROOT) -> tuple[Files, dict[str, str]]:
    """Exactly what the Space needs, and its variables. Raises BadFile: a bad bundle, or decoders that were not fetched."""
    folder, manifest = read_any_manifest(bundle)
    published = manifest["decoders"] == "published"
    files = source_files(root)
    files["README.md"] = space_card((root / "README.md").read_text(encoding="utf-8"), published).encode()
    place = bundle if REFERENCE.fullmatch(bundle) else "assets/bundle"
    if place != bundle:
        files |= {f"{place}/{name}": path for name, path in bundle_files(folder, manifest).items()}
    if published:
        vdvae = locate("vdvae")
        files |= {f"data/models/{vdvae.name}": vdvae, "assets/models.lock.json": lock_file()}
    return files, {"RECON_BUNDLE": place}


def publish_space(space: Space, dry_run: bool, poll: float = 5) -> str | None:
    """Creates or updates the Space and waits until it runs. Returns its address, or None after a dry run.

    Raises BadFile: a real subject on a public page, a secret that is not set here, a no to deleting files, a failure of the
    Hub, or a failed build, whose log is printed.
    """
    with told_in_one_sentence(space.repo):
        files, variables = space_files(space.bundle)
        _, manifest = read_any_manifest(space.bundle)
    if not (space.private or manifest["simulated"]):
        raise BadFile(f"{manifest['name']} is a real subject, whose data may not be redistributed: add --private")
    missing = [name for name in space.secrets if not os.environ.get(name)]
    if missing:
        raise BadFile(
            f"secret {missing[0]}: expected its value in the environment variable of that name, which is not set"
        )
    print(list_files(files))
    if dry_run:
        return None
    with told_in_one_sentence(space.repo):
        api = HfApi()
        create(api, space)
        stale = ask_to_delete(api, space.repo, "space", files, space.yes)
        for name, value in variables.items():
            api.add_space_variable(space.repo, name, value)
        for name in space.secrets:
            api.add_space_secret(space.repo, name, os.environ[name])
        revision = make_identical(api, space.repo, "space", files, stale)
        if space.hardware:
            api.request_space_hardware(space.repo, space.hardware)
        wait_until_it_runs(api, space.repo, revision, poll)
        return f"{api.endpoint}/spaces/{space.repo}"


def create(api: HfApi, space: Space) -> None:
    """Raises BadFile if a Space that is to be private is there already and public."""
    try:
        info = api.space_info(space.repo)
    except RepositoryNotFoundError:
        api.create_repo(space.repo, repo_type="space", space_sdk="gradio", private=space.private)
        return
    if space.private and not info.private:
        raise BadFile(f"{space.repo} is there and public: make it private in its settings, or name another")


def wait_until_it_runs(api: HfApi, repo: str, revision: str, poll: float) -> None:
    """Asks for the stage every `poll` seconds, at most PATIENCE long. Raises BadFile, having printed the log, if it fails."""
    deadline, stage = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        runtime = api.get_space_runtime(repo)
        if runtime.stage != stage:
            stage = runtime.stage
            print(stage, flush=True)
        outdated = runtime.raw.get("sha", revision) != revision
        if stage == "RUNNING" and not outdated:
            return
        if stage not in BUILDING and not outdated:
            print("".join(api.fetch_space_logs(repo, build=stage == "BUILD_ERROR")))
            raise BadFile(f"{repo} does not run: it ended in {stage}; its log is above")
        time.sleep(poll)
    raise BadFile(f"{repo} is still in {stage} after {PATIENCE // 60} minutes: look at its page")
