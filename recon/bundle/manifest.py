"""A bundle's manifest: what the bundle says of itself, and the size and SHA-256 of each of its files."""

from __future__ import annotations

import re
from pathlib import Path

from recon.bundle.evaluation import EVALUATION_FILES
from recon.files import BadFile, file_digest, load_json, parsing, save_json
from recon.recipes import RECIPES
from recon.settings import REGRESSORS, shown

FORMAT, VERSION = "recon-bundle", 4
TARGETS = ("latents", "prompt", "image")
PIPELINE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
FILES = (
    "subject.h5",
    "voxel_scores.h5",
    "captions.h5",
    "response.safetensors",
    "response_test.npy",
    *(f"{target}_{regressor}.safetensors" for target in TARGETS for regressor in REGRESSORS),
)
ADAPTER = "ip_adapter.safetensors"  # of own decoders; a bundle may do without
OWN_DECODERS = ("vdvae.safetensors", "lcm_lora.safetensors", *(f"diffusion/{name}" for name in PIPELINE))
DECODERS = {"own": OWN_DECODERS, "published": ()}  # what the manifest may name -> the files that come with it
KNOWN = ("manifest.json", *FILES, *OWN_DECODERS, ADAPTER, *EVALUATION_FILES)  # no bundle holds another file
FIELDS = {"name": str, "simulated": bool, "n_layers": int, "components": int, "decoders": str, "files": dict}
OPTIONAL = {"n_corpus": int, "n_train": int, "rescaling": dict, "adapter": str, "embedding": str, "recipe": str}
CHOICES = {  # of optional fields; the first where a manifest says nothing
    "adapter": ("base", "light"),  # which published image adapter guides stage 2
    "embedding": ("gain", "norm", "none"),  # how decoded image embeddings are rescaled before they guide it
    "recipe": tuple(RECIPES),  # how stage 1 was fitted and is drawn
}
AGAIN = "fetch or make the bundle again"
NAME = re.compile(r"[\w][\w .()+-]{0,63}")  # of a subject: it stands in links, in file names and on the page


def write_manifest(folder: Path, content: dict) -> None:
    """Completes `content` with format, version and the files' digests, and saves it; call it last.

    An evaluation is listed where there is one.
    """
    evaluated = (folder / EVALUATION_FILES[0]).exists()
    adapter = (ADAPTER,) if content["decoders"] == "own" and (folder / ADAPTER).exists() else ()
    names = (*FILES, *DECODERS[content["decoders"]], *adapter, *(EVALUATION_FILES if evaluated else ()))
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": file_digest(folder / n)} for n in names}
    save_json(folder / "manifest.json", {"format": FORMAT, "version": VERSION, **content, "files": files})


def rewrite_manifest(folder: Path) -> None:
    """Lists the files that are there now; all else stays as the manifest says it."""
    content = read_manifest(folder)
    write_manifest(folder, {k: v for k, v in content.items() if k not in ("format", "version", "files")})


def is_evaluated(manifest: dict) -> bool:
    """Whether an evaluation belongs to the bundle: it may do without."""
    return not set(EVALUATION_FILES).isdisjoint(manifest.get("files", ()))


def _listed(manifest: dict) -> tuple[str, ...]:
    """Files that the manifest has to list, and no others."""
    adapter = (ADAPTER,) if manifest["decoders"] == "own" and ADAPTER in manifest["files"] else ()
    return (*FILES, *DECODERS[manifest["decoders"]], *adapter, *(EVALUATION_FILES if is_evaluated(manifest) else ()))


def check_files(folder: Path, manifest: dict, names: tuple[str, ...] = ()) -> None:
    """Raises BadFile if a file is missing, truncated, or not the one that the manifest lists; of all files, or of `names`."""
    for name in names or _listed(manifest):
        expected, path = manifest["files"][name], folder / name
        if not path.is_file():
            raise BadFile(f"bundle {folder} lacks {name}: restore it or make it with `python -m precompute demo`")
        if path.stat().st_size != expected["bytes"]:
            raise BadFile(
                f"bundle {folder}: {name} should have {expected['bytes']} bytes, it has {path.stat().st_size} "
                "(truncated?): fetch or make it again"
            )
        with parsing(path):
            digest = file_digest(path)
        if digest != expected["sha256"]:
            raise BadFile(
                f"bundle {folder}: the content of {name} is not what the manifest lists: fetch or make it again"
            )


def read_manifest(folder: Path) -> dict:
    """What a bundle says of itself. Raises BadFile: missing, of another version, or incomplete."""
    path = folder / "manifest.json"
    try:
        manifest = load_json(path)
    except BadFile as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise BadFile(
            f"no bundle at {folder}: make one with `python -m precompute demo`, or name another folder"
        ) from None
    if not isinstance(manifest, dict):
        raise BadFile(f"{path}: expected a JSON object, got {type(manifest).__name__}: {AGAIN}")
    found = manifest.get("format"), manifest.get("version")
    if found != (FORMAT, VERSION):
        raise BadFile(
            f"bundle {folder}: expected format {FORMAT!r} version {VERSION}, got {shown(found[0])} version {shown(found[1])}"
        )
    _check_fields(folder, manifest)
    return manifest


def _check_fields(folder: Path, manifest: dict) -> None:
    """Whether each field is of its type, and exactly the files of a bundle are listed, each with a size and a digest."""
    missing = FIELDS.keys() - manifest.keys()
    if missing:
        raise BadFile(f"bundle {folder}: the manifest is incomplete, it lacks {min(missing)}: {AGAIN}")
    for name, kind in (FIELDS | OPTIONAL).items():
        if name in manifest and type(manifest[name]) is not kind:
            raise BadFile(f"bundle {folder}: expected {name} to be of type {kind.__name__}: {AGAIN}")
        if kind is int and manifest.get(name, 1) < 0:
            raise BadFile(f"bundle {folder}: expected {name} not to be negative: {AGAIN}")
    for name, choices in CHOICES.items():
        if manifest.get(name, choices[0]) not in choices:
            raise BadFile(f"bundle {folder}: expected {name} to be one of {', '.join(choices)}: {AGAIN}")
    if not NAME.fullmatch(manifest["name"]):
        raise BadFile(f"bundle {folder}: expected a name of letters, digits, spaces and .()+-_, 64 at most: rename it")
    if manifest["decoders"] not in DECODERS:
        raise BadFile(f"bundle {folder}: expected decoders to be one of {', '.join(DECODERS)}: {AGAIN}")
    if missing := set(_listed(manifest)) - manifest["files"].keys():
        raise BadFile(f"bundle {folder}: the manifest is incomplete, it does not list {min(missing)}: {AGAIN}")
    if unknown := manifest["files"].keys() - set(_listed(manifest)):
        raise BadFile(
            f"bundle {folder}: the manifest lists {shown(min(unknown))}, which is no file of a bundle: {AGAIN}"
        )
    for name, entry in manifest["files"].items():
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if (
            not isinstance(digest, str)
            or not re.fullmatch("[0-9a-f]{64}", digest)
            or type(entry.get("bytes")) is not int
        ):
            raise BadFile(f"bundle {folder}: expected size and SHA-256 of {name} in the manifest: {AGAIN}")
