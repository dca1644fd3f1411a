"""What does not fit together is refused in one sentence that says what to change, before anything is written; or it is told."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from fake_lab import AFFINE, SHAPE, in_volume, make_lab, save_volume, write_lab, write_table
from PIL import Image
from typer.testing import CliRunner

from precompute.__main__ import app

FLIPPED = AFFINE @ np.array([[-1.0, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.fixture
def lab(rng):
    return make_lab(rng)


def run(folder, *options):
    return CliRunner().invoke(app, ["import", "arrays", str(folder), *options])


def fewer_responses(folder, lab):
    np.save(folder / "responses.npy", lab.responses[:-2])


def transposed(folder, lab):
    np.save(folder / "responses.npy", lab.responses.T)


def a_voxel_too_many(folder, lab):
    np.save(folder / "responses.npy", np.hstack([lab.responses, lab.responses[:, :1]]))


def a_missing_image(folder, lab):
    (folder / "images" / "scene 07.png").unlink()


def a_test_image_in_training(folder, lab):
    rows = [dict(row) for row in lab.rows]
    next(row for row in rows if row["image"] == "scene 02")["split"] = "train"
    write_table(folder / "trials.csv", rows)


def a_test_image_in_training_under_another_name(folder, lab):
    shutil.copyfile(folder / "images" / "scene 01.png", folder / "images" / "scene 09.png")


def as_volumes(folder, lab, affine=AFFINE):
    (folder / "responses.npy").unlink()
    save_volume(folder / "responses.nii.gz", in_volume(lab, lab.responses), affine)


def a_mask_elsewhere(folder, lab):
    shifted = AFFINE.copy()
    shifted[2, 3] += 2
    as_volumes(folder, lab)
    save_volume(folder / "mask.nii.gz", lab.mask.astype(np.uint8), shifted)


def a_mask_flipped_by_its_affine(folder, lab):
    as_volumes(folder, lab)
    save_volume(folder / "mask.nii.gz", lab.mask[::-1].astype(np.uint8), FLIPPED)


def areas_flipped_by_their_affine(folder, lab):
    save_volume(folder / "rois.nii.gz", lab.mask[::-1].astype(np.int16), FLIPPED)


def an_area_flipped_without_a_word(folder, lab):
    """The mask is the left half alone, so that an area of it lies outside once it is flipped."""
    left = np.zeros(SHAPE, bool)
    left[:3] = True
    columns = left[lab.mask]
    np.save(folder / "responses.npy", lab.responses[:, columns])
    save_volume(folder / "mask.nii.gz", (lab.mask & left).astype(np.uint8))
    save_volume(folder / "rois.nii.gz", (lab.mask & left)[::-1].astype(np.int16))


def a_mask_of_another_shape(folder, lab):
    as_volumes(folder, lab)
    save_volume(folder / "mask.nii.gz", lab.mask[:-1].astype(np.uint8))


def volumes_without_a_mask(folder, lab):
    as_volumes(folder, lab)
    (folder / "mask.nii.gz").unlink()


def a_scale_factor_in_one_session(folder, lab):
    (folder / "responses.npy").unlink()
    sessions = [row["session"] for row in lab.rows]
    for name in sorted(set(sessions)):
        here = lab.responses[[k for k, session in enumerate(sessions) if session == name]]
        image = nib.Nifti1Image(in_volume(lab, np.rint(300 * here).astype(np.int16)), AFFINE)
        if name == "ses-02":
            image.header.set_slope_inter(1 / 300, 0)
        (folder / "responses").mkdir(exist_ok=True)
        nib.save(image, folder / "responses" / f"{name}.nii.gz")


def one_session_in_other_units(folder, lab):
    factor = np.array([300.0 if row["session"] == "ses-02" else 1.0 for row in lab.rows])
    np.save(folder / "responses.npy", lab.responses * factor[:, None])


def nan_columns(folder, lab):
    lab.responses[:, [3, 5]] = np.nan
    np.save(folder / "responses.npy", lab.responses)


def a_surface_with_too_few_vertices(folder, lab):
    (folder / "mask.nii.gz").unlink()
    n = lab.responses.shape[1]
    rows = [{"surface": "fsaverage5", "hemisphere": "lh", "vertex": 12_000 + k} for k in range(n)]
    write_table(folder / "places.csv", rows)


def surface_files_of_another_mesh(folder, lab):
    for name in ("mask.nii.gz", "responses.npy"):
        (folder / name).unlink()
    for side in ("lh", "rh"):
        arrays = [nib.gifti.GiftiDataArray(np.ones(5124, np.float32)) for _ in lab.rows]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), folder / f"responses.{side}.gii")


def fewer_than_twenty_images(folder, lab):
    keep = [k for k, row in enumerate(lab.rows) if row["image"] < "scene 15"]
    write_table(folder / "trials.csv", [lab.rows[k] for k in keep])
    np.save(folder / "responses.npy", lab.responses[keep])


def a_session_of_test_trials_alone(folder, lab):
    rows = [row | ({"session": "ses-09"} if row["split"] == "test" else {}) for row in lab.rows]
    write_table(folder / "trials.csv", rows)


def no_training_images(folder, lab):
    write_table(folder / "trials.csv", [row | {"split": "test"} for row in lab.rows])


def another_word_for_a_split(folder, lab):
    write_table(folder / "trials.csv", [row | {"split": "validation"} for row in lab.rows])


def no_image_column(folder, lab):
    write_table(
        folder / "trials.csv", [{("stimulus" if k == "image" else k): v for k, v in row.items()} for row in lab.rows]
    )


def a_ragged_table(folder, lab):
    (folder / "trials.csv").write_text("image,session\nscene 01,1\nscene 02\n")


def an_empty_table(folder, lab):
    (folder / "trials.csv").write_text("")


def a_broken_image(folder, lab):
    (folder / "images" / "scene 11.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")


def an_image_without_a_caption(folder, lab):
    write_table(folder / "captions.csv", [{"image": name, "caption": "a scene"} for name in list(lab.images)[1:]])


def pickled_responses(folder, lab):
    np.save(folder / "responses.npy", np.array([{"a": 1}], object), allow_pickle=True)


def two_kinds_of_responses(folder, lab):
    save_volume(folder / "responses.nii.gz", in_volume(lab, lab.responses))


def responses_of_three_dimensions(folder, lab):
    np.save(folder / "responses.npy", lab.responses[..., None])


def an_empty_mask(folder, lab):
    save_volume(folder / "mask.nii.gz", np.zeros(SHAPE, np.uint8))


def as_surface_files(folder, **arrays):
    """Name, "_" for ".", -> (n_trials, n_vertices), or arrays of several lengths."""
    for name in ("mask.nii.gz", "responses.npy"):
        (folder / name).unlink()
    for name, rows in arrays.items():
        made = [nib.gifti.GiftiDataArray(np.asarray(row, np.float32)) for row in rows]
        nib.save(nib.gifti.GiftiImage(darrays=made), folder / f"{name.replace('_', '.')}.gii")


def a_surface_file_of_no_hemisphere(folder, lab):
    as_surface_files(folder, responses=np.ones((72, 40)))


def two_files_of_one_hemisphere(folder, lab):
    as_surface_files(folder, responses_lh=np.ones((72, 40)), responses_lh_func=np.ones((72, 40)))


def fewer_trials_in_one_hemisphere(folder, lab):
    as_surface_files(folder, responses_lh=np.ones((72, 40)), responses_rh=np.ones((71, 40)))


def a_surface_file_of_several_lengths(folder, lab):
    as_surface_files(folder, responses_lh=[np.ones(40), np.ones(39)], responses_rh=np.ones((2, 40)))


def as_cifti(folder, image):
    for name in ("mask.nii.gz", "responses.npy"):
        (folder / name).unlink()
    nib.save(image, folder / "responses.dscalar.nii")


def a_volume_called_cifti(folder, lab):
    as_cifti(folder, nib.Nifti1Image(np.ones((4, 4, 4), np.float32), AFFINE))


def cifti_without_places(folder, lab):
    axes = [nib.cifti2.ScalarAxis([f"{word} {k}" for k in range(72)]) for word in ("trial", "voxel")]
    as_cifti(folder, nib.Cifti2Image(np.ones((72, 72), np.float32), axes))


REFUSED = {
    responses_of_three_dimensions: "expected responses (trials, voxels), got shape (72, ",
    an_empty_mask: "expected a volume (x, y, z) with voxels above 0, got shape (7, 8, 9) and none above 0",
    a_surface_file_of_no_hemisphere: "responses.gii: expected lh or rh in its name, as in responses.lh.gii: rename it",
    two_files_of_one_hemisphere: "expected one file a hemisphere, got responses.lh",
    fewer_trials_in_one_hemisphere: "in both hemispheres, got {'responses.lh.gii': 72, 'responses.rh.gii': 71}",
    a_surface_file_of_several_lengths: "expected one data array of vertices a trial, got shapes [(40,), (39,)]",
    a_volume_called_cifti: "expected a CIFTI file of scalars, got Nifti1Image",
    cifti_without_places: "expected its columns to be places in the brain, got a ScalarAxis",
    fewer_responses: "trials.csv has 72 trials, but there are responses to 70: give one line a response",
    transposed: "72 trials, but there are responses to",
    a_voxel_too_many: "voxels, but places are given for",
    a_missing_image: "has no image 'scene 07' (PNG, JPEG or WebP): add it or correct the name",
    a_test_image_in_training: "1 images are in training and in the test (scene 02.png): give all trials of an image the same",
    a_test_image_in_training_under_another_name: "in training and in the test under several names (scene 01.png, scene 09.png)",
    a_mask_elsewhere: "its affine differs from that of mask.nii.gz: its voxels are up to 2 mm elsewhere; resample it",
    a_mask_flipped_by_its_affine: "its axes run LAS, those of mask.nii.gz run RAS: it is flipped along x; reorient it",
    areas_flipped_by_their_affine: "its axes run RAS, those of mask.nii.gz run LAS: it is flipped along x; reorient it",
    an_area_flipped_without_a_word: "once x is turned round: it seems flipped along x; turn it and save it again",
    a_mask_of_another_shape: "expected the shape of mask.nii.gz, (6, 8, 9), got (7, 8, 9): resample it",
    volumes_without_a_mask: "volumes need a mask: put mask.nii.gz",
    a_scale_factor_in_one_session: "ses-02.nii.gz has the scale factor 0.00333333, ses-01.nii.gz has none: one of them would be",
    one_session_in_other_units: "a scale factor is in some sessions only; apply it to all of them",
    nan_columns: "hold NaN or infinity (the first is voxel 3, in 72 trials): add --drop-voxels to leave them out",
    a_surface_with_too_few_vertices: "fsaverage5 has vertices 0 to 10241 a hemisphere, got 12",
    surface_files_of_another_mesh: "as a known surface has (fsaverage5: 10242, fsaverage6: 40962, fsaverage: 163842), got [5124]",
    fewer_than_twenty_images: "expected at least 20 images, got 15: too few to fit and to test anything",
    a_session_of_test_trials_alone: "session ses-09: expected at least 2 training trials, by which its voxels are z-scored, got 0",
    no_training_images: "expected at least 10 training and 2 test images, got 0 and 24: change the split",
    another_word_for_a_split: "expected split to be train or test, got 'validation'",
    no_image_column: "expected a column 'image', got stimulus, session",
    a_ragged_table: "line 3: expected 2 cells as in the header, got 1",
    an_empty_table: "expected a header and a line for each entry, got an empty file",
    a_broken_image: "scene 11.png is not a readable image",
    an_image_without_a_caption: "1 images have no caption (scene 00.png): add theirs, or remove the file",
    pickled_responses: "is not a whole plain array",
    two_kinds_of_responses: "expected the responses in one of responses.npy, responses.h5",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_what_does_not_fit_is_refused_in_one_sentence_and_nothing_is_written(lab, tmp_path, spoil):
    folder = write_lab(tmp_path / "amy", lab)
    spoil(folder, lab)
    result = run(folder, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1, result.output
    said = [line for line in result.stderr.splitlines() if "trials/s" not in line and line.strip()]
    assert len(said) == 1 and REFUSED[spoil] in said[0], said
    assert not (tmp_path / "out").exists()
    assert run(folder, "--describe").exit_code == 1


SURFACE = ("surface", "hemisphere", "vertex")
TABLES = [  # file, columns, one line or as many as there are voxels, what is said
    ("places.csv", ("region",), [("V1",)], "expected columns surface, hemisphere, vertex, or x, y, z, got region"),
    ("places.csv", SURFACE, [("fsaverage5", "lh", 1), ("fsaverage6", "lh", 2)], "expected one surface of fsaverage5,"),
    ("places.csv", SURFACE, [("fs_LR", "lh", 1)], "expected one surface of fsaverage5,"),
    ("places.csv", SURFACE, [("fsaverage5", "both", 1)], "expected hemispheres lh or rh, got 'both'"),
    ("places.csv", SURFACE, [("fsaverage5", "lh", 1.5)], "expected a whole number in column 'vertex', got '1.5'"),
    ("places.csv", SURFACE, [("fsaverage5", "lh", 1)] * 2, "expected every vertex once, got some several times"),
    ("places.csv", tuple("xyz"), [(1, 2, 3), (1, "nan", 3)], "line 3: expected coordinates in mm, got NaN or infinity"),
    ("rois.csv", ("V1",), [(1,), (0,)], "expected a line for each of"),
    ("rois.csv", ("V1",), None, "expected 0 or 1 in column 'v1', got '0.5'"),
    ("trials.csv", ("image",), [], "expected a line for each trial, got none"),
    (
        "trials.csv",
        ("image", "Image"),
        [("scene 01", "scene 02")],
        "expected columns of different names, got image, Image",
    ),
    (
        "trials.csv",
        ("image", "captions"),
        [("scene 01", "a cat")],
        "expected no column 'captions', a word with another meaning",
    ),
    (
        "trials.csv",
        ("image", "session"),
        [("scene 01", "")],
        "line 2: expected a value in column 'session', got an empty cell",
    ),
]


@pytest.mark.parametrize("name, columns, rows, said", TABLES, ids=[said[:40] for *_, said in TABLES])
def test_a_table_that_says_something_else_is_refused(lab, tmp_path, name, columns, rows, said):
    folder = write_lab(tmp_path / "amy", lab)
    if name == "places.csv":
        (folder / "mask.nii.gz").unlink()
    rows = [("0.5",)] * lab.responses.shape[1] if rows is None else rows
    (folder / name).write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]) + "\n")
    result = run(folder, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1 and said in result.stderr and result.stderr.strip().count("\n") == 0, result.stderr
    assert not (tmp_path / "out").exists()


def test_a_transposed_array_is_told_from_one_that_lacks_trials(lab, tmp_path):
    folder = write_lab(tmp_path / "amy", lab)
    transposed(folder, lab)
    assert "transpose them and save them again" in run(folder).stderr


# --- told, and imported -----------------------------------------------------------------------------------------------


def duplicates(folder, lab):
    shutil.copyfile(folder / "images" / "scene 12.png", folder / "images" / "scene 09.png")


def one_session(folder, lab):
    write_table(folder / "trials.csv", [{k: v for k, v in row.items() if k != "session"} for row in lab.rows])


def one_repeat(folder, lab):
    first = [k for k, row in enumerate(lab.rows) if row["repeat"] == 1]
    rows = [lab.rows[k] | {"session": "1"} for k in first]
    write_table(folder / "trials.csv", rows)
    np.save(folder / "responses.npy", lab.responses[first])


def unscaled_integers(folder, lab):
    raw = np.rint(lab.responses * 300).clip(-32768, 32767).astype(np.int16)
    raw[5, 2] = 32767
    np.save(folder / "responses.npy", raw)


def a_constant_voxel(folder, lab):
    values = lab.responses.astype(np.float64)  # in which the mean of many 0.1 is not quite 0.1
    values[:, 4] = 0.1
    np.save(folder / "responses.npy", values)


def oblong_images(folder, lab):
    Image.fromarray(np.zeros((40, 90, 3), np.uint8)).save(folder / "images" / "scene 12.png")


def ncsnr_with_nan(folder, lab):
    values = np.ones(lab.responses.shape[1], np.float32)
    values[:2] = np.nan
    np.save(folder / "ncsnr.npy", values)


TOLD = {
    duplicates: ["the same image under several names, taken for different ones: scene 09.png, scene 12.png"],
    one_session: ["one session only: test and training trials share its drifts"],
    one_repeat: ["no image was shown twice: the noise ceiling is unknown, and the page says so", "one session only"],
    unscaled_integers: [
        "responses are int16 from",
        "look unscaled, as betas × 300",
        "1 values are at the ends of int16",
    ],
    a_constant_voxel: ["up to 1 voxels do not vary within a session"],
    oblong_images: [
        "some images are not square: their middle square is used",
        "the smallest image has 40 pixels a side",
    ],
    ncsnr_with_nan: ["ncsnr is NaN in 2 voxels: their noise ceiling is unknown"],
}


@pytest.mark.parametrize("change", TOLD, ids=lambda change: change.__name__)
def test_what_its_owner_should_know_is_told_before_and_kept_with_the_subject(lab, tmp_path, change):
    folder = write_lab(tmp_path / "amy", lab)
    change(folder, lab)
    described = run(folder, "--describe")
    assert described.exit_code == 0, described.stderr
    assert not (tmp_path / "out").exists()
    done = run(folder, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    for words in TOLD[change]:
        assert words in described.stdout and words in done.stdout


def test_voxels_with_nan_are_left_out_where_that_is_asked_for(lab, tmp_path):
    folder, kept = write_lab(tmp_path / "amy", lab), np.delete(lab.responses, [3, 5], axis=1)
    nan_columns(folder, lab)
    assert run(folder, "--drop-voxels", "--out", str(tmp_path / "out")).exit_code == 0
    np.save(folder / "responses.npy", kept)
    lab.mask[tuple(np.argwhere(lab.mask)[[3, 5]].T)] = False
    save_volume(folder / "mask.nii.gz", lab.mask.astype(np.uint8))
    assert run(folder, "--out", str(tmp_path / "whole")).exit_code == 0
    found = [np.load(tmp_path / name / "train_voxels.npy") for name in ("out", "whole")]
    np.testing.assert_array_equal(*found)


def test_a_constant_voxel_is_zero_and_not_rounding_errors_divided_by_one_another(lab, tmp_path):
    folder = write_lab(tmp_path / "amy", lab)
    a_constant_voxel(folder, lab)
    assert run(folder, "--out", str(tmp_path / "out")).exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "train_voxels.npy")[:, 4], 0)


def test_another_folder_does_not_replace_a_subject_of_the_same_name(lab, tmp_path, rng):
    first, second = (write_lab(tmp_path / name / "data", make_lab(rng)) for name in ("a", "b"))
    assert run(first, "--out", str(tmp_path / "out")).exit_code == 0
    result = run(second, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1 and "choose another --name or --out" in result.stderr


def test_a_name_that_cannot_stand_on_a_page_is_refused(lab, tmp_path):
    assert "choose another --name" in run(write_lab(tmp_path / "amy", lab), "--name", "a/../b").stderr
