"""Anybody's experiment: one folder of tables, arrays and volumes -> an `Experiment`. The layout is a table of the README."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from precompute.importing.experiment import Experiment, Responses
from precompute.importing.grids import Grid
from precompute.importing.image_files import IdsOf, open_images
from precompute.importing.response_files import (
    array_responses,
    cifti_responses,
    find_responses,
    gifti_responses,
    nifti_responses,
)
from precompute.importing.text_tables import column, read_table
from precompute.importing.trial_table import TEST_SHARE, extra_labels, read_trials
from precompute.importing.voxel_places import (
    Places,
    cifti_places,
    gifti_places,
    read_label_names,
    read_labels,
    read_mask,
    read_places,
    read_rois,
)
from recon.brain.space import Geometry, Points, Volume
from recon.files import BadFile, load_json, open_plain

TABLES = (".csv", ".tsv")


def read_arrays(folder: Path, name: str | None = None, test_share: float = TEST_SHARE) -> Experiment:
    """Reads everything but the responses' values. Raises BadFile at the first thing that does not fit together."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFile(f"{folder} is no folder: name the one with trials.csv in it")
    open_some, ids_of = open_images(folder)
    table = _needed(folder, "trials", TABLES)
    trials = read_trials(table, ids_of, test_share)
    found = _responses_and_places(folder)
    _check_counts(folder, found.responses, len(trials.image), found.places)
    places = replace(found.places, rois=_rois(folder, found))
    files = [table, *found.files, *(p for p in _optional(folder) if p not in found.files)]
    return Experiment(
        name=name or folder.resolve().name,
        source="arrays",
        files=tuple(files),
        trials=trials,
        responses=found.responses,
        images=open_some(sorted(set(trials.image.tolist()))),
        places=places,
        ncsnr=_ncsnr(folder, places.n_voxels),
        captions=_captions(folder, ids_of),
        labels=extra_labels(trials),
        notes=found.notes,
    )


def _one(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file of that name with one of the suffixes, if there is one. Raises BadFile if there are several."""
    found = [folder / f"{stem}{suffix}" for suffix in suffixes if (folder / f"{stem}{suffix}").exists()]
    if len(found) > 1:
        raise BadFile(f"{folder}: expected one of {', '.join(p.name for p in found)}, got all of them: remove some")
    return found[0] if found else None


def _needed(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path:
    path = _one(folder, stem, suffixes)
    if path is None:
        raise BadFile(
            f"{folder / (stem + suffixes[0])} is missing: the README's “With your own data” says what it holds"
        )
    return path


def _optional(folder: Path) -> list[Path]:
    """Further files that say something of the subject."""
    names = (
        "rois.csv",
        "rois.tsv",
        "rois.nii.gz",
        "rois.nii",
        "ncsnr.npy",
        "captions.json",
        "captions.csv",
        "captions.tsv",
    )
    return [folder / name for name in names if (folder / name).exists()]


# --- responses and places ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    responses: Responses
    places: Places
    files: tuple[Path, ...]
    grid: Grid | None = None  # of the mask
    notes: tuple[str, ...] = ()


def _responses_and_places(folder: Path) -> _Found:
    files, mask, table = (
        find_responses(folder),
        _one(folder, "mask", (".nii.gz", ".nii")),
        _one(folder, "places", TABLES),
    )
    if mask and table:
        raise BadFile(
            f"{folder}: expected one of {mask.name} and {table.name}, got both: remove the one that is not meant"
        )
    read = {"array": _from_array, "nifti": _from_nifti, "gifti": _from_gifti, "cifti": _from_cifti}[files.kind]
    found = read(files.paths, mask, table)
    more = tuple(p for p in (mask, table) if p)
    return replace(found, files=(*files.paths, *more), notes=(*found.notes, *found.responses.notes))


def _from_array(paths: tuple[Path, ...], mask: Path | None, table: Path | None) -> _Found:
    responses = array_responses(paths[0])
    if mask:
        volume = read_mask(mask)
        return _Found(responses, volume, (), Grid(mask, volume.shape, volume.affine))
    if table:
        return _Found(responses, read_places(table), ())
    unknown = Points(np.full((responses.n_voxels, 3), np.nan, np.float32), {})
    return _Found(responses, unknown, (), notes=("neither mask.nii.gz nor places.csv: no map of the brain is drawn",))


def _from_nifti(paths: tuple[Path, ...], mask: Path | None, table: Path | None) -> _Found:
    if mask is None:
        raise BadFile(f"{paths[0]}: volumes need a mask: put mask.nii.gz, on the same grid, beside trials.csv")
    volume = read_mask(mask)
    grid = Grid(mask, volume.shape, volume.affine)
    return _Found(nifti_responses(paths, mask, volume), volume, (), grid)


def _from_gifti(paths: tuple[Path, ...], mask: Path | None, table: Path | None) -> _Found:
    _no_mask(mask)
    responses, sizes = gifti_responses(paths)
    everything = gifti_places(paths[0], sizes)
    if table is None:
        return _Found(responses, everything, ())
    chosen = read_places(table)
    if not isinstance(chosen, Geometry) or chosen.mesh != everything.mesh:
        raise BadFile(f"{table}: expected vertices of {everything.mesh}, as {paths[0].name} has them")
    place = {key: k for k, key in enumerate(zip(everything.hemisphere.tolist(), everything.vertex.tolist()))}
    try:
        columns = [place[key] for key in zip(chosen.hemisphere.tolist(), chosen.vertex.tolist())]
    except KeyError as error:
        raise BadFile(
            f"{table}: hemisphere and vertex {error} are in no response file: add that hemisphere's"
        ) from None
    return _Found(_some_voxels(responses, columns), chosen, ())


def _some_voxels(responses: Responses, columns: list[int]) -> Responses:
    return replace(responses, n_voxels=len(columns), read=lambda a, b: responses.read(a, b)[:, columns], array=None)


def _from_cifti(paths: tuple[Path, ...], mask: Path | None, table: Path | None) -> _Found:
    _no_mask(mask or table)
    responses, axis = cifti_responses(paths[0])
    places, note = cifti_places(paths[0], axis)
    grid = Grid(paths[0], places.shape, places.affine) if isinstance(places, Volume) else None
    return _Found(responses, places, (), grid, (note,) if note else ())


def _no_mask(path: Path | None) -> None:
    if path:
        raise BadFile(f"{path}: the response files say themselves where their values are: remove it")


def _check_counts(folder: Path, responses: Responses, n_trials: int, places: Places) -> None:
    """Raises BadFile if the responses are not as many as trials, or a response not as long as there are places."""
    found, expected = (responses.n_trials, responses.n_voxels), (n_trials, places.n_voxels)
    if found[0] == n_trials and found[1] == places.n_voxels:
        return
    turned = ": transpose them and save them again" if found == expected[::-1] or found[1] == n_trials else ""
    if found[0] != n_trials:
        advice = turned or ": give one line a response"
        raise BadFile(f"{folder}: trials.csv has {n_trials} trials, but there are responses to {found[0]}{advice}")
    raise BadFile(
        f"{folder}: responses have {found[1]} voxels, but places are given for {places.n_voxels}: give one a voxel"
    )


# --- what may be there too --------------------------------------------------------------------------------------------


def _rois(folder: Path, found: _Found) -> dict[str, np.ndarray]:
    labels, table = _one(folder, "rois", (".nii.gz", ".nii")), _one(folder, "rois", TABLES)
    if labels is None:
        return read_rois(table, found.places.n_voxels) if table else {}
    if found.grid is None:
        raise BadFile(f"{labels}: areas as a volume need a mask: put mask.nii.gz there, or give the areas in rois.csv")
    return read_labels(labels, read_label_names(table) if table else {}, found.grid, found.places)


def _ncsnr(folder: Path, n_voxels: int) -> np.ndarray | None:
    path = folder / "ncsnr.npy"
    if not path.exists():
        return None
    values = np.asarray(open_plain(path))
    if values.shape != (n_voxels,) or values.dtype.kind not in "fiu":
        raise BadFile(f"{path}: expected {n_voxels} numbers, one a voxel, got {values.dtype} of shape {values.shape}")
    if not (values[np.isfinite(values)] >= 0).all():
        raise BadFile(f"{path}: expected ncsnr of at least 0, got {np.nanmin(values):g}")
    return values.astype(np.float32)


def _captions(folder: Path, ids_of: IdsOf) -> dict[int, list[str]] | None:
    path = _one(folder, "captions", (".json", *TABLES))
    if path is None:
        return None
    pairs = _json_pairs(path) if path.suffix == ".json" else _table_pairs(path)
    captions: dict[int, list[str]] = {}
    for image, (_, text) in zip(ids_of(path, [name for name, _ in pairs]), pairs):
        captions.setdefault(image, []).append(text)
    return captions


def _table_pairs(path: Path) -> list[tuple[str, str]]:
    table = read_table(path)
    return list(zip(column(path, table, "image"), column(path, table, "caption")))


def _json_pairs(path: Path) -> list[tuple[str, str]]:
    """{image: caption, or a list of them} as pairs."""
    content = load_json(path)
    if not isinstance(content, dict):
        raise BadFile(f"{path}: expected an object, image: captions, got a {type(content).__name__}")
    several = {image: [said] if isinstance(said, str) else said for image, said in content.items()}
    for image, said in several.items():
        if not isinstance(said, list) or not all(isinstance(text, str) and text.strip() for text in said):
            raise BadFile(f"{path}: expected a caption or a list of captions of {image!r}, got {json.dumps(said)[:60]}")
    return [(image, text.strip()) for image, said in several.items() for text in said]


Reader = Callable[..., Experiment]
