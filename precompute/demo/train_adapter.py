"""Trains an image adapter for the demo's UNet: its own CLIP's image embedding guides it beside the prompt.

An IP-Adapter (Ye et al. 2023) of four tokens. The UNet is frozen; only the projection and the second keys and values of its
cross-attentions learn. For a part of the rows the prompt, the image or both are left out, so that each can guide alone. For a
quarter the embedding is blended with a smaller part of another image's, as least-squares predictions from voxels are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from precompute.demo.train_unet import (
    BLENDED,
    LARGEST,
    NOISE_SCHEDULE,
    Examples,
    Sources,
    on_this_hardware,
    velocity_loss,
)
from precompute.demo.training import Schedule, Weights, resident, rows_of, step_rng, train
from precompute.fitting.clip import image_embeddings
from recon.decoders.ip_adapter import N_TOKENS, PROJECTION, adapter_shapes, attach, cross_attentions, image_condition
from recon.device import choose_device
from recon.files import open_array, save_array, whole_file

# shares of rows; Ye et al. have 0.05 of each, but what captions of these scenes leave to see is too little to learn from
NO_TEXT, NO_IMAGE, NEITHER = 0.4, 0.05, 0.05


def extract_both(images: Path, vision: Path, out: Path, batch: int = 200) -> None:
    """CLIP embeddings of every image and of its mirror image: (2, n, d) float16, of unit length."""
    model = CLIPVisionModelWithProjection.from_pretrained(vision).float().eval().to(choose_device())
    pictures, parts = open_array(images), ([], [])
    for k in range(0, len(pictures), batch):
        some = np.asarray(pictures[k : k + batch])
        for version, part in zip((some, some[:, :, ::-1].copy()), parts):
            part.append(image_embeddings(model, version).astype(np.float16))
    save_array(out, np.stack([np.concatenate(part) for part in parts]))


def new_adapter(unet: UNet2DConditionModel, embeddings: Tensor) -> dict[str, Tensor]:
    """Tensors of an adapter that changes nothing yet: its values are zero, its keys the text's; tokens are of standardised
    embeddings (n, d)."""
    sd, mean = torch.std_mean(embeddings.float().cpu(), 0)
    width = unet.config.cross_attention_dim
    weight = torch.randn(N_TOKENS * width, len(mean)) / (len(mean) ** 0.5 * sd.clamp(min=1e-6))
    tensors = {name: torch.zeros(shape) for name, shape in adapter_shapes(unet, len(mean)).items()}
    for n, attention in cross_attentions(unet).items():
        tensors[f"ip_adapter.{n}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
    projection = {
        PROJECTION: weight,
        "image_proj.proj.bias": -weight @ mean,
        "image_proj.norm.weight": torch.ones(width),
    }
    return tensors | projection


def adapter_tensors(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The reverse of `attach`: named as in a file."""
    layer = unet.encoder_hid_proj.image_projection_layers[0]
    tensors = {f"image_proj.{k.replace('image_embeds', 'proj')}": v for k, v in layer.state_dict().items()}
    for n, attention in cross_attentions(unet).items():
        for name, value in attention.processor.state_dict().items():
            tensors[f"ip_adapter.{n}.{name.replace('.0.', '.')}"] = value
    return {name: value.half().cpu().contiguous() for name, value in tensors.items()}


def blended(embeddings: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, d): some rows with a part of another row's."""
    n, device = len(embeddings), embeddings.device
    part = torch.as_tensor(LARGEST * rng.random((n, 1)) * (rng.random((n, 1)) < BLENDED), device=device)
    return torch.lerp(embeddings, embeddings[torch.as_tensor(rng.permutation(n), device=device)], part.to(embeddings))


def left_out(batch: int, rng: np.random.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which rows go without text, and which without image: (B,) bool both."""
    kind = torch.as_tensor(rng.random(batch), device=device)
    text, image, both = NO_TEXT, NO_TEXT + NO_IMAGE, NO_TEXT + NO_IMAGE + NEITHER
    neither = (kind >= image) & (kind < both)
    return (kind < text) | neither, ((kind >= text) & (kind < image)) | neither


def train_adapter(files: Sources, unet: Path, weights: Weights, schedule: Schedule, seed: int) -> dict:
    """Saves the adapter (safetensors, float16). Returns a report. `unet`: the folder of the frozen UNet."""
    examples, seen, noise_schedule = Examples.load(files), resident(files.embeddings), DDPMScheduler(**NOISE_SCHEDULE)
    torch.manual_seed(seed)
    model = UNet2DConditionModel.from_pretrained(unet).float()
    attach(model, new_adapter(model, seen[0]))
    model = on_this_hardware(model).requires_grad_(False)
    for module in (model.encoder_hid_proj, *(a.processor for a in cross_attentions(model).values())):
        module.requires_grad_(True)

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed, step)
        rows = examples.draw_rows(schedule.batch, rng)
        clean, prompt = examples.at(rows, rng)
        image = blended(rows_of(seen.flatten(0, 1), rows).float(), rng)
        no_text, no_image = left_out(len(rows), rng, examples.device)
        prompt = torch.where(no_text[:, None, None], examples.empty, prompt)
        condition = image_condition(torch.where(no_image[:, None], 0, image))
        return {
            "loss": velocity_loss(
                noise_schedule, clean, rng, lambda x, t: model(x, t, prompt, added_cond_kwargs=condition).sample
            )
        }

    best, report = train(model, loss, weights.checkpoint(), schedule, seed)
    with whole_file(weights.out) as part:
        save_file(adapter_tensors(best), part)
    return report
