"""Whatever comes in, by the thousand and seeded, is read right or refused in one sentence; nothing else escapes.

Files of HDF5 are read in forked processes, as the page reads them in processes of their own: the library may end them.
"""

import io
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import h5py
import numpy as np
import psutil
import pytest
from conftest import write_tiny_bundle
from PIL import Image

from recon import h5_rows
from recon.bundle.bundle import load_bundle, open_parts
from recon.bundle.manifest import read_manifest
from recon.files import BadFile
from recon.ui.server.endpoint import add_endpoint
from recon.ui.server.library import Library
from recon.ui.tabs.explore_tab import linked_wish
from recon.uploaded_images import prepare_picture, read_image
from recon.uploads import MAX_BYTES, read_responses

pytestmark = pytest.mark.exhaustive
SECONDS, SHARE, WARM_UP = 10, 0.05, 0.3  # of a request; of memory; of the items before memory is measured
N = 7
SIDE = 48


def attempt(work: Callable[[], object], refusals: tuple[type[Exception], ...]) -> object:
    """What work returns, or None if it refuses in one sentence, within the time that a request may take."""
    start, found = time.perf_counter(), None
    try:
        found = work()
    except refusals as error:
        told = str(error)
        assert told and "\n" not in told and len(told) < 600, told
    assert time.perf_counter() - start < SECONDS
    return found


def fuzz(n: int, one: Callable[[np.random.Generator, int], bool]) -> float:
    """Calls `one` with a generator of each item's own, whose seed its failure names; returns the share that was read.

    The process must not grow by more than 5 % after a warm-up.
    """
    me, read, before = psutil.Process(), 0, 0
    for k in range(n):
        if k == int(WARM_UP * n):
            before = me.memory_info().rss
        try:
            read += one(np.random.default_rng((23, k)), k)
        except Exception as error:
            raise AssertionError(f"item {k}: {type(error).__name__}: {error}") from error
    grown = me.memory_info().rss / before - 1
    assert grown < SHARE, f"memory grew by {100 * grown:.1f} %"
    return read / n


def spoiled(content: bytes, rng: np.random.Generator) -> bytes:
    """The same with bytes changed, cut off, left out, doubled, or zeroed."""
    data, how = bytearray(content), rng.integers(6)
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
    if how == 0:
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] ^= 1 << rng.integers(8)
    elif how == 1:
        del data[start:]
    elif how == 2:
        del data[start : start + length]
    elif how == 3:
        data[start:start] = data[start : start + length]
    elif how == 4:
        data[start : start + length] = bytes(len(data[start : start + length]))
    else:
        data[start : start + length] = rng.bytes(length)
    return bytes(data)


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(rng: np.random.Generator, exif: bytes = b"") -> bytes:
    """A small picture of any kind that the page takes."""
    pixels = np.kron(rng.integers(0, 256, (6, 6, 4), np.uint8), np.ones((8, 8, 1), np.uint8))
    kind = ("PNG", "JPEG", "WEBP")[rng.integers(3)]
    mode = "RGB" if kind == "JPEG" else ("RGB", "RGBA", "L", "LA", "P", "I;16")[rng.integers(6 if kind == "PNG" else 2)]
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)
    options = {"progressive": bool(rng.integers(2))} if kind == "JPEG" else {}
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def odd_exif(rng: np.random.Generator) -> bytes:
    """Metadata of random entries, or of random bytes."""
    if rng.integers(4) == 0:
        return b"Exif\0\0" + rng.bytes(int(rng.integers(0, 60)))
    order = "<>"[rng.integers(2)]
    numbers = np.dtype(
        [("tag", order + "u2"), ("type", order + "u2"), ("count", order + "u4"), ("value", order + "u4")]
    )
    entries = np.zeros(int(rng.integers(0, 6)), numbers)
    for entry in entries:
        tag = (0x0112, 0x8769, 0x8825, 0x011A, 0x9286, rng.integers(1 << 16))[rng.integers(6)]
        entry["tag"], entry["type"] = tag, rng.integers(0, 14)
        entry["count"], entry["value"] = rng.choice([0, 1, 4, 1 << 31, 2**32 - 1], 2)
    head = (b"II*\0" if order == "<" else b"MM\0*") + np.array([rng.choice([8, 8, 8, 0, 9999])], order + "u4").tobytes()
    count = np.array([len(entries) + rng.integers(3)], order + "u2").tobytes()
    return b"Exif\0\0" + head + count + entries.tobytes() + rng.bytes(int(rng.integers(0, 20)))


def held(image: np.ndarray) -> list[np.ndarray]:
    """A square in its eight orientations."""
    turned = [np.rot90(image, k) for k in range(4)]
    return [*turned, *(one[:, ::-1] for one in turned)]


def test_5000_pictures(tmp_path):
    def one(rng: np.random.Generator, k: int) -> bool:
        if k % 2:  # odd metadata never matter: the picture is right, however it is held
            state = rng.bit_generator.state
            clean = prepare_picture(picture(rng), SIDE)
            rng.bit_generator.state = state
            got = prepare_picture(picture(rng, odd_exif(np.random.default_rng(k))), SIDE)
            assert any(np.array_equal(got, one) for one in held(clean))
            return True
        content = spoiled(picture(rng), rng)
        got = attempt(lambda: prepare_picture(content, SIDE), (ValueError,))
        assert got is None or (got.shape == (SIDE, SIDE, 3) and got.dtype == np.uint8)
        if k % 200 == 0:  # as the page reads it, in a process of its own
            (tmp_path / "one").write_bytes(content)
            apart = attempt(lambda: read_image(tmp_path / "one", (SIDE,)), (BadFile,))
            assert (apart is None) == (got is None) and (got is None or np.array_equal(apart.images[0], got))
        return got is not None

    assert 0.5 < fuzz(5000, one) < 0.95


# --- responses --------------------------------------------------------------------------------------------------------


def responses(rng: np.random.Generator) -> np.ndarray:
    shape = [(N,), (3, N), (N, 3), (1, N), (N, 1), (2, N + 1), (2, 3, N), (0, N), ()][rng.integers(9)]
    values = 3 * rng.normal(size=shape)
    if rng.integers(8) == 0 and values.size:
        values.flat[0] = rng.choice([np.nan, np.inf, 1e300])
    kinds = ("f4", "f8", "f2", "i2", "u1", "i8", ">f4", ">i2", "c8", "?", "S3", "U2", "M8[s]")
    with np.errstate(all="ignore"):
        return values.astype(kinds[rng.integers(len(kinds))])


def as_rows(values: np.ndarray) -> np.ndarray:
    rows = values[None] if values.ndim == 1 else values
    return (rows.T if rows.shape[0] == N != rows.shape[1] else rows).astype(np.float32)


def read_npy(path: Path, rng: np.random.Generator) -> bool:
    np.save(path, responses(rng))
    if rng.integers(3):
        path.write_bytes(spoiled(path.read_bytes(), rng))
    got = attempt(lambda: read_responses(path, N), (BadFile,))
    assert got is None or np.array_equal(got, as_rows(np.load(path)))
    return got is not None


def write_h5(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "w", libver=("earliest", "latest")[rng.integers(2)]) as f:
        name = ("betas", "x", "a/b/voxels", "results/betas")[rng.integers(4)]
        try:
            made = f.create_dataset(name, data=responses(rng), compression=(None, "gzip", "lzf")[rng.integers(3)])
        except TypeError:  # HDF5 has no such type, or a scalar is not compressed
            made = f.create_dataset(name, data=np.ones((2, N)))
        if rng.integers(4) == 0:
            made.attrs["MATLAB_class"] = np.bytes_(("double", "cell", "struct", "char", "logical")[rng.integers(5)])
        if rng.integers(4) == 0:
            f["other"] = [h5py.SoftLink("/betas"), h5py.ExternalLink("/etc/passwd", "/x"), np.zeros(3)][rng.integers(3)]
    if rng.integers(3):
        path.write_bytes(spoiled(path.read_bytes(), rng))


def read_h5(path: Path, rng: np.random.Generator) -> bool:
    """In a fork of this process, within the page's limits. One that the library ends has refused: the page says so for it."""
    write_h5(path, rng)
    out, start = path.with_suffix(".out"), time.perf_counter()
    child = os.fork()
    if not child:
        code = 4
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            with open(out, "wb") as stream:
                sys.stdout = io.TextIOWrapper(stream)
                h5_rows.write_rows(path, str(MAX_BYTES))
                sys.stdout.flush()
            code = 0
        except BadFile as error:
            code = 3 if str(error) and "\n" not in str(error) else 5
        except MemoryError:
            code = 3
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 3) or code < 0, f"the reader ended with {code}"
    assert time.perf_counter() - start < SECONDS
    if code == 0:
        np.load(out, allow_pickle=False)
    return code == 0


def test_2000_files_of_responses(tmp_path):
    def one(rng: np.random.Generator, k: int) -> bool:
        return read_npy(tmp_path / "one.npy", rng) if k % 2 else read_h5(tmp_path / "one.h5", rng)

    assert 0.1 < fuzz(2000, one) < 0.9


# --- the endpoint, and links ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = Library({"tiny": write_tiny_bundle(tmp_path_factory.mktemp("fuzz") / "bundle")})
    made.open_first()
    return made


ODD = (
    None, True, False, "", "0", "17", "mlp", "decoded", "\ud800", "<b>", "x" * 5000, 0, -1, 1, 2, 3, 4.0, 0.5, 17.5, 1e308, -0.0,
    float("nan"), float("inf"), 10**9, 2**64, 10**5000, [], [1], {}, {"V1": 0}, {"V1": None}, {"FFA": 1}, {"V1": [1]}, [[["a"]]],
)  # fmt: skip
GOOD = {
    "index": (0, 1, 2, 3, 4), "regressor": ("ridge", "mlp"), "steps": (1, 2), "guidance": (1.0, 1.5), "strength": (0.4, 1.0),
    "seed": (0, 7), "prompt": ("decoded", "none", "own", "oracle", "caption"), "own_prompt": ("a boat", "é"),
    "components": (None, 1, 3), "repeats": (None, 1, 3), "gains": (None, {}, {"V1": 0.5}), "subject": (None, "tiny"),
}  # fmt: skip


def test_2000_endpoint_calls(library):
    with gr.Blocks() as demo:
        add_endpoint(library)
    (endpoint,) = (event.fn for event in demo.fns.values() if event.api_name == "reconstruct")

    def one(rng: np.random.Generator, k: int) -> bool:
        wish = {name: values[rng.integers(len(values))] for name, values in GOOD.items()}
        if k % 10:
            for name in rng.choice(list(GOOD), rng.integers(1, 4)):
                wish[name] = ODD[rng.integers(len(ODD))]
        frames = attempt(lambda: list(endpoint(**wish)), (gr.Error,))
        if frames is None:
            assert k % 10, "a call without anything odd was refused"
            return False
        assert frames[-1]["record"]["picture"] == wish["index"] and json.dumps(frames[-1], allow_nan=False)
        return True

    assert 0.1 < fuzz(2000, one) < 0.6


WORDS = (
    "tiny", "3", "0", "1e3", "-1", "nan", "9" * 5000, "mlp", "own", "V1*0", "V1*2,V1*1", "*", "V1", "%00", "\ud800", "é&",
)  # fmt: skip


def test_500_links(library):
    names = (*GOOD, "picture", "subject", "__theme", "gains")

    def one(rng: np.random.Generator, k: int) -> bool:
        words = (
            "tiny",
            "3",
            "0",
            "1e3",
            "-1",
            "nan",
            "9" * 5000,
            "mlp",
            "own",
            "V1*0",
            "V1*2,V1*1",
            "*",
            "V1",
            "%00",
            "\ud800",
            "é&",
        )
        pairs = [
            (names[rng.integers(len(names))], words[rng.integers(len(words))])
            for _ in range(rng.integers(0, 40 if k % 9 == 0 else 5))
        ]
        query = "?" + "&".join(
            f"{name}={quote(word, errors='replace') if rng.integers(2) else word}" for name, word in pairs
        )
        wish = attempt(lambda: linked_wish(library.first, query) or {"index": 0}, (ValueError, IndexError))
        assert wish is None or 0 <= wish["index"] < 5
        return wish is not None

    assert 0.05 < fuzz(500, one) < 0.95


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_300_bundles_with_one_byte_changed(library, tmp_path):
    folder = shutil.copytree(library.folders["tiny"], tmp_path / "bundle")
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    def one(rng: np.random.Generator, _: int) -> bool:
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.integers(8))]) + content[at + 1 :])
        try:
            opened = attempt(lambda: load_bundle(folder), (BadFile,))
            assert opened is None or path.name == "manifest.json"  # in which not every letter counts
            if path.name != "manifest.json":  # as if the digests had been made anew
                manifest = read_manifest(folder)
                opened = attempt(lambda: open_parts(folder, manifest).diffusion, (BadFile,))
        finally:
            path.write_bytes(content)
        return opened is not None

    fuzz(300, one)
