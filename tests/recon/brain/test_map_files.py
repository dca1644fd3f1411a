"""Maps as files for other programs, read back by nibabel and csv."""

import csv
import io
import zipfile

import nibabel
import numpy as np
import pytest

from recon.brain.map_files import map_file
from recon.brain.maps import VoxelMap
from recon.brain.space import Geometry, Points, Volume

VALUES = np.array([1.5, -2.25, np.nan, 40.0], np.float32)
SHOWN = VoxelMap("R²", "What it is.", "%", "inferno", 0.0, 60.0, VALUES)
ROIS = {"V1": np.array([True, True, False, False]), "V2": np.array([False, True, False, False])}
SURFACE = Geometry("fsaverage5", np.array([0, 0, 1, 1], np.uint8), np.array([7, 10_241, 0, 7], np.int32), ROIS)
AFFINE = np.array([[-1.8, 0, 0, 90], [0, 1.8, 0, -100], [0, 0, 1.8, -50], [0, 0, 0, 1]])
VOLUME = Volume((3, 4, 5), np.array([[0, 0, 0], [0, 3, 1], [1, 0, 4], [2, 3, 4]], np.int16), AFFINE, ROIS)
POINTS = Points(np.array([[-1, 0, 0], [-2, 1, 3], [5, 0, 1], [6, 6, 6]], np.float32), ROIS)


def table(space):
    name, content = map_file("demo_r2", SHOWN, space, "csv")
    assert name == "demo_r2.csv"
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_a_table_has_a_line_for_each_voxel_with_its_place_areas_and_value():
    rows = table(SURFACE)
    assert rows[1] == {
        "voxel": "1", "hemisphere": "left", "fsaverage5 vertex": "10241", "areas": "V1 V2", "R² (%)": "-2.25",
    }  # fmt: skip
    assert [row["R² (%)"] for row in rows] == ["1.5", "-2.25", "", "40"]
    assert [table(VOLUME)[3][axis] for axis in "ijk"] == ["2", "3", "4"]
    assert [table(POINTS)[1][f"{axis} mm"] for axis in "xyz"] == ["-2.0", "1.0", "3.0"]
    nowhere = table(Points(np.full((4, 3), np.nan, np.float32), ROIS))
    assert list(nowhere[0]) == ["voxel", "hemisphere", "areas", "R² (%)"] and nowhere[0]["hemisphere"] == ""


def test_a_surface_is_two_gifti_files_with_values_at_their_vertices_and_nan_elsewhere():
    name, content = map_file("demo_r2", SHOWN, SURFACE, "gifti")
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert name == "demo_r2_gifti.zip"
    for h, (file, structure) in enumerate((("lh", "CortexLeft"), ("rh", "CortexRight"))):
        image = nibabel.GiftiImage.from_bytes(archive.read(f"{file}.demo_r2.fsaverage5.shape.gii"))
        (array,) = image.darrays
        assert image.meta["AnatomicalStructurePrimary"] == structure and array.data.shape == (10_242,)
        expected = np.full(10_242, np.nan, np.float32)
        for vertex, value in zip(SURFACE.vertex[SURFACE.hemisphere == h], VALUES[SURFACE.hemisphere == h]):
            expected[vertex] = value
        np.testing.assert_array_equal(array.data, expected)


def test_a_volume_is_nifti_on_the_subjects_grid_with_its_affine():
    name, content = map_file("demo_r2", SHOWN, VOLUME, "nifti")
    image = nibabel.Nifti1Image.from_bytes(content)
    assert name == "demo_r2.nii" and np.allclose(image.affine, AFFINE, atol=1e-5)
    data = image.get_fdata()
    assert [data[tuple(at)] for at in VOLUME.indices[[0, 1, 3]]] == [1.5, -2.25, 40] and np.isfinite(data).sum() == 3


@pytest.mark.parametrize("space, kind", [(SURFACE, "nifti"), (VOLUME, "gifti"), (POINTS, "nifti"), (SURFACE, "exe")])
def test_a_kind_that_the_place_of_voxels_does_not_allow_is_refused(space, kind):
    with pytest.raises(ValueError, match=f"^file: expected csv, gifti .* got '{kind}'"):
        map_file("demo_r2", SHOWN, space, kind)
