"""No file that a visitor sends makes the server hold more than 300 MB above what it holds at rest."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
N, BOUND = 7, 300  # voxels; MB
READ = """
import json, resource, sys
from pathlib import Path
from recon.uploads import read_responses, to_scale

def peak():  # getrusage would count what the process was before it became Python
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000

rest, said = peak(), ""
try:
    to_scale(read_responses(Path(sys.argv[1]), int(sys.argv[2])), "raw")
except ValueError as error:
    said = str(error)
print(json.dumps([said, peak() - rest, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000]))
"""


def read(path: Path, n_voxels: int) -> tuple[str, float, float]:
    """What reading `path` in a fresh process says, and peaks in MB: of that process above rest, and of the one it starts."""
    command = [sys.executable, "-c", READ, str(path), str(n_voxels)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)


def zeros(megabytes: int) -> bytes:
    """As many, deflated a thousandfold."""
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(1 << 20)) for _ in range(megabytes)), deflate.flush()])


def write_chunk(path: Path, content: bytes, filters: tuple[int, ...], chunk=(2, N), maximum=None) -> None:
    """A dataset (2, N) float32 whose only chunk holds `content`, already filtered."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk(chunk)
    for name in filters:
        how.set_filter(name, 0, (9,))
    with h5py.File(path, "w") as f:
        space = h5py.h5s.create_simple((2, N), maximum or (2, N))
        made = h5py.h5d.create(f.id, b"betas", h5py.h5t.IEEE_F32LE, space, how)
        made.write_direct_chunk((0, 0), content)


def deflated_once(path):
    write_chunk(path, zeros(400), (h5py.h5z.FILTER_DEFLATE,))


def deflated_twice(path):
    write_chunk(path, zlib.compress(zeros(400)), (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_DEFLATE))


def deflated_thrice(path):
    write_chunk(path, zlib.compress(zlib.compress(zeros(400))), (h5py.h5z.FILTER_DEFLATE,) * 3)


def deflated_and_shuffled(path):
    write_chunk(path, zeros(400), (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE))


def a_huge_chunk_of_a_small_dataset(path):
    write_chunk(path, zeros(1), (h5py.h5z.FILTER_DEFLATE,), (1 << 14, 1 << 14), (h5py.h5s.UNLIMITED,) * 2)


BOMBS = (
    deflated_once,
    deflated_twice,
    deflated_thrice,
    deflated_and_shuffled,
)


@pytest.mark.parametrize("write", BOMBS, ids=lambda w: w.__name__)
def test_what_inflates_to_gigabytes_is_refused_in_one_sentence_within_300_mb(tmp_path, write):
    write(tmp_path / "small.h5")
    assert (tmp_path / "small.h5").stat().st_size < 4 << 20
    said, own, child = read(tmp_path / "small.h5", N)
    assert "save it again, smaller and without compression" in said and "\n" not in said
    assert own < BOUND and child < BOUND


def test_a_huge_chunk_of_a_small_dataset_is_refused_in_one_sentence_within_300_mb(tmp_path):
    a_huge_chunk_of_a_small_dataset(tmp_path / "small.h5")
    said, own, child = read(tmp_path / "small.h5", N)
    assert "expected" in said and "\n" not in said  # as too large, or, where the library reads it, as too few rows
    assert own < BOUND and child < BOUND


@pytest.mark.parametrize("kind", ["npy float32", "npy int8", "npy float64", "h5 float32", "h5 gzip int8"])
def test_the_largest_responses_that_are_taken_are_read_within_300_mb(tmp_path, kind):
    suffix, *how, dtype = kind.split()
    rows, n_voxels = (500, 15_900) if dtype == "float64" else (1000, 15_900)
    values = np.arange(rows * n_voxels, dtype=np.int64).reshape(rows, n_voxels).astype(dtype)
    path = tmp_path / f"mine.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as f:
            f.create_dataset(
                "betas", data=values, compression="gzip" if how else None, compression_opts=1 if how else None
            )
    said, own, child = read(path, n_voxels)
    assert not said and own < BOUND and child + path.stat().st_size / 1e6 < BOUND


def test_integers_that_would_outgrow_the_bound_as_floats_are_refused_unread(tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros((900, 60_000), np.int8))
    said, own, _ = read(tmp_path / "mine.npy", 60_000)
    assert "expected at most 64 MB, got an array of shape (900, 60000)" in said and own < 10
