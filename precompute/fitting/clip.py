"""CLIP features: what the text encoder takes of a prompt, where the vision encoder puts a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """(n, S, S, 3) uint8 -> (n, 3, S, S) float32, normalised as CLIP's vision encoders expect (Radford et al. 2021)."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (torch.tensor(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """(n, context) token ids, padded and cut to the tokenizer's length."""
    return tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids


@torch.inference_mode()
def image_embeddings(
    model: CLIPVisionModelWithProjection, images: np.ndarray, batch: int = 64, unit: bool = True
) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, d) float32, of unit length or as long as the encoder makes them."""
    size = model.config.image_size
    parts = []
    for k in range(0, len(images), batch):
        pixels = pixel_values(np.asarray(images[k : k + batch]))
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
        found = model(pixels.to(model.device)).image_embeds
        parts.append((F.normalize(found, dim=-1) if unit else found).cpu().numpy())
    return np.concatenate(parts)
