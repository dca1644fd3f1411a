"""Claims about what the brain view draws."""

import base64

import numpy as np
import pytest
from nilearn.datasets import load_fsaverage

from recon.brain.geometry import (
    SURFACES,
    canonical_grid,
    coarser,
    encoded,
    geometry_payload,
    hemisphere_of,
    outline,
    surface_mesh,
    surface_payload,
    volume_payload,
    voxel_of_vertex,
    voxel_size,
)
from recon.brain.space import Geometry, Points, Volume

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


def directed_edges(faces):
    return [tuple(edge) for k in range(3) for edge in faces[:, [k, (k + 1) % 3]].tolist()]


# --- surfaces ---------------------------------------------------------------------------------------------------------


def test_every_voxel_lands_on_its_own_vertex(geometry):
    payload = surface_payload(geometry)
    for h, name in enumerate(("left", "right")):
        table = decoded(payload["hemispheres"][name]["voxel"], "<i4")
        assert len(table) == len(decoded(payload["hemispheres"][name]["sulcus"], "<f4")) == N_VERTICES
        for voxel in range(geometry.n_voxels):
            found = table[geometry.vertex[voxel]]
            assert (found == voxel) == (geometry.hemisphere[voxel] == h)
        assert (table >= 0).sum() == (geometry.hemisphere == h).sum()


def test_vertices_without_a_voxel_are_marked(geometry):
    assert voxel_of_vertex(geometry, 0, 13).tolist() == [2, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, 4]


@pytest.mark.parametrize("surface", SURFACES)
def test_a_surface_is_nilearns_own(geometry, surface):
    for name, part in surface_mesh(geometry, surface).items():
        mesh = load_fsaverage("fsaverage5")[surface].parts[name]
        coordinates = decoded(part["coordinates"], "<f4").reshape(-1, 3)
        shown = 2 if surface == "flat" else 3
        np.testing.assert_array_equal(coordinates[:, :shown], mesh.coordinates[:, :shown])
        assert (coordinates[:, shown:] == 0).all()


def test_vertices_on_the_cuts_are_in_no_face_of_the_flat_surface(geometry):
    for name, part in surface_mesh(geometry, "flat").items():
        whole = load_fsaverage("fsaverage5")["flat"].parts[name].faces
        assert set(decoded(part["faces"], "<u2")) <= set(np.unique(whole))
        assert len(np.unique(whole)) < N_VERTICES


def test_an_unknown_surface_is_refused(geometry):
    with pytest.raises(ValueError, match="expected one of inflated, flat, pial, got 'round'"):
        surface_mesh(geometry, "round")


@pytest.fixture
def sphere():
    """Faces and coordinates of a hemisphere, and vertices to be kept: those of a cap."""
    mesh = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    return mesh.faces, mesh.coordinates, mesh.coordinates[:, 1] < -80


def test_a_coarser_surface_is_still_closed_and_turns_one_way(sphere):
    faces, _, keep = sphere
    edges = directed_edges(coarser(faces, keep))
    assert len(edges) == len(set(edges)) < 0.5 * faces.size
    assert {(b, a) for a, b in edges} == set(edges)


def test_faces_at_kept_vertices_stay_as_they_are(sphere):
    faces, _, keep = sphere
    before = {frozenset(face) for face in faces[keep[faces].any(1)].tolist()}
    assert before <= {frozenset(face) for face in coarser(faces, keep).tolist()}


def test_a_surface_that_is_kept_everywhere_stays_whole(sphere):
    faces, _, keep = sphere
    assert {tuple(sorted(f)) for f in coarser(faces, np.ones_like(keep)).tolist()} == {
        tuple(sorted(f)) for f in faces.tolist()
    }


def test_an_outline_crosses_exactly_the_edges_where_membership_changes(rng):
    faces = load_fsaverage("fsaverage5")["inflated"].parts["left"].faces
    member = rng.random(N_VERTICES) < 0.3
    lines = outline(member, faces)
    crossed = {frozenset(pair) for a, b, c in lines.tolist() for pair in ((a, b), (a, c))}
    changes = {frozenset((a, b)) for a, b in directed_edges(faces) if member[a] != member[b]}
    assert crossed == changes
    assert len(lines) == sum(len({member[v] for v in face}) == 2 for face in faces.tolist())


def test_an_outline_of_everything_or_nothing_is_empty():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    assert outline(np.ones(4, bool), faces).shape == outline(np.zeros(4, bool), faces).shape == (0, 3)
    assert outline(np.array([1, 0, 0, 0], bool), faces).tolist() == [[0, 1, 2]]
    assert outline(np.array([1, 1, 1, 0], bool), faces).tolist() == [[3, 2, 1]]


def test_there_is_an_outline_for_each_area(geometry):
    for part in surface_mesh(geometry, "inflated").values():
        lines = [decoded(text, "<u2").reshape(-1, 3) for text in part["outlines"]]
        assert len(lines) == 2
    assert set(lines[0][:, 0]) == {7}  # V1 on the right: one vertex, alone in each of its faces
    assert set(lines[1][:, 0]) == {7, N_VERTICES - 1}


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


# --- volumes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def volume():
    """Four voxels of a volume whose axes run superior, left, anterior, in steps of 2, 1 and 3 mm."""
    affine = np.array([[0, -1, 0, 9], [0, 0, 3, -5], [2, 0, 0, 1], [0, 0, 0, 1]], float)
    indices = np.array([[0, 0, 0], [1, 2, 3], [4, 4, 4], [2, 5, 1]], np.int16)
    return Volume((5, 6, 7), indices, affine, {"V1": np.array([1, 0, 0, 1], bool)})


def test_the_grid_runs_right_anterior_superior(volume):
    assert canonical_grid(volume).tolist() == [[5, 0, 0], [3, 3, 1], [1, 4, 4], [0, 1, 2]]
    assert voxel_size(volume).tolist() == [1, 3, 2]


def test_a_step_on_the_grid_is_a_step_in_millimetres(volume):
    mm = volume.indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    steps = canonical_grid(volume) * voxel_size(volume)
    np.testing.assert_allclose(mm - mm[0], steps - steps[0])


def test_hemispheres_of_a_volume_follow_millimetres_and_not_indices(volume):
    assert hemisphere_of(volume).tolist() == [1, 1, 0, 0]
    sides = volume_payload(volume)["hemispheres"]
    assert decoded(sides["left"]["voxel"], "<i4").tolist() == [2, 3]
    assert decoded(sides["right"]["voxel"], "<i4").tolist() == [0, 1]


def test_voxel_centres_keep_their_distances(volume):
    sides = volume_payload(volume)["hemispheres"]
    at = np.empty((4, 3))
    for part in sides.values():
        at[decoded(part["voxel"], "<i4")] = decoded(part["coordinates"], "<f4").reshape(-1, 3)
    mm = volume.indices @ volume.affine[:3, :3].T
    np.testing.assert_allclose(at - at[0], mm - mm[0], atol=1e-5)
    np.testing.assert_allclose(at.min(0), -at.max(0), atol=1e-5)


def test_encoding_ignores_the_memory_layout():
    array = np.arange(6).reshape(2, 3)
    assert encoded(array.T.copy().T, "<f4") == encoded(array, "<f4")


def test_of_a_finer_fsaverage_the_vertices_of_the_drawn_one_are_drawn_and_the_rest_is_told():
    hemisphere, vertex = np.array([0, 0, 1, 1], np.uint8), np.array([5, 160_000, 10_241, 10_242], np.int32)
    fine = Geometry("fsaverage", hemisphere, vertex, {"V1": np.array([True, True, False, False])})
    payload = surface_payload(fine)
    left, right = (decoded(payload["hemispheres"][name]["voxel"], "<i4") for name in ("left", "right"))
    assert left[5] == 0 and right[10_241] == 2 and (left >= 0).sum() == (right >= 0).sum() == 1
    assert payload["areas"]["n_voxels"] == 4 and "the 2 of 4 voxels" in payload["note"]
    assert surface_mesh(fine, "inflated").keys() == {"left", "right"}


def test_points_are_drawn_by_their_sides_and_nowhere_is_said():
    mm = np.array([[-10, 0, 0], [20, 5, 5], [-30, 1, 2]], np.float32)
    payload = geometry_payload(Points(mm, {}))
    assert payload["kind"] == "points"
    assert decoded(payload["hemispheres"]["left"]["voxel"], "<i4").tolist() == [0, 2]
    assert geometry_payload(Points(np.full((3, 3), np.nan, np.float32), {}))["kind"] == "nowhere"
