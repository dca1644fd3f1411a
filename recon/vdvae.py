"""The Very Deep VAE (Child 2021, arXiv:2011.10650): images to latents and back.

One class serves OpenAI's ImageNet-64 model (75 stochastic layers, of which Brain-Diffuser regresses the first 31:
91,168 numbers) and the demo's small one; only the `VDVAEConfig` differs. Parameter names are OpenAI's, so that
`imagenet64-iter-1600000-model-ema.th` loads as it is.

Latents of several layers travel as one flat vector per image: each layer's (zdim, height, width) raveled, in the
order in which the decoder draws them, coarse to fine. Layers that are not given come from the prior.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mode

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from recon.device import choose_device
from recon.dmol import dmol_mean
from recon.files import BadFile, read_tensors, whole_file

FORMAT = "recon-vdvae-1"


@dataclass(frozen=True)
class VDVAEConfig:
    """Architecture and input scaling. `custom_widths` maps a resolution to its channels where it is not `width`.

    `mean` and `std` scale uint8 pixels on the way in: (pixel - mean) / std. The defaults are ImageNet-64's.
    """

    enc_blocks: str = "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5"
    dec_blocks: str = "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12"
    width: int = 512
    custom_widths: dict[int, int] = field(default_factory=dict)
    zdim: int = 16
    bottleneck: float = 0.25
    n_mixtures: int = 10
    image_size: int = 64
    no_bias_above: int = 64
    mean: float = 115.92961967
    std: float = 69.37404

    def width_at(self, resolution: int) -> int:
        return self.custom_widths.get(resolution, self.width)


def parse_blocks(text: str) -> list[tuple[int, int | None, int | None]]:
    """'64x2,64d2,4m1' -> one (resolution, down_rate, mixin) per block.

    `RxN` is N blocks at resolution R, `RdK` one block that halves (K = 2) or divides by K, `RmS` one block that first
    mixes in the features of resolution S, upsampled. Raises ValueError on anything else.
    """
    blocks = []
    for token in text.split(","):
        for sign in "xdm":
            resolution, found, number = token.partition(sign)
            if found and resolution.isdigit() and number.isdigit():
                break
        else:
            raise ValueError(f"VDVAE block strings hold tokens such as '64x11', '64d2' or '4m1'; got {token!r}")
        r, k = int(resolution), int(number)
        blocks += {"x": [(r, None, None)] * k, "d": [(r, k, None)], "m": [(r, None, k)]}[sign]
    return blocks


class Block(nn.Module):
    """GELU-conv ×4 bottleneck: 1×1, 3×3, 3×3, 1×1 (all 1×1 at resolutions 1 and 2)."""

    def __init__(self, n_in, n_middle, n_out, resolution, down_rate=None, residual=False):
        super().__init__()
        self.down_rate, self.residual = down_rate, residual
        k, p = (3, 1) if resolution > 2 else (1, 0)
        self.c1 = nn.Conv2d(n_in, n_middle, 1)
        self.c2 = nn.Conv2d(n_middle, n_middle, k, padding=p)
        self.c3 = nn.Conv2d(n_middle, n_middle, k, padding=p)
        self.c4 = nn.Conv2d(n_middle, n_out, 1)

    def forward(self, x):
        h = self.c1(F.gelu(x))
        h = self.c2(F.gelu(h))
        h = self.c3(F.gelu(h))
        h = self.c4(F.gelu(h))
        h = x + h if self.residual else h
        return F.avg_pool2d(h, self.down_rate) if self.down_rate else h


def _fit_channels(x, n):
    """Zero-pads or cuts the channel axis of (B, C, H, W) to n."""
    return x[:, :n] if x.shape[1] >= n else F.pad(x, (0, 0, 0, 0, 0, n - x.shape[1]))


class Encoder(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        self.cfg = cfg
        self.in_conv = nn.Conv2d(3, cfg.width_at(cfg.image_size), 3, padding=1)
        blocks = []
        for resolution, down_rate, _ in parse_blocks(cfg.enc_blocks):
            width = cfg.width_at(resolution)
            blocks.append(Block(width, int(width * cfg.bottleneck), width, resolution, down_rate, residual=True))
        for block in blocks:
            block.c4.weight.data *= len(blocks) ** -0.5
        self.enc_blocks = nn.ModuleList(blocks)

    def forward(self, x):
        """(B, 3, S, S) scaled pixels -> {resolution: features of the last block at that resolution}."""
        x = self.in_conv(x)
        features = {x.shape[2]: x}
        for block in self.enc_blocks:
            x = block(x)
            x = _fit_channels(x, self.cfg.width_at(x.shape[2]))
            features[x.shape[2]] = x
        return features


@dataclass(frozen=True)
class Layer:
    """One stochastic layer of some pictures: posterior means (B, zdim, h, w) and KL(posterior ‖ prior) (B,), nats."""

    mean: torch.Tensor
    kl: torch.Tensor


class DecBlock(nn.Module):
    def __init__(self, cfg: VDVAEConfig, resolution: int, mixin: int | None, n_blocks: int):
        super().__init__()
        self.resolution, self.mixin, self.zdim = resolution, mixin, cfg.zdim
        self.width = cfg.width_at(resolution)
        middle = int(self.width * cfg.bottleneck)
        self.enc = Block(2 * self.width, middle, 2 * cfg.zdim, resolution)
        self.prior = Block(self.width, middle, 2 * cfg.zdim + self.width, resolution)
        self.z_proj = nn.Conv2d(cfg.zdim, self.width, 1)
        self.resnet = Block(self.width, middle, self.width, resolution, residual=True)
        nn.init.zeros_(self.prior.c4.weight)
        nn.init.zeros_(self.prior.c4.bias)
        for conv in (self.z_proj, self.resnet.c4):
            conv.weight.data *= n_blocks**-0.5

    def enter(self, state):
        """The features this block starts from: those of its resolution plus the upsampled mixin."""
        x = state[self.resolution]
        if self.mixin is not None:
            coarse = _fit_channels(state[self.mixin], self.width)
            x = x + F.interpolate(coarse, scale_factor=self.resolution // self.mixin)
        return x

    def prior_of(self, x):
        mean, logsd, residual = self.prior(x).split([self.zdim, self.zdim, self.width], dim=1)
        return mean, logsd, x + residual

    def posterior_of(self, x, features):
        return self.enc(torch.cat([x, features], dim=1)).chunk(2, dim=1)

    def leave(self, x, z, state):
        """Adds the latent, runs the residual block; returns a new state (the old one stays valid)."""
        return state | {self.resolution: self.resnet(x + self.z_proj(z))}


def gaussian_kl(mean_q, logsd_q, mean_p, logsd_p):
    """KL(q ‖ p) of diagonal Gaussians, element-wise, nats."""
    return logsd_p - logsd_q - 0.5 + 0.5 * (logsd_q.exp() ** 2 + (mean_q - mean_p) ** 2) / logsd_p.exp() ** 2


class OutNet(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        self.out_conv = nn.Conv2d(cfg.width_at(cfg.image_size), cfg.n_mixtures * 10, 1)

    def forward(self, x):
        return self.out_conv(x)


class Decoder(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        blocks = parse_blocks(cfg.dec_blocks)
        self.dec_blocks = nn.ModuleList([DecBlock(cfg, r, mixin, len(blocks)) for r, _, mixin in blocks])
        self.resolutions = sorted({r for r, _, _ in blocks})
        self.widths = {r: cfg.width_at(r) for r in self.resolutions}
        with_bias = [r for r in self.resolutions if r <= cfg.no_bias_above]
        self.bias_xs = nn.ParameterList([nn.Parameter(torch.zeros(1, self.widths[r], r, r)) for r in with_bias])
        self.out_net = OutNet(cfg)
        width = cfg.width_at(cfg.image_size)
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))

    def start(self, batch: int):
        """Initial features: the learnt bias of each resolution, zeros above `no_bias_above`."""
        state = {b.shape[2]: b.expand(batch, -1, -1, -1) for b in self.bias_xs}
        for r in self.resolutions:
            if r not in state:
                state[r] = self.gain.new_zeros(batch, self.widths[r], r, r)
        return state

    def finish(self, state):
        """Features of the finest resolution -> mixture parameters (B, 10 n_mixtures, S, S)."""
        return self.out_net(state[self.resolutions[-1]] * self.gain + self.bias)


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

    def infer(self, x, n_layers: int | None = None) -> tuple[list[Layer], dict]:
        """Posterior means of the first n_layers (default all) of scaled pixels (B, 3, S, S), and the decoder's state."""
        features = self.encoder(x)
        state = self.decoder.start(x.shape[0])
        layers = []
        for block in self.decoder.dec_blocks[:n_layers]:
            h = block.enter(state)
            mean_q, logsd_q = block.posterior_of(h, features[block.resolution])
            mean_p, logsd_p, h = block.prior_of(h)
            kl = gaussian_kl(mean_q, logsd_q, mean_p, logsd_p).sum((1, 2, 3))
            layers.append(Layer(mean_q, kl))
            state = block.leave(h, mean_q, state)
        return layers, state

    @torch.inference_mode()
    def encode(self, images, n_layers: int | None = None) -> np.ndarray:
        """Posterior means: (n, S, S, 3) uint8 -> (n, n_latents(n_layers)) float32."""
        layers, _ = self.infer(self.scale_pixels(images), n_layers)
        return torch.cat([layer.mean.flatten(1) for layer in layers], 1).float().cpu().numpy()

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
        """Runs blocks first…stop-1 of the decoder: given latents where there are any, then the prior."""
        for k, block in enumerate(self.decoder.dec_blocks[first:stop], start=first):
            mean, logsd, h = block.prior_of(block.enter(state))
            if k < len(given):
                z = given[k]
            elif temperature == 0:
                z = mean
            else:
                noise = torch.stack([torch.randn(mean.shape[1:], generator=g) for g in generators])
                z = mean + temperature * logsd.exp() * noise.to(mean)
            state = block.leave(h, z, state)
        return state

    @torch.inference_mode()
    def output_params(self, latents, temperature: float = 0.0, seeds=None) -> torch.Tensor:
        """Mixture parameters (n, S, S, 10 n_mixtures) of the decoded latents; see `decode`."""
        given = self.unflatten(latents)
        n = given[0].shape[0]
        state = self._run(self.decoder.start(n), 0, None, given, temperature, _generators(seeds, n))
        return self.decoder.finish(state).permute(0, 2, 3, 1).float()

    def decode(self, latents, temperature: float = 0.0, seeds=None) -> np.ndarray:
        """(n, k) flat latents of the first layers -> (n, S, S, 3) uint8, the expectation of the output mixture.

        The layers after them take the prior's mean plus `temperature` times its SD times noise, drawn per image from
        `seeds` (n integers, default 0…n-1), so that a picture does not depend on its neighbours in the batch.
        """
        return dmol_mean(self.output_params(latents, temperature, seeds), self.cfg.n_mixtures)

    @torch.inference_mode()
    def decode_progressively(self, latents, temperature: float = 0.0, seeds=None) -> Iterator[tuple[int, np.ndarray]]:
        """Coarse to fine: after the last given layer of each resolution yields (resolution, images).

        Each picture uses the layers up to that resolution and leaves the rest to the prior; the last one equals
        `decode` of all given layers.
        """
        given = self.unflatten(latents)
        n = given[0].shape[0]
        blocks = self.decoder.dec_blocks
        state = self.decoder.start(n)
        for k in range(len(given)):
            state = self._run(state, k, k + 1, given, temperature, None)
            if k + 1 < len(given) and blocks[k + 1].resolution == blocks[k].resolution:
                continue
            final = self._run(state, k + 1, None, given[: k + 1], temperature, _generators(seeds, n))
            params = self.decoder.finish(final).permute(0, 2, 3, 1).float()
            yield blocks[k].resolution, dmol_mean(params, self.cfg.n_mixtures)

    def save(self, path: Path, dtype: torch.dtype = torch.float16) -> None:
        """Weights and architecture in one safetensors file."""
        tensors = {k: v.to(dtype).contiguous() for k, v in self.state_dict().items()}
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"format": FORMAT, "config": json.dumps(asdict(self.cfg))})

    @classmethod
    def load(cls, path: Path) -> VDVAE:
        """Reads what `save` wrote; float32, evaluation mode. Raises BadFile if it is not such a file, whole."""
        tensors, metadata = read_tensors(path, FORMAT)
        raw = json.loads(metadata["config"])
        raw["custom_widths"] = {int(k): v for k, v in raw["custom_widths"].items()}
        model = cls(VDVAEConfig(**raw))
        try:
            model.load_state_dict({k: torch.from_numpy(v).float() for k, v in tensors.items()})
        except RuntimeError as error:
            raise BadFile(f"{path}: the weights do not fit the configuration they come with: {error}") from error
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
        raise BadFile(f"{path} is not a readable PyTorch checkpoint (truncated or damaged?): {error}") from error
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


def _generators(seeds, n: int) -> list[torch.Generator]:
    seeds = range(n) if seeds is None else seeds
    if len(seeds) != n:
        raise ValueError(f"expected one seed per image ({n}), got {len(seeds)}")
    return [torch.Generator().manual_seed(int(s)) for s in seeds]
