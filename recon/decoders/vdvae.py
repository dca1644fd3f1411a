"""The Very Deep VAE (Child 2021, arXiv:2011.10650): images to latents and back.

One class serves OpenAI's ImageNet-64 model (75 stochastic layers, of which Brain-Diffuser regresses the first 31:
91,168 numbers) and the demo's small one; only the `VDVAEConfig` differs. Parameter names are OpenAI's, so that
`imagenet64-iter-1600000-model-ema.th` loads as it is.

Latents of several layers travel as one flat vector per image: each layer's (zdim, height, width) raveled, in the
order in which the decoder draws them, coarse to fine. Layers that are not given come from the prior.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mode

import numpy as np
import torch
from torch import nn

from recon.decoders.dmol import dmol_mean, dmol_sample
from recon.decoders.half_precision import finite
from recon.decoders.vdvae_layers import Decoder, Encoder, Layer, VDVAEConfig, gaussian_kl
from recon.device import choose_device
from recon.files import BadFile, brief, parsing, read_tensors, save_tensors
from recon.recipes import Drawing
from recon.unreadable import unreadable

FORMAT = "recon-vdvae-1"
EXPECTED = Drawing()
PIXELS = 1 << 32  # added to a seed for the noise of pixels: latents and pixels must not share theirs
UNIFORM = 1e-5  # a logistic is drawn from numbers that keep so far from 0 and 1, as in the original code
LARGE = 16 << 20  # bytes; blocks of twice that the C library asks of the system anew each time, page by page


class VDVAE(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        self.cfg = cfg
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg)

    @property
    def device(self) -> torch.device:
        return self.decoder.gain.device

    @property
    def slow(self) -> bool:
        """Whether a picture takes the better part of a second: the full-size model on a CPU."""
        return self.cfg.width >= 256 and self.device.type == "cpu"

    def layer_shapes(self) -> list[tuple[int, int, int]]:
        """(zdim, height, width) of every stochastic layer, coarse to fine."""
        return [(self.cfg.zdim, b.resolution, b.resolution) for b in self.decoder.dec_blocks]

    def n_latents(self, n_layers: int) -> int:
        """Length of the flat vector of the first n_layers."""
        return sum(int(np.prod(s)) for s in self.layer_shapes()[:n_layers])

    def scale_pixels(self, images) -> torch.Tensor:
        """(n, S, S, 3) uint8 -> (n, 3, S, S) as the encoder wants it. Raises ValueError on another shape."""
        images = np.asarray(images)
        size = self.cfg.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"expected images of shape (n, {size}, {size}, 3) and dtype uint8, "
                f"got {images.shape} and {images.dtype}"
            )
        x = torch.tensor(images, device=self.device).permute(0, 3, 1, 2).float()  # channels last in memory
        return ((x - self.cfg.mean) / self.cfg.std).to(self.decoder.gain.dtype)

    def infer(self, x, n_layers: int | None = None, seeds=None) -> tuple[list[Layer], dict]:
        """The posterior of the first n_layers (default all) of scaled pixels (B, 3, S, S), and the decoder's state.

        Its means; or, from `seeds` (B integers), samples, each layer's given those before it.
        """
        generators = None if seeds is None else _generators(seeds, len(x))
        features = self.encoder(x)
        state = self.decoder.start(x.shape[0])
        layers = []
        for block in self.decoder.dec_blocks[:n_layers]:
            h = block.enter(state)
            mean_q, logsd_q = block.posterior_of(h, features[block.resolution])
            mean_p, logsd_p, h = block.prior_of(h)
            kl = gaussian_kl(mean_q, logsd_q, mean_p, logsd_p).sum((1, 2, 3))
            z = mean_q if generators is None else mean_q + logsd_q.exp() * _noise(mean_q, generators)
            layers.append(Layer(z, kl))
            state = block.leave(h, z, state)
        return layers, state

    @torch.inference_mode()
    def encode(self, images, n_layers: int | None = None, seeds=None) -> np.ndarray:
        """Posterior means: (n, S, S, 3) uint8 -> (n, n_latents(n_layers)) float32. Or samples, by a seed for each image."""

        def run(model: VDVAE, x: torch.Tensor, *seeds: torch.Tensor) -> torch.Tensor:
            layers, _ = model.infer(x, n_layers, *(some.tolist() for some in seeds))
            return torch.cat([layer.z.flatten(1) for layer in layers], 1)

        inputs = [self.scale_pixels(images), *([] if seeds is None else [torch.as_tensor(seeds)])]
        return finite("stage 1, encoding an image", run, self, *inputs).float().cpu().numpy()

    def unflatten(self, latents) -> list[torch.Tensor]:
        """(n, k) flat latents -> one (n, zdim, h, w) tensor per layer they fill.

        Raises ValueError unless k ends at a layer's boundary.
        """
        latents = torch.as_tensor(latents, dtype=self.decoder.gain.dtype, device=self.device)
        shapes = self.layer_shapes()
        ends = np.cumsum([int(np.prod(s)) for s in shapes])
        if latents.ndim != 2 or latents.shape[1] not in ends:
            raise ValueError(
                f"expected flat latents of shape (n, k) with k one of {ends.tolist()} (whole layers), "
                f"got {tuple(latents.shape)}"
            )
        n_layers = int(np.searchsorted(ends, latents.shape[1])) + 1
        parts = latents.split([int(np.prod(s)) for s in shapes[:n_layers]], dim=1)
        return [p.reshape(-1, *s) for p, s in zip(parts, shapes)]

    def _run(self, state, first: int, stop: int | None, given: list[torch.Tensor], temperature: float, generators):
        """Runs blocks first…stop-1 of the decoder on a copy of `state`: given latents where there are any, then the prior."""

        def draw(mean, logsd):
            if temperature == 0:
                return mean
            return mean + temperature * logsd.exp() * _noise(mean, generators)

        copied = {"dtype": torch.float32, "memory_format": torch.channels_last, "copy": True}
        state = {resolution: x.to(**copied) for resolution, x in state.items()}
        for k, block in enumerate(self.decoder.dec_blocks[first:stop], start=first):
            block.run(state, (lambda mean, logsd, z=given[k]: z) if k < len(given) else draw)
        return state

    @torch.inference_mode()
    def output_params(self, latents, temperature: float = 0.0, seeds=None) -> torch.Tensor:
        """Mixture parameters (n, S, S, 10 n_mixtures) of the decoded latents; see `decode`."""
        given = self.unflatten(latents)
        n = len(given[0])
        generators, size = _generators(seeds, n), self._batch(n)
        parts = []
        for k in range(0, n, size):
            some = [z[k : k + size] for z in given]
            state = self._run(self.decoder.start(len(some[0])), 0, None, some, temperature, generators[k : k + size])
            parts.append(self.decoder.finish(state))
        return torch.cat(parts).permute(0, 2, 3, 1).float()

    def _batch(self, n: int) -> int:
        """How many of n pictures to decode together: on a CPU few enough that their features stay small blocks of memory."""
        side = self.cfg.image_size
        one = self.cfg.width_at(side) * side**2 * 4
        return max(1, n if self.device.type == "cuda" else min(n, LARGE // one))

    def decode(self, latents, drawing: Drawing = EXPECTED, seeds=None) -> np.ndarray:
        """(n, k) flat latents of the first layers -> (n, S, S, 3) uint8.

        What is random in the drawing is drawn per image from `seeds` (n integers, default 0…n-1), so that a picture does not
        depend on its neighbours in the batch.
        """
        latents = torch.as_tensor(latents)
        rows = torch.arange(len(latents)) if seeds is None else torch.as_tensor(seeds)

        def run(model: VDVAE, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return model.output_params(latents, drawing.temperature, rows.tolist())

        params = finite("stage 1, decoding a layout", run, self, latents, rows)
        return self._pictures(params, drawing, rows.tolist())

    def _pictures(self, params: torch.Tensor, drawing: Drawing, seeds) -> np.ndarray:
        """Mixture parameters (n, S, S, 10 n_mixtures) -> (n, S, S, 3) uint8."""
        m = self.cfg.n_mixtures
        if not drawing.sample:
            return dmol_mean(params, m)
        shape, generators = (*params.shape[1:3], m + 3), _generators([seed + PIXELS for seed in seeds], len(params))
        noise = torch.stack([torch.rand(shape, generator=g) for g in generators]).to(params)
        return dmol_sample(params, m, *(noise * (1 - 2 * UNIFORM) + UNIFORM).split([m, 3], -1))

    @torch.inference_mode()
    def decode_progressively(
        self, latents, drawing: Drawing = EXPECTED, seeds=None, coarse: Sequence[int] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Coarse to fine: after the last given layer of each resolution, or of those in `coarse` and the finest, yields
        (resolution, images).

        Each picture uses the layers up to that resolution and leaves the rest to the prior, which takes as long as decoding
        it; the last one equals `decode` of all given layers.
        """
        given = self.unflatten(latents)
        n = given[0].shape[0]
        seeds, blocks = range(n) if seeds is None else seeds, self.decoder.dec_blocks
        state = self.decoder.start(n)
        for k in range(len(given)):
            state = self._run(state, k, k + 1, given, 0.0, None)
            resolution = blocks[k].resolution
            wanted = coarse is None or resolution in coarse
            if k + 1 < len(given) and (blocks[k + 1].resolution == resolution or not wanted):
                continue
            final = self._run(state, k + 1, None, given[: k + 1], drawing.temperature, _generators(seeds, n))
            params = self.decoder.finish(final).permute(0, 2, 3, 1).float()
            if params.isfinite().all():
                yield resolution, self._pictures(params, drawing, seeds)
            else:  # once more in float32, or told
                yield resolution, self.decode(np.asarray(latents)[:, : self.n_latents(k + 1)], drawing, seeds)

    def save(self, path: Path, dtype: torch.dtype = torch.float16) -> None:
        """Weights and architecture in one safetensors file."""
        tensors = {k: v.to("cpu", dtype).numpy() for k, v in self.state_dict().items()}
        save_tensors(path, tensors, {"format": FORMAT, "config": json.dumps(asdict(self.cfg))})

    @classmethod
    def load(cls, path: Path) -> VDVAE:
        """Reads what `save` wrote; float32, evaluation mode. Raises BadFile if it is not such a file, whole."""
        tensors, metadata = read_tensors(path, FORMAT)
        with parsing(path):
            raw = json.loads(metadata["config"])
            raw["custom_widths"] = {int(k): v for k, v in raw["custom_widths"].items()}
            model = cls(VDVAEConfig(**raw))
        try:
            model.load_state_dict({k: torch.from_numpy(v).float() for k, v in tensors.items()})
        except RuntimeError as error:
            raise BadFile(f"{path}: the weights do not fit the configuration they come with: {brief(error)}") from error
        return model.eval().to(choose_device(), memory_format=torch.channels_last)  # a fifth faster on CPUs


def load_openai(path: Path, dtype: torch.dtype = torch.float32) -> VDVAE:
    """OpenAI's ImageNet-64 EMA checkpoint (`.th`, a plain state dict) -> VDVAE in evaluation mode.

    One of the same architecture and another width is read too. Raises BadFile if it cannot be read or holds another model:
    the tensors that are missing, unknown or misshapen are named.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state = {k.removeprefix("module."): v for k, v in state.items()}
    except Exception as error:  # pickle, zip and torch each raise their own
        content = f"{path} is not a readable PyTorch checkpoint (truncated or damaged?): {brief(error)}"
        raise unreadable(path, error, content) from error
    with torch.device("meta"):
        model = VDVAE(VDVAEConfig(width=_width_of(state)))
    _check_tensors(path, model.state_dict(), state)
    model.load_state_dict(state, assign=True)
    return model.eval().to(choose_device(), dtype, memory_format=torch.channels_last)


def _width_of(state: dict[str, torch.Tensor]) -> int:
    """What most of the decoder's biases (1, width, h, w) agree on; the published width if there are none."""
    widths = [v.shape[1] for k, v in state.items() if k.startswith("decoder.bias_xs.") and v.ndim == 4]
    return mode(widths) if widths else VDVAEConfig.width


def _check_tensors(path: Path, wanted: dict[str, torch.Tensor], got: dict[str, torch.Tensor]) -> None:
    problems = [f"{k} is missing" for k in wanted.keys() - got.keys()]
    problems += [f"{k} is unknown" for k in got.keys() - wanted.keys()]
    problems += [
        f"{k} should be {tuple(wanted[k].shape)}, is {tuple(v.shape)}"
        for k, v in got.items()
        if k in wanted and v.shape != wanted[k].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise BadFile(
            f"{path} is not OpenAI's ImageNet-64 VDVAE: {'; '.join(sorted(problems)[:3])}{more}: fetch it again"
        )


def _noise(like: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Standard normal numbers, (B, …) as `like`, of every image from its own generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)


def _generators(seeds, n: int) -> list[torch.Generator]:
    seeds = range(n) if seeds is None else seeds
    if len(seeds) != n:
        raise ValueError(f"expected one seed per image ({n}), got {len(seeds)}")
    return [torch.Generator().manual_seed(int(s)) for s in seeds]
