"""Files that visitors bring: good ones are read, any other is refused in one sentence."""

import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from recon.files import BadFile
from recon.uploads import read_responses, to_scale, what_it_looks_like

ROOT = Path(__file__).parents[2]
N = 7


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "float16"])
@pytest.mark.parametrize("suffix", [".npy", ".h5", ".hdf5"])
def test_rows_come_back_as_they_were_saved(tmp_path, rng, dtype, suffix):
    values = (100 * rng.normal(size=(3, N))).astype(dtype)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as f:
            f["anything"] = values
    got = read_responses(path, N)
    assert got.dtype == np.float32 and np.array_equal(got, values.astype(np.float32))


def test_one_row_may_come_alone_and_betas_win_among_several_datasets(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(N))
    assert read_responses(tmp_path / "one.npy", N).shape == (1, N)
    with h5py.File(tmp_path / "two.h5", "w") as f:
        f["other"], f["betas"] = np.zeros((2, 3)), np.ones((2, N))
    assert (read_responses(tmp_path / "two.h5", N) == 1).all()


def saved(values):
    return lambda path: np.save(path, values)


def header_of(shape, dtype="<f4"):
    """A file whose header claims more than there is."""

    def write(path):
        with open(path, "wb") as f:
            np.lib.format.write_array_header_1_0(f, {"descr": dtype, "fortran_order": False, "shape": shape})
            f.write(b"\0" * 64)

    return write


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def pickled(path):
    path.write_bytes(pickle.dumps(Trap()))


def objects(path):
    np.save(path, np.array([Trap()], object), allow_pickle=True)


def truncated(path):
    np.save(path, np.zeros((40, N)))
    path.write_bytes(path.read_bytes()[:-9])


def zipped(path):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a.npy", b"x")


BAD_NPY = {
    "pickle": (pickled, "not a whole .npy file"),
    "objects": (objects, "expected real numbers, got values of type object"),
    "truncated": (truncated, "not a whole .npy file"),
    "zip": (zipped, "not a whole .npy file"),
    "text": (lambda p: p.write_text("1,2,3"), "not a whole .npy file"),
    "empty file": (lambda p: p.write_bytes(b""), "not a whole .npy file"),
    "complex": (saved(np.zeros((2, N), complex)), "expected real numbers, got values of type complex128"),
    "strings": (saved(np.array(["a"] * N)), "expected real numbers"),
    "NaN": (saved(np.full((2, N), np.nan)), "got NaN or infinity in 14 places"),
    "infinity": (saved(np.full(N, np.inf)), "got NaN or infinity in 7 places"),
    "beyond float32": (saved(np.full(N, 1e300)), "expected numbers up to 1e\\+09, got 1e\\+300"),
    "too few voxels": (saved(np.zeros((2, N - 1))), "expected 7 voxels in a row, as this subject has, got 6"),
    "three dimensions": (saved(np.zeros((2, 2, N))), "expected an array of shape"),
    "no rows": (saved(np.zeros((0, N))), "expected an array of shape"),
    "too many rows": (saved(np.zeros((1001, N), np.float32)), "expected at most 1000 rows, got 1001"),
    "a header that claims a terabyte": (header_of((1, 10**12)), "expected at most 64 MB"),
    "a header that claims a few more": (header_of((9, N)), "not a whole .npy file"),
}


@pytest.mark.parametrize("kind", BAD_NPY)
def test_a_bad_npy_file_is_refused_in_one_sentence(tmp_path, kind):
    write, message = BAD_NPY[kind]
    write(tmp_path / "bad.npy")
    with pytest.raises(BadFile, match=message) as told:
        read_responses(tmp_path / "bad.npy", N)
    assert "\n" not in str(told.value)


def nothing(f):
    f.create_group("group")


def several(f):
    f["a"], f["b"] = np.zeros(N), np.zeros(N)


def soft(f):
    f["betas"] = h5py.SoftLink("/elsewhere")


def other_file(f):
    f["betas"] = h5py.ExternalLink("/etc/passwd", "/x")


def external(f):
    f.create_dataset("betas", (N,), "u1", external=[("/etc/passwd", 0, N)])


def virtual(f):
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (N,))
    f.create_virtual_dataset("betas", layout)


BAD_H5 = {
    nothing: "expected one dataset, or one named betas or voxels, got 0",
    several: r"got 2 \(a, b\): name yours so",
    soft: "got 0",
    other_file: "got 0",
    external: "refers to other files",
    virtual: "refers to other files",
}


@pytest.mark.parametrize("write", BAD_H5, ids=lambda w: w.__name__)
def test_a_bad_h5_file_is_refused_and_no_link_followed(tmp_path, write):
    with h5py.File(tmp_path / "bad.h5", "w") as f:
        write(f)
    with pytest.raises(BadFile, match=BAD_H5[write]):
        read_responses(tmp_path / "bad.h5", N)


def test_other_endings_and_broken_hdf5_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(BadFile, match=r"expected a file ending in .npy, .h5, .hdf5, got 'a.pkl'"):
        read_responses(tmp_path / "a.pkl", N)
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(BadFile, match="not a whole HDF5 file"):
        read_responses(tmp_path / "a.h5", N)


def test_raw_responses_are_z_scored_over_their_own_rows(rng):
    values = rng.normal(5, 3, (40, N)).astype(np.float32)
    z = to_scale(values, "raw")
    np.testing.assert_allclose(z, (values - values.mean(0)) / values.std(0, ddof=1), rtol=1e-4, atol=1e-5)
    assert to_scale(z, "z-scored") is z
    with pytest.raises(ValueError, match="at least 10 rows to z-score over, got 2"):
        to_scale(values[:2], "raw")


# --- turned, in a group, or of MATLAB's making ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_voxels_along_the_first_axis_are_turned_and_that_is_told(tmp_path, rng, suffix, n):
    values, told, path = rng.normal(size=(n, N)).astype(np.float32), [], tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, values.T)
    else:
        with h5py.File(path, "w") as f:
            f["x"] = values.T
    assert np.array_equal(read_responses(path, N, told.append), values)
    assert told == [f"The file holds 7 rows of {n}: it was turned, so that a row is a response."]
    np.save(tmp_path / "square.npy", np.arange(N * N).reshape(N, N))  # nobody can tell
    assert read_responses(tmp_path / "square.npy", N, told.append)[0, 1] == 1 and len(told) == 1


def matlab(f, name, values, kind):
    f[name] = values
    f[name].attrs["MATLAB_class"] = np.bytes_(kind)


def test_of_matlabs_square_matrices_the_axes_are_put_back(tmp_path):
    with h5py.File(tmp_path / "square.h5", "w") as f:
        matlab(f, "betas", np.arange(N * N).reshape(N, N), "double")
    assert read_responses(tmp_path / "square.h5", N)[0].tolist() == list(range(0, N * N, N))


@pytest.mark.parametrize("place", ["betas", "results/betas", "a/b/c/anything"])
def test_the_one_dataset_is_found_in_whatever_group(tmp_path, place):
    with h5py.File(tmp_path / "deep.h5", "w") as f:
        f[place] = np.ones((2, N))
        f.create_group("empty")
    assert read_responses(tmp_path / "deep.h5", N).shape == (2, N)


def test_the_one_dataset_of_numbers_is_taken_among_others(tmp_path):
    with h5py.File(tmp_path / "mixed.h5", "w") as f:
        f["names"], f["subject/responses"] = ["a", "b"], np.ones((2, N))
    assert read_responses(tmp_path / "mixed.h5", N).shape == (2, N)


def cell(f):
    f.create_group("#refs#")["a"] = np.zeros(3)
    f.create_dataset("betas", (1, 1), h5py.ref_dtype)[0, 0] = f["#refs#/a"].ref


MATLAB = {
    "cell array": cell,
    "structure": lambda f: matlab(f, "betas", np.zeros((1, N)), "struct"),
    "character array": lambda f: matlab(f, "betas", np.zeros((1, N), np.uint16), "char"),
    "logical array": lambda f: matlab(f, "betas", np.zeros((1, N), np.uint8), "logical"),
}


@pytest.mark.parametrize("kind", MATLAB)
def test_what_is_no_matrix_of_matlabs_is_named(tmp_path, kind):
    with h5py.File(tmp_path / "mine.h5", "w") as f:
        MATLAB[kind](f)
    with pytest.raises(BadFile, match=f"'betas' is a MATLAB {kind}: save a numeric matrix"):
        read_responses(tmp_path / "mine.h5", N)


def test_an_absent_filter_is_named_and_nothing_called_damaged():
    path = ROOT / "tests" / "data" / "filter_absent.h5"
    with pytest.raises(BadFile, match=r"filter_absent.h5 is compressed by the HDF5 filter 32015 \(zstd\)") as told:
        read_responses(path, N)
    assert "not a whole" not in str(told.value) and str(path) not in str(told.value)


# --- scales -----------------------------------------------------------------------------------------------------------

WRONG = {
    "NSD's int16": (lambda z: np.rint(300 * z), "betas × 300"),
    "a tenth of that": (lambda z: 30 * z, "looks like betas"),
    "percent with a mean": (lambda z: 2 * z + 5, "looks like betas"),
    "raw intensities": (lambda z: 700 + 20 * z, "looks like betas"),
    "one voxel far off": (lambda z: z + 1e4 * (np.arange(z.shape[1]) == 3), "a voxel that is far off"),
    "one row of another scale": (lambda z: z * np.where(np.arange(len(z)) == 5, 100, 1)[:, None], "looks like betas"),
    "tesla": (lambda z: z * 1e-12, "another unit"),
    "a share instead of percent": (lambda z: z * 0.01, "another unit"),
    "zeros": (lambda z: z * 0, "zeros"),
}


@pytest.mark.parametrize("what", WRONG)
def test_numbers_that_are_no_z_scores_are_refused_as_such_and_taken_as_raw(rng, what):
    change, words = WRONG[what]
    values = change(rng.normal(size=(12, 500))).astype(np.float32)
    with pytest.raises(ValueError, match=f"expected z-scores, of size about 1, got size .*{words}.*choose raw"):
        to_scale(values, "z-scored")
    assert to_scale(values, "raw").shape == values.shape


@pytest.mark.parametrize("sd", [0.1, 0.4, 1, 2])
def test_z_scores_of_single_trials_averages_and_predictions_are_taken(rng, sd):
    values = (sd * rng.normal(size=(12, 500))).astype(np.float32)
    values[:, :50] = 0  # voxels that somebody masked
    assert to_scale(values, "z-scored") is values


def test_z_scores_that_no_scan_gives_are_refused_and_the_lowest_integer_is_seen(rng, tmp_path):
    values = rng.normal(size=(12, N)).astype(np.float32)
    values[3, 1] = -1001
    with pytest.raises(ValueError, match="expected z-scores, of size about 1|expected numbers up to 1000, got 1e[+]03"):
        to_scale(values, "z-scored")
    assert np.isfinite(to_scale(values, "raw")).all()
    for number in (np.float32(3e38), np.int64(-(2**63))):
        path = tmp_path / "large.npy"
        np.save(path, np.full(N, number))
        with pytest.raises(BadFile, match="expected numbers up to"):
            read_responses(path, N)


@pytest.mark.parametrize("scale, n, words", [
    (1, 3, "Read: 3 responses of 7 voxels. Their size is 1, which looks like z-scores."),
    (1, 1, "Read: one response of 7 voxels. Their size is 1, which looks like z-scores."),
    (300, 12, "Their size is 300, which looks like betas × 300: choose raw."),
    (300, 2, "which looks like betas × 300: z-score them, or send 10 raw rows."),
    (4.5, 12, "Their size is 4.5, which looks like betas, or a voxel that is far off: choose raw."),
    (0.001, 12, "Their size is 0.001, which looks like another unit, or zeros: choose raw."),
])  # fmt: skip
def test_the_page_says_what_it_thinks_of_the_numbers_scale(scale, n, words):
    assert words in what_it_looks_like(np.full((n, 7), scale, np.float32))
