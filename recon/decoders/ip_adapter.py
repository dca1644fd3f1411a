"""Image prompts for a diffusion model: an IP-Adapter (Ye et al. 2023), four tokens made of one image embedding.

Its file, in the published layout: `image_proj.*`, a linear map from an embedding to the tokens with a LayerNorm after it; and
for every cross-attention of the UNet, in diffusers' order, N = 1, 3, 5 …, a second pair of keys and values,
`ip_adapter.N.to_k_ip.weight` and `ip_adapter.N.to_v_ip.weight`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import Attention
from safetensors.torch import load_file
from torch import Tensor

from recon.files import BadFile, brief

N_TOKENS = 4
PROJECTION = "image_proj.proj.weight"

Shapes = dict[str, tuple[int, ...]]


def cross_attentions(unet: UNet2DConditionModel) -> dict[int, Attention]:
    """N of the published layout -> the UNet's cross-attention, in diffusers' order."""
    places = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {n: unet.get_submodule(place) for n, place in enumerate(places) if place.endswith("attn2")}


def adapter_shapes(unet: UNet2DConditionModel, embedding_width: int) -> Shapes:
    """Every tensor of an adapter for this UNet, by its name in the file."""
    width = unet.config["cross_attention_dim"]
    shapes: Shapes = {
        PROJECTION: (N_TOKENS * width, embedding_width),
        "image_proj.proj.bias": (N_TOKENS * width,),
        "image_proj.norm.weight": (width,),
        "image_proj.norm.bias": (width,),
    }
    for n, attention in cross_attentions(unet).items():
        for part in ("to_k", "to_v"):
            shapes[f"ip_adapter.{n}.{part}_ip.weight"] = tuple(getattr(attention, part).weight.shape)
    return shapes


def has_adapter(unet: UNet2DConditionModel) -> bool:
    return getattr(unet.config, "encoder_hid_dim_type", None) == "ip_image_proj"


def embedding_width(unet: UNet2DConditionModel) -> int | None:
    """Numbers of the image embedding that the UNet's adapter takes; None without one."""
    if not has_adapter(unet):
        return None
    projection: Any = unet.encoder_hid_proj
    return projection.image_projection_layers[0].image_embeds.in_features


def load_adapter(unet: UNet2DConditionModel, path: Path) -> None:
    """Gives the UNet the adapter in a file; LoRAs are to be fused before. Raises BadFile, naming the tensor that does not fit."""
    try:
        tensors = load_file(path)
    except Exception as error:
        raise BadFile(f"{path} is not a readable image adapter (missing or damaged?): {brief(error)}") from error
    check_tensors(unet, tensors, path)
    attach(unet, tensors)


def attach(unet: UNet2DConditionModel, tensors: dict[str, Tensor]) -> None:
    """Hands tensors, named as in the file, to diffusers."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, key = name.split(".", 1)
        parts[part][key] = tensor
    unet._load_ip_adapter_weights([parts])


def check_tensors(unet: UNet2DConditionModel, tensors: dict[str, Tensor], path: Path) -> None:
    """Raises BadFile unless these are all tensors of an adapter for this UNet, and no others: diffusers ignores some."""
    projection = tensors.get(PROJECTION)
    expected = adapter_shapes(unet, 0 if projection is None else projection.shape[-1])
    misfit = f"{path} is no image adapter of this UNet (of another base model?)"
    if missing := [name for name in expected if name not in tensors]:
        raise BadFile(f"{misfit}: it lacks {missing[0]}")
    if unknown := sorted(tensors.keys() - expected):
        raise BadFile(f"{misfit}: it has {unknown[0]}, which is no part of one")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise BadFile(f"{misfit}: expected {name} of shape {shape}, got {tuple(tensors[name].shape)}")


def set_scale(unet: UNet2DConditionModel, scale: float) -> None:
    """How strongly the image's tokens count beside the text's; at 0 they are left out."""
    for attention in cross_attentions(unet).values():
        processor: Any = attention.processor
        processor.scale = [scale]


def image_condition(embeddings: Tensor) -> dict[str, list[Tensor]]:
    """Image embeddings (n, d) as the UNet's `added_cond_kwargs`."""
    return {"image_embeds": [embeddings[:, None]]}


def negative(embeddings: Tensor) -> Tensor:
    """What stands for no image where guidance is above 1: zeros, as in diffusers."""
    return torch.zeros_like(embeddings)
