"""The pictures of the demo world, rendered to memory-mapped files.

data/demo/scenes/train.npy   (n_train, 128, 128, 3) uint8       train.json   labels and captions, one entry a picture
data/demo/scenes/test.npy    (n_test, 128, 128, 3) uint8        test.json    the same; `unseen` marks a combination
                                                                             of setting, object and light that
                                                                             training never shows
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from precompute.demo import scenes
from recon.files import load_json, save_array, save_json

TEST_OFFSET = 1_000_000  # scene numbers of the test set: far from those of training


def _draw(split: str, n: int, seed: int) -> list[scenes.Scene]:
    unseen = scenes.unseen_combinations(seed)
    seen = [c for c in scenes.combinations() if c not in unseen]
    if split == "train":
        return [scenes.sample_scene(k, seed, seen) for k in range(n)]
    pools = [sorted(unseen) if k % 3 == 0 else seen for k in range(n)]  # a third of the test set is unseen
    return [scenes.sample_scene(TEST_OFFSET + k, seed, pool) for k, pool in enumerate(pools)]


def make_scenes(folder: Path, split: str, n: int, seed: int) -> None:
    """Renders one split on all cores and saves pictures and labels."""
    drawn = _draw(split, n, seed)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        images = np.stack(list(pool.map(scenes.render, drawn, chunksize=64)))
    unseen = scenes.unseen_combinations(seed)
    entries = [scenes.labels(s) | {"captions": scenes.captions(s), "unseen": s.combination in unseen} for s in drawn]
    save_array(folder / f"{split}.npy", images)
    save_json(folder / f"{split}.json", entries)


def load_labels(folder: Path, split: str) -> list[dict]:
    return load_json(folder / f"{split}.json")
