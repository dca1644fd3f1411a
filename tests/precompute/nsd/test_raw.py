"""Raw NSD files are read as what was written into them, and damaged ones are refused in one sentence."""

import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
from fake_nsd import LABELS, SHAPE, build_fake_nsd, write_hdf5_betas, write_nifti_betas
from scipy.io import loadmat, savemat

from precompute.nsd import raw
from precompute.nsd.raw import Tree, parse_ctab
from recon.files import BadFile

FORMATS = ("hdf5", "nii.gz")
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("nsd")
    return root, build_fake_nsd(root, subjects=(1, 4), n_sessions=3, trials_per_session=20)


@pytest.fixture
def damaged(fake, tmp_path):
    """A copy without stimuli and captions, to be damaged."""
    return shutil.copytree(fake[0], tmp_path / "nsd", ignore=shutil.ignore_patterns("nsd_stimuli.hdf5", "*.npy"))


def one_sentence(error, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("subject", [1, 4])
def test_the_design_names_every_trials_image_and_split(fake, subject):
    root, truths = fake
    design = raw.read_design(Tree(root, subject)).first(3)
    assert design.trials_per_session == 20
    assert np.array_equal(design.image, truths[subject].image)
    assert np.array_equal(design.is_test, truths[subject].is_test)
    assert np.array_equal(design.session, np.repeat([0, 1, 2], 20))


@pytest.mark.parametrize("test", [True, False])
def test_images_list_their_trials_in_order_of_time(fake, test):
    root, truths = fake
    design = raw.read_design(Tree(root, 1)).first(3)
    images, truth = design.images(test), truths[1]
    assert np.array_equal(images.ids, np.unique(truth.image[truth.is_test == test]))
    for image, trials, n in zip(images.ids, images.trials, images.n_repeats):
        shown = np.flatnonzero(truth.image == image)
        assert np.array_equal(trials[:n], shown) and (trials[n:] == -1).all()
    assert set(images.n_repeats) == ({1, 2, 3} if not test else set(images.n_repeats))
    first = [np.flatnonzero(truth.image == i)[0] for i in images.ids[images.by_first_trial]]
    assert first == sorted(first)


def test_voxels_are_those_of_nsdgeneral_in_the_order_of_numpys_boolean_masking(fake):
    root, truths = fake
    volume = raw.read_geometry(Tree(root, 1))
    assert volume.shape == SHAPE and volume.indices.dtype == np.int16
    numbered = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    assert np.array_equal(numbered[tuple(volume.indices.T)], numbered[truths[1].mask])
    assert np.array_equal(raw.read_ncsnr(Tree(root, 1), volume), truths[1].ncsnr[truths[1].mask])
    assert np.array_equal(volume.affine, nib.load(Tree(root, 1).roi("nsdgeneral")).affine)


def test_areas_are_labels_above_zero_under_their_names(fake):
    root, truths = fake
    rois, truth = raw.read_geometry(Tree(root, 1)).rois, truths[1]
    for family, names in LABELS.items():
        for label, name in enumerate(names, 1):
            shown = f"{name}-{family.removeprefix('floc-')}" if name == "mTL" else name
            expected = truth.labels[family][truth.mask] == label
            assert np.array_equal(rois[shown], expected) if expected.any() else shown not in rois
    assert "aTL" not in rois  # labelled, but nowhere in nsdgeneral
    assert np.array_equal(rois["V1"], np.isin(truth.labels["prf-visualrois"][truth.mask], [1, 2]))
    assert len(rois) == sum(map(len, LABELS.values())) - 1 + 3


def test_colour_tables_may_hold_tabs_colours_and_other_lines():
    text = "# comment\n0 Unknown\n1\tV1v\n  2   V1d  255 0 0 0\n\n3\thV4\t12\n7\n"
    assert parse_ctab(text) == {0: "Unknown", 1: "V1v", 2: "V1d", 3: "hV4"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_betas_of_a_session_are_those_written(fake, suffix):
    root, truths = fake
    volume = raw.read_geometry(Tree(root, 1))
    for session in range(3):
        betas = raw.read_betas(root / BETAS / f"betas_session{session + 1:02d}.{suffix}", volume, 20)
        assert betas.dtype == np.int16
        assert np.array_equal(betas, truths[1].betas[20 * session : 20 * (session + 1)][:, truths[1].mask])


def test_stimuli_come_in_the_order_asked_for(fake):
    root, truths = fake
    ids = np.array(list(truths[1].stimuli))
    ids = np.array([*ids[::-1][:5], ids[2] + 1, ids[2], ids[0]])  # unordered, two neighbours, one never written
    pictures = raw.read_stimuli(Tree(root, 1), ids)
    black = np.zeros((425, 425, 3), np.uint8)
    everything = truths[4].stimuli | truths[1].stimuli
    assert all(np.array_equal(p, everything.get(int(i), black)) for i, p in zip(ids, pictures))


def test_stimuli_are_read_in_ascending_runs_of_neighbours(fake, monkeypatch):
    reads, read = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: reads.append(key) or read(self, key))
    raw.read_stimuli(Tree(fake[0], 1), np.array([9, 5, 70000, 4, 3]))
    assert reads == [slice(3, 6), slice(9, 10), slice(70000, 70001)]


def test_captions_come_by_id(fake):
    root, truths = fake
    ids = np.array([72999, 0, 500])
    assert np.array_equal(raw.read_captions(Tree(root, 1), ids), truths[1].captions[ids])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_command_that_gets_it(fake):
    with pytest.raises(BadFile) as error:
        Tree(fake[0], 4).betas(9)
    one_sentence(error, "subj04", "betas_session09.hdf5", "python -m precompute fetch nsd --subject 4")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_betas_are_refused(damaged, suffix, share):
    path = damaged / BETAS / f"betas_session02.{suffix}"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadFile) as error:
        raw.read_betas(path, raw.read_geometry(Tree(damaged, 1)), 20)
    one_sentence(error, path.name, "fetch it again")


def test_a_flipped_bit_in_compressed_betas_is_noticed(damaged):
    path = damaged / BETAS / "betas_session02.nii.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # the stream's checksum
    path.write_bytes(data)
    with pytest.raises(BadFile) as error:
        raw.read_betas(path, raw.read_geometry(Tree(damaged, 1)), 20)
    one_sentence(error, path.name)


@pytest.mark.parametrize("write, suffix", [(write_hdf5_betas, "hdf5"), (write_nifti_betas, "nii.gz")])
@pytest.mark.parametrize(
    "shape, dtype", [((19, *SHAPE), np.int16), ((20, 9, 11, 10), np.int16), ((20, *SHAPE), np.float32)]
)
def test_betas_of_another_shape_or_type_are_refused(damaged, write, suffix, shape, dtype):
    path = damaged / BETAS / f"betas_session01.{suffix}"
    path.unlink()
    write(path, np.zeros(shape, dtype))
    with pytest.raises(BadFile) as error:
        raw.read_betas(path, raw.read_geometry(Tree(damaged, 1)), 20)
    one_sentence(error, path.name, "expected", "int16", "got")


def test_areas_of_another_volume_are_refused(damaged):
    path = Tree(damaged, 1).roi("streams")
    nib.save(nib.Nifti1Image(np.zeros((10, 9, 11), np.float32), np.eye(4)), path)
    with pytest.raises(BadFile) as error:
        raw.read_geometry(Tree(damaged, 1))
    one_sentence(error, "streams", "(9, 10, 11)", "(10, 9, 11)")


def test_an_empty_mask_is_refused(damaged):
    nib.save(nib.Nifti1Image(-np.ones(SHAPE, np.float32), np.eye(4)), Tree(damaged, 1).roi("nsdgeneral"))
    with pytest.raises(BadFile) as error:
        raw.read_geometry(Tree(damaged, 1))
    one_sentence(error, "nsdgeneral")


def test_a_design_that_points_outside_its_table_is_refused(damaged):
    path = damaged / raw.DESIGN
    mat = loadmat(path)
    mat["masterordering"][0, 3] = 0
    savemat(path, {name: mat[name] for name in ("masterordering", "subjectim")})
    with pytest.raises(BadFile) as error:
        raw.read_design(Tree(damaged, 1))
    one_sentence(error, "masterordering", "got 0")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadFile) as error:
        raw.read_design(Tree(damaged, 1))
    one_sentence(error, "nsd_expdesign.mat", "fetch it again")


def test_captions_that_are_python_objects_are_refused_with_advice(damaged):
    path = damaged / raw.CAPTIONS
    np.save(path, np.full((73000, 5), "a", object), allow_pickle=True)
    with pytest.raises(BadFile) as error:
        raw.read_captions(Tree(damaged, 1), np.array([1]))
    one_sentence(error, raw.CAPTIONS, "Python objects", "dtype=str or float")
