"""Captions for images that have none: the nearest of a list, by CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from precompute.fitting.clip import image_embeddings, tokens
from precompute.importing.experiment import SPLITS
from recon.decoders.published_models import locate
from recon.device import choose_device
from recon.files import BadFile, load_json, open_array, save_json

N_NEAREST, BATCH = 5, 64
SIDE = 512  # of the images that CLIP sees


def read_caption_list(path: Path) -> list[str]:
    """A caption a line. Raises BadFile if there are fewer than an image gets."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not a readable text file ({error}): save it in UTF-8, a caption a line") from error
    captions = list(dict.fromkeys(line for line in lines if line))
    if len(captions) < N_NEAREST:
        raise BadFile(f"{path}: expected at least {N_NEAREST} captions, a line each, got {len(captions)}")
    return captions


def nearest(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Unit vectors (n, d), (m, d) -> (n, N_NEAREST) rows of `texts`, the nearest first."""
    return np.argsort(-(images @ texts.T), axis=1, kind="stable")[:, :N_NEAREST]


@torch.inference_mode()
def text_embeddings(folder: Path, captions: list[str]) -> np.ndarray:
    """(n, d) float32 of unit length, by the text half of the CLIP in `folder`."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval().to(choose_device())
    parts = []
    for k in range(0, len(captions), BATCH):
        ids = tokens(tokenizer, captions[k : k + BATCH]).to(model.device)
        parts.append(F.normalize(model(ids).text_embeds, dim=-1).cpu().numpy())
    return np.concatenate(parts)


def needed(path: Path) -> tuple[list[str], Path]:
    """The captions of a list, and the folder of CLIP. Raises BadFile where one is missing."""
    return read_caption_list(path), locate("clip")


def write_nearest_captions(out: Path, path: Path) -> str:
    """Gives every image of `train.json` and `test.json` without captions the nearest of the list; returns what was done.

    Raises BadFile if CLIP has not been fetched.
    """
    captions, clip = needed(path)
    texts = text_embeddings(clip, captions)
    vision = CLIPVisionModelWithProjection.from_pretrained(clip, dtype=torch.float32).eval().to(choose_device())
    for split in SPLITS:
        labels, images = load_json(out / f"{split}.json"), open_array(out / f"{split}_{SIDE}.npy")
        rows = [nearest(image_embeddings(vision, images[k : k + BATCH]), texts) for k in range(0, len(images), BATCH)]
        for label, chosen in zip(labels, np.concatenate(rows)):
            if not label["captions"]:
                label |= {"captions": [captions[row] for row in chosen], "captions_from": path.name}
        save_json(out / f"{split}.json", labels)
    return f"images without captions got the {N_NEAREST} nearest of {len(captions)} in {path.name}, by CLIP"
