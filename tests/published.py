"""Random-weight models in the files and layouts of the published ones: as many layers and blocks, cut to small widths.

And local servers that play those of the models and of NSD.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import torch
from conftest import DATA
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from full_size import lora_with_published_keys
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file, save_file
from stand_ins import Shelf, point_hub_at, put_repository, tree
from tiny_diffusion import tiny_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from precompute.fetching import download, fetch_models, fetch_nsd
from recon.bundle.adapter_file import PUBLISHED
from recon.decoders.ip_adapter import adapter_shapes
from recon.decoders.published_models import IMAGE_ENCODER, MODELS

TOKENS, WIDTH = 77, 32  # of a prompt embedding: 768 in the published models
EMBEDDING = 40  # of an image: 1,024
SIZE = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 2}


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """The files of the published tokenizers, which knows letters only here."""
    pieces = tiny_tokenizer().get_vocab()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(pieces))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = special | {"pad_token": "<|endoftext|>", "model_max_length": TOKENS, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return CLIPTokenizer.from_pretrained(folder)


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """ViT-L/14's text encoder."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return CLIPTextConfig(
        vocab_size=len(tokenizer), num_hidden_layers=12, hidden_act="quick_gelu", projection_dim=WIDTH, **ends, **SIZE
    )


def write_clip(folder: Path) -> None:
    """As openai/clip-vit-large-patch14: both halves in one file."""
    tokenizer = write_tokenizer(folder)
    vision = SIZE | {"num_hidden_layers": 24, "patch_size": 14, "image_size": 224, "projection_dim": WIDTH}
    text = text_config(tokenizer).to_dict()
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def write_stable_diffusion(folder: Path) -> UNet2DConditionModel:
    """As Lykon/dreamshaper-7: a text-to-image pipeline whose index names a safety checker, which is not fetched."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    halves = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = (32, 64, 64, 64)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=widths, cross_attention_dim=WIDTH, attention_head_dim=1
    )
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            **halves, block_out_channels=(32,) * 4, layers_per_block=2, latent_channels=4, sample_size=512
        ),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(),
        requires_safety_checker=False,
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return unet


def write_taesd(folder: Path) -> None:
    narrow = (16,) * 4
    AutoencoderTiny(encoder_block_out_channels=narrow, decoder_block_out_channels=narrow).save_pretrained(folder)


def write_ip_adapter(folder: Path, unet: UNet2DConditionModel) -> None:
    """As h94/IP-Adapter: two adapters and their encoder, ViT-H/14, whose embeddings are wider than its layers."""
    layers = SIZE | {"num_hidden_layers": 32, "patch_size": 14, "image_size": 224, "projection_dim": EMBEDDING}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**layers)).save_pretrained(folder / IMAGE_ENCODER)
    for file in PUBLISHED.values():
        shapes = adapter_shapes(unet, EMBEDDING)
        save_file({name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}, folder / file)


def of_small_spread(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A VDVAE's weights with log-SDs of posteriors and priors near -1: samples by those of random weights overflow."""
    for name, values in state.items():
        if name.endswith((".enc.c4.weight", ".prior.c4.weight")):
            values[16:32] *= 0.01
        elif name.endswith((".enc.c4.bias", ".prior.c4.bias")):
            values[16:32] = -1
    return state


def write_published(root: Path) -> dict[str, Path]:
    """Name in recon.decoders.published_models.MODELS -> the folder of its repository, or its file."""
    torch.manual_seed(0)
    paths = {name: root / name for name in ("diffusion", "lcm_lora", "preview", "clip")} | {"vdvae": root / "vdvae.th"}
    paths |= dict.fromkeys(("ip_adapter", "image_encoder"), root / "ip_adapter")
    unet = write_stable_diffusion(paths["diffusion"])
    paths["lcm_lora"].mkdir()
    save_file(lora_with_published_keys(unet), paths["lcm_lora"] / "pytorch_lora_weights.safetensors")
    write_taesd(paths["preview"])
    write_clip(paths["clip"])
    write_ip_adapter(paths["ip_adapter"], unet)
    torch.save(of_small_spread(load_file(DATA / "vdvae_width32.safetensors")), paths["vdvae"])
    return paths


def serve_bucket() -> tuple[ThreadedMotoServer, str, Any]:
    """A server of S3's protocol that holds NSD's bucket, empty: the server, its address, and a client that may write to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket=fetch_nsd.BUCKET, ACL="public-read")
    return server, url, client


def serve_nsd(root: Path, sessions: int, patch: pytest.MonkeyPatch) -> ThreadedMotoServer:
    """The bucket with the files of `root` that subject 1 needs."""
    server, url, client = serve_bucket()
    for key in fetch_nsd.required_keys(1, sessions, "hdf5"):
        client.put_object(Bucket=fetch_nsd.BUCKET, Key=key, Body=(root / key).read_bytes(), ACL="public-read")
    patch.setenv("AWS_ENDPOINT_URL_S3", url)
    return server


def serve_models(shelf: Shelf, published: dict[str, Path], patch: pytest.MonkeyPatch) -> None:
    """The Hub's repositories, and the VDVAE at the path of its public URL."""
    for name, path in published.items():
        source = MODELS[name].source
        if path.is_dir():
            put_repository(shelf, source, tree(path))  # of all its models: they share the folder
        else:
            shelf.put(urlsplit(source).path, path.read_bytes())

    def here(url: str, sha256: str | None = None) -> download.Remote:
        return download.http_remote(shelf.url(urlsplit(url).path), sha256)

    point_hub_at(shelf.url(), patch)
    patch.setattr(fetch_models, "http_remote", here)
