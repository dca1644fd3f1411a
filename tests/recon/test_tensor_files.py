"""Our safetensors files: read by the library itself, and the same bytes every time."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from recon.files import BadFile, read_tensors, save_tensors

TENSORS = {
    "weights": np.arange(12, dtype=np.float16).reshape(3, 4).T,  # not as memory lies
    "statistics": np.linspace(0, 1, 5, dtype=np.float32),
    "odd": np.array([1, 2, 3], np.uint8),
}
METADATA = {"format": "some-1", "config": '{"é": 1}', "third": "x", "fourth": ""}


def test_what_is_saved_is_what_the_library_reads(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, METADATA)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == METADATA
    for found in (load_file(path), read_tensors(path, "some-1")[0]):
        assert found.keys() == TENSORS.keys()
        for name, values in TENSORS.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / f"{k}.safetensors" for k in range(8)]
    for path in paths:
        save_tensors(path, TENSORS, METADATA)
    assert len({path.read_bytes() for path in paths}) == 1


def test_another_format_is_refused_by_both_names(tmp_path):
    save_tensors(tmp_path / "a.safetensors", TENSORS, METADATA)
    with pytest.raises(BadFile, match="expected format 'other-1', got 'some-1'"):
        read_tensors(tmp_path / "a.safetensors", "other-1")
