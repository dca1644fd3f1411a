"""Data that would be read without a word and be wrong: refused by name, or left out and counted."""

import dataclasses

import h5py
import nibabel as nib
import numpy as np
import pytest
from fake_nsd import AFFINE, SHAPE, build_fake_nsd

from precompute.nsd import raw
from precompute.nsd.brain_diffuser import layout
from precompute.nsd.prepare import as_pixels, prepare
from precompute.nsd.prepare_job import choose_settings
from precompute.nsd.raw import Tree
from recon.brain.space import Geometry
from recon.bundle.subject import Subject, Trials, load_subject, save_subject
from recon.files import BadFile, load_json

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("nsd")
    return root, build_fake_nsd(root, n_sessions=1, trials_per_session=24)[1]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr("precompute.nsd.prepare.SIDES", (8,))


def small_nsd(root, edit=lambda betas, truth: None):
    return build_fake_nsd(root, n_sessions=3, trials_per_session=24, formats=("hdf5",), edit=edit)[1]


def run(root, out, brain_diffuser=None, export=None) -> dict:
    return prepare(root, out, choose_settings(1, 3, None, brain_diffuser), brain_diffuser, export)


# --- scale factors and places -----------------------------------------------------------------------------------------


def scaled(path, betas, slope, offset):
    """A NIfTI file of int16 betas whose header says what they are to be multiplied by."""
    image = nib.Nifti1Image(np.ascontiguousarray(np.moveaxis(betas, 0, -1)), AFFINE)
    nib.save(image, path)
    again = nib.load(path, mmap=False)
    stored = np.asarray(again.dataobj.get_unscaled())
    header = again.header.copy()
    header.set_slope_inter(slope, offset)
    with nib.openers.Opener(str(path), "wb") as f:
        header.write_to(f)
        f.seek(int(header["vox_offset"]))
        f.write(stored.tobytes(order="F"))


@pytest.mark.parametrize("slope, offset", [(0.5, 0), (1, 10), (1 / 300, 0), (-1, 0), (2.5, -300)])
def test_betas_with_a_scale_factor_are_refused_rather_than_read_without_it(fake, tmp_path, slope, offset):
    root, truth = fake
    scaled(tmp_path / "betas_session07.nii.gz", truth.betas, slope, offset)
    with pytest.raises(
        BadFile, match=r"session07.nii.gz: expected betas as NSD stores them.* got slope .* fetch it again"
    ):
        raw.read_betas(tmp_path / "betas_session07.nii.gz", raw.read_geometry(Tree(root, 1)), 24)


@pytest.mark.parametrize("slope, offset", [(1, 0), (float("nan"), float("nan")), (None, None)])
def test_betas_whose_header_asks_for_nothing_are_read_as_they_are(fake, tmp_path, slope, offset):
    root, truth = fake
    scaled(tmp_path / "betas.nii.gz", truth.betas, slope, offset)
    betas = raw.read_betas(tmp_path / "betas.nii.gz", raw.read_geometry(Tree(root, 1)), 24)
    assert np.array_equal(betas, truth.betas[:, truth.mask])


def test_hdf5_betas_with_a_scale_factor_are_refused_too(fake, tmp_path):
    with h5py.File(tmp_path / "betas.hdf5", "w") as f:
        f["betas"] = np.zeros((24, *SHAPE[::-1]), np.int16)
        f["betas"].attrs["scale_factor"] = 0.01
    with pytest.raises(BadFile, match="got slope 0.01"):
        raw.read_betas(tmp_path / "betas.hdf5", raw.read_geometry(Tree(fake[0], 1)), 24)


def mirrored(affine):
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = SHAPE[0] - 1
    return affine @ flip


AFFINES = {
    "mirrored in x": mirrored(AFFINE),
    "axes exchanged": AFFINE[:, [1, 0, 2, 3]],
    "one voxel further": AFFINE + np.array([[0, 0, 0, 1.8], [0] * 4, [0] * 4, [0] * 4]),
    "other voxels": AFFINE @ np.diag([1.25, 1.25, 1.25, 1]),
    "left for right": np.diag([-1.0, 1, 1, 1]) @ AFFINE,
    "not a number": AFFINE * np.array([[np.nan], [1], [1], [1]]),
}


def placed(path, values, affine, code=1):
    image = nib.Nifti1Image(values, None)
    image.header.set_sform(affine, code)
    path.unlink(missing_ok=True)
    nib.save(image, path)


@pytest.mark.parametrize("what", AFFINES)
@pytest.mark.parametrize("kind", ["areas", "ncsnr", "betas"])
def test_a_volume_that_lies_elsewhere_than_nsdgeneral_is_refused(tmp_path, what, kind):
    truth = build_fake_nsd(tmp_path, n_sessions=1, trials_per_session=24, formats=("nii.gz",))[1]
    tree = Tree(tmp_path, 1)
    volume = raw.read_geometry(tree)
    files = {"areas": tree.roi("streams"), "ncsnr": tree.ncsnr, "betas": tree.betas(1)}
    values = {"areas": truth.labels["streams"], "ncsnr": truth.ncsnr, "betas": np.moveaxis(truth.betas, 0, -1)}
    placed(files[kind], values[kind], AFFINES[what])
    reads = {
        "areas": lambda: raw.read_geometry(tree),
        "ncsnr": lambda: raw.read_ncsnr(tree, volume),
        "betas": lambda: raw.read_betas(files["betas"], volume, 24),
    }
    with pytest.raises(
        BadFile, match=r"expected voxels where nsdgeneral has them \(axes RAS\), got some .* mm away"
    ) as told:
        reads[kind]()
    assert files[kind].name in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("affine, code", [(AFFINE + 1e-4, 1), (mirrored(AFFINE), 0)])
def test_an_affine_that_is_rounded_or_says_nothing_is_taken(fake, tmp_path, affine, code):
    volume = raw.read_geometry(Tree(fake[0], 1))
    placed(tmp_path / "ncsnr.nii.gz", fake[1].ncsnr, affine, code)
    assert np.array_equal(raw.read_masked(tmp_path / "ncsnr.nii.gz", volume), fake[1].ncsnr[fake[1].mask])


def test_labels_between_two_numbers_are_refused(tmp_path):
    truth = build_fake_nsd(tmp_path, n_sessions=1, trials_per_session=24)[1]
    placed(Tree(tmp_path, 1).roi("streams"), truth.labels["streams"] * np.float32(0.75), AFFINE)
    with pytest.raises(BadFile, match=r"streams.nii.gz: expected whole numbers as labels, got 0.75"):
        raw.read_geometry(Tree(tmp_path, 1))


# --- NaN and what never varies ----------------------------------------------------------------------------------------


def still_in_a_session(betas, truth):
    """Two more voxels: one that is zero in the second session, one that stays at its mean in the third."""
    first, second = np.argwhere(truth.mask)[[2, 5]]
    betas[(slice(24, 48), *first)] = 0
    betas[(slice(48, 72), *second)] = 150


def test_a_voxel_that_does_not_vary_in_one_session_is_left_out_and_counted(tmp_path):
    truth = small_nsd(tmp_path / "nsd", still_in_a_session)
    report = run(tmp_path / "nsd", tmp_path / "out")
    assert report["constant_voxels"] == [1, 2, 3] and report["voxels_left_out"] == 4
    subject = load_subject(tmp_path / "out/subject.h5")
    left = {tuple(place) for place in subject.geometry.indices.tolist()}
    assert not {tuple(place) for place in np.argwhere(truth.mask)[[2, 5]].tolist()} & left
    assert len(left) == truth.mask.sum() - 4 == report["n_voxels"]
    assert np.load(tmp_path / "out/train_voxels.npy").shape[1] == subject.test.voxels.shape[2] == len(left)
    assert (np.load(tmp_path / "out/train_voxels.npy").std(0) > 0.1).all()


def test_a_voxel_without_a_noise_ceiling_is_left_out_and_counted(tmp_path):
    truth = small_nsd(tmp_path / "nsd")
    ncsnr, (one, other) = truth.ncsnr.copy(), np.argwhere(truth.mask)[[7, 9]]
    ncsnr[tuple(one)], ncsnr[tuple(other)] = np.nan, np.inf
    placed(Tree(tmp_path / "nsd", 1).ncsnr, ncsnr, AFFINE)
    report = run(tmp_path / "nsd", tmp_path / "out")
    assert report["voxels_without_ncsnr"] == 2 and report["voxels_left_out"] == 4
    assert np.isfinite(load_subject(tmp_path / "out/subject.h5").ncsnr).all()
    assert report == load_json(tmp_path / "out/prepare.json")


def test_a_session_that_is_zero_nearly_everywhere_is_refused_not_left_out(tmp_path):
    small_nsd(tmp_path / "nsd", lambda betas, truth: betas[24:48].fill(0))
    with pytest.raises(BadFile, match=r"session 2: \d+ of \d+ voxels do not vary: fetch the file again"):
        run(tmp_path / "nsd", tmp_path / "out")


def test_a_noise_ceiling_file_without_any_number_is_refused(tmp_path):
    truth = small_nsd(tmp_path / "nsd")
    placed(Tree(tmp_path / "nsd", 1).ncsnr, np.full_like(truth.ncsnr, np.nan), AFFINE)
    with pytest.raises(BadFile, match="varies in every session and has an ncsnr"):
        run(tmp_path / "nsd", tmp_path / "out")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    small_nsd(folder / "nsd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("precompute.nsd.prepare.SIDES", (8,))
        run(folder / "nsd", folder / "out", export=folder / "files")
    return folder


def changed(exported, tmp_path, split, kind, change):
    """A copy of the export, by links, of which one file is another."""
    for path in (exported / "files").glob("*.npy"):
        (tmp_path / path.name).symlink_to(path)
    victim = layout(tmp_path, split, kind, 1)
    values = np.array(np.load(victim))
    victim.unlink()
    np.save(victim, change(values))
    return tmp_path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("split, row, voxel", [("train", 3, 0), ("test", 0, 0), ("test", -1, -1)])
def test_nan_in_brain_diffusers_averages_is_refused_before_anything_is_made(
    exported, tmp_path, split, row, voxel, value
):
    def spoil(values):
        values[row, voxel] = value
        return values

    folder = changed(exported, tmp_path, split, "fmriavg_nsdgeneral", spoil)
    with pytest.raises(BadFile, match=rf"nsd_{split}_fmriavg.* got NaN or infinity in 1 voxels .* of 1 rows"):
        run(exported / "nsd", tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", [1 / 255, 2, -1])
def test_stimuli_on_another_scale_are_refused_rather_than_turned_black(exported, tmp_path, scale):
    folder = changed(exported, tmp_path, "train", "stim", lambda values: values.astype(float) * scale)
    with pytest.raises(BadFile, match="the train stimuli: expected whole numbers from 0 to 255, got numbers from"):
        run(exported / "nsd", tmp_path / "out", folder)


def test_stimuli_that_hold_nan_are_refused():
    with pytest.raises(BadFile, match="expected whole numbers from 0 to 255"):
        as_pixels(np.array([3.0, np.nan]), "test")


def test_an_image_without_any_caption_is_named_before_anything_is_made(exported, tmp_path):
    def erase(captions):
        captions[2] = "  "
        return captions

    folder = changed(exported, tmp_path, "test", "cap", erase)
    with pytest.raises(BadFile, match=r"1 test images have no caption \(first: NSD id \d+\)"):
        run(exported / "nsd", tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


def subject_of(voxels: np.ndarray) -> Subject:
    n, _, n_voxels = voxels.shape
    geometry = Geometry("fsaverage5", np.zeros(n_voxels, np.uint8), np.arange(n_voxels, dtype=np.int32), {})
    trials = Trials(voxels, np.zeros((n, 8, 8, 3), np.uint8), [{"captions": ["a"]}] * n)
    return Subject("one", True, geometry, np.ones(n_voxels, np.float32), trials)


@pytest.mark.parametrize("at, words", [
    ((0, 0, 0), "voxel 0 of repeat 0 of test image 0"),
    ((2, 1, 4), "voxel 4 of repeat 1 of test image 2"),
    ((slice(None), slice(None), 0), "voxel 0 of repeat 0 of test image 0"),
    ((1, 0), "before those that are missing"),
    ((3,), "got none to image 3"),
])  # fmt: skip
def test_nan_in_test_responses_is_refused_rather_than_kept_as_zero(tmp_path, rng, at, words):
    voxels = rng.normal(size=(4, 2, 5)).astype(np.float32)
    voxels[at] = np.nan
    with pytest.raises(ValueError, match=words):
        save_subject(tmp_path / "subject.h5", subject_of(voxels))
    assert not list(tmp_path.iterdir())


def test_a_missing_repeat_stays_missing(tmp_path, rng):
    voxels = rng.normal(size=(4, 2, 5)).astype(np.float32)
    voxels[1, 1] = np.nan
    save_subject(tmp_path / "subject.h5", subject_of(voxels))
    assert load_subject(tmp_path / "subject.h5").test.n_repeats.tolist() == [2, 1, 2, 2]
    assert dataclasses.asdict(load_subject(tmp_path / "subject.h5"))["name"] == "one"
