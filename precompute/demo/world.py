"""The pictures of the demo world, rendered to memory-mapped files in data/demo/scenes.

train.npy    (n_train, 192, 192, 3) uint8: what the subject saw
test.npy     (n_test, 192, 192, 3) uint8
corpus.npy   (n_corpus, 192, 192, 3) uint8: what the decoders learn from, the training scenes and many more
SPLIT_64.npy the same pictures at 64 pixels
SPLIT.json   labels and captions, one entry a picture; `unseen` marks a combination of setting, object and light that
             neither training nor corpus ever shows: a third of the test set
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from precompute.demo import scenes
from recon.files import load_json, save_json, whole_file
from recon.images import area_average

TEST_OFFSET = 1_000_000  # scene numbers of the test set: far from those of training
SMALL = 64  # pixels
CHUNK = 64  # scenes


def _draw(split: str, n: int, seed: int) -> list[scenes.Scene]:
    unseen = scenes.unseen_combinations(seed)
    seen = [c for c in scenes.combinations() if c not in unseen]
    if split in ("train", "corpus"):
        return [scenes.sample_scene(k, seed, seen) for k in range(n)]
    pools = [sorted(unseen) if k % 3 == 0 else seen for k in range(n)]  # a third of the test set is unseen
    return [scenes.sample_scene(TEST_OFFSET + k, seed, pool) for k, pool in enumerate(pools)]


def _render(drawn: list[scenes.Scene]) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([scenes.render(scene) for scene in drawn])
    return images, area_average(images, SMALL)


def make_scenes(folder: Path, split: str, n: int, seed: int) -> None:
    """Renders one split on all cores; saves images of both sizes, and labels with captions."""
    drawn = _draw(split, n, seed)
    chunks = [drawn[k : k + CHUNK] for k in range(0, n, CHUNK)]
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn")))
        arrays = []
        for name, side in ((split, scenes.SIZE), (f"{split}_{SMALL}", SMALL)):
            part = stack.enter_context(whole_file(folder / f"{name}.npy"))
            arrays.append(np.lib.format.open_memmap(part, "w+", np.uint8, (n, side, side, 3)))
        for k, pictures in enumerate(pool.map(_render, chunks)):
            for array, images in zip(arrays, pictures):
                array[k * CHUNK : k * CHUNK + len(images)] = images
        for array in arrays:
            array.flush()
    unseen = scenes.unseen_combinations(seed)
    entries = [scenes.labels(s) | {"captions": scenes.captions(s), "unseen": s.combination in unseen} for s in drawn]
    save_json(folder / f"{split}.json", entries)


def load_labels(folder: Path, split: str) -> list[dict]:
    return load_json(folder / f"{split}.json")
