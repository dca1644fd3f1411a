"""Trains the demo's small CLIP: text and vision transformers brought together on training scenes and their captions.

Loss: symmetric cross-entropy over the cosine similarities of a batch (Radford et al. 2021). Half of the pictures are mirrored, with
"left" and "right" swapped in their captions, and all are shifted by a few pixels. Two phases: batches of any pictures, then batches
of few (setting, light) groups, in which only the object, its colour and its place tell pictures apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from precompute.demo.training import Schedule, step_rng, train
from recon.clip import pixel_values
from recon.files import load_json, open_array, save_json

CONTEXT = 24  # tokens; the longest caption has 21
START, END = "<|startoftext|>", "<|endoftext|>"
SHIFT = 6  # pixels
ALIKE = 32  # pictures of the same setting and light in a batch of the second phase


@dataclass(frozen=True)
class ClipSize:
    """Sizes of the two transformers."""

    text_width: int = 128
    text_layers: int = 3
    vision_width: int = 160
    vision_layers: int = 5
    patch: int = 16
    head_width: int = 32
    embedding: int = 96


def train_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Byte-pair encoding learned from captions; any other text is spelled in smaller pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), START, END]
    blank = CLIPTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[])
    tokenizer = blank.train_new_from_iterator(captions, vocab_size=900)
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """(n, CONTEXT) token ids, padded."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def mirrored(tokenizer: CLIPTokenizer, ids: torch.Tensor) -> torch.Tensor:
    """The captions of mirrored pictures: left and right change places."""
    left, right = tokenizer.convert_tokens_to_ids(["left</w>", "right</w>"])
    return torch.where(ids == left, right, torch.where(ids == right, left, ids))


def clip_config(tokenizer: CLIPTokenizer, size: ClipSize, image_size: int) -> CLIPConfig:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_width // size.head_width,
        "max_position_embeddings": CONTEXT,
        "projection_dim": size.embedding,
        "pad_token_id": tokenizer.pad_token_id,
        **ends,
    }
    vision = {
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_width // size.head_width,
        "image_size": image_size,
        "patch_size": size.patch,
        "projection_dim": size.embedding,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.embedding)


@torch.no_grad()
def start_from_principal_patches(model: CLIPModel, images: np.ndarray) -> None:
    """Sets the patch embedding to the principal components of patches: transformers are slow to find them themselves."""
    embed = model.vision_model.embeddings.patch_embedding
    side = embed.kernel_size[0]
    patches = F.unfold(pixel_values(images), side, stride=side).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    k = embed.out_channels
    directions = (vectors[:, -k:] / values[-k:].clamp(min=1e-4).sqrt()).flip(1).T
    embed.weight.copy_(directions.reshape(embed.weight.shape) * 0.3)


def shifted(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The whole batch moved by up to SHIFT pixels each way, edges repeated."""
    dy, dx = rng.integers(0, 2 * SHIFT + 1, 2)
    height, width = pixels.shape[2:]
    return F.pad(pixels, (SHIFT,) * 4, mode="replicate")[:, :, dy : dy + height, dx : dx + width]


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of the similarities of matching rows, (B, d) both."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@torch.no_grad()
def embeddings(model: CLIPModel, images: np.ndarray, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-length image and text embeddings (n, d)."""
    pictures = [model.get_image_features(pixel_values(images[k : k + 100])) for k in range(0, len(images), 100)]
    pictures = torch.cat([getattr(p, "pooler_output", p) for p in pictures])
    texts = model.get_text_features(ids)
    return F.normalize(pictures, dim=-1), F.normalize(getattr(texts, "pooler_output", texts), dim=-1)


def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, images: np.ndarray, labels: list[dict]) -> dict:
    """Caption -> picture and back among n held-out pictures: share of top-1 and top-5; chance 1/n and 5/n."""
    pictures, texts = embeddings(model, images, tokens(tokenizer, [e["captions"][0] for e in labels]))
    similarity = pictures @ texts.T
    report = {"n": len(images)}
    for name, table in (("caption_of_image", similarity), ("image_of_caption", similarity.T)):
        rank = (table > table.diagonal()[:, None]).sum(1)
        report |= {f"{name}_top1": float((rank == 0).float().mean()), f"{name}_top5": float((rank < 5).float().mean())}
    return report


class Groups:
    """Rows by what is easiest to see: setting and light."""

    def __init__(self, labels: list[dict]):
        keys = np.array([f"{e['setting']} {e['light']}" for e in labels])
        self.rows = [np.flatnonzero(keys == key) for key in np.unique(keys)]

    def draw(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of a batch: ALIKE from each of a few groups."""
        chosen = rng.choice(len(self.rows), min(max(1, batch // ALIKE), len(self.rows)), replace=False)
        parts = [rng.choice(self.rows[k], min(ALIKE, len(self.rows[k])), replace=False) for k in chosen]
        return np.sort(np.concatenate(parts))


def train_clip(scenes: Path, out: Path, phases: tuple[Schedule, Schedule], size: ClipSize, seed: int) -> dict:
    """`scenes` holds train/test .npy and .json; writes the whole CLIP and its tokenizer to the folder `out`."""
    images, labels = open_array(scenes / "train.npy"), load_json(scenes / "train.json")
    tokenizer = train_tokenizer([caption for e in labels for caption in e["captions"]])
    ids = tokens(tokenizer, [caption for e in labels for caption in e["captions"]]).reshape(len(labels), 5, CONTEXT)
    torch.manual_seed(seed)
    model = CLIPModel._from_config(clip_config(tokenizer, size, images.shape[1]), attn_implementation="eager")
    start_from_principal_patches(model, np.asarray(images[::10]))
    groups = Groups(labels)

    def any_rows(batch: int, rng: np.random.Generator) -> np.ndarray:
        return np.sort(rng.choice(len(images), min(batch, len(images)), replace=False))

    reports, checkpoints = [], []
    for number, (schedule, draw) in enumerate(zip(phases, (any_rows, groups.draw)), 1):

        def loss(step: int, model=model, batch=schedule.batch, draw=draw, phase=number) -> dict[str, torch.Tensor]:
            rng = step_rng(seed + phase - 1, step)
            rows = draw(batch, rng)
            mirror = torch.as_tensor(rng.random(len(rows)) < 0.5)
            text = ids[rows, rng.integers(0, 5, len(rows))]
            text = torch.where(mirror[:, None], mirrored(tokenizer, text), text)
            pixels = pixel_values(images[rows])
            pixels = shifted(torch.where(mirror[:, None, None, None], pixels.flip(3), pixels), rng)
            got = model(input_ids=text, pixel_values=pixels)
            scale = model.logit_scale.exp().clamp(max=100)
            return {"loss": contrastive_loss(got.image_embeds, got.text_embeds, scale)}

        checkpoints.append(out.with_suffix(f".{number}.checkpoint.pt"))
        model, report = train(model, loss, checkpoints[-1], schedule, seed + number - 1)
        reports.append(report)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    test = np.asarray(open_array(scenes / "test.npy"))
    report = {
        "phases": reports,
        "held_out_retrieval": retrieval(model, tokenizer, test, load_json(scenes / "test.json")),
    }
    save_json(out.with_suffix(".training.json"), report)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return report
