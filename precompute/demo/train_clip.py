"""Trains the demo's small CLIP: text and vision transformers brought together on training scenes and their captions.

Loss: symmetric cross-entropy over the cosine similarities of a batch (Radford et al. 2021). Half of the pictures are mirrored, with
"left" and "right" swapped in their captions, and all are shifted by a few pixels. Three phases: batches of any pictures; batches
of few (setting, light) groups, in which only the object, its colour and its place tell pictures apart; and the vision transformer
alone against the captions of all training pictures at once, with the text locked (LiT: Zhai et al. 2022).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from precompute.demo.training import Schedule, Weights, draw_rows, shifted, step_rng, train
from precompute.fitting.clip import pixel_values, tokens
from recon.files import load_json, open_array

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
    learned = CLIPTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[]).backend_tokenizer
    # ties between pairs are broken by ids, and pieces that are not given here would get them in random order
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=pieces, end_of_word_suffix="</w>", show_progress=False)
    learned.train_from_iterator(captions, trainer)
    model = json.loads(learned.to_str())["model"]
    tokenizer = CLIPTokenizer(vocab=model["vocab"], merges=list(map(tuple, model["merges"])))
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def mirrored(tokenizer: CLIPTokenizer, ids: torch.Tensor) -> torch.Tensor:
    """The captions of mirrored pictures: left and right change places."""
    left, right = tokenizer.convert_tokens_to_ids(["left</w>", "right</w>"])
    return torch.where(ids == left, right, torch.where(ids == right, left, ids))


def clip_config(tokenizer: CLIPTokenizer, size: ClipSize, image_size: int) -> CLIPConfig:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}

    def tower(width: int, layers: int) -> dict:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // size.head_width,
            "projection_dim": size.embedding,
        }

    text = {
        **tower(size.text_width, size.text_layers),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "pad_token_id": tokenizer.pad_token_id,
        **ends,
    }
    vision = {**tower(size.vision_width, size.vision_layers), "image_size": image_size, "patch_size": size.patch}
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


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of the similarities of matching rows, (B, d) both."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def image_features(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Unit-length image embeddings (n, d)."""
    return F.normalize(model.get_image_features(pixels).pooler_output, dim=-1)


@torch.no_grad()
def text_features(model: CLIPModel, ids: torch.Tensor, batch: int = 500) -> torch.Tensor:
    """Unit-length text embeddings (n, d) of token ids (n, CONTEXT)."""
    return F.normalize(torch.cat([model.get_text_features(some).pooler_output for some in ids.split(batch)]), dim=-1)


def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, images: np.ndarray, labels: list[dict]) -> dict:
    """Caption -> picture and back among n held-out pictures: share of top-1 and top-5; chance 1/n and 5/n."""
    pictures = torch.cat([image_features(model, pixel_values(images[k : k + 100])) for k in range(0, len(images), 100)])
    similarity = pictures @ text_features(model, tokens(tokenizer, [e["captions"][0] for e in labels])).T
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


def augmented(images: np.ndarray, mirror: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Pixel values of (B, S, S, 3) uint8, some of them mirrored, all of them shifted."""
    pixels = pixel_values(images)
    return shifted(torch.where(mirror[:, None, None, None], pixels.flip(3), pixels), SHIFT, rng)


def train_vision(
    model: CLIPModel, images: np.ndarray, texts: torch.Tensor, checkpoint: Path, schedule: Schedule, seed: int
) -> tuple[CLIPModel, dict]:
    """The third phase: vision alone, each picture against every picture's caption.

    `texts` (2, n, 5, d): unit-length embeddings of the captions, and of those of the mirrored pictures.
    """
    model.requires_grad_(False)
    for part in (model.vision_model, model.visual_projection):
        part.requires_grad_(True)

    def loss(step: int) -> dict[str, torch.Tensor]:
        rng = step_rng(seed, step)
        rows = draw_rows(len(images), schedule.batch, rng)
        mirror = torch.as_tensor(rng.random(len(rows)) < 0.5)
        bank = texts[:, :, rng.integers(0, 5)]
        pictures = image_features(model, augmented(images[rows], mirror, rng))
        own, rows = bank[mirror.long(), rows], torch.as_tensor(rows)
        similarity = (pictures @ bank[0].T).float()  # a product, in bfloat16 where training is
        similarity = similarity.masked_fill(own @ bank[0].T > 0.9999, -1)  # who has the same caption is no wrong answer
        similarity = similarity.scatter(1, rows[:, None], (pictures * own).sum(1, keepdim=True))
        logits = model.logit_scale.exp().clamp(max=100) * similarity
        return {"loss": F.cross_entropy(logits, rows), "top1": (logits.argmax(1) == rows).float().mean()}

    return train(model, loss, checkpoint, schedule, seed)


def save_parts(model: CLIPModel, tokenizer: CLIPTokenizer, out: Path, work: Path) -> None:
    """Saves what is used of CLIP later, each in a folder of `out`: `tokenizer`, `text_encoder`, `vision`."""
    model.save_pretrained(work / "whole")
    CLIPTextModel.from_pretrained(work / "whole").save_pretrained(out / "text_encoder")
    CLIPVisionModelWithProjection.from_pretrained(work / "whole").save_pretrained(out / "vision")
    tokenizer.save_pretrained(out / "tokenizer")


def train_clip(
    scenes: Path, weights: Weights, phases: tuple[Schedule, Schedule, Schedule], size: ClipSize, seed: int
) -> dict:
    """`scenes` holds train/test .npy and .json; CLIP's parts are saved to a folder. Returns a report."""
    images, labels = open_array(scenes / "train.npy"), load_json(scenes / "train.json")
    tokenizer = train_tokenizer([caption for e in labels for caption in e["captions"]])
    ids = tokens(tokenizer, [caption for e in labels for caption in e["captions"]]).reshape(len(labels), 5, CONTEXT)
    torch.manual_seed(seed)
    model = CLIPModel._from_config(clip_config(tokenizer, size, images.shape[1]), attn_implementation="eager")
    start_from_principal_patches(model, np.asarray(images[::10]))
    groups = Groups(labels)

    reports = []
    for number, (schedule, draw) in enumerate(zip(phases, (partial(draw_rows, len(images)), groups.draw)), 1):

        def loss(step: int, model=model, batch=schedule.batch, draw=draw, phase=number) -> dict[str, torch.Tensor]:
            rng = step_rng(seed + phase - 1, step)
            rows = draw(batch, rng)
            mirror = torch.as_tensor(rng.random(len(rows)) < 0.5)
            text = ids[rows, rng.integers(0, 5, len(rows))]
            text = torch.where(mirror[:, None], mirrored(tokenizer, text), text)
            got = model(input_ids=text, pixel_values=augmented(images[rows], mirror, rng))
            scale = model.logit_scale.exp().clamp(max=100)
            return {"loss": contrastive_loss(got.image_embeds, got.text_embeds, scale)}

        model, report = train(model, loss, weights.checkpoint(number), schedule, seed + number - 1)
        reports.append(report)
    texts = torch.stack([text_features(model, v.flatten(0, 1)) for v in (ids, mirrored(tokenizer, ids))])
    texts = texts.unflatten(1, ids.shape[:2])
    model, report = train_vision(model, images, texts, weights.checkpoint(3), phases[2], seed + 2)
    reports.append(report)
    save_parts(model, tokenizer, weights.out, weights.work)
    test = np.asarray(open_array(scenes / "test.npy"))
    return {
        "phases": reports,
        "held_out_retrieval": retrieval(model, tokenizer, test, load_json(scenes / "test.json")),
    }
