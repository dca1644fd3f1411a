"""Files that visitors bring: good ones are read, any other is refused in one sentence."""

import pickle
import zipfile

import h5py
import numpy as np
import pytest

from recon.files import BadFile
from recon.uploads import read_responses, to_scale

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
    several: "got 2: name yours so",
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
    assert to_scale(values, "z-scored") is values
    with pytest.raises(ValueError, match="at least 10 rows to z-score over, got 2"):
        to_scale(values[:2], "raw")


def test_z_scores_that_no_scan_gives_are_refused_and_the_lowest_integer_is_seen(rng, tmp_path):
    values = rng.normal(size=(12, N)).astype(np.float32)
    values[3, 1] = -1001
    with pytest.raises(ValueError, match="expected numbers up to 1000, got 1e[+]03: are they raw"):
        to_scale(values, "z-scored")
    assert np.isfinite(to_scale(values, "raw")).all()
    for number in (np.float32(3e38), np.int64(-(2**63))):
        path = tmp_path / "large.npy"
        np.save(path, np.full(N, number))
        with pytest.raises(BadFile, match="expected numbers up to"):
            read_responses(path, N)
