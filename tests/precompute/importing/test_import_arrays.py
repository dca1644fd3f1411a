"""Any experiment's files become the same subject, whichever of the layouts of the README they come in."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from fake_lab import (
    AFFINE,
    SHAPE,
    expected_repeats,
    expected_z,
    in_volume,
    make_lab,
    save_volume,
    write_lab,
    write_table,
)
from PIL import Image
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.fitting.encoding import estimate_ncsnr
from precompute.importing.repeats import ncsnr_from_repeats
from recon.brain.space import Geometry, Points, Volume
from recon.bundle.subject import load_subject
from recon.files import load_json
from recon.uploaded_images import prepare_picture


@pytest.fixture
def lab(rng):
    return make_lab(rng)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in ("import", "arrays", *arguments)])


def imported(folder, out, *options):
    result = run(folder, "--out", out, *options)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return load_subject(out / "subject.h5")


def check_responses(lab, out, subject, order=slice(None), atol=2e-6):
    """Training averages and test trials are those of the straightforward computation."""
    voxels, labels = np.load(out / "train_voxels.npy"), load_json(out / "train.json")
    assert len(labels) == len(voxels) == 20
    for row, label in zip(voxels, labels):
        name = label["image"].removesuffix(".png")
        np.testing.assert_allclose(row, expected_repeats(lab, name).mean(0)[order], rtol=1e-5, atol=atol)
    for row, label in zip(subject.test.voxels, subject.test.labels):
        name = label["image"].removesuffix(".png")
        np.testing.assert_allclose(row, expected_repeats(lab, name)[:, order], atol=1 / 600 + 1e-5)


# --- one subject, many layouts ----------------------------------------------------------------------------------------


def test_a_folder_of_tables_arrays_and_images_becomes_a_subject(lab, tmp_path):
    out = tmp_path / "out"
    subject = imported(write_lab(tmp_path / "amy", lab), out)
    check_responses(lab, out, subject)
    assert subject.name == "amy" and not subject.simulated
    assert isinstance(subject.geometry, Volume) and subject.geometry.shape == SHAPE
    np.testing.assert_array_equal(subject.geometry.indices, np.argwhere(lab.mask))
    np.testing.assert_array_equal(subject.geometry.affine, AFFINE)
    assert [label["image"] for label in subject.test.labels] == [f"scene {k:02d}.png" for k in range(4)]
    assert np.load(out / "train_repeats.npy").tolist() == [3] * 20


def test_images_are_central_squares_at_each_size_and_columns_stay_with_them(lab, tmp_path):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    subject = imported(folder, out)
    labels = load_json(out / "train.json")
    for side in (64, 512):
        shown = np.load(out / f"train_{side}.npy")
        assert shown.shape == (20, side, side, 3) and shown.dtype == np.uint8
        for image, label in zip(shown, labels):
            np.testing.assert_array_equal(
                image, prepare_picture((folder / "images" / label["image"]).read_bytes(), side)
            )
    assert subject.test.images.shape == (4, 256, 256, 3)
    for label in labels:
        rows = [row for row in lab.rows if row["image"] == label["image"].removesuffix(".png")]
        assert label["category"] == rows[0]["category"] and label["rt"] == [row["rt"] for row in rows]
        assert label["captions"] == []


def as_h5(folder, lab):
    (folder / "responses.npy").unlink()
    with h5py.File(folder / "responses.h5", "w") as f:
        f.create_dataset("responses", data=lab.responses.astype(">f8"), chunks=(len(lab.responses), 3))
        f["other"] = np.zeros(3)


def as_fortran_order(folder, lab):
    np.save(folder / "responses.npy", np.asfortranarray(lab.responses.astype(">f4")))


def as_one_volume(folder, lab):
    (folder / "responses.npy").unlink()
    save_volume(folder / "responses.nii.gz", in_volume(lab, lab.responses))


def as_a_volume_a_session(folder, lab):
    (folder / "responses.npy").unlink()
    sessions = [row["session"] for row in lab.rows]
    for name in sorted(set(sessions)):
        values = lab.responses[[k for k, session in enumerate(sessions) if session == name]]
        save_volume(folder / "responses" / f"sub-01_{name}_betas.nii.gz", in_volume(lab, values))


def as_a_volume_a_trial(folder, lab):
    (folder / "responses.npy").unlink()
    for k, values in enumerate(lab.responses):
        save_volume(folder / "responses" / f"trial_{k:04d}.nii", in_volume(lab, values[None])[..., 0])


def as_cifti_volume(folder, lab):
    for name in ("responses.npy", "mask.nii.gz"):
        (folder / name).unlink()
    axis = nib.cifti2.BrainModelAxis.from_mask(lab.mask, "CIFTI_STRUCTURE_CORTEX", AFFINE)
    scalars = nib.cifti2.ScalarAxis([f"trial {k}" for k in range(len(lab.rows))])
    nib.save(nib.Cifti2Image(lab.responses, (scalars, axis)), folder / "responses.dscalar.nii")


LAYOUTS = (as_h5, as_fortran_order, as_one_volume, as_a_volume_a_session, as_a_volume_a_trial, as_cifti_volume)


@pytest.mark.parametrize("change", LAYOUTS, ids=lambda change: change.__name__)
def test_every_layout_gives_the_same_subject(lab, tmp_path, change):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    change(folder, lab)
    subject = imported(folder, out)
    check_responses(lab, out, subject)
    np.testing.assert_array_equal(subject.geometry.indices, np.argwhere(lab.mask))
    np.testing.assert_array_equal(subject.geometry.affine, AFFINE)
    assert not list(out.rglob("responses_by_trial.npy"))


def test_integers_with_one_scale_factor_in_all_volumes_are_scaled_by_it(lab, tmp_path):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    (folder / "responses.npy").unlink()
    whole = np.rint(lab.responses * 300).astype(np.int16)
    image = nib.Nifti1Image(in_volume(lab, whole), AFFINE)
    image.header.set_slope_inter(1 / 300, 0)
    nib.save(image, folder / "responses.nii.gz")
    lab.responses = (whole / 300).astype(np.float32)
    check_responses(lab, out, imported(folder, out))
    assert "scale factors are applied" in " ".join(load_json(out / "import.json")["notes"])


def test_images_of_an_array_are_named_by_their_rows(lab, tmp_path, rng):
    folder, out = tmp_path / "amy", tmp_path / "out"
    names = list(lab.images)
    shown = rng.integers(0, 256, (len(names), 96, 128, 3), dtype=np.uint8)
    write_lab(folder, lab)
    for path in (folder / "images").iterdir():
        path.unlink()
    (folder / "images").rmdir()
    np.save(folder / "images.npy", shown)
    write_table(folder / "trials.csv", [row | {"image": names.index(row["image"])} for row in lab.rows])
    imported(folder, out)
    labels, small = load_json(out / "train.json"), np.load(out / "train_64.npy")
    for label, image in zip(labels, small):
        square = Image.fromarray(shown[int(label["image"])][:, 16:112]).resize((64, 64), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image, np.asarray(square))
    floats = np.moveaxis(shown, -1, 1) / np.float16(255)
    np.save(folder / "images.npy", floats.astype(np.float16))
    imported(folder, tmp_path / "again")
    np.testing.assert_allclose(np.load(tmp_path / "again" / "train_64.npy").astype(int), small, atol=1)


# --- surfaces and other places ----------------------------------------------------------------------------------------


def with_vertices(folder, lab, surface, hemispheres, vertices):
    (folder / "mask.nii.gz").unlink()
    rows = [{"surface": surface, "hemisphere": h, "vertex": v} for h, v in zip(hemispheres, vertices)]
    write_table(folder / "places.csv", rows)


@pytest.mark.parametrize("surface, mesh", [("fsaverage5", "fsaverage5"), ("fsaverage7", "fsaverage")])
def test_voxels_may_be_vertices_of_a_surface(lab, tmp_path, rng, surface, mesh):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    n = lab.responses.shape[1]
    hemispheres, vertices = rng.choice(["lh", "rh"], n), rng.choice(10_242, n, replace=False)
    with_vertices(folder, lab, surface, hemispheres, vertices)
    subject = imported(folder, out)
    check_responses(lab, out, subject)
    assert isinstance(subject.geometry, Geometry) and subject.geometry.mesh == mesh
    np.testing.assert_array_equal(subject.geometry.vertex, vertices)
    np.testing.assert_array_equal(subject.geometry.hemisphere, (hemispheres == "rh").astype(int))


def test_surface_files_are_read_left_before_right_and_a_table_chooses_their_vertices(lab, tmp_path, rng):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    n = lab.responses.shape[1]
    (folder / "responses.npy").unlink()
    hemispheres, vertices = np.array(["lh", "rh"])[np.arange(n) % 2], rng.choice(10_242, n, replace=False)
    for side in ("lh", "rh"):
        full = np.zeros((len(lab.rows), 10_242), np.float32)
        full[:, vertices[hemispheres == side]] = lab.responses[:, hemispheres == side]
        arrays = [nib.gifti.GiftiDataArray(row) for row in full]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), folder / f"responses.{side}.func.gii")
    with_vertices(folder, lab, "fsaverage5", hemispheres, vertices)
    check_responses(lab, out, imported(folder, out))


@pytest.mark.parametrize("known", [True, False])
def test_voxels_may_have_coordinates_alone_or_no_place_at_all(lab, tmp_path, rng, known):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    (folder / "mask.nii.gz").unlink()
    mm = rng.uniform(-60, 60, (lab.responses.shape[1], 3)).astype(np.float32)
    if known:
        write_table(folder / "places.csv", [dict(zip("xyz", row)) for row in mm.tolist()])
    subject = imported(folder, out)
    assert isinstance(subject.geometry, Points) and subject.geometry.are_known == known
    if known:
        np.testing.assert_array_equal(subject.geometry.mm, mm)


def test_areas_come_from_a_table_or_a_volume_of_labels(lab, tmp_path, rng):
    folder = write_lab(tmp_path / "amy", lab)
    n = lab.responses.shape[1]
    member = rng.random((n, 2)) < 0.4
    rows = [{"V1": int(a), "FFA": int(b)} for a, b in member]
    write_table(folder / "rois.csv", rows)
    rois = imported(folder, tmp_path / "table").geometry.rois
    np.testing.assert_array_equal(rois["V1"], member[:, 0])
    np.testing.assert_array_equal(rois["FFA"], member[:, 1])
    labels = rng.integers(0, 4, SHAPE).astype(np.int16)
    save_volume(folder / "rois.nii.gz", labels)
    write_table(folder / "rois.csv", [{"label": 1, "name": "V1"}, {"label": 2, "name": "FFA"}])
    rois = imported(folder, tmp_path / "labels").geometry.rois
    assert set(rois) == {"V1", "FFA", "area 3"}
    np.testing.assert_array_equal(rois["FFA"], labels[lab.mask] == 2)


# --- captions, ceilings, splits ---------------------------------------------------------------------------------------


def test_captions_come_from_a_table_or_an_object(lab, tmp_path):
    folder = write_lab(tmp_path / "amy", lab)
    said = [{"image": name, "caption": f"{name}, caption {k}"} for name in lab.images for k in range(2)]
    write_table(folder / "captions.csv", said)
    imported(folder, tmp_path / "table")
    (folder / "captions.csv").unlink()
    (folder / "captions.json").write_text(
        json.dumps({name: [f"{name}, caption {k}" for k in range(2)] for name in lab.images})
    )
    imported(folder, tmp_path / "object")
    for out in ("table", "object"):
        for label in load_json(tmp_path / out / "train.json"):
            name = label["image"].removesuffix(".png")
            assert label["captions"] == [f"{name}, caption 0", f"{name}, caption 1"]


def test_ncsnr_is_estimated_from_repeats_of_training_images_given_or_unknown(rng, tmp_path):
    lab = make_lab(rng)
    folder = write_lab(tmp_path / "amy", lab)
    found = imported(folder, tmp_path / "estimated").ncsnr
    training = np.array([expected_repeats(lab, name) for name in list(lab.images)[4:]])
    np.testing.assert_allclose(found, estimate_ncsnr(training), atol=2e-3)
    given = rng.uniform(0, 2, len(found)).astype(np.float32)
    np.save(folder / "ncsnr.npy", given)
    np.testing.assert_array_equal(imported(folder, tmp_path / "given").ncsnr, given)
    single = make_lab(rng, repeats=1)
    assert np.isnan(imported(write_lab(tmp_path / "ben", single), tmp_path / "unknown").ncsnr).all()
    assert load_json(tmp_path / "unknown" / "import.json")["noise_ceiling"] == "unknown"


def test_ncsnr_from_different_numbers_of_repeats_agrees_with_the_truth(rng):
    n_images, n_voxels = 4000, 3
    truth = np.array([0.3, 1.0, 0.0])
    signal = truth * rng.normal(size=(n_images, 1, n_voxels))
    z = signal + rng.normal(size=(n_images, 4, n_voxels))
    z[: n_images // 2, 2:] = np.nan
    z[:100, 1:] = np.nan
    found = ncsnr_from_repeats([z[:1000], z[1000:]])
    np.testing.assert_allclose(found, truth, atol=0.06)
    assert ncsnr_from_repeats([z[:100]]) is None


def test_without_a_split_whole_images_are_drawn_and_no_image_is_in_both(lab, tmp_path):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    write_table(folder / "trials.csv", [{k: v for k, v in row.items() if k != "split"} for row in lab.rows])
    subject = imported(folder, out, "--test-share", 0.25)
    test = {label["image"] for label in subject.test.labels}
    train = {label["image"] for label in load_json(out / "train.json")}
    assert len(test) == 6 and len(train) == 18 and not test & train
    assert (subject.test.n_repeats == 3).all()


def test_what_is_done_is_not_done_again_and_what_changed_is(lab, tmp_path):
    folder, out = write_lab(tmp_path / "amy", lab), tmp_path / "out"
    imported(folder, out)
    assert json.loads(run(folder, "--out", out).stdout)["already finished"]
    np.save(folder / "responses.npy", lab.responses[:, ::-1].copy())
    assert not json.loads(run(folder, "--out", out).stdout)["already finished"]
    np.testing.assert_allclose(
        np.load(out / "train_voxels.npy")[0], expected_repeats(lab, "scene 04").mean(0)[::-1], atol=1e-5
    )


def test_test_trials_change_no_training_voxel(lab, tmp_path):
    folder = write_lab(tmp_path / "amy", lab)
    imported(folder, tmp_path / "before")
    is_test = np.array([row["split"] == "test" for row in lab.rows])
    lab.responses[is_test] = 7 * lab.responses[is_test] + 3
    np.save(folder / "responses.npy", lab.responses)
    imported(folder, tmp_path / "after")
    for name in ("train_voxels.npy",):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    assert expected_z(lab)[is_test].std() > 3
