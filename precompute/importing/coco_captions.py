"""Captions of NSD's images, from the file that `fetch nsd` and `fetch mindeye2` get."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from precompute.nsd import raw


def read_coco_captions(folder: Path, nsd_ids: dict[int, int]) -> dict[int, list[str]] | None:
    """nsd_ids: image id -> its number among the 73,000, from 0. Returns image id -> captions; None if the file is not there."""
    if not (folder / raw.CAPTIONS).exists():
        return None
    rows = raw.read_captions(raw.Tree(folder, 1), np.array(list(nsd_ids.values())))
    return {k: [str(caption).strip() for caption in five if caption.strip()] for k, five in zip(nsd_ids, rows)}
