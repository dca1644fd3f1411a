"""Trains the demo's small text-conditional UNet on the autoencoder's latents of the training scenes.

Stable Diffusion's noise schedule, v-prediction (Salimans & Ho 2022), the empty prompt for an eighth of the rows so that
classifier-free guidance works. For a third of the rows the prompt embedding is the mean over the picture's five captions, which is
what the regressors learn to read from voxels. For a quarter it is that mean blended with a smaller part of another picture's:
least-squares predictions are such blends of what the brain leaves open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from precompute.demo.train_clip import mirrored
from precompute.demo.training import Schedule, Weights, draw_rows, resident, rows_of, step_rng, train
from precompute.fitting.clip import tokens
from recon.device import choose_device
from recon.files import BadFile, load_json, open_array, save_array, whole_file
from recon.images import to_pixels

EMPTY, MEAN, BLENDED = 0.125, 0.33, 0.25  # shares of rows: empty prompt, mean of five captions, blend of two means
LARGEST = 0.45  # part of the other picture in a blend
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
    """Channels at 24², 12² and 6²; attention, to itself and to the prompt, at each."""

    channels: tuple[int, ...] = (128, 160, 224)
    heads: int = 4
    groups: int = 16


def make_unet(size: UNetSize, side: int, latents: int, text_width: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=latents,
        out_channels=latents,
        block_out_channels=size.channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(size.channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(size.channels),
        cross_attention_dim=text_width,
        attention_head_dim=size.heads,  # diffusers' name; it is the number of heads
        norm_num_groups=size.groups,
    )


@torch.no_grad()
def extract_codes(scenes: Path, codec: Path, out: Path, batch: int = 200) -> None:
    """The autoencoder's scaled latents of every picture and of its mirror image: (2, n, K, S/8, S/8) float16."""
    model = AutoencoderTiny.from_pretrained(codec).to(choose_device(), memory_format=torch.channels_last)
    images = open_array(scenes)
    side = images.shape[1] // 8
    with whole_file(out) as part:
        shape = (2, len(images), model.config.latent_channels, side, side)
        codes = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        for k in tqdm(range(0, len(images), batch), desc="codes", unit="batch", mininterval=5):
            pixels = to_pixels(images[k : k + batch]).to(model.device)
            for mirror, version in enumerate((pixels, pixels.flip(3))):
                latents = model.encode(version).latents * model.config.scaling_factor
                codes[mirror, k : k + batch] = latents.cpu().numpy()
        codes.flush()


def extract_tokens(labels: Path, clip: Path, out: Path) -> None:
    """The token ids of every image's captions: (n, 5, tokens) int16. `clip` holds a folder `tokenizer`."""
    captions = [caption for e in load_json(labels) for caption in e["captions"]]
    ids = tokens(CLIPTokenizer.from_pretrained(clip / "tokenizer"), captions).numpy().astype(np.int16)
    save_array(out, ids.reshape(-1, 5, ids.shape[1]))


@dataclass(frozen=True)
class Sources:
    """What examples are drawn from."""

    ids: Path  # as `extract_tokens` writes them
    codes: Path  # as `extract_codes` writes them
    clip: Path  # folder of CLIP's parts, of which tokenizer and text_encoder are read
    embeddings: Path | None = None  # as `extract_both` writes them: for networks that an image guides


@dataclass(frozen=True)
class Examples:
    """Latents and prompt embeddings of training rows, drawn by step."""

    codes: Tensor  # (2, n, K, S, S): as drawn, mirrored
    ids: Tensor  # (2, n, 5, tokens) of every caption, left and right swapped in the second
    embed: Callable[[Tensor], Tensor]  # ids (m, tokens) -> prompt embeddings (m, tokens, width)
    empty: Tensor  # (tokens, width): the empty prompt

    @classmethod
    def load(cls, files: Sources) -> Examples:
        tokenizer = CLIPTokenizer.from_pretrained(files.clip / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(
            files.clip / "text_encoder", dtype=torch.float32, attn_implementation="eager"
        )
        encoder = encoder.eval().to(choose_device())

        @torch.no_grad()
        @torch.autocast(encoder.device.type, enabled=False)
        def embed(ids: Tensor) -> Tensor:
            return encoder(ids).last_hidden_state

        drawn = torch.from_numpy(np.asarray(open_array(files.ids), np.int64)).to(encoder.device)
        both = torch.stack([drawn, mirrored(tokenizer, drawn)])
        return cls(resident(files.codes), both, embed, embed(tokens(tokenizer, [""]).to(encoder.device))[0])

    @property
    def device(self) -> torch.device:
        return self.empty.device

    def forgotten(self, batch: int, rng: np.random.Generator) -> Tensor:
        """Which rows get the empty prompt: (B, 1, 1) bool."""
        return torch.as_tensor(rng.random((batch, 1, 1)) < EMPTY, device=self.device)

    def draw_rows(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """(B,) numbers of images, as drawn or, n higher, mirrored."""
        n = self.codes.shape[1]
        rows = draw_rows(n, batch, rng)
        return rng.integers(0, 2, len(rows)) * n + rows

    def draw(self, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents (B, K, S, S) and prompt embeddings (B, tokens, width); never the empty prompt."""
        return self.at(self.draw_rows(batch, rng), rng)

    def at(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The same of the images that `draw_rows` drew."""
        ids = rows_of(self.ids.flatten(0, 1), rows)
        states = self.embed(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        one = states[torch.arange(len(rows), device=self.device), torch.as_tensor(rng.integers(0, 5, len(rows)))]
        mean = states.mean(1)
        other = mean[torch.as_tensor(rng.permutation(len(rows)), device=self.device)]
        kind, part = rng.random((2, len(rows), 1, 1))
        blended = torch.lerp(mean, other, torch.as_tensor(LARGEST * part, dtype=mean.dtype, device=self.device))
        kind = torch.as_tensor(kind, device=self.device)
        prompt = torch.where(kind < MEAN, mean, torch.where(kind < MEAN + BLENDED, blended, one))
        return rows_of(self.codes.flatten(0, 1), rows).float(), prompt


def velocity_loss(
    noise_schedule: DDPMScheduler, clean: Tensor, rng: np.random.Generator, predict: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean square error of predicted velocities; `predict`: noisy latents (B, K, S, S), times (B,) -> velocities."""
    # one time from each of B equal spans of the schedule: less noise in the loss than independent ones
    t = (rng.permutation(len(clean)) + rng.random(len(clean))) / len(clean) * 1000
    t = torch.as_tensor(t, device=clean.device).long()
    noise = torch.randn_like(clean)
    noisy = noise_schedule.add_noise(clean, noise, t).contiguous(memory_format=torch.channels_last)
    return (predict(noisy, t).float() - noise_schedule.get_velocity(clean, noise, t)).square().mean()


def train_phase(
    model: UNet2DConditionModel,
    noise_schedule: DDPMScheduler,
    examples: Examples,
    checkpoint: Path,
    schedule: Schedule,
    seed: int,
) -> tuple[UNet2DConditionModel, dict]:
    """One warm-up and one cosine of learning rate."""
    if examples.device.type == "cuda":
        model.compile()

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed, step)
        clean, prompt = examples.draw(schedule.batch, rng)
        prompt = torch.where(examples.forgotten(len(clean), rng), examples.empty, prompt)
        return {"loss": velocity_loss(noise_schedule, clean, rng, lambda x, t: model(x, t, prompt).sample)}

    return train(model, loss, checkpoint, schedule, seed)


def on_this_hardware(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """On the device that trains, with the attention whose backward pass is fast there."""
    if choose_device().type == "cpu":
        unet.set_attn_processor({name: _plain(processor) for name, processor in unet.attn_processors.items()})
    return unet.to(choose_device(), memory_format=torch.channels_last)


def _plain(processor: object) -> AttnProcessor | IPAdapterAttnProcessor:
    """The same attention, an adapter's with its weights, without scaled_dot_product_attention."""
    if not isinstance(processor, IPAdapterAttnProcessor2_0):
        return AttnProcessor()
    sizes = processor.hidden_size, processor.cross_attention_dim, processor.num_tokens
    plain = IPAdapterAttnProcessor(*sizes, processor.scale)
    plain.load_state_dict(processor.state_dict())
    return plain


def _start(size: UNetSize, examples: Examples, weights: Path | None) -> UNet2DConditionModel:
    """A random network, or the one that was saved to the folder `weights`. Raises BadFile if that has other sizes."""
    _, _, channels, side, _ = examples.codes.shape
    model = make_unet(size, side, channels, examples.empty.shape[-1])
    if weights is None:
        return model
    found = UNet2DConditionModel.from_pretrained(weights, torch_dtype=torch.float32)
    shapes, wanted = ({name: value.shape for name, value in net.state_dict().items()} for net in (found, model))
    if shapes != wanted:
        raise BadFile(
            f"{weights}: expected a UNet of {size} on {channels} latents, got other layers: start from another"
        )
    return found


def train_unet(files: Sources, weights: Weights, phases: tuple[Schedule, ...], size: UNetSize, seed: int) -> dict:
    """Saves the UNet to a folder, with its noise schedule in `scheduler_config.json`. Returns a report.

    Each phase goes on from the averaged weights of the one before.
    """
    examples = Examples.load(files)
    noise_schedule = DDPMScheduler(**NOISE_SCHEDULE)
    torch.manual_seed(seed)
    model, reports = on_this_hardware(_start(size, examples, weights.start)), []
    for number, schedule in enumerate(phases):
        checkpoint = weights.checkpoint(number + 1)
        model, report = train_phase(model.train(), noise_schedule, examples, checkpoint, schedule, seed + number)
        reports.append(report)
    model.save_pretrained(weights.out)
    noise_schedule.save_pretrained(weights.out)
    return {"phases": reports}
