"""LoRA weights, added to a UNet for good."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME, LORA_WEIGHT_NAME_SAFE
from diffusers.models.model_loading_utils import load_state_dict
from peft.tuners.lora.layer import LoraLayer

from recon.decoders.ip_adapter import has_adapter
from recon.unreadable import BadFile, unreadable

DOWN = ("lora_A.weight", "lora.down.weight")
OTHERS = ("dora_scale", "lora_magnitude_vector", "hada_", "lokr_")  # what DoRA and LyCORIS add, which diffusers drops


def fuse_lora(pipe: StableDiffusionImg2ImgPipeline, lora: Path) -> None:
    """Adds LoRA weights to the UNet: W + alpha / rank · B A, with the alpha that stands beside the weights or in the metadata.

    `lora`: a file, or the folder of a published one. peft's, diffusers' and kohya's names are known, in `.safetensors` and
    `.bin`. Raises BadFile if weights are missing, not finite, zero, of another kind, or without a module. diffusers drops keys
    that it does not know with a warning only, hence the count. Raises ValueError for a UNet that has an image adapter already:
    its attention is no longer that of which the LoRA was made.
    """
    if has_adapter(pipe.unet):
        raise ValueError("expected a UNet without an image adapter, got one with it: fuse the LoRA first")
    lora = _file_of(Path(lora))
    try:
        _check_weights(lora, load_state_dict(lora))
        state, alphas, metadata = pipe.lora_state_dict(lora, return_lora_metadata=True)
        beside = {key: float(state.pop(key)) for key in list(state) if key.endswith(".alpha")}
        alphas = {**(alphas or {}), **beside} or None
        pipe.load_lora_into_unet(
            state,
            alphas,
            pipe.unet,
            adapter_name="lcm",
            _pipeline=pipe,
            low_cpu_mem_usage=True,  # else weights are drawn, only to be overwritten
            metadata=None if alphas else metadata,
        )
    except BadFile:
        raise
    except Exception as error:
        raise unreadable(lora, error, f"{lora} does not fit the UNet: {str(error).splitlines()[0]}") from error
    wanted = sum(key.endswith(DOWN) for key in state)
    loaded = [m for m in pipe.unet.modules() if isinstance(m, LoraLayer)]
    if not wanted or len(loaded) != wanted:
        raise BadFile(f"{lora} does not fit the UNet: {wanted} LoRA modules in the file, {len(loaded)} of them found")
    if not any(m.scaling["lcm"] and m.lora_B["lcm"].weight.any() for m in loaded):
        raise BadFile(f"{lora} changes nothing: its alpha or all its B matrices are zero")
    pipe.fuse_lora(components=["unet"], adapter_names=["lcm"])
    pipe.unload_lora_weights()


def _file_of(lora: Path) -> Path:
    """The weights themselves: a published LoRA is a folder. Raises BadFile if they are missing."""
    names = (LORA_WEIGHT_NAME_SAFE, LORA_WEIGHT_NAME)
    found = [path for path in ([lora / name for name in names] if lora.is_dir() else [lora]) if path.exists()]
    if not found:
        raise BadFile(f"{lora} is missing or empty: restore the LCM-LoRA or train it again")
    return found[0]


def _check_weights(lora: Path, weights: dict[str, torch.Tensor]) -> None:
    """Raises BadFile for weights of another kind than LoRA's, and for NaN or infinity."""
    if other := next((key for key in weights if any(part in key for part in OTHERS)), None):
        raise BadFile(f"{lora}: expected plain LoRA weights, got {other!r}: DoRA and LyCORIS are not known here")
    if bad := next((key for key, value in weights.items() if not value.isfinite().all()), None):
        raise BadFile(f"{lora}: expected finite weights, got NaN or infinity in {bad}: fetch or train it again")
