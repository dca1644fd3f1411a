"""Pictures and captions -> what the regressors predict, each in one memory-mapped `.npy`, written batch by batch.

python -m precompute features --subject 1 --target vdvae|clip-text|clip-image
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from precompute.blocks import write_rows
from precompute.fitting.clip import image_embeddings, tokens
from recon.decoders.vdvae import VDVAE
from recon.device import choose_device
from recon.files import open_array


def extract_latents(
    images: Path, vdvae: VDVAE, out: Path, n_layers: int, batch: int = 64, dtype: str = "float32", name: str = "own"
) -> None:
    """Posterior means of the first n_layers for every picture of `images` (n, S, S, 3 uint8, at the VDVAE's size).

    `name` says which VDVAE it is: a resumed file must come from the same one.
    """
    pictures = open_array(images)
    shape = (len(pictures), vdvae.n_latents(n_layers))
    source = {"images": images.name, "vdvae": name}
    write_rows(out, shape, dtype, batch, source, lambda rows: vdvae.encode(pictures[rows], n_layers))


def extract_prompts(
    captions: list[list[str]], folder: Path, out: Path, batch: int = 64, dtype: str = "float32", name: str = "own"
) -> None:
    """Prompt embeddings: the text encoder's last hidden states, mean over a picture's captions, (n, tokens · width).

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

    write_rows(out, shape, dtype, batch, {"captions": len(captions), "text encoder": name}, rows)


def extract_embeddings(
    images: Path, folder: Path, out: Path, batch: int = 64, dtype: str = "float32", name: str = "own"
) -> None:
    """CLIP image embeddings (n, d), unit length; `folder` holds a CLIP or its image half."""
    model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval().to(choose_device())
    pictures = open_array(images)
    shape = (len(pictures), model.config.projection_dim)
    source = {"images": images.name, "clip": name}
    write_rows(out, shape, dtype, batch, source, lambda rows: image_embeddings(model, pictures[rows]))
