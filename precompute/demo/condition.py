"""What guides the demo's adapted UNet, row by row: a prompt, and for some of the rows an image embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from recon.decoders.ip_adapter import image_condition, load_adapter, negative


@dataclass(frozen=True)
class Adapted:
    """Where a trained UNet and its image adapter lie."""

    unet: Path  # folder, with its noise schedule
    adapter: Path

    def load(self) -> UNet2DConditionModel:
        model = UNet2DConditionModel.from_pretrained(self.unet)
        load_adapter(model, self.adapter)
        return model


@dataclass(frozen=True)
class Condition:
    """Of B rows."""

    prompt: Tensor  # (B, tokens, width)
    image: Tensor  # (B, d) embeddings
    guided: Tensor  # (B,) bool: whether the image counts

    def __len__(self) -> int:
        return len(self.prompt)

    def __getitem__(self, rows: Tensor | slice) -> Condition:
        return Condition(self.prompt[rows], self.image[rows], self.guided[rows])

    @classmethod
    def joined(cls, parts: Sequence[Condition]) -> Condition:
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in ("prompt", "image", "guided")))

    def negative(self, empty: Tensor) -> Condition:
        """The empty prompt (tokens, width), and no image."""
        return Condition(empty.expand_as(self.prompt), negative(self.image), self.guided)

    def predict(self, unet: UNet2DConditionModel, x: Tensor, t: Tensor) -> Tensor:
        """What the adapted UNet says at noisy latents (B, K, S, S): masks of diffusers switch the image off row by row."""
        mask = self.guided[:, None, None, None].to(x.dtype).expand(-1, 1, *x.shape[2:])
        image, masks = image_condition(self.image), {"ip_adapter_masks": [mask]}
        return unet(x, t, self.prompt, added_cond_kwargs=image, cross_attention_kwargs=masks).sample
