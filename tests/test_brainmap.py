"""Claims about what the brain view is given."""

import base64

import numpy as np
import pytest
from nilearn.datasets import load_fsaverage

from recon.brainmap import apart, encoded, map_payload, response_map, score_maps, surface_payload, voxel_of_vertex
from recon.encoding import VoxelScores
from recon.subject import Geometry

N_VERTICES = 10242


def decoded(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.fixture
def geometry():
    """Five voxels: three on the left, two on the right; vertex 7 carries one in each hemisphere."""
    hemisphere = np.array([0, 1, 0, 1, 0], np.uint8)
    vertex = np.array([7, 7, 0, N_VERTICES - 1, 12], np.int32)
    v1, v2 = np.array([1, 1, 0, 0, 0], bool), np.array([0, 1, 0, 1, 0], bool)
    return Geometry("fsaverage5", hemisphere, vertex, {"V1": v1, "V2": v2})


@pytest.fixture
def scores():
    r2 = np.array([0.25, -0.5, 0.04], np.float32)
    return VoxelScores(r2, np.sqrt(np.abs(r2)), np.array([50, 20, 8], np.float32), 30)


def test_every_voxel_lands_on_its_own_vertex(geometry):
    payload = surface_payload(geometry)
    for h, name in enumerate(("left", "right")):
        table = decoded(payload["hemispheres"][name]["voxel"], "<i4")
        assert len(table) == N_VERTICES
        for voxel in range(geometry.n_voxels):
            found = table[geometry.vertex[voxel]]
            assert (found == voxel) == (geometry.hemisphere[voxel] == h)
        assert (table >= 0).sum() == (geometry.hemisphere == h).sum()


def test_vertices_without_a_voxel_are_marked(geometry):
    assert voxel_of_vertex(geometry, 0, 13).tolist() == [2, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, 4]


def test_the_hemispheres_do_not_touch_and_left_is_at_negative_x(geometry):
    left, right = (
        decoded(part["coordinates"], "<f4").reshape(-1, 3) for part in surface_payload(geometry)["hemispheres"].values()
    )
    assert left[:, 0].max() == pytest.approx(-6) and right[:, 0].min() == pytest.approx(6)


def test_moving_a_hemisphere_keeps_its_shape():
    before = load_fsaverage("fsaverage5")["inflated"].parts["right"].coordinates
    after = apart(before, 1)
    np.testing.assert_allclose(after - after[0], before - before[0], atol=1e-4)


def test_the_mesh_is_whole_and_its_faces_point_at_vertices(geometry):
    for part in surface_payload(geometry)["hemispheres"].values():
        faces = decoded(part["faces"], "<u2").reshape(-1, 3)
        assert faces.shape == (20480, 3) and set(np.unique(faces)) == set(range(N_VERTICES))
        assert len(decoded(part["sulcus"], "<f4")) == N_VERTICES


def test_a_voxel_keeps_all_its_areas(geometry):
    areas = surface_payload(geometry)["areas"]
    members = decoded(areas["members"], "u1").reshape(len(areas["names"]), -1)
    assert [[n for n, m in zip(areas["names"], column) if m] for column in members.T] == [
        ["V1"], ["V1", "V2"], [], ["V2"], []
    ]  # fmt: skip


def test_a_voxel_outside_the_mesh_is_refused(geometry):
    geometry.vertex[3] = N_VERTICES
    with pytest.raises(ValueError, match="10242 vertices a hemisphere, but voxels lie on up to 10242"):
        surface_payload(geometry)


def test_r2_and_its_ceiling_are_percent_on_one_scale(scores):
    maps = score_maps(scores)
    np.testing.assert_allclose(maps["r2"].values, [25, -50, 4], rtol=1e-6)
    np.testing.assert_allclose(maps["ceiling"].values, [50, 20, 8], rtol=1e-6)
    assert (maps["r2"].low, maps["r2"].high, maps["r2"].scale) == (
        maps["ceiling"].low, maps["ceiling"].high, maps["ceiling"].scale
    )  # fmt: skip


def test_the_ratio_is_percent_of_the_ceiling_and_absent_below_ten_percent(scores):
    np.testing.assert_allclose(score_maps(scores)["ratio"].values, [50, -250, np.nan], rtol=1e-6)


def test_the_response_scale_is_symmetric_and_does_not_follow_the_values():
    small, large = response_map(np.zeros(3)), response_map(np.full(3, 9.0))
    assert small.low == -small.high and (small.low, small.high) == (large.low, large.high)


def test_values_survive_the_journey_bit_for_bit():
    values = np.array([0.1, -3.5, np.nan, 1e-20], np.float32)
    np.testing.assert_array_equal(decoded(map_payload(response_map(values))["values"], "<f4"), values)


def test_encoding_ignores_the_memory_layout():
    array = np.arange(6).reshape(2, 3)
    assert encoded(array.T.copy().T, "<f4") == encoded(array, "<f4")
