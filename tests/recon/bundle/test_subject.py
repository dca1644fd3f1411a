"""A subject's file gives back what was saved, on a surface or in a volume."""

from dataclasses import replace

import numpy as np
import pytest

from recon.brain.space import Geometry, Volume
from recon.bundle.subject import Subject, Trials, load_subject, save_subject
from recon.files import BadFile


def surface(rois):
    return Geometry("fsaverage5", np.array([0, 0, 1, 1], np.uint8), np.array([3, 7, 0, 9], np.int32), rois)


def volume(rois):
    indices = np.array([[0, 0, 1], [0, 2, 0], [1, 0, 0], [4, 5, 6]], np.int16)
    return Volume((5, 6, 7), indices, np.diag([1.8, 1.8, 1.8, 1.0]), rois)


def make_subject(geometry, rng) -> Subject:
    voxels = np.rint(rng.normal(0, 300, (3, 2, 4))).astype(np.float32) / np.float32(300)
    voxels[1, 1] = np.nan
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    labels = [{"nsd_id": k, "captions": ["a dog", "été"]} for k in range(3)]
    return Subject("somebody", False, geometry, rng.random(4, np.float32), Trials(voxels, images, labels))


@pytest.mark.parametrize("where", [surface, volume])
@pytest.mark.parametrize("rois", [{}, {"V1": np.array([1, 0, 1, 0], bool), "FFA-1": np.zeros(4, bool)}])
def test_a_subject_comes_back_as_it_was_saved(tmp_path, rng, where, rois):
    subject = make_subject(where(rois), rng)
    save_subject(tmp_path / "subject.h5", subject)
    loaded = load_subject(tmp_path / "subject.h5")
    assert (loaded.name, loaded.simulated, loaded.test.labels) == ("somebody", False, subject.test.labels)
    assert np.array_equal(loaded.test.voxels, subject.test.voxels, equal_nan=True)
    assert np.array_equal(loaded.test.images, subject.test.images)
    assert np.array_equal(loaded.ncsnr, subject.ncsnr)
    assert type(loaded.geometry) is type(subject.geometry) and loaded.geometry.n_voxels == 4
    for name, expected in vars(subject.geometry).items():
        found = getattr(loaded.geometry, name)
        if name == "rois":
            assert found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)
        else:
            assert np.array_equal(found, expected) and getattr(found, "dtype", None) == getattr(expected, "dtype", None)
    assert not isinstance(loaded.geometry, Volume) or loaded.geometry.shape == (5, 6, 7)


def test_repeats_of_averages_are_the_designs_and_survive_the_disk(tmp_path, rng):
    subject = make_subject(surface({}), rng)
    averages = replace(subject.test, voxels=subject.test.voxels[:, :1], n_trials=np.array([3, 1, 2]))
    save_subject(tmp_path / "subject.h5", replace(subject, test=averages))
    loaded = load_subject(tmp_path / "subject.h5").test
    assert loaded.n_repeats.tolist() == [3, 1, 2] and loaded.n_apart.tolist() == [1, 1, 1]
    assert [loaded.n_averaged(k, 1) for k in range(3)] == [3, 1, 2]
    assert np.array_equal(loaded.voxels, averages.voxels)


def test_a_missing_first_voxel_is_no_missing_repeat(rng):
    trials = make_subject(surface({}), rng).test
    trials.voxels[:, :, 0] = np.nan
    assert trials.n_repeats.tolist() == [2, 1, 2]
    assert [trials.n_averaged(k, n) for k, n in ((0, None), (0, 1), (1, 2))] == [2, 1, 1]


def test_areas_that_do_not_fit_the_voxels_are_refused(tmp_path, rng):
    save_subject(tmp_path / "subject.h5", make_subject(volume({"V1": np.ones(5, bool)}), rng))
    with pytest.raises(BadFile, match="voxel counts disagree"):
        load_subject(tmp_path / "subject.h5")


def test_saving_twice_gives_the_same_bytes(tmp_path, rng):
    subject = make_subject(volume({"V1": np.ones(4, bool)}), rng)
    for name in ("a", "b"):
        save_subject(tmp_path / name, subject)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
