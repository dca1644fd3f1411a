"""Pictures and captions -> what the regressors predict, each in one memory-mapped `.npy`; `python -m precompute demo` runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from recon.clip import image_embeddings, tokens
from recon.files import open_array, save_array, whole_file
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


@torch.inference_mode()
def extract_prompts(captions: list[list[str]], clip: Path, out: Path, batch: int = 64) -> None:
    """Prompt embeddings: the text encoder's last hidden states, mean over a picture's captions, (n, tokens · width) float32."""
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    encoder = CLIPTextModel.from_pretrained(clip).eval()
    with whole_file(out) as part:
        shape = (len(captions), tokenizer.model_max_length * encoder.config.hidden_size)
        prompts = np.lib.format.open_memmap(part, "w+", np.float32, shape)
        for k in tqdm(range(0, len(captions), batch), desc="prompt embeddings", unit="batch", mininterval=5):
            rows = captions[k : k + batch]
            flat = [caption for row in rows for caption in row]
            states = encoder(tokens(tokenizer, flat)).last_hidden_state.flatten(1).split([len(row) for row in rows])
            prompts[k : k + batch] = torch.stack([s.mean(0) for s in states]).numpy()
        prompts.flush()


def extract_embeddings(images: Path, clip: Path, out: Path) -> None:
    """CLIP image embeddings (n, d) float32, unit length."""
    model = CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    save_array(out, image_embeddings(model, open_array(images)))
