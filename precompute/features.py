"""Pictures -> VDVAE latents in one memory-mapped `.npy`; `python -m precompute demo` runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from recon.files import open_array, whole_file
from recon.vdvae import VDVAE


def extract_latents(images: Path, vdvae: Path, out: Path, n_layers: int, batch: int = 64) -> None:
    """Posterior means of the first n_layers for every picture of `images` (n, S, S, 3 uint8, at the VDVAE's size)."""
    model = VDVAE.load(vdvae)
    pictures = open_array(images)
    with whole_file(out) as part:
        shape = (len(pictures), model.n_latents(n_layers))
        latents = np.lib.format.open_memmap(part, "w+", np.float32, shape)
        for k in tqdm(range(0, len(pictures), batch), desc=f"latents {images.stem}", unit="batch", mininterval=5):
            latents[k : k + batch] = model.encode(pictures[k : k + batch], n_layers)
        latents.flush()
