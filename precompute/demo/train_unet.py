"""Trains the demo's small text-conditional UNet on the autoencoder's latents of the training scenes.

Stable Diffusion's noise schedule, v-prediction (Salimans & Ho 2022), the empty prompt for an eighth of the rows so that
classifier-free guidance works. For a third of the rows the prompt embedding is the mean over the picture's five captions, which is
what the regressors learn to read from voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from precompute.demo.train_clip import mirrored
from precompute.demo.training import Schedule, draw_rows, save_report, step_rng, train
from precompute.fitting.clip import tokens
from recon.files import load_json, open_array, whole_file
from recon.images import to_pixels

EMPTY, MEAN = 0.125, 0.33  # shares of rows with the empty prompt, and with the mean of five captions
NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class UNetSize:
    """Channels at 16² and 8²; attention, to itself and to the prompt, at 8²."""

    channels: tuple[int, int] = (80, 128)
    heads: int = 2
    groups: int = 16


def make_unet(size: UNetSize, side: int, latents: int, text_width: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=latents,
        out_channels=latents,
        block_out_channels=size.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=size.heads,  # diffusers' name; it is the number of heads
        norm_num_groups=size.groups,
    )


@torch.no_grad()
def extract_codes(scenes: Path, codec: Path, out: Path, batch: int = 50) -> None:
    """The autoencoder's scaled latents of every picture and of its mirror image: (2, n, K, S/8, S/8) float16."""
    model = AutoencoderTiny.from_pretrained(codec).to(memory_format=torch.channels_last)
    images = open_array(scenes)
    side = images.shape[1] // 8
    with whole_file(out) as part:
        shape = (2, len(images), model.config.latent_channels, side, side)
        codes = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        for k in tqdm(range(0, len(images), batch), desc="codes", unit="batch", mininterval=5):
            pixels = to_pixels(images[k : k + batch])
            for mirror, version in enumerate((pixels, pixels.flip(3))):
                latents = model.encode(version).latents * model.config.scaling_factor
                codes[mirror, k : k + batch] = latents.numpy()
        codes.flush()


@dataclass(frozen=True)
class Examples:
    """Latents and prompt embeddings of training rows, drawn by step."""

    codes: np.ndarray  # (2, n, K, S, S): as drawn, mirrored
    states: np.ndarray  # (2, n, 5, tokens, width): of every caption, left and right swapped in the second
    empty: Tensor  # (tokens, width): the empty prompt

    @classmethod
    @torch.no_grad()
    def load(cls, scenes: Path, codes: Path, clip: Path) -> Examples:
        tokenizer = CLIPTokenizer.from_pretrained(clip)
        encoder = CLIPTextModel.from_pretrained(clip, attn_implementation="eager").eval()
        ids = tokens(tokenizer, [c for e in load_json(scenes / "train.json") for c in e["captions"]])
        rows = []
        for version in (ids, mirrored(tokenizer, ids)):
            parts = [encoder(version[k : k + 500]).last_hidden_state.half() for k in range(0, len(ids), 500)]
            rows.append(torch.cat(parts).unflatten(0, (-1, 5)).numpy())
        return cls(open_array(codes), np.stack(rows), encoder(tokens(tokenizer, [""])).last_hidden_state[0])

    @staticmethod
    def forgotten(batch: int, rng: np.random.Generator) -> Tensor:
        """Which rows get the empty prompt: (B, 1, 1) bool."""
        return torch.as_tensor(rng.random((batch, 1, 1)) < EMPTY)

    def draw(self, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents (B, K, S, S) and prompt embeddings (B, tokens, width); never the empty prompt."""
        n = self.codes.shape[1]
        rows = draw_rows(n, batch, rng)
        mirror = rng.integers(0, 2, len(rows))
        states = self.states[mirror, rows].astype(np.float32)
        one = states[np.arange(len(rows)), rng.integers(0, 5, len(rows))]
        mean = rng.random(len(rows)) < MEAN
        states = np.where(mean[:, None, None], states.mean(1), one)
        return torch.from_numpy(self.codes[mirror, rows].astype(np.float32)), torch.from_numpy(states)


def train_phase(
    model: UNet2DConditionModel,
    noise_schedule: DDPMScheduler,
    examples: Examples,
    checkpoint: Path,
    schedule: Schedule,
    seed: int,
) -> tuple[UNet2DConditionModel, dict]:
    """One warm-up and one cosine of learning rate."""

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed, step)
        clean, prompt = examples.draw(schedule.batch, rng)
        prompt = torch.where(examples.forgotten(len(clean), rng), examples.empty, prompt)
        # one time from each of B equal spans of the schedule: less noise in the loss than independent ones
        t = torch.as_tensor((rng.permutation(len(clean)) + rng.random(len(clean))) / len(clean) * 1000).long()
        noise = torch.randn_like(clean)
        noisy = noise_schedule.add_noise(clean, noise, t).contiguous(memory_format=torch.channels_last)
        wanted = noise_schedule.get_velocity(clean, noise, t)
        return {"loss": (model(noisy, t, prompt).sample - wanted).square().mean()}

    return train(model, loss, checkpoint, schedule, seed)


def train_unet(
    scenes: Path, codes: Path, clip: Path, out: Path, phases: tuple[Schedule, ...], size: UNetSize, seed: int
) -> dict:
    """Saves the UNet to the folder `out`, its noise schedule in `out`/scheduler_config.json, and a report beside it.

    Each phase goes on from the averaged weights of the one before.
    """
    examples = Examples.load(scenes, codes, clip)
    noise_schedule = DDPMScheduler(**NOISE_SCHEDULE)
    torch.manual_seed(seed)
    _, _, channels, side, _ = examples.codes.shape
    model = make_unet(size, side, channels, examples.states.shape[-1]).to(memory_format=torch.channels_last)
    model.set_attn_processor(AttnProcessor())  # its backward pass is twice as fast on a CPU
    reports, checkpoints = [], [out.with_suffix(f".{k}.checkpoint.pt") for k in range(1, len(phases) + 1)]
    for number, (schedule, checkpoint) in enumerate(zip(phases, checkpoints)):
        model, report = train_phase(model.train(), noise_schedule, examples, checkpoint, schedule, seed + number)
        reports.append(report)
    model.save_pretrained(out)
    noise_schedule.save_pretrained(out)
    save_report(out, {"phases": reports}, *checkpoints)
    return {"phases": reports}
