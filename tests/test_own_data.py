"""Responses of one's own: good files are read, bad ones refused in one sentence, other files never opened, nothing unpickled."""

import io
import os
import pickle

import h5py
import numpy as np
import pytest

from recon.files import BadFile
from recon.own_data import normalise, read_responses
from recon.regression import Standardiser

N = 7


def npy(header: str, body: bytes = b"") -> bytes:
    """A NumPy file, version 1.0, with whatever its header claims."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def claim(shape: str, dtype: str = "<f4") -> bytes:
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}", bytes(4 * N))


def saved(array, **how) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, betas=np.zeros((2, N)))
    return buffer.getvalue()


def with_value(value) -> np.ndarray:
    values = np.zeros((3, N))
    values[1, 4] = value
    return values


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int16"])
@pytest.mark.parametrize("shape", [(N,), (1, N), (3, N)])
@pytest.mark.parametrize("suffix", [".npy", ".h5", ".HDF5"])
def test_one_or_many_responses_are_read(rng, tmp_path, suffix, shape, dtype):
    values, path = (10 * rng.normal(size=shape)).astype(dtype), tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as f:
            f.create_dataset("some/where", data=values, compression="gzip")
    read = read_responses(path, N)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.reshape(-1, N).astype(np.float32))


def test_the_dataset_called_betas_is_read_among_several(rng, tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as f:
        f["betas"], f["ncsnr"], f["cube"] = np.ones((2, N)), np.zeros(N), np.zeros((2, 2, N))
    assert read_responses(tmp_path / "mine.h5", N).tolist() == np.ones((2, N)).tolist()


BAD = {
    "pickled objects": (saved(np.array([Bomb()] * N), allow_pickle=True), "never opened"),
    "a bare pickle": (pickle.dumps(Bomb()), "expected a NumPy array file"),
    "truncated": (saved(np.zeros((5, N)))[:-9], "truncated"),
    "a truncated header": (saved(np.zeros((5, N)))[:40], "expected a NumPy array file"),
    "more than its header says": (saved(np.zeros((5, N))) + b"more", "as many bytes as its header says"),
    "complex": (saved(np.zeros(N, complex)), "expected real numbers, got complex128"),
    "strings": (saved(np.array(["a"] * N)), "expected real numbers, got <U1"),
    "truth values": (saved(np.zeros(N, bool)), "expected real numbers, got bool"),
    "dates": (saved(np.zeros(N, "M8[s]")), "expected real numbers, got datetime64"),
    "records": (saved(np.zeros(N, "f4,f4")), "expected real numbers"),
    "NaN": (saved(with_value(np.nan)), r"infinity in 1 places \(first: row 1, voxel 4\)"),
    "infinity": (saved(with_value(-np.inf)), "expected finite"),
    "more than float32 holds": (saved(with_value(1e300)), "expected finite float32"),
    "another number of voxels": (saved(np.zeros((3, N + 1))), r"\(7,\) or \(n, 7\).*got \(3, 8\)"),
    "transposed": (saved(np.zeros((N, 3))), r"got \(7, 3\)"),
    "three axes": (saved(np.zeros((1, 3, N))), r"got \(1, 3, 7\)"),
    "a single number": (saved(np.float32(1)), r"got \(\)"),
    "no rows": (saved(np.zeros((0, N))), r"got \(0, 7\)"),
    "no byte": (b"", "got 0 bytes"),
    "a header of 10¹² numbers": (claim("(1000000000000,)"), "got .1000000000000,."),
    "a header of 10¹² rows": (claim(f"(1000000000000, {N})"), "at most 64 MB of numbers"),
    "a header of a negative shape": (claim(f"(-1, {N})"), "header says|at most|expected"),
    "a header that is code": (npy("__import__('os').mkdir('unpickled')"), "expected a NumPy array file"),
    "a header of depth 100": (npy("(" * 100), "expected a NumPy array file"),
    "a renamed archive": (zipped(), "expected a NumPy array file"),
    "text": (b"0.1, 0.2, 0.3\n" * 9, "expected a NumPy array file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_numpy_files_are_refused_in_one_sentence(tmp_path, monkeypatch, name):
    content, problem = BAD[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.npy"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=problem) as refused:
        read_responses(path, N)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("mine.npy: expected")
    assert not (tmp_path / "unpickled").exists()


def build(path, make) -> None:
    with h5py.File(path, "w") as f:
        make(f)


def external_storage(f):
    f.create_dataset("betas", (2, N), "f4", external=[("other.raw", 0, h5py.h5f.UNLIMITED)])


def virtual(f):
    layout = h5py.VirtualLayout((2, N), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "betas", (2, N))
    f.create_virtual_dataset("betas", layout)


def soft(f):
    f["deep/er/in"] = np.zeros((1, 2, N))
    f["betas"] = h5py.SoftLink("/deep/er/in")


BAD_H5 = {
    "no dataset": (lambda f: f.create_group("empty"), "got none"),
    "several datasets": (lambda f: [f.create_dataset(n, data=np.zeros(N)) for n in "ab"], "got a, b"),
    "both names": (lambda f: [f.create_dataset(n, data=np.zeros(N)) for n in ("betas", "voxels")], "got betas, voxels"),
    "a link to another file": (lambda f: f.__setitem__("betas", h5py.ExternalLink("other.h5", "betas")), "got none"),
    "a soft link": (soft, "got none"),
    "numbers in another file": (external_storage, "got none"),
    "a virtual dataset": (virtual, "got none"),
    "strings": (lambda f: f.create_dataset("betas", data=["a"] * N), "expected real numbers, got object"),
    "complex": (
        lambda f: f.create_dataset("betas", data=np.zeros(N, complex)),
        "expected real numbers, got complex128",
    ),
    "NaN": (lambda f: f.create_dataset("betas", data=with_value(np.nan)), "expected finite"),
    "another number of voxels": (lambda f: f.create_dataset("betas", data=np.zeros((3, 6))), r"got \(3, 6\)"),
    "no rows": (lambda f: f.create_dataset("betas", (0, N), "f4"), r"got \(0, 7\)"),
    "a small file of 10¹² rows": (
        lambda f: f.create_dataset("betas", (10**12, N), "f4", chunks=(9, N)),
        "at most 64 MB of",
    ),
    "a group in itself": (lambda f: f.create_group("a").__setitem__("a", f["a"]), "expected an HDF5 file"),
}


@pytest.mark.parametrize("name", BAD_H5)
def test_bad_hdf5_files_are_refused_in_one_sentence_and_no_other_file_is_read(tmp_path, name):
    build(tmp_path / "other.h5", lambda f: f.create_dataset("betas", data=np.ones((2, N), "f4")))
    (tmp_path / "other.raw").write_bytes(np.ones((2, N), "f4").tobytes())
    make, problem = BAD_H5[name]
    build(tmp_path / "mine.h5", make)
    with pytest.raises(BadFile, match=problem) as refused:
        read_responses(tmp_path / "mine.h5", N)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("mine.h5: expected")


def test_damaged_and_renamed_hdf5_files_are_refused(tmp_path):
    build(tmp_path / "whole.h5", lambda f: f.create_dataset("betas", data=np.ones((900, N))))
    whole = (tmp_path / "whole.h5").read_bytes()
    for content in (whole[: len(whole) // 2], saved(np.zeros(N)), b"text", whole[:8] + bytes(5000)):
        (tmp_path / "mine.h5").write_bytes(content)
        with pytest.raises(BadFile, match="mine.h5: expected an HDF5 file"):
            read_responses(tmp_path / "mine.h5", N)


def test_other_suffixes_and_large_files_are_refused_unread(tmp_path):
    for name in ("mine.npz", "mine.pkl", "mine.mat", "mine"):
        with pytest.raises(BadFile, match=r"expected a file named \.npy, \.h5, \.hdf5"):
            read_responses(tmp_path / name, N)
    with open(tmp_path / "mine.npy", "wb") as f:
        f.truncate((64 << 20) + 1)
    with pytest.raises(BadFile, match="64 MB, got 67108865 bytes"):
        read_responses(tmp_path / "mine.npy", N)


def test_z_scores_stay_and_raw_betas_get_the_stored_mean_and_sd(rng):
    raw = 40 + 300 * rng.normal(size=(50, N)).astype(np.float32)
    stored = Standardiser(rng.normal(size=N).astype(np.float32), 0.5 + rng.random(N).astype(np.float32))
    assert np.array_equal(normalise(raw, "as is", stored), raw)
    made = normalise(raw, "raw", stored)
    np.testing.assert_allclose(made.mean(0), stored.mean, atol=1e-5)
    np.testing.assert_allclose(made.std(0, ddof=1), stored.sd, rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(made[:, 3], raw[:, 3])[0, 1], 1, atol=1e-5)
    with pytest.raises(ValueError, match="at least 10 rows"):
        normalise(raw[:9], "raw", stored)
    with pytest.raises(ValueError, match="expected one of as is, raw, got 'guess'"):
        normalise(raw, "guess", stored)
