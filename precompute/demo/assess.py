"""Puts the demo's diffusion pipeline together and judges it: do its pictures show what the prompt says?

Prompts are captions of held-out scenes; the checker is fitted to training scenes. The unfused UNet takes 25 DDIM steps with
guidance; with the LCM-LoRA it takes 1, 2, 4 or 8 without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from precompute.demo.checker import Checker
from precompute.evaluation.frechet import frechet_distance
from precompute.evaluation.network_metrics import open_networks
from recon.decoders.diffusion import Diffusion, Meaning, load_diffusion, load_pipeline, refine_all
from recon.files import load_json, open_array, save_json, whole_file
from recon.settings import LCMSettings

TEACHER_STEPS, TEACHER_GUIDANCE = 25, 3.0


def assemble_pipeline(clip: Path, codec: Path, unet: Path, out: Path) -> None:
    """`out`/diffusion: the trained parts in diffusers' layout; `out`/vision: CLIP's image half. Weights in float16."""
    pipe = StableDiffusionImg2ImgPipeline(
        vae=AutoencoderTiny.from_pretrained(codec),
        text_encoder=CLIPTextModel.from_pretrained(clip / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(clip / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(unet),
        scheduler=DDPMScheduler.from_pretrained(unet),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipe.unet, pipe.vae):
        part.register_to_config(_name_or_path="")  # it would be a folder of this computer
    pipe.to(dtype=torch.float16).save_pretrained(out / "diffusion")
    CLIPVisionModelWithProjection.from_pretrained(clip / "vision").half().save_pretrained(out / "vision")


@torch.inference_mode()
def sample_teacher(pipe: StableDiffusionImg2ImgPipeline, prompts: np.ndarray, seed: int, batch: int = 50) -> np.ndarray:
    """25 guided DDIM steps from noise by diffusers' own pipeline; prompts (n, tokens, width) -> (n, S, S, 3) uint8."""
    parts = {k: v for k, v in pipe.components.items() if k != "scheduler"}
    sampler = StableDiffusionPipeline(
        **parts, scheduler=DDIMScheduler.from_config(pipe.scheduler.config), requires_safety_checker=False
    )
    sampler.set_progress_bar_config(disable=True)
    empty = torch.as_tensor(Diffusion(pipe, pipe.vae).embed([""]))
    pictures = []
    for k in range(0, len(prompts), batch):
        part = torch.as_tensor(prompts[k : k + batch])
        samples = sampler(
            prompt_embeds=part,
            negative_prompt_embeds=empty.expand_as(part),
            num_inference_steps=TEACHER_STEPS,
            guidance_scale=TEACHER_GUIDANCE,
            generator=torch.Generator().manual_seed(seed + k),
            output_type="np",
        ).images
        pictures.append((samples * 255).round().astype(np.uint8))
    return np.concatenate(pictures)


def sample_lcm(model: Diffusion, prompts: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """`steps` LCM steps at guidance 1 from almost pure noise over grey; (n, S, S, 3) uint8."""
    grey = np.full((len(prompts), model.size, model.size, 3), 128, np.uint8)
    return refine_all(model, grey, Meaning(prompts), LCMSettings(steps, strength=1.0, seed=seed))


def sharpness(images: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, grey levels."""
    x = images.astype(np.float32)
    return float((np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=2)).mean()) / 2)


def distances(samples: dict[str, np.ndarray], images: np.ndarray) -> dict[str, float] | None:
    """Fréchet distance of each set of (n, S, S, 3) samples to true images, as EfficientNet-Lite0 sees them; None without it."""
    see = open_networks()[0].get("lite0")
    if see is None:
        return None
    true = see(images)
    return {name: frechet_distance(see(pictures), true) for name, pictures in samples.items()}


def assess(folder: Path, lora: Path, checker: Path, scenes: Path, out: Path, seed: int) -> dict:
    """Writes `samples.json` and `samples.jpg` to `out`; returns the former: shares in which the checker finds what was asked.

    And how sharp the samples are, and how far from true images; as many training images show how far those lie apart.
    """
    labels = load_json(scenes / "test.json")
    captions = [e["captions"][1] for e in labels]  # the one without a second object
    judge = Checker.load(checker)
    images = np.asarray(open_array(scenes / "test.npy"))
    report = {"n": len(labels), "true pictures": judge.accuracy(images, labels)}
    sharp = {"true pictures": sharpness(images)}
    model = load_diffusion(folder, lora)
    prompts = model.embed(captions)
    samples = {f"{steps} LCM steps": sample_lcm(model, prompts, steps, seed) for steps in (1, 2, 4, 8)}
    teacher = load_pipeline(folder)
    samples = {f"{TEACHER_STEPS} steps, guidance {TEACHER_GUIDANCE}": sample_teacher(teacher, prompts, seed)} | samples
    for name, pictures in samples.items():
        report[name], sharp[name] = judge.accuracy(pictures, labels), sharpness(pictures)
    report["sharpness"] = sharp
    others = np.asarray(open_array(scenes / "train.npy")[: len(images)])
    report["frechet"] = distances({"training pictures": others} | samples, images)
    save_json(out / "samples.json", report)
    rows = [np.concatenate(list(p[:12]), 1) for p in (images, *samples.values())]
    with whole_file(out / "samples.jpg") as part:
        Image.fromarray(np.concatenate(rows)).save(part, quality=88)
    return report
