"""Folders as five labs might have them, made from the README's table alone: each is described, or refused with what to change."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from precompute.__main__ import app

N, REPEATS, SESSIONS = 30, 3, 3


@pytest.fixture
def order(rng):
    """(90,) which image each trial showed, and (90,) its session."""
    shown = rng.permutation(np.repeat(np.arange(N), REPEATS))
    return shown, np.arange(len(shown)) * SESSIONS // len(shown)


def responses(rng, order, n_voxels):
    return (rng.normal(size=(N, n_voxels))[order[0]] + 1.5 * rng.normal(size=(len(order[0]), n_voxels))).astype(
        np.float32
    )


def write_images(folder, rng, names, size, kind):
    (folder / "images").mkdir()
    for name in names:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / "images" / name, kind)


def lines(path, head, rows, separator=",", **how):
    path.write_text("\n".join(separator.join(map(str, row)) for row in [head, *rows]) + "\n", **how)


def bids(folder, rng, order):
    """A table of tabs, photographs, a volume a session, areas as a volume with their names beside it."""
    write_images(folder, rng, [f"stim{k:03d}.jpg" for k in range(N)], (120, 160), "JPEG")
    rows = [(f"stim{k:03d}.jpg", s + 1, 1 + i % 4, 4.0 * i) for i, (k, s) in enumerate(zip(*order))]
    lines(folder / "trials.tsv", ("image", "session", "run", "onset"), rows, "\t")
    shape, affine = (10, 12, 8), np.diag([2.0, 2, 2, 1])
    mask = rng.random(shape) < 0.2
    X = responses(rng, order, int(mask.sum()))
    (folder / "responses").mkdir()
    for s in range(SESSIONS):
        volumes = np.zeros((*shape, (order[1] == s).sum()), np.float32)
        volumes[mask] = X[order[1] == s].T
        nib.save(nib.Nifti1Image(volumes, affine), folder / "responses" / f"sub-01_ses-{s + 1:02d}_betas.nii.gz")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / "mask.nii.gz")
    nib.save(nib.Nifti1Image(rng.integers(0, 3, shape).astype(np.int16), affine), folder / "rois.nii.gz")
    lines(folder / "rois.csv", ("label", "name"), [(1, "V1"), (2, "FFA")])


def matlab(folder, rng, order, first=0, turned=False):
    """HDF5 with datasets of names of their own; images by numbers."""
    X = responses(rng, order, 150).astype(np.float64)
    with h5py.File(folder / "responses.h5", "w") as f:
        f["betas"] = X.T if turned else X
    with h5py.File(folder / "images.h5", "w") as f:
        f["stimuli"] = rng.integers(0, 256, (N, 96, 96, 3), dtype=np.uint8)
    lines(folder / "trials.csv", ("image", "session"), [(k + first, s + 1) for k, s in zip(*order)])


def matlab_from_one(folder, rng, order):
    matlab(folder, rng, order, first=1)


def matlab_turned(folder, rng, order):
    matlab(folder, rng, order, turned=True)


def surface(folder, rng, order):
    """Both hemispheres of fsaverage5, no sessions, a split."""
    write_images(folder, rng, [f"{k + 1}.png" for k in range(N)], (64, 64), "PNG")
    lines(folder / "trials.csv", ("image", "split"), [(f"{k + 1}.png", "test" if k < 5 else "train") for k in order[0]])
    for side in ("lh", "rh"):
        arrays = [nib.gifti.GiftiDataArray(row) for row in responses(rng, order, 10_242)]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), folder / f"responses.{side}.gii")


def hcp(folder, rng, order):
    """Grayordinates of a surface that the page cannot draw."""
    write_images(folder, rng, [f"im {k}.webp" for k in range(N)], (64, 64), "WEBP")
    lines(folder / "trials.csv", ("image", "session"), [(f"im {k}", s + 1) for k, s in zip(*order)])
    sides = [
        nib.cifti2.BrainModelAxis.from_surface(np.arange(500), 32_492, f"CORTEX_{side}") for side in ("LEFT", "RIGHT")
    ]
    scalars = nib.cifti2.ScalarAxis([f"trial {k}" for k in range(len(order[0]))])
    image = nib.Cifti2Image(responses(rng, order, 1000), (scalars, sides[0] + sides[1]))
    nib.save(image, folder / "responses.dscalar.nii")


def excel(folder, rng, order, point="."):
    """Semicolons, a mark of the byte order, capital suffixes, half precision, coordinates, captions of names without suffix."""
    write_images(folder, rng, [f"IMG_{k:04d}.JPG" for k in range(N)], (30, 20), "JPEG")
    rows = [(f"IMG_{k:04d}.JPG", f"Tag {s + 1}", "Tier" if k % 2 else "Haus") for k, s in zip(*order)]
    lines(folder / "trials.csv", ("image", "session", "category"), rows, ";", encoding="utf-8-sig")
    np.save(folder / "responses.npy", responses(rng, order, 80).astype(np.float16))
    places = [[f"{x:.1f}".replace(".", point) for x in row] for row in rng.uniform(-60, 60, (80, 3))]
    lines(folder / "places.csv", "xyz", places, ";", encoding="utf-8-sig")
    (folder / "captions.json").write_text(json.dumps({f"IMG_{k:04d}": f"a picture {k}" for k in range(N)}))


def excel_with_decimal_commas(folder, rng, order):
    excel(folder, rng, order, ",")


SESSION_LINE = "trials       90 in 3 sessions (30 each)"
DESCRIBED = {
    bids: [SESSION_LINE, "places       a volume of 10 × 12 × 8", "areas        V1 (", "their middle square is used"],
    matlab: [SESSION_LINE, "responses    float64", "voxels       150", "no map of the brain is drawn"],
    surface: [
        "90 in 1 sessions",
        "25 for training, 5 for the test, as trials.csv gives it",
        "on fsaverage5, 10242 left",
    ],
    hcp: [
        SESSION_LINE,
        "of a surface with [32492] vertices, which is none of fsaverage5, fsaverage6, fsaverage: not drawn",
    ],
    excel: [SESSION_LINE, "coordinates in mm", "captions     30", "responses    float16"],
}
REFUSED = {
    matlab_from_one: "expected the number of an image, 0 to 29 in images.h5, got '30': numbers count from 0",
    matlab_turned: "trials.csv has 90 trials, but there are responses to 150: transpose them and save them again",
    excel_with_decimal_commas: "places.csv: expected numbers in x, y and z, with a decimal point, got something else",
}


def described(layout, folder, rng, order):
    folder.mkdir()
    layout(folder, rng, order)
    result = CliRunner().invoke(app, ["import", "arrays", str(folder), "--describe"])
    return result


@pytest.mark.parametrize("layout", DESCRIBED, ids=lambda layout: layout.__name__)
def test_a_layout_is_described_as_it_is(layout, tmp_path, rng, order):
    result = described(layout, tmp_path / "amy", rng, order)
    assert result.exit_code == 0, result.output
    assert [words for words in DESCRIBED[layout] if words not in result.stdout] == []


@pytest.mark.parametrize("layout", REFUSED, ids=lambda layout: layout.__name__)
def test_a_layout_that_does_not_fit_is_told_what_to_change(layout, tmp_path, rng, order):
    result = described(layout, tmp_path / "amy", rng, order)
    assert result.exit_code == 1 and REFUSED[layout] in result.stderr


def test_numbers_that_leave_out_the_first_image_alone_are_asked_about(tmp_path, rng, order):
    """Numbers from 1 whose last image no trial shows: every one of them would name the image before its own."""
    shown = np.where(order[0] == N - 1, 3, order[0])
    assert (
        "no trial shows image 0: do the numbers count from 1?"
        in described(matlab_from_one, tmp_path / "amy", rng, (shown, order[1])).stdout
    )
    assert "no trial shows image 0" not in described(matlab, tmp_path / "ben", rng, order).stdout
