"""CLIP features: what the text encoder says of a prompt, where the vision encoder puts a picture, which caption is nearest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from recon.files import BadFile, whole_file

FORMAT = "recon-captions-1"


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """(n, S, S, 3) uint8 -> (n, 3, S, S) float32, normalised as CLIP's vision encoders expect (Radford et al. 2021)."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (torch.tensor(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """(n, context) token ids, padded and cut to the tokenizer's length."""
    return tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids


@torch.inference_mode()
def image_embeddings(model: CLIPVisionModelWithProjection, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, d) float32 of unit length."""
    size = model.config.image_size
    parts = []
    for k in range(0, len(images), batch):
        pixels = pixel_values(np.asarray(images[k : k + batch]))
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
        parts.append(F.normalize(model(pixels.to(model.device)).image_embeds, dim=-1).cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class CaptionIndex:
    """Captions of training pictures, found by the place of their picture in CLIP's embedding space."""

    captions: list[str]  # one of each picture
    embeddings: np.ndarray  # (n, d) float32, of the pictures

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decoded image embeddings (n, d) -> rows of the most similar training pictures, and the cosines, (n,) both.

        Cosines are taken about the mean training embedding: what all pictures share says nothing.
        """
        centre = self.embeddings.mean(0)
        ours, theirs = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings - centre, self.embeddings - centre)
        )
        similarity = ours @ theirs.T
        rows = similarity.argmax(1)
        return rows, similarity[np.arange(len(rows)), rows]

    def save(self, path: Path) -> None:
        """HDF5; embeddings in float16."""
        with whole_file(path) as part, h5py.File(part, "w") as f:
            f.attrs["format"] = FORMAT
            f.create_dataset("embeddings", data=self.embeddings.astype(np.float16))
            text = np.frombuffer(json.dumps(self.captions).encode(), np.uint8)
            f.create_dataset("captions", data=text, compression="gzip")

    @classmethod
    def load(cls, path: Path) -> CaptionIndex:
        """Raises BadFile if the file is missing, damaged or holds something else."""
        try:
            with h5py.File(path, "r") as f:
                if f.attrs.get("format") != FORMAT:
                    raise BadFile(f"{path}: expected format {FORMAT!r}, got {f.attrs.get('format')!r}")
                captions = json.loads(f["captions"][()].tobytes())
                embeddings = f["embeddings"][()].astype(np.float32)
        except BadFile:
            raise
        except (OSError, KeyError, ValueError) as error:
            raise BadFile(f"{path} is not a readable caption index (missing or damaged?): {error}") from error
        if len(captions) != len(embeddings):
            raise BadFile(f"{path}: {len(captions)} captions, but {len(embeddings)} embeddings")
        return cls(captions, embeddings)
