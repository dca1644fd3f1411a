"""MindEye2's and Algonauts' files become the subjects that they are of; the miniature trees are written from what is known."""

import io
import shutil
import tarfile

import h5py
import numpy as np
import pytest
from fake_nsd import LABELS, build_fake_nsd
from PIL import Image
from typer.testing import CliRunner

from precompute.__main__ import app
from recon.brain.space import Geometry, Points
from recon.bundle.subject import load_subject
from recon.files import load_json

SESSIONS = 3


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return result


# --- MindEye2 ---------------------------------------------------------------------------------------------------------


def without_ncsnr(_, truth):
    """Some voxels have none: MindEye2 leaves them out."""
    inside = np.argwhere(truth.mask)
    truth.ncsnr[tuple(inside[[2, 11, 40]].T)] = np.nan


def renormalised(truth) -> np.ndarray:
    """(n_trials, n_voxels) float32: each session z-scored by all its trials; voxels that do not vary are 0."""
    betas = truth.betas[:, truth.mask & np.isfinite(truth.ncsnr)] / 300
    for start in range(0, len(betas), truth.trials_per_session):
        part = betas[start : start + truth.trials_per_session]
        sd = part.std(0)
        betas[start : start + len(part)] = (part - part.mean(0)) / np.where(sd > 0, sd, 1)
    return betas.astype(np.float32)


def write_tar(path, trials, truth):
    """A sample a trial: its own behaviour, and that of trials before it, which is not its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for trial in trials:
            session = trial // truth.trials_per_session
            row = [truth.image[trial], 1, session + 1, 1, trial % truth.trials_per_session, trial, *[-1] * 11]
            row[16] = int(truth.is_test[trial])
            for kind, values in (("past_behav", np.full((15, 17), -1.0)), ("behav", np.array([row], float))):
                content = io.BytesIO()
                np.save(content, values)
                info = tarfile.TarInfo(f"sample{trial:09d}.{kind}.npy")
                info.size = content.tell()
                content.seek(0)
                tar.addfile(info, content)


def write_mindeye2(root, truth):
    root.mkdir()
    with h5py.File(root / "betas_all_subj01_fp32_renorm.hdf5", "w") as f:
        f["betas"] = renormalised(truth)
    with h5py.File(root / "coco_images_224_float16.hdf5", "w") as f:
        images = f.create_dataset(
            "images", (73000, 3, 224, 224), np.float16, chunks=(1, 3, 224, 224), compression="gzip"
        )
        for k, picture in truth.stimuli.items():
            small = Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC)
            images[k] = np.moveaxis(np.asarray(small, np.float32) / 255, -1, 0)
    train, test = np.flatnonzero(~truth.is_test), np.flatnonzero(truth.is_test)
    write_tar(root / "wds/subj01/train/0.tar", train[::-1], truth)
    write_tar(root / "wds/subj01/new_test/0.tar", test, truth)
    write_tar(root / "wds/subj01/test/0.tar", test[: len(test) // 2], truth)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same truth through NSD's raw files and through MindEye2's."""
    place = tmp_path_factory.mktemp("mindeye2")
    truth = build_fake_nsd(place / "nsd", n_sessions=SESSIONS, formats=("hdf5",), edit=without_ncsnr)[1]
    write_mindeye2(place / "mindeye2", truth)
    shutil.copytree(place / "nsd" / "nsddata", place / "mindeye2" / "nsddata")
    ncsnr = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz"
    (place / "mindeye2" / ncsnr).parent.mkdir(parents=True)
    for name in (ncsnr, "COCO_73k_annots_curated.npy"):
        shutil.copyfile(place / "nsd" / name, place / "mindeye2" / name)
    run("prepare", "--subject", 1, "--sessions", SESSIONS, "--nsd", place / "nsd", "--out", place / "from-raw")
    run("import", "mindeye2", place / "mindeye2", "--subject", 1, "--out", place / "imported")
    return place, truth


def test_mindeye2_and_raw_files_give_the_same_subject_but_for_voxels_that_do_not_vary(both):
    place, truth = both
    assert 0 < (~np.isfinite(truth.ncsnr[truth.mask])).sum() < 10
    raw, imported = (load_subject(place / name / "subject.h5") for name in ("from-raw", "imported"))
    voxels = [np.load(place / name / "train_voxels.npy") for name in ("from-raw", "imported")]
    places = {tuple(place) for place in raw.geometry.indices.tolist()}
    kept = np.array([tuple(place) in places for place in imported.geometry.indices.tolist()])
    assert 0 < (~kept).sum() < 5 and len(places) == kept.sum()
    np.testing.assert_allclose(voxels[1][:, kept], voxels[0], atol=1e-5)
    np.testing.assert_allclose(imported.test.voxels[:, :, kept], raw.test.voxels, atol=1 / 300 + 1e-6)
    np.testing.assert_array_equal(imported.geometry.indices[kept], raw.geometry.indices)
    np.testing.assert_array_equal(imported.geometry.affine, raw.geometry.affine)
    np.testing.assert_array_equal(imported.ncsnr[kept], raw.ncsnr)
    for name, member in raw.geometry.rois.items():
        np.testing.assert_array_equal(imported.geometry.rois[name][kept], member)
    for split in ("train", "test"):
        for kind in ("ids", "repeats"):
            found = [np.load(place / name / f"{split}_{kind}.npy") for name in ("from-raw", "imported")]
            np.testing.assert_array_equal(*found)
        labels = [load_json(place / name / f"{split}.json") for name in ("from-raw", "imported")]
        assert [(e["nsd_id"], e["captions"]) for e in labels[0]] == [(e["nsd_id"], e["captions"]) for e in labels[1]]


def test_mindeye2s_images_are_224_pixels_wide_and_otherwise_the_same(both):
    place, truth = both
    ids, small = np.load(place / "imported/train_ids.npy"), np.load(place / "imported/train_64.npy")
    for k, image in zip(ids, small):
        at_224 = Image.fromarray(truth.stimuli[int(k)]).resize((224, 224), Image.Resampling.BICUBIC)
        expected = np.asarray(at_224.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
        np.testing.assert_allclose(image, expected, atol=1)
    raw = np.load(place / "from-raw/train_64.npy").astype(int)
    assert np.abs(raw - small).mean() < 2


def test_without_nsds_own_files_mindeye2s_voxels_have_no_place_and_ncsnr_is_estimated(both, tmp_path):
    place, _ = both
    for name in ("betas_all_subj01_fp32_renorm.hdf5", "coco_images_224_float16.hdf5", "wds"):
        (tmp_path / name).symlink_to(place / "mindeye2" / name)
    result = run("import", "mindeye2", tmp_path, "--out", tmp_path / "out")
    subject = load_subject(tmp_path / "out" / "subject.h5")
    assert isinstance(subject.geometry, Points) and not subject.geometry.are_known
    assert np.isfinite(subject.ncsnr).mean() > 0.9 and "no map of the brain is drawn" in result.stdout


def test_what_is_missing_of_mindeye2_names_the_command_that_gets_it(tmp_path):
    result = CliRunner().invoke(app, ["import", "mindeye2", str(tmp_path)])
    assert result.exit_code == 1 and "fetch mindeye2 --subject N --accept-terms" in result.stderr


# --- Algonauts --------------------------------------------------------------------------------------------------------


def write_algonauts(root, rng, n_images=30, n_left=40, n_right=37):
    """A miniature of the challenge's archive of subject 1 -> responses, vertices and labels as they were written."""
    truth = {"nsd": np.sort(rng.choice(73000, n_images, replace=False)), "labels": {}}
    folder = root / "subj01"
    for part in ("training_split/training_fmri", "training_split/training_images", "roi_masks"):
        (folder / part).mkdir(parents=True)
    for k, nsd_id in enumerate(truth["nsd"], 1):
        pixels = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"training_split/training_images/train-{k:04d}_nsd-{nsd_id:05d}.png")
    for side, n in (("lh", n_left), ("rh", n_right)):
        truth[side] = rng.normal(size=(n_images, n)).astype(np.float32)
        np.save(folder / f"training_split/training_fmri/{side}_training_fmri.npy", truth[side])
        vertices = np.zeros(163_842, np.int64)
        vertices[rng.choice(163_842, n, replace=False)] = 1
        truth[f"{side} vertices"] = np.flatnonzero(vertices)
        np.save(folder / f"roi_masks/{side}.all-vertices_fsaverage_space.npy", vertices)
        for family, names in LABELS.items():
            labels = rng.integers(0, len(names) + 1, n)
            truth["labels"][side, family] = labels
            np.save(folder / f"roi_masks/{side}.{family}_challenge_space.npy", labels)
            content = {k: name for k, name in enumerate(("Unknown", *names))}
            np.save(folder / f"roi_masks/mapping_{family}.npy", np.array(content, object), allow_pickle=True)
    return truth


@pytest.fixture(scope="module")
def algonauts(tmp_path_factory):
    place = tmp_path_factory.mktemp("algonauts")
    truth = write_algonauts(place / "data", np.random.default_rng(3))
    run("import", "algonauts", place / "data", "--subject", 1, "--out", place / "out")
    return place, truth


def test_algonauts_vertices_lie_on_fsaverage_and_areas_have_their_names(algonauts):
    place, truth = algonauts
    geometry = load_subject(place / "out" / "subject.h5").geometry
    assert isinstance(geometry, Geometry) and geometry.mesh == "fsaverage"
    np.testing.assert_array_equal(geometry.vertex, np.concatenate([truth["lh vertices"], truth["rh vertices"]]))
    np.testing.assert_array_equal(geometry.hemisphere, np.repeat([0, 1], [40, 37]))
    labels = {family: np.concatenate([truth["labels"][side, family] for side in ("lh", "rh")]) for family in LABELS}
    np.testing.assert_array_equal(geometry.rois["V2d"], labels["prf-visualrois"] == 4)
    np.testing.assert_array_equal(geometry.rois["V2"], np.isin(labels["prf-visualrois"], [3, 4]))
    np.testing.assert_array_equal(geometry.rois["FFA-2"], labels["floc-faces"] == 3)
    np.testing.assert_array_equal(geometry.rois["mTL-words"], labels["floc-words"] == 5)
    np.testing.assert_array_equal(geometry.rois["parietal"], labels["streams"] == 7)


def test_algonauts_responses_are_standardised_by_training_images_and_their_ceiling_is_unknown(algonauts):
    place, truth = algonauts
    subject, labels = load_subject(place / "out" / "subject.h5"), load_json(place / "out" / "train.json")
    nsd_ids = truth["nsd"].tolist()
    rows = [nsd_ids.index(label["nsd_id"]) for label in labels]
    X = np.hstack([truth["lh"], truth["rh"]])
    training = X[rows].astype(np.float64)
    expected = (X - training.mean(0)) / training.std(0, ddof=1)
    np.testing.assert_allclose(np.load(place / "out" / "train_voxels.npy"), expected[rows], atol=1e-5)
    test = [nsd_ids.index(label["nsd_id"]) for label in subject.test.labels]
    assert sorted(rows + test) == list(range(30)) and len(test) == 3
    np.testing.assert_allclose(subject.test.averaged(), expected[test], atol=1 / 600 + 1e-5)
    assert np.isnan(subject.ncsnr).all()


@pytest.mark.parametrize(
    "spoil, said",
    [
        (
            lambda root: (root / "subj01/training_split/training_fmri/rh_training_fmri.npy").unlink(),
            "is missing: unpack",
        ),
        (
            lambda root: next((root / "subj01/training_split/training_images").glob("*.png")).unlink(),
            "responses to 29 images",
        ),
        (
            lambda root: np.save(root / "subj01/roi_masks/lh.all-vertices_fsaverage_space.npy", np.ones(10_242)),
            "of 163842 vertices",
        ),
    ],
)
def test_an_archive_that_does_not_fit_together_is_refused(algonauts, tmp_path, spoil, said):
    shutil.copytree(algonauts[0] / "data", tmp_path / "data")
    spoil(tmp_path / "data")
    result = CliRunner().invoke(app, ["import", "algonauts", str(tmp_path / "data")])
    assert result.exit_code == 1 and said in result.stderr
