"""What the app needs of one subject, in one folder: opened whole and checked, or refused with one sentence.

manifest.json        name, simulated or not, sizes, evaluation summary, provenance, size and SHA-256 of every other file
subject.h5           geometry, ncsnr, test trials          vdvae.safetensors    decoder (and encoder, for the ceiling)
ridge.safetensors    low-rank ridge                        mlp.safetensors      MLP
voxel_scores.h5      R², r and noise ceiling of every voxel
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from recon.encoding import VoxelScores, load_scores
from recon.files import BadFile, load_json, save_json
from recon.mlp import MLP
from recon.ridge import LowRank
from recon.subject import Subject, load_subject
from recon.vdvae import VDVAE

FORMAT, VERSION = "recon-bundle", 1
FILES = ("subject.h5", "vdvae.safetensors", "ridge.safetensors", "mlp.safetensors", "voxel_scores.h5")


@dataclass(frozen=True)
class Bundle:
    manifest: dict
    subject: Subject
    vdvae: VDVAE
    regressors: dict[str, LowRank | MLP]  # "ridge", "mlp"
    scores: VoxelScores

    @property
    def n_layers(self) -> int:
        """How many leading VDVAE layers the regressors predict."""
        return self.manifest["n_layers"]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(folder: Path, content: dict) -> None:
    """Completes `content` with format, version and the files' digests, and saves it; call it last."""
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": _digest(folder / n)} for n in FILES}
    save_json(folder / "manifest.json", {"format": FORMAT, "version": VERSION, **content, "files": files})


def _check_files(folder: Path, manifest: dict) -> None:
    for name in FILES:
        expected, path = manifest["files"][name], folder / name
        if not path.exists():
            raise BadFile(f"bundle {folder} lacks {name}: restore it or make it with `python -m precompute demo`")
        if path.stat().st_size != expected["bytes"]:
            raise BadFile(
                f"bundle {folder}: {name} should have {expected['bytes']} bytes, it has {path.stat().st_size} "
                "(truncated?): fetch or make it again"
            )
        if _digest(path) != expected["sha256"]:
            raise BadFile(
                f"bundle {folder}: the content of {name} is not what the manifest lists: fetch or make it again"
            )


def load_bundle(folder: Path) -> Bundle:
    """Opens and checks a bundle. Raises BadFile: missing, truncated, of another version, or parts that do not fit."""
    folder = Path(folder)
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
    missing = {"name", "simulated", "n_layers", "evaluation", "files"} - manifest.keys()
    if missing or set(FILES) - manifest["files"].keys():
        raise BadFile(f"bundle {folder}: the manifest is incomplete: fetch or make the bundle again")
    _check_files(folder, manifest)
    bundle = Bundle(
        manifest=manifest,
        subject=load_subject(folder / "subject.h5"),
        vdvae=VDVAE.load(folder / "vdvae.safetensors"),
        regressors={"ridge": LowRank.load(folder / "ridge.safetensors"), "mlp": MLP.load(folder / "mlp.safetensors")},
        scores=load_scores(folder / "voxel_scores.h5"),
    )
    _check_sizes(folder, bundle)
    return bundle


def _check_sizes(folder: Path, bundle: Bundle) -> None:
    n_voxels = bundle.subject.geometry.n_voxels
    n_latents = bundle.vdvae.n_latents(bundle.n_layers)
    for name, regressor in bundle.regressors.items():
        got = len(regressor.standardise.mean), len(regressor.intercept)
        if got != (n_voxels, n_latents):
            raise BadFile(
                f"bundle {folder}: the subject has {n_voxels} voxels and the VDVAE {n_latents} latents, "
                f"but the {name} weights were fitted to {got[0]} voxels and {got[1]} latents"
            )
    if len(bundle.scores.r2) != n_voxels:
        raise BadFile(f"bundle {folder}: {n_voxels} voxels, but voxel scores of {len(bundle.scores.r2)}")
