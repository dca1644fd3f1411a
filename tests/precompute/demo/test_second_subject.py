"""The second simulated subject is written as a lab would have it and comes back whole through the import."""

import numpy as np
import pytest

from precompute.demo.cortex import build_cortex
from precompute.demo.second_subject import CORTEX, NAME, import_second_subject, voxel_grid
from recon.brain.space import Volume
from recon.bundle.subject import load_subject

pytest.importorskip("skia", exc_type=ImportError)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("second")
    import_second_subject(place, 24, 6)
    return place


def test_the_files_come_back_as_a_simulated_subject_in_a_volume(place):
    subject, cortex = load_subject(place / "prepared" / "subject.h5"), build_cortex(CORTEX)
    assert subject.name == NAME and subject.simulated and isinstance(subject.geometry, Volume)
    assert set(subject.geometry.rois) == set(cortex.area.tolist()) - {""}
    assert len(subject.test.images) == 6 and len(np.load(place / "prepared" / "train_voxels.npy")) == 24
    assert np.isfinite(subject.ncsnr).mean() > 0.99


def test_left_stays_left(place):
    geometry, cortex = load_subject(place / "prepared" / "subject.h5").geometry, build_cortex(CORTEX)
    mm = geometry.indices @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    assert (mm[geometry.rois["VWFA"], 0] < 0).all()  # of the left hemisphere alone
    assert geometry.affine[0, 0] < 0 and voxel_grid(cortex).shape == geometry.shape


def test_a_voxel_is_the_mean_of_its_vertices_z_scored(place):
    geometry, grid = load_subject(place / "prepared" / "subject.h5").geometry, voxel_grid(build_cortex(CORTEX))
    betas, table = np.load(place / "brain" / "betas.npy"), np.load(place / "brain" / "trials.npy")
    here = (grid.index == geometry.indices[10]).all(1)
    values = betas[:, here].mean(1).astype(np.int16).astype(float)
    training = values[table[:, 0] == 0]
    z = (values - training.mean()) / training.std(ddof=1)
    expected = [z[(table[:, 0] == 0) & (table[:, 1] == k)].mean() for k in range(24)]
    np.testing.assert_allclose(np.load(place / "prepared" / "train_voxels.npy")[:, 10], expected, atol=0.01)
