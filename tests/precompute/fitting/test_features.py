"""What published models say of pictures and captions, in files that survive any kill. Tiny models with random weights."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_LAYERS
from forks import Forks
from PIL import Image
from skimage.transform import resize
from tiny_diffusion import TOKENS, WIDTH, tiny_pipeline
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from precompute.blocks import Rows, write_rows
from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts
from precompute.stage import Stage, make, place_of

N, COLUMNS, BATCH = 47, 30, 3
PROGRAM = f"""
import time
from pathlib import Path
import numpy as np
from precompute.blocks import Rows, write_rows

def rows(span):
    time.sleep(0.03)
    print(span.start, flush=True)
    return np.random.default_rng(span.start).normal(size=(span.stop - span.start, {COLUMNS}))

def work(path):
    path = Path(path)
    write_rows(Rows(path, ({N}, {COLUMNS}), "float32"), {BATCH}, rows, path.parent / "work")
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_ten_times_the_file_is_that_of_an_uninterrupted_run_and_finished_batches_are_not_redone(tmp_path):
    out, moments, computed = tmp_path / "killed" / "f.npy", random.Random(3), []
    with Forks(PROGRAM) as forks:
        forks.begin(str(tmp_path / "whole" / "f.npy"))
        assert forks.end() == (0, [str(k) for k in range(0, N, BATCH)])
        for _ in range(10):
            child = forks.begin(str(out))
            time.sleep(moments.uniform(0, 0.09))
            os.kill(child, signal.SIGKILL)
            code, printed = forks.end()
            assert code == -signal.SIGKILL, "it was faster than the kill"
            computed.append([int(first) for first in printed])
        forks.begin(str(out))
        code, printed = forks.end()
        computed.append([int(first) for first in printed])
    assert code == 0
    assert tree(out.parent) == tree(tmp_path / "whole")
    assert sorted({b for run in computed for b in run}) == list(range(0, N, BATCH))
    for before, after in zip(
        computed, computed[1:]
    ):  # of a killed run's batches only the last may not have been finished
        assert not set(before[:-1]) & set(after)
    assert sum(bool(run) for run in computed) > 3, "no kill fell between two batches"


def constant(value: float):
    return lambda span: np.full((span.stop - span.start, 4), value)


def stopped_in_the_second_batch(span: slice) -> np.ndarray:
    if span.start:
        raise KeyboardInterrupt
    return np.zeros((span.stop, 4))


def halves(folder: Path, dtype: str, model: str, make) -> Stage:
    """f.npy, of images.npy, by a model."""
    name = "halves"
    run = partial(write_halves, Rows(folder / "f.npy", (7, 4), dtype), make, place_of(folder, name))
    settings = {"dtype": dtype, "model": model}
    return Stage(name, {folder / "images.npy": "prepare"}, (folder / "f.npy",), run, settings, shared=True)


def write_halves(rows: Rows, make, work: Path) -> dict:
    write_rows(rows, 3, make, work)
    return {}


@pytest.mark.parametrize(
    "dtype, model, images", [("float16", "one", b"1"), ("float32", "two", b"1"), ("float32", "one", b"2")]
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_file_of_another_model_dtype_or_images_is_made_from_the_first_row_on(
    tmp_path, dtype, model, images, finished
):
    (tmp_path / "images.npy").write_bytes(b"1")
    if finished:
        make(halves(tmp_path, "float32", "one", constant(0)))
    else:
        with pytest.raises(KeyboardInterrupt):
            make(halves(tmp_path, "float32", "one", stopped_in_the_second_batch))
    (tmp_path / "images.npy").write_bytes(images)
    make(halves(tmp_path, dtype, model, constant(1)))
    made = np.load(tmp_path / "f.npy")
    assert made.dtype == dtype and (made == 1).all()


def test_a_file_of_the_same_model_dtype_and_images_is_gone_on_with(tmp_path):
    (tmp_path / "images.npy").write_bytes(b"1")
    with pytest.raises(KeyboardInterrupt):
        make(halves(tmp_path, "float32", "one", stopped_in_the_second_batch))
    make(halves(tmp_path, "float32", "one", constant(1)))
    assert np.load(tmp_path / "f.npy")[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_another_batch_size_goes_on_where_the_last_one_stopped(tmp_path):
    out = tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt):
        write_rows(Rows(out, (7, 4), "float32"), 3, stopped_in_the_second_batch, tmp_path / "work")
    write_rows(Rows(out, (7, 4), "float32"), 2, constant(1), tmp_path / "work")
    assert np.load(out)[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_a_begun_file_that_was_removed_is_made_from_the_first_row_on(tmp_path):
    out = tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt):
        write_rows(Rows(out, (7, 4), "float32"), 3, stopped_in_the_second_batch, tmp_path / "work")
    (tmp_path / "work" / "f.npy.unfinished").unlink()
    write_rows(Rows(out, (7, 4), "float32"), 3, constant(1), tmp_path / "work")
    assert (np.load(out) == 1).all()


def test_a_finished_file_is_not_made_again(tmp_path):
    rows = Rows(tmp_path / "f.npy", (7, 4), "float32")
    write_rows(rows, 3, constant(1), tmp_path / "work")
    write_rows(rows, 3, stopped_in_the_second_batch, tmp_path / "work")
    assert (np.load(tmp_path / "f.npy") == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_is_a_contiguous_array_with_a_real_header(tmp_path, rng, dtype):
    values = rng.normal(size=(N, COLUMNS))
    write_rows(Rows(tmp_path / "f.npy", values.shape, dtype), BATCH, lambda span: values[span], tmp_path / "work")
    with open(tmp_path / "f.npy", "rb") as f:
        version = np.lib.format.read_magic(f)
        header = np.lib.format.read_array_header_1_0(f)
        data = f.read()
    assert version == (1, 0) and header == ((N, COLUMNS), False, np.dtype(dtype))
    assert data == values.astype(dtype).tobytes()
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert mapped.flags["C_CONTIGUOUS"] and np.array_equal(mapped, values.astype(dtype))


# --- the values -------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path, rng):
    values = rng.integers(0, 256, (5, 64, 64, 3), np.uint8)
    np.save(tmp_path / "images.npy", values)
    return values


def test_latents_are_posterior_means_layer_after_layer(tmp_path, images, tiny_vdvae):
    extract_latents(tmp_path / "images.npy", tiny_vdvae, TINY_LAYERS, Into(tmp_path / "z.npy", tmp_path, batch=2))
    cfg, decoder, rows = tiny_vdvae.cfg, tiny_vdvae.decoder, []
    with torch.inference_mode():
        for image in images:
            x = torch.from_numpy((image.transpose(2, 0, 1)[None].astype(np.float32) - cfg.mean) / cfg.std)
            features, state = tiny_vdvae.encoder(x), decoder.start(1)
            row = []
            for block in decoder.dec_blocks[:TINY_LAYERS]:
                h = block.enter(state)
                mean = block.enc(torch.cat([h, features[block.resolution]], 1))[:, : cfg.zdim]
                state = block.leave(block.prior_of(h)[2], mean, state)
                row.append(mean.numpy().ravel())
            rows.append(np.concatenate(row))
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), np.stack(rows), atol=1e-5)


def test_prompts_are_the_mean_of_last_hidden_states_over_captions(tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "pipe")
    captions = [["a cat", "two dogs"], ["red"], ["a", "b", "a very long caption of a boat at sea"]]
    extract_prompts(captions, tmp_path / "pipe", Into(tmp_path / "p.npy", tmp_path, batch=2))
    encoder = CLIPTextModel.from_pretrained(tmp_path / "pipe" / "text_encoder").eval()
    expected = []
    with torch.inference_mode():
        for some in captions:
            ids = [pipe.tokenizer(c, padding="max_length", max_length=TOKENS, truncation=True).input_ids for c in some]
            states = [encoder(torch.tensor([i])).last_hidden_state[0].numpy() for i in ids]
            expected.append(np.mean(states, axis=0).ravel())
    assert np.stack(expected).shape == (3, TOKENS * WIDTH)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), np.stack(expected), atol=1e-5)


def test_embeddings_for_an_adapter_are_those_that_its_encoder_makes_of_what_its_own_preprocessing_gives(tmp_path, rng):
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**size, image_size=56, patch_size=14, projection_dim=10)
    model = CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(tmp_path / "encoder")
    smooth = np.asarray([resize(image, (128, 128)) for image in rng.random((3, 8, 8, 3))])  # photographs are smooth
    images = (255 * smooth).astype(np.uint8)
    np.save(tmp_path / "photographs.npy", images)
    into = Into(tmp_path / "e.npy", tmp_path, batch=2)
    extract_embeddings(tmp_path / "photographs.npy", tmp_path / "encoder", into, unit=False)
    processor = CLIPImageProcessor(size=56, crop_size=56)  # as diffusers' load_ip_adapter makes it
    pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt").pixel_values
    with torch.inference_mode():
        expected = model(pixels).image_embeds.numpy()
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).min() > 0.01
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), expected, atol=0.02 * expected.std())


def test_embeddings_are_clips_of_unit_length(tmp_path, images):
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**size, image_size=32, patch_size=8, projection_dim=6)
    ).eval()
    model.save_pretrained(tmp_path / "clip")
    extract_embeddings(tmp_path / "images.npy", tmp_path / "clip", Into(tmp_path / "e.npy", tmp_path, "float16", 2))
    mean, sd = np.array([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    expected = []
    with torch.inference_mode():
        for image in images:
            x = torch.from_numpy(((image / 255 - mean) / sd).transpose(2, 0, 1)[None].astype(np.float32))
            x = torch.nn.functional.interpolate(x, (32, 32), mode="bicubic", antialias=True)
            embedding = model(x).image_embeds[0].numpy()
            expected.append(embedding / np.linalg.norm(embedding))
    stored = np.load(tmp_path / "e.npy")
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, np.stack(expected), atol=1e-3)
