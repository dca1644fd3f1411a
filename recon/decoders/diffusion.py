"""Stage 2: image to image with a latent diffusion model and an LCM-LoRA, a few denoising steps, each of them shown.

The loop is the multistep consistency sampling of Luo et al. (2023, algorithm 2) on diffusers' own parts. `LCMScheduler` is asked
for n steps *within* the strength, so that n steps run, as diffusers' LatentConsistencyModelImg2ImgPipeline does; its
StableDiffusionImg2ImgPipeline runs int(n · strength) of them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel, CLIPTokenizer

from recon.decoders.half_precision import finite
from recon.decoders.ip_adapter import (
    embedding_width,
    image_condition,
    load_adapter,
    negative,
    set_scale,
)
from recon.decoders.lora import fuse_lora
from recon.device import choose_device, choose_side
from recon.files import BadFile, brief, load_json
from recon.images import to_images, to_pixels
from recon.settings import MAX_PROMPT, LCMSettings

PREVIEW = 192  # pixels
VAES = (AutoencoderKL, AutoencoderTiny)
SCHEDULERS = (DDIMScheduler, DDPMScheduler, LCMScheduler, PNDMScheduler)


@dataclass(frozen=True)
class Meaning:
    """What guides stage 2 besides the layout: a prompt, and, with a scale above 0, the embedding of an image."""

    prompts: np.ndarray  # (n, tokens, width)
    embeddings: np.ndarray | None = None  # (n, d)
    scale: float = 0.0  # of the image beside the prompt

    def __getitem__(self, rows: slice) -> Meaning:
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Meaning(self.prompts[rows], embeddings, self.scale)


@dataclass(frozen=True)
class Diffusion:
    """A Stable Diffusion pipeline with its LCM-LoRA fused in, with an image adapter or without, and the decoder that shows what its
    steps have reached."""

    pipe: StableDiffusionImg2ImgPipeline
    preview: AutoencoderKL | AutoencoderTiny

    @property
    def size(self) -> int:
        """Side of its pictures in pixels."""
        return self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor

    @property
    def prompt_shape(self) -> tuple[int, int]:
        """(tokens, width) of a prompt embedding."""
        return self.pipe.tokenizer.model_max_length, self.pipe.text_encoder.config.hidden_size

    @property
    def embedding_width(self) -> int | None:
        """Numbers of an image embedding that can guide it; None without an image adapter."""
        return embedding_width(self.pipe.unet)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> np.ndarray:
        """Prompt embeddings (n, tokens, width) float32: the text encoder's last hidden states.

        Raises ValueError on a prompt of more than MAX_PROMPT characters; what exceeds the encoder's tokens is cut off.
        """
        longest = max(map(len, prompts))
        if longest > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {longest}: shorten it")
        ids = self.pipe.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.pipe.text_encoder(ids.to(self.pipe.device)).last_hidden_state.float().cpu().numpy()


def load_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusionImg2ImgPipeline:
    """A pipeline in diffusers' layout, from disk alone, on the GPU if there is one.

    Its parts are of fixed classes: what the folder's files name, code of its own included, is not looked for. Raises BadFile if a
    part is missing, damaged or of another class.
    """
    folder, disk = Path(folder), {"local_files_only": True}
    weights = disk | {"dtype": dtype, "use_safetensors": True}
    try:
        pipe = StableDiffusionImg2ImgPipeline(
            vae=_class_of(folder / "vae" / "config.json", VAES).from_pretrained(folder / "vae", **weights),
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", **weights),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", **disk),
            unet=UNet2DConditionModel.from_pretrained(folder / "unet", **weights),
            scheduler=_class_of(folder / "scheduler" / "scheduler_config.json", SCHEDULERS).from_pretrained(
                folder / "scheduler", **disk
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).to(choose_device())  # fails where a weight is missing
    except Exception as error:  # diffusers, transformers and safetensors each raise their own
        raise BadFile(
            f"{folder} is not a complete diffusion pipeline (a file missing or damaged?): {brief(error)}"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _class_of(config: Path, classes: tuple[type, ...]) -> type:
    """The one of `classes` that a part's configuration names. Raises ValueError for another."""
    name = load_json(config)["_class_name"]
    for kind in classes:
        if kind.__name__ == name:
            return kind
    raise ValueError(f"{config}: expected one of {', '.join(k.__name__ for k in classes)}, got {name!r}")


def load_diffusion(
    folder: Path,
    lora: Path,
    preview: Path | None = None,
    dtype: torch.dtype = torch.float32,
    adapter: Path | None = None,
) -> Diffusion:
    """A pipeline with its LCM-LoRA weights fused, with an image adapter if there is one, and a small autoencoder of the same
    latents for previews, if it has one: then it is a large one, whose pictures have the side that this machine is up to.

    Raises BadFile if a part is missing, damaged or does not fit.
    """
    pipe = load_pipeline(folder, dtype)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    fuse_lora(pipe, lora)
    if preview is not None:
        pipe.unet.register_to_config(sample_size=choose_side(pipe.unet.config.sample_size))
    if adapter is not None:  # after the configuration is final: registering it forgets adapters
        load_adapter(pipe.unet, adapter)
    pipe.unet.to(memory_format=torch.channels_last)
    if preview is None:
        return Diffusion(pipe, pipe.vae)
    try:
        small = AutoencoderTiny.from_pretrained(preview, dtype=dtype, local_files_only=True)
    except Exception as error:
        raise BadFile(f"{preview} is not a readable preview decoder: {brief(error)}") from error
    return with_preview(pipe, small.to(pipe.device))


def with_preview(pipe: StableDiffusionImg2ImgPipeline, small: AutoencoderTiny) -> Diffusion:
    """On a CPU the small autoencoder does all the work: the whole one needs longer than all the rest."""
    small.to(memory_format=torch.channels_last)
    if pipe.device.type == "cpu":
        pipe.vae = small
    return Diffusion(pipe, small)


@dataclass(frozen=True)
class Preview:
    """One denoising step: the clean estimate, decoded."""

    step: int  # 1 … steps
    timestep: int  # of the noise schedule
    images: np.ndarray  # (n, S, S, 3) uint8; of large models smaller before the last step
    unet_seconds: float
    decode_seconds: float


def _encoded(vae: AutoencoderKL | AutoencoderTiny, pixels: torch.Tensor) -> torch.Tensor:
    """Latents, or mean and log-variance of their distribution."""
    encoded: Any = vae.encode(pixels)  # of either kind
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.parameters


def _encode(model: Diffusion, pixels: torch.Tensor, generators) -> torch.Tensor:
    """Scaled latents; AutoencoderKL's are a sample, AutoencoderTiny's are exact."""
    latents = finite("stage 2, encoding the layout", _encoded, model.pipe.vae, pixels)
    if isinstance(model.pipe.vae, AutoencoderKL):
        of = DiagonalGaussianDistribution(latents.to(pixels.dtype))
        latents = of.mean + of.std * randn_tensor(
            of.mean.shape, generator=generators, device=pixels.device, dtype=pixels.dtype
        )
    return latents.to(pixels.dtype) * model.pipe.vae.config["scaling_factor"]


def _decoded(vae: AutoencoderKL | AutoencoderTiny, latents: torch.Tensor) -> torch.Tensor:
    return vae.decode(latents / vae.config["scaling_factor"], return_dict=False)[0]


def _decode(vae: AutoencoderKL | AutoencoderTiny, latents: torch.Tensor) -> np.ndarray:
    return to_images(finite("stage 2, decoding the image", _decoded, vae, latents))


def _preview(model: Diffusion, latents: torch.Tensor) -> np.ndarray:
    """Decoded at no more than PREVIEW pixels on a CPU, where decoding all of them would slow every step by a fifth."""
    if latents.device.type == "cpu" and model.size > PREVIEW:
        latents = F.adaptive_avg_pool2d(latents, latents.shape[-1] * PREVIEW // model.size)
    return _decode(model.preview, latents)


def _check_meaning(model: Diffusion, n: int, meaning: Meaning) -> None:
    """Raises ValueError unless there are a prompt and, if it counts, an image embedding for each of n images."""
    expected = (n, *model.prompt_shape)
    if meaning.prompts.shape != expected:
        raise ValueError(f"expected prompt embeddings of shape {expected}, got {meaning.prompts.shape}")
    if not meaning.scale:
        return
    if model.embedding_width is None:
        raise ValueError(
            f"expected a diffusion model with an image adapter for the image scale {meaning.scale:g}, got none"
        )
    got = None if meaning.embeddings is None else meaning.embeddings.shape
    if got != (n, model.embedding_width):
        raise ValueError(f"expected image embeddings of shape {(n, model.embedding_width)}, got {got}")


def _predictor(
    model: Diffusion, meaning: Meaning, guidance: float
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """(latents, timestep) -> what the UNet predicts; above guidance 1, away from what it predicts of no prompt and no image."""
    unet, guided = model.pipe.unet, guidance > 1
    like = {"device": model.pipe.device, "dtype": unet.dtype}
    prompt, image = torch.as_tensor(meaning.prompts).to(**like), None
    if guided:
        prompt = torch.cat([torch.as_tensor(model.embed([""])).to(**like).expand_as(prompt), prompt])
    if (width := model.embedding_width) is not None:  # then the UNet asks for embeddings, at scale 0 too
        image = torch.zeros(len(meaning.prompts), width, **like)
        if meaning.scale:
            image = torch.as_tensor(meaning.embeddings).to(**like)
        image = torch.cat([negative(image), image]) if guided else image

    def run(network: UNet2DConditionModel, timestep: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        latents, prompt, *images = inputs
        if images:
            set_scale(network, meaning.scale)  # before every step: runs may take turns
        condition = image_condition(images[0]) if images else None
        return network(latents, timestep, prompt, added_cond_kwargs=condition, return_dict=False)[0]

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        several = torch.cat([latents] * (1 + guided))
        given = (several, prompt) if image is None else (several, prompt, image)
        output = finite("stage 2, denoising", lambda network, *rows: run(network, timestep, *rows), unet, *given)
        if guided:
            without, with_meaning = output.chunk(2)
            output = without + guidance * (with_meaning - without)
        return output.to(unet.dtype)

    return predict


def _denoise(
    model: Diffusion, images: np.ndarray, meaning: Meaning, settings: LCMSettings, seeds: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor, float]]:
    """(timestep, clean estimate of the latents (n, …), seconds) of every denoising step."""
    _check_meaning(model, len(images), meaning)
    pipe = model.pipe
    device, dtype = pipe.device, pipe.unet.dtype
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    scheduler = copy.deepcopy(pipe.scheduler)  # it holds the state of one run
    scheduler.set_timesteps(int(settings.steps), device, strength=settings.strength)
    predict = _predictor(model, meaning, settings.guidance)
    with torch.inference_mode():
        latents = _encode(model, to_pixels(images, model.size).to(device, dtype), generators)
        noise = randn_tensor(latents.shape, generator=generators, device=device, dtype=dtype)
        latents = scheduler.add_noise(latents, noise, scheduler.timesteps[:1])
    for timestep in scheduler.timesteps:
        with torch.inference_mode():
            start = time.perf_counter()
            output = predict(latents, timestep)
            latents, clean = scheduler.step(output, timestep, latents, generator=generators, return_dict=False)
            if not clean.isfinite().all():
                raise ValueError(f"stage 2, denoising: the clean estimate of timestep {timestep} does not fit {dtype}")
        yield int(timestep), clean, time.perf_counter() - start


def refine(
    model: Diffusion, images: np.ndarray, meaning: Meaning, settings: LCMSettings, seeds: Sequence[int] | None = None
) -> Iterator[Preview]:
    """Pictures (n, H, W, 3) uint8 and their meaning -> a preview after every denoising step.

    Every picture has its own seed: what else is in the batch does not change it. Closing the generator stops the work.
    Raises ValueError if prompts or image embeddings do not have the shape that the model takes, or a picture is NaN
    in float32 too.
    """
    seeds = [settings.seed] * len(images) if seeds is None else seeds
    for step, (timestep, clean, seconds) in enumerate(_denoise(model, images, meaning, settings, seeds), 1):
        start = time.perf_counter()
        with torch.inference_mode():
            pictures = _decode(model.pipe.vae, clean) if step == settings.steps else _preview(model, clean)
        yield Preview(step, timestep, pictures, seconds, time.perf_counter() - start)


def refine_all(
    model: Diffusion,
    images: np.ndarray,
    meaning: Meaning,
    settings: LCMSettings,
    batch: int = 20,
    seeds: Sequence[int] | None = None,
) -> np.ndarray:
    """The last step's pictures (n, S, S, 3) uint8 of many; without `seeds`, that of picture k is settings.seed + k."""
    seeds = range(settings.seed, settings.seed + len(images)) if seeds is None else [int(seed) for seed in seeds]
    pictures = []
    for k in range(0, len(images), batch):
        part = slice(k, k + batch)
        *_, (_, clean, _) = _denoise(model, images[part], meaning[part], settings, seeds[part])
        with torch.inference_mode():
            pictures.append(_decode(model.pipe.vae, clean))
    return np.concatenate(pictures)
