"""A bundle's manifest: what the bundle says of itself, and the size and SHA-256 of each of its files."""

from __future__ import annotations

from pathlib import Path

from recon.bundle.evaluation import EVALUATION_FILES
from recon.files import BadFile, file_digest, load_json, save_json
from recon.settings import REGRESSORS

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
OWN_DECODERS = ("vdvae.safetensors", "lcm_lora.safetensors", *(f"diffusion/{name}" for name in PIPELINE))
DECODERS = {"own": OWN_DECODERS, "published": ()}  # what the manifest may name -> the files that come with it


def write_manifest(folder: Path, content: dict) -> None:
    """Completes `content` with format, version and the files' digests, and saves it; call it last.

    An evaluation is listed where there is one.
    """
    evaluated = (folder / EVALUATION_FILES[0]).exists()
    names = (*FILES, *DECODERS[content["decoders"]], *(EVALUATION_FILES if evaluated else ()))
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
    """Files that the manifest has to list."""
    decoders = DECODERS.get(manifest["decoders"], ("unknown decoders",))
    return (*FILES, *decoders, *(EVALUATION_FILES if is_evaluated(manifest) else ()))


def check_files(folder: Path, manifest: dict) -> None:
    """Raises BadFile if a file is missing, truncated, or not the one that the manifest lists."""
    for name in _listed(manifest):
        expected, path = manifest["files"][name], folder / name
        if not path.exists():
            raise BadFile(f"bundle {folder} lacks {name}: restore it or make it with `python -m precompute demo`")
        if path.stat().st_size != expected["bytes"]:
            raise BadFile(
                f"bundle {folder}: {name} should have {expected['bytes']} bytes, it has {path.stat().st_size} "
                "(truncated?): fetch or make it again"
            )
        if file_digest(path) != expected["sha256"]:
            raise BadFile(
                f"bundle {folder}: the content of {name} is not what the manifest lists: fetch or make it again"
            )


def read_manifest(folder: Path) -> dict:
    """What a bundle says of itself. Raises BadFile: missing, of another version, or incomplete."""
    try:
        manifest = load_json(folder / "manifest.json")
    except FileNotFoundError:
        raise BadFile(
            f"no bundle at {folder}: make one with `python -m precompute demo`, or name another folder"
        ) from None
    except ValueError as error:
        raise BadFile(
            f"{folder / 'manifest.json'} is not valid JSON ({error}): fetch or make the bundle again"
        ) from error
    found = manifest.get("format"), manifest.get("version")
    if found != (FORMAT, VERSION):
        raise BadFile(
            f"bundle {folder}: expected format {FORMAT!r} version {VERSION}, got {found[0]!r} version {found[1]}"
        )
    missing = {"name", "simulated", "n_layers", "components", "decoders", "files"} - manifest.keys()
    if missing or set(_listed(manifest)) - manifest["files"].keys():
        raise BadFile(f"bundle {folder}: the manifest is incomplete: fetch or make the bundle again")
    return manifest
