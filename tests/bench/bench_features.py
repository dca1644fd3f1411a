"""Pictures per second of every feature extraction with the published architectures, random weights.

`python tests/bench/bench_features.py [--images 16]` prints one JSON object last, with the hours that 10,000 pictures of an NSD
subject, with five captions each, would take at that rate.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from full_size import long_tokenizer, random_vdvae

from precompute.fitting.features import Into, extract_embeddings, extract_latents, extract_prompts
from recon.device import choose_device

N_LAYERS, N_IMAGES = 31, 10_000
TOWER = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "intermediate_size": 3072}
VISION = {"num_hidden_layers": 32, "num_attention_heads": 16, "hidden_size": 1280, "intermediate_size": 5120}


def random_clip(folder: Path) -> None:
    """ViT-L/14's text encoder and ViT-H/14's image encoder, in folders of their own."""
    CLIPTextModel(CLIPTextConfig(vocab_size=49408, **TOWER)).save_pretrained(folder / "text_encoder")
    long_tokenizer().save_pretrained(folder / "tokenizer")
    vision = CLIPVisionConfig(image_size=224, patch_size=14, projection_dim=1024, **VISION)
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "vision")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=16)
    n = parser.parse_args().images
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_clip(folder)
        for side in (64, 512):
            np.save(folder / f"{side}.npy", rng.integers(0, 256, (n, side, side, 3), np.uint8))
        captions = [[f"picture {k} in words {i}" for i in range(5)] for k in range(n)]
        vdvae = random_vdvae().to(choose_device(), memory_format=torch.channels_last)
        runs = {
            "vdvae": lambda out: extract_latents(folder / "64.npy", vdvae, N_LAYERS, Into(out, folder, batch=8)),
            "clip_text": lambda out: extract_prompts(captions, folder, Into(out, folder, batch=8)),
            "clip_vision": lambda out: extract_embeddings(
                folder / "512.npy", folder / "vision", Into(out, folder, batch=8)
            ),
        }
        report = {"device": choose_device().type, "threads": torch.get_num_threads(), "images": n}
        for target, extract in runs.items():
            start = time.perf_counter()
            extract(folder / f"{target}.npy")
            per_image = (time.perf_counter() - start) / n
            report[target] = {
                "images_per_second": round(1 / per_image, 2),
                "hours": round(N_IMAGES * per_image / 3600, 2),
            }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
