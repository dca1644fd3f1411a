"""Pictures and captions -> what the regressors predict, each in one memory-mapped `.npy`, written batch by batch.

python -m precompute features --subject 1 --target vdvae|clip-text|clip-vision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from precompute.blocks import Rows, write_rows
from precompute.fitting.clip import image_embeddings, tokens
from recon.decoders.vdvae import VDVAE
from recon.device import choose_device
from recon.files import open_array


@dataclass(frozen=True)
class Into:
    """Where features go: a `.npy` file, its dtype, how many images go through the network together, and a folder for what is
    unfinished."""

    path: Path
    work: Path
    dtype: str = "float32"
    batch: int = 64

    def write(self, shape: tuple[int, int], make: Callable[[slice], np.ndarray]) -> None:
        write_rows(Rows(self.path, shape, self.dtype), self.batch, make, self.work)


def extract_latents(images: Path, vdvae: VDVAE, n_layers: int, into: Into) -> None:
    """Posterior means of the first n_layers for every image of `images` (n, S, S, 3 uint8, at the VDVAE's size)."""
    pictures = open_array(images)
    into.write((len(pictures), vdvae.n_latents(n_layers)), lambda rows: vdvae.encode(pictures[rows], n_layers))


def extract_samples(images: Path, vdvae: VDVAE, n_layers: int, into: Into, seed: int) -> None:
    """A sample of that posterior for every image; the image of row k has the seed `seed` + k."""
    pictures = open_array(images)

    def rows(span: slice) -> np.ndarray:
        return vdvae.encode(pictures[span], n_layers, range(seed + span.start, seed + span.stop))

    into.write((len(pictures), vdvae.n_latents(n_layers)), rows)


def extract_prompts(captions: list[list[str]], folder: Path, into: Into) -> None:
    """Prompt embeddings: the text encoder's last hidden states, mean over an image's captions, (n, tokens · width).

    `folder` holds a tokenizer and a text encoder: both directly, or in subfolders as a diffusion pipeline's.
    """
    inside = [folder / part if (folder / part).is_dir() else folder for part in ("tokenizer", "text_encoder")]
    tokenizer = CLIPTokenizer.from_pretrained(inside[0])
    encoder = CLIPTextModel.from_pretrained(inside[1], dtype=torch.float32).eval().to(choose_device())
    shape = (len(captions), tokenizer.model_max_length * encoder.config.hidden_size)

    @torch.inference_mode()
    def rows(span: slice) -> np.ndarray:
        some = captions[span]
        ids = tokens(tokenizer, [caption for five in some for caption in five]).to(encoder.device)
        states = encoder(ids).last_hidden_state.flatten(1).split([len(five) for five in some])
        return torch.stack([s.mean(0) for s in states]).cpu().numpy()

    into.write(shape, rows)


def extract_embeddings(images: Path, folder: Path, into: Into, unit: bool = True) -> None:
    """CLIP image embeddings (n, d), of unit length or as image adapters take them; `folder` holds a CLIP or its image half."""
    model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval().to(choose_device())
    pictures = open_array(images)
    into.write(
        (len(pictures), model.config.projection_dim), lambda rows: image_embeddings(model, pictures[rows], unit=unit)
    )
